"""Clients that have flooded connections: they share a small part of the event loop's time."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from origin.http.client_limits import network_of
from origin.http.trusted_proxies import TrustedProxies
from origin.http1.shared_turns import SharedTurns

READ_SECONDS, PAUSE_SECONDS = 0.000_25, 0.04
"""Time for which suspect connections are read from, all together, and from one such time to the next."""

SUSPECT_SECONDS = 10.0
"""For how long a client is suspect after a flood, or after a connection was ended for its fault."""

CLIENTS_KEPT = 4096
"""Most clients that are remembered; the ones whose fault is oldest are forgotten."""


class Suspects:
    """The clients that were at fault lately, and the turns in which suspect connections are read from.

    Args:
        proxies: they are never suspect, since many clients are behind them.
        clock: monotonic seconds.

    Attributes:
        turns: for connections of these clients, and for others that have begun to flood.
    """

    def __init__(self, proxies: TrustedProxies, clock: Callable[[], float] = time.monotonic) -> None:
        self.turns = SharedTurns(READ_SECONDS, pause=PAUSE_SECONDS)
        self._proxies = proxies
        self._clock = clock
        # Until when each network is suspect, the earliest first.
        self._until: OrderedDict[str, float] = OrderedDict()

    def add(self, host: str) -> None:
        """Suspect the client with an address, and all others of its network."""
        if not host or self._proxies.trusts(host):
            return
        network = network_of(host)
        self._until[network] = self._clock() + SUSPECT_SECONDS
        self._until.move_to_end(network)
        if len(self._until) > CLIENTS_KEPT:
            self._until.popitem(last=False)

    def __contains__(self, host: str) -> bool:
        """Return whether a client is suspect."""
        return bool(self._until) and self._clock() < self._until.get(network_of(host), 0.0)
