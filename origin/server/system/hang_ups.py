"""Hang-ups (SIGHUP) that come while the server is starting, and would end the process."""

from __future__ import annotations

import signal
from types import FrameType

_came = False


def note_hang_ups() -> None:
    """Note hang-ups from now on, in place of ending at one; the main thread must call this."""
    signal.signal(signal.SIGHUP, _note)


def _note(_number: int, _frame: FrameType | None) -> None:
    global _came
    _came = True


def has_hung_up() -> bool:
    """Return whether a hang-up was noted since the last call."""
    global _came
    came, _came = _came, False
    return came
