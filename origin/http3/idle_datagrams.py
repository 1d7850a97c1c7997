"""Bounds how often a client's datagrams are read that bring next to nothing: each costs a decryption."""

from __future__ import annotations

import time
from collections.abc import Callable

from origin.http.token_bucket import TokenBucket

DATAGRAMS, DATAGRAMS_A_SECOND = 300, 50.0
"""Datagrams that bring next to nothing and are read in one go, and how many more in each second."""

TURN_SECONDS = 0.01
"""Time for each further one that is read, of all connections together; the rest are lost unread."""

FLOOD_SECONDS = 1.0
"""Time for which a connection loses datagrams from which on its client floods."""

MANY = 32
"""Datagrams that are lost at a time from which on the next one counts as soon, whenever it comes."""

FLOOD_PAUSE_SECONDS = 0.25
"""Least time for which a flood's datagrams are lost, once it is one."""

MOST_SECONDS = 60.0
"""Longest time in which a connection loses datagrams because of one that was too many."""


class ExcessTurns:
    """When connections are read from whose clients send too many datagrams: one after the other."""

    def __init__(self) -> None:
        self._last = 0.0

    def next(self, now: float) -> float:
        """Return when the next of them has its turn, in monotonic seconds."""
        self._last = max(now, self._last) + TURN_SECONDS
        return self._last


class IdleDatagrams:
    """Counts a connection's datagrams that bring next to nothing; beyond too many, datagrams are lost.

    A client that sends far too many waits for a turn among all such clients. One that sends hardly more than
    is allowed waits for a short time alone, however many others flood: the time doubles with each datagram
    that is too many soon after the last one, or after many, and halves with each that isn't.

    Args:
        turns: the turns of all connections.
        clock: monotonic seconds.

    Attributes:
        lost_until: until when datagrams are lost, in monotonic seconds.
    """

    __slots__ = ("_bucket", "_lost", "_seconds", "_turns", "lost_until")

    def __init__(self, turns: ExcessTurns, clock: Callable[[], float] = time.monotonic) -> None:
        self._turns = turns
        self._bucket = TokenBucket(DATAGRAMS, DATAGRAMS_A_SECOND, clock)
        self.lost_until = 0.0
        self._seconds = TURN_SECONDS
        # Datagrams that were lost since the last one that was too many.
        self._lost = 0

    @property
    def is_flood(self) -> bool:
        """Whether far too many come, again and again."""
        return self._seconds >= FLOOD_SECONDS

    def loses(self, now: float) -> bool:
        """Return whether a datagram that comes now is lost unread, and count it."""
        is_lost = now < self.lost_until
        self._lost += is_lost
        return is_lost

    def suspect(self, share: float) -> None:
        """Allow a share of what others may do at once, and take the first that is too many for a flood."""
        self._bucket.add(-DATAGRAMS * (1 - share))
        # Which it is still when halved, as it is for one that is too many long after the last.
        self._seconds = 2 * FLOOD_SECONDS

    def allow(self, count: float) -> None:
        """Allow some more, with which the client confirms an answer."""
        self._bucket.add(count)

    def count(self, now: float) -> bool:
        """Count a datagram that brought next to nothing; return whether it is too many."""
        if not self._bucket.acquire():
            return False
        is_soon = now - self.lost_until < self._seconds or self._lost >= MANY
        self._lost = 0
        self._seconds = min(MOST_SECONDS, max(TURN_SECONDS, self._seconds * (2.0 if is_soon else 0.5)))
        self.lost_until = min(self._turns.next(now), now + self._seconds)
        if self.is_flood:
            self.lost_until = max(self.lost_until, now + FLOOD_PAUSE_SECONDS)
        return True
