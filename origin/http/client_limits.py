"""What one client may have at once: connections, listeners, requests that wait, readers of events.

A client is an IPv4 address, or a /64 of IPv6: one household has no less (RFC 6177). Trusted proxies are
exempt: they stand for many, and where they tell for whom, those are counted. So are, unless a limit is
configured, clients on this machine itself: programs of its owner, or a proxy that nobody has said to be one,
behind which everybody has the same address.
"""

from __future__ import annotations

import functools
import ipaddress
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from origin.http.trusted_proxies import TrustedProxies, read_address

if TYPE_CHECKING:
    from origin.config.options import Config

SHARE = 8
"""Of what all may have at once, one client may have an eighth, unless configured."""

PREFIX_BITS = 64
"""Of an IPv6 address, that tell one client from another."""

HOSTS_KEPT = 4096
"""Addresses whose network is kept: it is asked for with each connection."""

RETRY_SECONDS = 10
"""What a client that has too much is told to wait."""


class TooManyError(Exception):
    """The client has as much at once as one may have."""


@functools.lru_cache(maxsize=HOSTS_KEPT)
def network_of(host: str) -> str:
    """Give what an address counts as: IPv4 as it is, IPv6 its /64; anything else as it is written."""
    address = read_address(host.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((int(address), PREFIX_BITS), strict=False))
    return str(address or host)


@functools.lru_cache(maxsize=HOSTS_KEPT)
def is_loopback(host: str) -> bool:
    """Tell whether an address is this machine's own."""
    address = read_address(host.partition("%")[0])
    return address is not None and address.is_loopback


class ClientLimit:
    """Counts what each client has at once.

    Args:
        most: That one may have.
        is_exempt: Tells whose things aren't counted.
    """

    def __init__(self, most: int, is_exempt: Callable[[str], bool] = lambda _: False) -> None:
        self._most = most
        self._is_exempt = is_exempt
        self._held: Counter[str] = Counter()

    def take(self, host: str) -> bool:
        """Count one more of a client; False where it has as many as it may have.

        Args:
            host: The client's address; empty where that isn't known, and then nothing is counted.
        """
        if not host or self._is_exempt(host):
            return True
        network = network_of(host)
        if self._held[network] >= self._most:
            return False
        self._held[network] += 1
        return True

    def give_back(self, host: str) -> None:
        """One that was taken has gone."""
        if not host or self._is_exempt(host):
            return
        network = network_of(host)
        self._held[network] -= 1
        if self._held[network] <= 0:
            del self._held[network]

    @contextmanager
    def held(self, host: str) -> Iterator[None]:
        """Have one while the context is open.

        Raises:
            TooManyError: The client has as many as it may have.
        """
        if not self.take(host):
            raise TooManyError
        try:
            yield
        finally:
            self.give_back(host)


UNLIMITED = ClientLimit(0, lambda _: True)
"""Counts nobody."""


@dataclass(frozen=True, slots=True)
class ClientLimits:
    """The limits of one server.

    Attributes:
        connections: Open connections, by the address of their other end.
        listeners: Of all stations.
        blocked_requests: That wait for a part, of all channels.
        event_readers: Of all event channels.
    """

    connections: ClientLimit = UNLIMITED
    listeners: ClientLimit = UNLIMITED
    blocked_requests: ClientLimit = UNLIMITED
    event_readers: ClientLimit = UNLIMITED

    @classmethod
    def of(cls, config: Config, proxies: TrustedProxies) -> Self:
        """Make those that a configuration asks for."""
        limits = config.limits

        def limit(configured: int | None, of_all: int) -> ClientLimit:
            if configured is not None:
                return ClientLimit(configured, functools.lru_cache(maxsize=HOSTS_KEPT)(proxies.trusts))

            @functools.lru_cache(maxsize=HOSTS_KEPT)
            def is_exempt(host: str) -> bool:
                return is_loopback(host) or proxies.trusts(host)

            return ClientLimit(max(of_all // SHARE, 1), is_exempt)

        return cls(
            limit(limits.connections_per_address, limits.connections),
            limit(limits.listeners_per_address, limits.all_listeners),
            limit(limits.blocked_requests_per_address, limits.blocked_requests),
            limit(limits.event_readers_per_address, limits.event_readers),
        )
