"""On a machine that is busy: what comes late is waited for, where lateness isn't a test's subject."""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType

import pytest

from origin.live import open_segment, reload, routes
from origin.radio.limits import ListenerLimits, MountLimits
from packager.live import lateness, run
from packager.radio.limits import StationLimits
from packager.sources import hls, inspection, pacing, pull
from packager.window import wallclock

PATIENCE_SECONDS = 600.0
WAIT_TARGET_DURATIONS = 100
"""For how long requests wait for what comes late; clients wait longer."""

CLIENT_SECONDS = 120.0

Limit = tuple[ModuleType, str]

GAPS: tuple[Limit, ...] = ((lateness, "LATEST"),)
"""Behind which gaps stand for segments."""

BREAKS: tuple[Limit, ...] = (
    (run, "START_SECONDS"),
    (run, "STALL_SECONDS"),
    (wallclock, "BUCKET_SECONDS"),
)
"""Behind which an ffmpeg is started again, or a date begins anew."""

SOURCES: tuple[Limit, ...] = (
    (inspection, "PROBE_SECONDS"),
    (pacing, "WINDOW_SECONDS"),
    (pull, "CONNECT_SECONDS"),
    (pull, "SILENT_SECONDS"),
    (hls, "STILL_TARGET_DURATIONS"),
    (hls, "MAX_BEHIND"),
)
"""Behind which a source is asked once more, or its stream begins anew."""

REQUESTS: tuple[Limit, ...] = (
    (reload, "LONGEST_BLOCK"),
    (open_segment, "LONGEST_BLOCK"),
    (routes, "LONGEST_BLOCK"),
)
"""Behind which a request is 503, in target durations."""

MOUNT = MountLimits(
    silence_seconds=PATIENCE_SECONDS,
    fallback_seconds=PATIENCE_SECONDS,
    listener=ListenerLimits(close_seconds=CLIENT_SECONDS),
)
"""No station is down or replaced, and no listener cut off, because the machine stood still."""

STATION = StationLimits(ffmpeg_seconds=CLIENT_SECONDS)
"""No track is given up because the machine let its ffmpeg stand still."""


def wait_for_the_late(monkeypatch: pytest.MonkeyPatch, *, gaps: bool = False) -> None:
    """Let channels take an ffmpeg, a source or themselves for well, however long each stands still.

    Args:
        monkeypatch: the test's; channels that are started from now on are patient.
        gaps: whether a gap still stands for a segment that doesn't come in time.
    """
    for module, name in (*BREAKS, *SOURCES, *(() if gaps else GAPS)):
        monkeypatch.setattr(module, name, PATIENCE_SECONDS)


def hold_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let requests for live media wait for what comes late, instead of 503 after three target durations."""
    for module, name in REQUESTS:
        monkeypatch.setattr(module, name, WAIT_TARGET_DURATIONS)


def patient_server(folder: Path) -> dict[str, str]:
    """Give the variables of a server process whose ffmpeg may be late, and whose requests wait for it.

    Args:
        folder: for a module that Python imports as it starts (``site``), which sets the limits.
    """
    place = folder / "site"
    place.mkdir(exist_ok=True)
    values = [(*one, PATIENCE_SECONDS) for one in (*GAPS, *BREAKS)]
    values += [(*one, WAIT_TARGET_DURATIONS) for one in REQUESTS]
    lines = ["import importlib"]
    for module, name, value in values:
        assert hasattr(module, name)
        lines.append(f"importlib.import_module({module.__name__!r}).{name} = {value}")
    (place / "sitecustomize.py").write_text("\n".join([*lines, ""]))
    before = os.environ.get("PYTHONPATH")
    return {"PYTHONPATH": f"{place}{os.pathsep}{before}" if before else str(place)}
