"""How late the event loop is: whatever starves a server, other programs or its own work, shows here first.

Where it is its own work, a thread looks at what the loop is doing meanwhile, so that a log line can name it.
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
"""Between two looks at the clock."""

KEPT_SECONDS = 15.0
"""For so long a late beat is told: longer than between two askings of a monitor."""

LATE_SECONDS = 1.0
"""A lateness that viewers notice: a part of a second is there no earlier."""

HELD_SECONDS = 0.2
"""So long the loop's own thread must have computed, and be late, to count as held by its own work."""

LOOK_SECONDS = 0.1
"""Between two looks of the thread that watches."""

REPORT_SECONDS = 60.0
"""For so long behind a warning others are told for debugging only."""

FRAMES = 6
"""How many of the innermost calls are told."""

log = structlog.get_logger()


class LoopLag:
    """Looks at the clock at fixed times, and notes by how much it came too late.

    Attributes:
        holds: how often the loop was held by its own work.
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
        """Seconds by which the latest beat of the last fifteen seconds was late."""
        since = time.monotonic() - KEPT_SECONDS
        return max((late for moment, late in self._late if moment >= since), default=0.0)

    @property
    def trouble(self) -> str | None:
        """What is wrong, for people; None when nothing is."""
        return f"the event loop is up to {self.lag:.1f} s late" if self.lag >= LATE_SECONDS else None

    async def run(self) -> None:
        """Beat until cancelled."""
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
        """Look, in a thread of its own, at what the loop does while a beat is late."""
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
