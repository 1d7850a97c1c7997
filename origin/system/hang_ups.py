"""Hang-ups (SIGHUP) that come while the server is starting, and would end the process."""

from __future__ import annotations

# The built-in half of ``signal``: the other half and what that imports take ten to twenty milliseconds, in
# which a hang-up would end the process.
import _signal  # type: ignore[import-not-found]

_came = False


def note_hang_ups() -> None:
    """Note hang-ups from now on, in place of ending at one; the main thread must call this."""
    _signal.signal(_signal.SIGHUP, _note)


def _note(_number: int, _frame: object) -> None:
    global _came
    _came = True


def has_hung_up() -> bool:
    """Return whether a hang-up was noted since the last call."""
    global _came
    came, _came = _came, False
    return came
