"""How many follow a channel: clients that asked lately, counted within a bound."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable

MAX_VIEWERS = 100_000
"""Most clients that are told apart; beyond, the longest silent ones aren't counted."""


class Audience:
    """Counts distinct clients.

    Args:
        seconds: how long a client counts after it asked.
        on_seen: called whenever one asks.
    """

    def __init__(self, seconds: float, on_seen: Callable[[], None] = lambda: None) -> None:
        self.seconds = seconds
        self._on_seen = on_seen
        self._seen: OrderedDict[Hashable, float] = OrderedDict()

    def saw(self, client: Hashable, now: float) -> None:
        """Note that a client asked.

        Args:
            client: what tells it from others.
            now: seconds of a clock that never goes back.
        """
        self._seen[client] = now
        self._seen.move_to_end(client)
        self._forget(now)
        if len(self._seen) > MAX_VIEWERS:
            self._seen.popitem(last=False)
        self._on_seen()

    def count(self, now: float) -> int:
        """Count the clients that asked in the last ``seconds``."""
        self._forget(now)
        return len(self._seen)

    def _forget(self, now: float) -> None:
        while self._seen and next(iter(self._seen.values())) < now - self.seconds:
            self._seen.popitem(last=False)
