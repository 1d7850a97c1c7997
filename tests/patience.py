"""On a machine that is busy: what comes late is waited for, where lateness isn't a test's subject."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import msgspec

from origin.radio.mounts.limits import RadioLimits
from origin.server.services.limits import Limits, ServerLimits
from packager.dvr.limits import DvrLimits
from packager.live.limits import LiveLimits
from packager.radio.limits import StationLimits
from packager.sources.limits import SourceLimits
from packager.window.limits import PublishLimits

PATIENCE_SECONDS = 600.0
WAIT_TARGET_DURATIONS = 100
"""For how long requests wait for what comes late; clients wait longer."""

CLIENT_SECONDS = 120.0

REQUESTS = PublishLimits(blocked_target_durations=WAIT_TARGET_DURATIONS)
"""Requests for live media wait for what comes late, instead of 503 after three target durations."""

DVR = DvrLimits(drain_seconds=CLIENT_SECONDS, settle_seconds=CLIENT_SECONDS)
"""Whatever is finished when a channel ends is stored, however late the thread is that stores it."""

SOURCE = SourceLimits(
    probe_seconds=PATIENCE_SECONDS,
    connect_seconds=PATIENCE_SECONDS,
    silent_seconds=PATIENCE_SECONDS,
    window_seconds=PATIENCE_SECONDS,
    still_target_durations=PATIENCE_SECONDS,
    behind_segments=round(PATIENCE_SECONDS),
)
"""No source is asked once more, and no stream begins anew, since it or this process stood still."""

GAPS = LiveLimits(
    start_seconds=PATIENCE_SECONDS,
    stall_seconds=PATIENCE_SECONDS,
    clock_bucket_seconds=PATIENCE_SECONDS,
    source=SOURCE,
)
"""No ffmpeg is started again and no date begins anew; gaps still stand for segments that are late."""

LIVE = replace(GAPS, gap_target_durations=PATIENCE_SECONDS)
"""An ffmpeg, a source and a channel are taken for well, however long each stands still."""

MOUNT = RadioLimits(
    silence_seconds=PATIENCE_SECONDS,
    fallback_seconds=PATIENCE_SECONDS,
    close_seconds=CLIENT_SECONDS,
)
"""No station is down or replaced, and no listener cut off, because the machine stood still."""

STATION = StationLimits(ffmpeg_seconds=CLIENT_SECONDS)
"""No track is given up because the machine let its ffmpeg stand still."""


def patient_server(server: ServerLimits | None = None) -> tuple[str, ...]:
    """Give the program of a server whose ffmpeg may be late, and whose requests wait for it."""
    live = replace(LIVE, source=SourceLimits(), publish=REQUESTS)
    radio = RadioLimits(station=StationLimits(channel=live))
    return program(Limits(live=live, radio=radio, server=server or ServerLimits()))


def program(limits: Limits) -> tuple[str, ...]:
    """Give the program of a server with these limits, in place of ``headwater``."""
    script = Path(__file__).parent / "serve_with_limits.py"
    # Not beside the script: the tests' folders have the names of the product's.
    return sys.executable, "-P", str(script), msgspec.json.encode(limits).decode()
