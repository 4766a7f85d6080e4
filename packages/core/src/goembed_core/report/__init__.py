"""One offline page that says what a run did: `Report`, and the pictures in it (`figures`, `curves`)."""

from goembed_core.report.builder import Report

__all__ = ["Report"]
