"""Limits per client address, for connections, listeners, blocked requests, event readers and searches.

A client is an IPv4 address or an IPv6 /64, the least that a site gets (RFC 6177). Trusted proxies may have
any number of connections, as their clients are counted instead; clients that they don't name count as one.
Loopback addresses are exempt unless a limit is configured: they are local programs, or an undeclared proxy,
all of whose clients seem to have its address.
"""

from __future__ import annotations

import functools
import ipaddress
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from origin.http.trusted_proxies import TrustedProxies, read_address

SHARE = 8
"""The default limit per client is the total limit divided by this."""

PREFIX_BITS = 64
"""Bits of an IPv6 address that identify a client."""

HOSTS_KEPT = 4096
"""Most addresses whose classification is cached."""

RETRY_SECONDS = 10
"""Retry-After for a client over its limit."""


class TooManyError(Exception):
    """A client has as many of something as it may have at once."""


@functools.lru_cache(maxsize=HOSTS_KEPT)
def network_of(host: str) -> str:
    """Return the key under which an address is counted: IPv4 itself, the /64 of IPv6, or other text as is."""
    address = read_address(host.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((int(address), PREFIX_BITS), strict=False))
    return str(address or host)


@functools.lru_cache(maxsize=HOSTS_KEPT)
def is_loopback(host: str) -> bool:
    """Return whether an address is a loopback address."""
    address = read_address(host.partition("%")[0])
    return address is not None and address.is_loopback


class ClientLimit:
    """Counts what each client holds at once.

    Args:
        most: the limit per client.
        is_exempt: returns whether an address isn't counted.
    """

    def __init__(self, most: int, is_exempt: Callable[[str], bool] = lambda _: False) -> None:
        self._most = most
        self._is_exempt = is_exempt
        self._held: Counter[str] = Counter()

    def change(self, most: int) -> None:
        """Change the limit; nothing ends for a client that has reached more."""
        self._most = most

    def acquire(self, host: str) -> bool:
        """Count one more for a client; return False if it has reached the limit.

        Clients whose address isn't known, which is empty, count as one.
        """
        if self._is_exempt(host):
            return True
        network = network_of(host)
        if self._held[network] >= self._most:
            return False
        self._held[network] += 1
        return True

    def give_back(self, host: str) -> None:
        """Count one less for a client."""
        if self._is_exempt(host):
            return
        network = network_of(host)
        self._held[network] -= 1
        if self._held[network] <= 0:
            del self._held[network]

    @contextmanager
    def held(self, host: str) -> Iterator[None]:
        """Count one for a client while the context is open.

        Raises:
            TooManyError: the client has reached the limit.
        """
        if not self.acquire(host):
            raise TooManyError
        try:
            yield
        finally:
            self.give_back(host)


UNLIMITED = ClientLimit(0, lambda _: True)
"""A limit from which every client is exempt."""


@dataclass(frozen=True, slots=True)
class ClientLimits:
    """The limits per client of one server.

    Attributes:
        connections: open connections, by the peer's address.
        blocked_requests: requests that wait for a part, of all channels.
        event_readers: readers of all event channels.
        library_views: requests that search, sort or look into folders of the library.
    """

    connections: ClientLimit = UNLIMITED
    listeners: ClientLimit = UNLIMITED
    blocked_requests: ClientLimit = UNLIMITED
    event_readers: ClientLimit = UNLIMITED
    library_views: ClientLimit = UNLIMITED


def limit_per_client(configured: int | None, of_all: int, proxies: TrustedProxies) -> ClientLimit:
    """Make the limit of one client: what is configured, or else a share of what all clients may have.

    Args:
        configured: how many one client may have; None where nothing is configured.
        of_all: how many all clients may have together.
        proxies: an address of theirs stands for all clients that they don't name.
    """
    if configured is not None:
        return ClientLimit(configured)

    @functools.lru_cache(maxsize=HOSTS_KEPT)
    def is_exempt(host: str) -> bool:
        return is_loopback(host) and not proxies.trusts(host)

    return ClientLimit(max(of_all // SHARE, 1), is_exempt)


def connections_per_client(configured: int | None, of_all: int, proxies: TrustedProxies) -> ClientLimit:
    """Make the limit of one peer's connections, from which proxies are exempt; see `limit_per_client`."""

    @functools.lru_cache(maxsize=HOSTS_KEPT)
    def is_exempt(host: str) -> bool:
        return not host or proxies.trusts(host) or (configured is None and is_loopback(host))

    return ClientLimit(max(of_all // SHARE, 1) if configured is None else configured, is_exempt)
