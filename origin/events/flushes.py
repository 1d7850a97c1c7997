"""When a channel's events are written: with the next frame, one flush at a time, in steps."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

BEHIND_SECONDS = 0.05
"""Pause between two checks whether readers that are behind have room."""


class Flushes:
    """The flushes of a channel, of which at most one is under way, and the one timer for the next.

    Args:
        seconds: from one to the next, at least.
        due: called when a flush is due, which it begins.
        on_written: called when all of a flush is written.
    """

    __slots__ = ("_due", "_is_retry", "_last", "_on_written", "_seconds", "_steps", "_timer")

    def __init__(self, seconds: float, due: Callable[[], None], on_written: Callable[[], None]) -> None:
        self._seconds = seconds
        self._due = due
        self._on_written = on_written
        self._timer: asyncio.Handle | None = None
        self._is_retry = False
        self._steps: Iterator[None] | None = None
        self._last = 0.0

    @property
    def is_under_way(self) -> bool:
        """Whether a flush isn't all written yet."""
        return self._steps is not None

    @property
    def is_due(self) -> bool:
        """Whether the timer for the next flush is set."""
        return self._timer is not None

    def set_timer(self) -> None:
        """Set the timer for new events."""
        if self._timer is not None and not self._is_retry:
            return
        self.cancel()
        loop = asyncio.get_running_loop()
        delay = self._last + self._seconds - loop.time()
        self._timer = loop.call_later(delay, self._due) if delay > 0 else loop.call_soon(self._due)
        self._is_retry = False

    def retry(self) -> None:
        """Set the timer, which isn't set, for readers that are behind."""
        self._timer = asyncio.get_running_loop().call_later(BEHIND_SECONDS, self._due)
        self._is_retry = True

    def cancel(self) -> None:
        """Cancel the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def begin(self, steps: Iterator[None], *, is_whole: bool) -> None:
        """Begin a flush.

        Args:
            is_whole: whether nothing remains, for which another flush is to follow at once.
        """
        self.cancel()
        self._last = asyncio.get_running_loop().time() if is_whole else 0.0
        self.run(steps)

    def run(self, steps: Iterator[None]) -> None:
        """Take the first step, and the others in turns with the loop."""
        self._steps = steps
        self._step()

    def _step(self) -> None:
        if self._steps is None:
            return
        try:
            next(self._steps)
        except StopIteration:
            self._steps = None
            self._on_written()
        else:
            asyncio.get_running_loop().call_soon(self._step)

    def finish(self) -> None:
        """Take all steps of the present flush at once."""
        if self._steps is not None:
            for _ in self._steps:
                pass
            self._steps = None
            self._on_written()
