"""`goembed doctor`: is this installation whole, what is this machine, and how does one train on it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator

from goembed_core.doctor.finding import Finding, guarded
from goembed_core.doctor.installation import check_plugins, check_python, check_versions
from goembed_core.doctor.machine import LaunchLine, check_accelerate, check_disk, check_torch, launch_line
from goembed_core.doctor.smoke import check_components

__all__ = ["Finding", "LaunchLine", "diagnose", "report"]

CHECKS = (check_python, check_versions, check_plugins, check_torch, check_accelerate, check_disk, check_components)


def diagnose() -> Iterator[Finding]:
    """Every finding, in the order in which they are made; nothing that fails ends the others."""
    for check in CHECKS:
        yield from guarded(check)


def report(as_json: bool = False) -> int:
    """Print all findings and the launch line; 1 if something is broken, else 0."""
    findings = []
    for finding in diagnose():
        findings.append(finding)
        if not as_json:
            print(finding, flush=True)
    line = launch_line()
    broken = sum(finding.status == "failed" for finding in findings)
    if as_json:
        rows = [dataclasses.asdict(finding) for finding in findings]
        print(json.dumps({"broken": broken, "findings": rows, "launch": line._asdict()}, indent=2))
    else:
        print(f"\nto train here:  {line.goembed}\nwhich is:       {line.accelerate}")
        print(f"{broken} broken" if broken else "nothing is broken")
    return 1 if broken else 0
