"""The programmes of the demo's channel: the one that is on and the next one, at each quarter of an hour."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator

from packager.past.programmes import Programme
from packager.programmes.store import ProgrammeStore

CHANNEL = "demo"
"""Name of the live channel that the demo adds."""

LENGTH_SECONDS = 15 * 60
"""Length of each programme: they begin at the quarters of an hour."""

PAST = 5
"""Most programmes that are over: with the one that is on they are longer than the channel's DVR."""

TITLES = ("Test pictures", "Clock and colours", "Moving bars", "The long count")


def programmes_at(now: float, began: float) -> Iterator[Programme]:
    """Yield the programmes that are over, the one that is on, and the next one.

    Args:
        now: seconds since the epoch.
        began: when the channel began; nothing was on before.
    """
    current = int(now // LENGTH_SECONDS)
    for number in range(max(int(began // LENGTH_SECONDS), current - PAST), current + 2):
        start = number * LENGTH_SECONDS
        end_ms = (start + LENGTH_SECONDS) * 1000
        yield Programme(f"demo-{start}", start * 1000, end_ms, TITLES[number % len(TITLES)])


class DemoProgrammes:
    """Replaces the programmes of the demo's channel at each quarter of an hour."""

    name = "demo programmes"

    def __init__(self, store: ProgrammeStore, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock

    async def run(self) -> None:
        """Replace programmes until cancelled."""
        began = self._clock()
        while True:
            now = self._clock()
            # A full disk costs these programmes alone: `/health` says so, and the next ones are tried.
            with contextlib.suppress(OSError):
                await self._store.replace(programmes_at(now, began))
            await asyncio.sleep(LENGTH_SECONDS - now % LENGTH_SECONDS)
