"""How late the event loop is: whatever starves a server, other programs or its own work, shows here first."""

from __future__ import annotations

import asyncio
import time
from collections import deque

BEAT_SECONDS = 0.25
"""Between two looks at the clock."""

KEPT_SECONDS = 15.0
"""For so long a late beat is told: longer than between two askings of a monitor."""

LATE_SECONDS = 1.0
"""A lateness that viewers notice: a part of a second is there no earlier."""


class Pulse:
    """Looks at the clock at fixed times, and notes by how much it came too late."""

    def __init__(self) -> None:
        self._late: deque[tuple[float, float]] = deque(maxlen=round(KEPT_SECONDS / BEAT_SECONDS))

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
        while True:
            due = time.monotonic() + BEAT_SECONDS
            await asyncio.sleep(BEAT_SECONDS)
            now = time.monotonic()
            self._late.append((now, max(now - due, 0.0)))
