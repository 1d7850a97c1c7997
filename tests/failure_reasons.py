"""Tells in a line why a test failed."""

from __future__ import annotations

import pytest


def places_of(report: pytest.TestReport) -> list[str]:
    """Give where the test's own code and what it called were, without the libraries below."""
    entries = getattr(getattr(report.longrepr, "reprtraceback", None), "reprentries", ())
    places = [entry.reprfileloc for entry in entries if getattr(entry, "reprfileloc", None)]
    return [f"{place.path}:{place.lineno}" for place in places if "site-packages" not in str(place.path)]


def reason(report: pytest.TestReport) -> str:
    """Give the place and the first line of a failure."""
    crash = getattr(report.longrepr, "reprcrash", None)
    if crash is None:
        return (report.longreprtext.splitlines() or [""])[-1]
    places = " < ".join(reversed(places_of(report)))
    return f"{places}: {(crash.message.splitlines() or [''])[0]}"
