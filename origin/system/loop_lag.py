"""Measures how late the event loop is, whether other programs or its own work delay it.

If it is its own work, a thread samples the stack meanwhile, so that the log can name the function.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import traceback
from collections import deque
from pathlib import Path

import structlog

from origin.system.connection_acceptor import ListeningLimits

FRAMES = 6
"""Number of innermost calls that are logged."""

log = structlog.get_logger()


DEFAULT_LIMITS = ListeningLimits()


class LoopLag:
    """Measures by how much a periodic timer is late.

    Attributes:
        holds: how often the loop was blocked by its own work.
    """

    def __init__(self, limits: ListeningLimits = DEFAULT_LIMITS) -> None:
        self._limits = limits
        self._late: deque[tuple[float, float]] = deque(
            maxlen=round(self._limits.kept_seconds / self._limits.beat_seconds)
        )
        # Of the newest beat: when it came, and what the thread had computed by then.
        self._beat = (0.0, 0.0)
        self._where = ""
        self._reported = -self._limits.report_seconds
        self.holds = 0

    @property
    def lag(self) -> float:
        """Largest lag of the last ``kept_seconds``, in seconds."""
        since = time.monotonic() - self._limits.kept_seconds
        return max((late for moment, late in self._late if moment >= since), default=0.0)

    @property
    def trouble(self) -> str | None:
        """A description of the problem; None without one."""
        is_late = self.lag >= self._limits.late_seconds
        return f"the event loop is up to {self.lag:.1f} s late" if is_late else None

    async def run(self) -> None:
        """Measure until cancelled."""
        ended, thread = threading.Event(), threading.get_ident()
        clock = time.pthread_getcpuclockid(thread)
        self._beat = (time.monotonic(), time.thread_time())
        threading.Thread(
            target=self._watch, args=(thread, clock, ended), name="loop watch", daemon=True
        ).start()
        try:
            while True:
                due = time.monotonic() + self._limits.beat_seconds
                await asyncio.sleep(self._limits.beat_seconds)
                now = time.monotonic()
                self._late.append((now, max(now - due, 0.0)))
                self._beat = (now, time.thread_time())
                if self._where:
                    self._report(now - due, now)
        finally:
            ended.set()

    def _watch(self, thread: int, clock: int, ended: threading.Event) -> None:
        """Sample, in a thread of its own, what the loop does while it is late."""
        most = pause = self._limits.beat_seconds + self._limits.held_seconds
        while not ended.wait(pause):
            moment, computed = self._beat
            # Nothing is late before then: an idle server isn't woken for less.
            pause = max(moment + most - time.monotonic(), self._limits.look_seconds)
            if self._where or time.monotonic() - moment < most:
                continue
            # A loop that waits for a processor or a disk isn't held by its own computation.
            if time.clock_gettime(clock) - computed < self._limits.held_seconds:
                continue
            where = _stack_of(thread)
            if self._beat[0] == moment:
                self._where = where

    def _report(self, late: float, now: float) -> None:
        where, self._where = self._where, ""
        self.holds += 1
        tell = log.debug
        if now - self._reported >= self._limits.report_seconds:
            self._reported, tell = now, log.warning
        tell("the event loop was held by computing", seconds=round(late, 2), where=where)


def _stack_of(thread: int) -> str:
    """Describe what a thread does; its frames, and all that they refer to, aren't kept."""
    frame = sys._current_frames().get(thread)  # noqa: SLF001  # Python's own way to another thread
    if frame is None:
        return ""
    return _told(
        traceback.StackSummary.extract(traceback.walk_stack(frame), limit=FRAMES, lookup_lines=False)
    )


def _told(stack: traceback.StackSummary) -> str:
    """Name calls in one line, the innermost first."""
    return " < ".join(f"{frame.name} ({Path(frame.filename).name}:{frame.lineno})" for frame in stack)
