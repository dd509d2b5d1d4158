"""Scenarios that are known to fail, and the rule that keeps the list honest.

An entry needs a reason, and an entry that no longer fails (or names no scenario of the run) fails the run: the list
can only shrink on its own. The file:

    - service: dual
      revision: "2026-07-28"
      scenario: server-stateless
      reason: why it fails, and what would have to change
"""

from dataclasses import dataclass
from pathlib import Path

import yaml

KEYS = ("service", "revision", "scenario", "reason")


class BadList(Exception):
    """The file itself is wrong."""


@dataclass(frozen=True)
class Verdict:
    """What a run is worth once the list is known: passed scenarios, excused failures, and what fails the run."""

    passed: int
    excused: dict  # scenario → reason
    faults: list  # sentences


def load(path):
    """{(service, revision): {scenario: reason}}; an absent file is an empty list."""
    path = Path(path)
    if not path.exists():
        return {}
    entries = yaml.safe_load(path.read_text()) or []
    if not isinstance(entries, list):
        raise BadList(f"{path}: a list of entries is needed")
    expected = {}
    for number, entry in enumerate(entries, 1):
        if not isinstance(entry, dict):
            raise BadList(f"{path}: entry {number} is no mapping")
        for key in KEYS:
            if not str(entry.get(key) or "").strip():
                raise BadList(f"{path}: entry {number} has no {key}")
        if extra := set(entry) - set(KEYS):
            raise BadList(f"{path}: entry {number} has unknown keys: {', '.join(sorted(extra))}")
        of_run = expected.setdefault((entry["service"], str(entry["revision"])), {})
        if entry["scenario"] in of_run:
            raise BadList(f"{path}: entry {number} repeats {entry['scenario']}")
        of_run[entry["scenario"]] = entry["reason"].strip()
    return expected


def judge(results, expected):
    """Holds the scored results {scenario: passed?} of one run against its expected failures {scenario: reason}."""
    faults = [f"{name} failed" for name, ok in results.items() if not ok and name not in expected]
    for name in expected:
        if name not in results:
            faults.append(f"{name} is expected to fail, but the run has no such scored scenario: remove the entry")
        elif results[name]:
            faults.append(f"{name} is expected to fail, but passes: remove the entry")
    excused = {name: expected[name] for name, ok in results.items() if not ok and name in expected}
    return Verdict(sum(results.values()), excused, faults)


def unused(expected, runs):
    """Entries for a service and revision that are never run."""
    return [f"there is no run of {service} {revision}: remove its entries"
            for service, revision in expected if (service, revision) not in runs]
