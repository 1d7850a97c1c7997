"""How many event channels the clients of one address may make at run time in an hour."""

from __future__ import annotations

import time
from collections.abc import Callable

from origin.http.client_limits import is_loopback, network_of
from origin.http.token_bucket import TokenBucket
from packager.bounded_dict import BoundedDict

HOUR = 3600.0

CHANNELS = 10_000
"""Channels of an address in an hour where the configuration has no number."""

ADDRESSES = 10_000
"""Most addresses that are counted at once; of more, the one that was counted first is forgotten."""


class CreationRate:
    """Counts the channels that clients make with web tokens, by their addresses.

    Args:
        most: of an address in an hour, and at once; None for `CHANNELS`, without a limit for this machine.
        clock: returns monotonic seconds.
    """

    def __init__(self, most: int | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._buckets = BoundedDict[str, TokenBucket](ADDRESSES)

    def acquire(self, host: str) -> float:
        """Count a channel; return the seconds after which there is room for it, 0 if there is now.

        Args:
            host: the client's address; clients without a known one count as one.
        """
        if self._most is None and is_loopback(host):
            return 0.0
        network, most = network_of(host), CHANNELS if self._most is None else self._most
        bucket = self._buckets.use(network)
        if bucket is None:
            bucket = self._buckets[network] = TokenBucket(most, most / HOUR, self._clock)
        return bucket.acquire()
