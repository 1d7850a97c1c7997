"""What leaves a window, and when: first the list, later what is fetchable, with its bytes and init segments.

Segments leave when their time is over, or before it where there is no room.
"""

from __future__ import annotations

from packager.live.finished import Finished
from packager.live.memory import Memory
from packager.live.timelines import Timelines


class Eviction:
    """That of one window.

    Args:
        finished: its segments.
        memory: their bytes.
        timelines: their init segments.
    """

    def __init__(self, finished: Finished, memory: Memory, timelines: Timelines) -> None:
        self._finished = finished
        self._memory = memory
        self._timelines = timelines

    def evict(self, now: float) -> None:
        """Let everything leave that has to, at a moment of the clock."""
        finished, memory = self._finished, self._memory
        while finished.has_surplus():
            finished.retire(now)
        while memory.is_short() and self._may_retire():
            finished.retire(now)
        finished.settle()
        while finished.is_over(now):
            self._forget()
        while memory.is_full() and finished.have_left:
            self._forget()

    def retire(self, now: float) -> bool:
        """Take the oldest segment off the list before its time; False when no more than must be is listed."""
        if not self._may_retire():
            return False
        self._finished.retire(now)
        return True

    def shorten(self, now: float) -> bool:
        """Forget the oldest segment before its time; False when only what is in memory is left."""
        if self._memory.has_edge_at(self._finished.oldest_number):
            return False
        if not (self._finished.have_left or self.retire(now)):
            return False
        self._forget()
        return True

    def _may_retire(self) -> bool:
        return self._finished.is_long() and not self._memory.has_edge_at(self._finished.listed[0].number)

    def _forget(self) -> None:
        oldest = self._finished.forget()
        following = self._finished.find(oldest.number + 1)
        self._memory.forget(oldest, self._timelines.forget(oldest, following))
