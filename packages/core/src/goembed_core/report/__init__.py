"""One offline page that says what a run did: `Report`, `run_report`, and the pictures in it (`figures`, `curves`)."""

from goembed_core.report.builder import Report
from goembed_core.report.of_run import run_report

__all__ = ["Report", "run_report"]
