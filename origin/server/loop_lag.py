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

BEAT_SECONDS = 0.25
"""Interval of the measurement."""

KEPT_SECONDS = 15.0
"""How long a late beat is reported: longer than the usual interval of monitoring."""

LATE_SECONDS = 1.0
"""Lag that viewers notice: about a part of low-latency HLS."""

HELD_SECONDS = 0.2
"""CPU time of the loop's thread, while late, from which its own work is blamed."""

LOOK_SECONDS = 0.1
"""Interval at which the watching thread checks."""

REPORT_SECONDS = 60.0
"""After a warning, further ones are only logged for debugging for so long."""

FRAMES = 6
"""Number of innermost calls that are logged."""

log = structlog.get_logger()


class LoopLag:
    """Measures by how much a periodic timer is late.

    Attributes:
        holds: how often the loop was blocked by its own work.
    """

    def __init__(self) -> None:
        self._late: deque[tuple[float, float]] = deque(maxlen=round(KEPT_SECONDS / BEAT_SECONDS))
        # Of the newest beat: when it came, and what the thread had computed by then.
        self._beat = (0.0, 0.0)
        self._where = ""
        self._reported = -REPORT_SECONDS
        self.holds = 0

    @property
    def lag(self) -> float:
        """Largest lag of the last ``KEPT_SECONDS``, in seconds."""
        since = time.monotonic() - KEPT_SECONDS
        return max((late for moment, late in self._late if moment >= since), default=0.0)

    @property
    def trouble(self) -> str | None:
        """A description of the problem; None without one."""
        return f"the event loop is up to {self.lag:.1f} s late" if self.lag >= LATE_SECONDS else None

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
                due = time.monotonic() + BEAT_SECONDS
                await asyncio.sleep(BEAT_SECONDS)
                now = time.monotonic()
                self._late.append((now, max(now - due, 0.0)))
                self._beat = (now, time.thread_time())
                if self._where:
                    self._report(now - due, now)
        finally:
            ended.set()

    def _watch(self, thread: int, clock: int, ended: threading.Event) -> None:
        """Sample, in a thread of its own, what the loop does while it is late."""
        while not ended.wait(LOOK_SECONDS):
            moment, computed = self._beat
            if self._where or time.monotonic() - moment < BEAT_SECONDS + HELD_SECONDS:
                continue
            # What waits for a processor, or for a disk, isn't held by what it computes.
            if time.clock_gettime(clock) - computed < HELD_SECONDS:
                continue
            frame = sys._current_frames().get(thread)  # noqa: SLF001  # Python's own way to another thread
            if frame is not None and self._beat[0] == moment:
                innermost = traceback.walk_stack(frame)
                self._where = _told(
                    traceback.StackSummary.extract(innermost, limit=FRAMES, lookup_lines=False)
                )

    def _report(self, late: float, now: float) -> None:
        where, self._where = self._where, ""
        self.holds += 1
        tell = log.debug
        if now - self._reported >= REPORT_SECONDS:
            self._reported, tell = now, log.warning
        tell("the event loop was held by computing", seconds=round(late, 2), where=where)


def _told(stack: traceback.StackSummary) -> str:
    """Name calls in one line, the innermost first."""
    return " < ".join(f"{frame.name} ({Path(frame.filename).name}:{frame.lineno})" for frame in stack)
