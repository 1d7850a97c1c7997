"""Where somebody else's playlists and redirects may lead: no further inside than the configured address.

A server outside would have us ask our own machine, or our neighbours, who trust us (server-side request
forgery). So names are resolved here, once for each connection, and what is connected to is the address that
was judged. HTTP connects through it in ``guarded_http``, RTSP in ``rtsp_relay``.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import ipaddress
import socket
from collections.abc import Awaitable, Callable
from typing import TypeVar

from packager.sources.limits import DEFAULT_LIMITS, GuardLimits
from packager.sources.retries import PullError

T = TypeVar("T")

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_NO_HOST = ipaddress.IPv4Network("0.0.0.0/8")
"""RFC 1122 §3.2.1.3: of "this network"; systems connect to themselves."""

_ISATAP = 0x0000_5EFE
"""RFC 5214 §6.1: the third word of an address that holds one of IPv4; the bit of "universal" may be set."""

_UNIVERSAL = 0x0200_0000

_NOT_GLOBAL = (
    ipaddress.ip_network("fec0::/10"),  # RFC 3879: site-local, as some networks still have
    ipaddress.ip_network("3fff::/20"),  # RFC 9637: of documentation
    ipaddress.ip_network("192.88.99.0/24"),  # RFC 7526: relays of 6to4
)
"""What some versions of Python's tables take for global."""

_METADATA = frozenset(
    map(ipaddress.ip_address, ("100.100.100.200", "168.63.129.16", "fd00:ec2::254", "fd20:ce::254"))
)
"""Where clouds tell a machine its own secrets, beside the addresses of its link."""


class AddressScope(enum.IntEnum):
    """How far inside an address is."""

    PUBLIC = 0
    PRIVATE = 1
    """Of a network such as 10.0.0.0/8 (RFC 1918, RFC 4193, RFC 6598)."""
    LOCAL = 2
    """This machine, its link, or what is no host at all (RFC 6890)."""


def address_scope(address: str) -> AddressScope:
    """Tell how far inside an IP address is; one that stands for another is as far as that.

    Args:
        address: without brackets; a zone may follow.
    """
    found = ipaddress.ip_address(address)
    if not isinstance(found, ipaddress.IPv6Address):
        return _reach(found)
    found = ipaddress.IPv6Address(int(found))  # without its zone
    lower, third = ipaddress.IPv4Address(int(found) & 0xFFFF_FFFF), int(found) >> 32 & 0xFFFF_FFFF
    teredo = found.teredo[1] if found.teredo else None
    inner = found.ipv4_mapped or found.sixtofour or teredo or (lower if found in _NAT64 else None)
    if inner is not None:
        return _reach(inner)
    return max(_reach(found), _reach(lower)) if third & ~_UNIVERSAL == _ISATAP else _reach(found)


def _reach(found: ipaddress.IPv4Address | ipaddress.IPv6Address) -> AddressScope:
    if found.is_loopback or found.is_link_local or found.is_unspecified or found.is_multicast:
        return AddressScope.LOCAL
    if found.is_reserved or found in _METADATA or (found.version == 4 and found in _NO_HOST):
        return AddressScope.LOCAL
    hidden = any(found in network for network in _NOT_GLOBAL if network.version == found.version)
    return AddressScope.PUBLIC if found.is_global and not hidden else AddressScope.PRIVATE


class AddressGuard:
    """Decides where one configured URL may lead.

    Args:
        host: of the URL as configured; where that is when it is asked first, it may lead.
        limit: where it is; None: it is looked up.
        limits: what connecting may cost.
    """

    def __init__(
        self, host: str, limit: AddressScope | None = None, limits: GuardLimits = DEFAULT_LIMITS.guard
    ) -> None:
        self.limits = limits
        self._host = host
        self._limit = limit

    async def resolve(self, host: str, port: int | None) -> list[str]:
        """Look up where a host leads.

        Raises:
            PullError: only to where it mustn't.
            OSError: its name isn't known.
        """
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(host, port or 0, type=socket.SOCK_STREAM)
        except UnicodeError as error:
            raise OSError("its name is none") from error
        known = list(dict.fromkeys(str(place[4][0]) for place in found))[: self.limits.addresses]
        if self._limit is None and host == self._host:
            # Once for all: names may lead elsewhere later. A name that answers both a public address and a
            # private one leads outside: who answers for it may be anybody.
            self._limit = min(map(address_scope, known))
        limit = AddressScope.PUBLIC if self._limit is None else self._limit
        allowed = [address for address in known if address_scope(address) <= limit]
        if not allowed:
            raise PullError("it leads to a private address, which the configured one is not")
        return allowed

    async def connect_with(
        self,
        host: str,
        port: int,
        connect: Callable[[str], Awaitable[T]],
        failures: tuple[type[Exception], ...] = (OSError,),
    ) -> T:
        """Connect to the first of a host's addresses that answers; all connections to others are made here.

        Args:
            host: a name or an address.
            port: there.
            connect: connects to one address that was judged.
            failures: what it raises where that doesn't answer.

        Raises:
            PullError: the host leads only to where it mustn't.
            OSError: its name isn't known.
            Exception: the last address's failure, where none answers.
        """
        *others, last = await self.resolve(host, port)
        for address in others:
            with contextlib.suppress(*failures):
                return await connect(address)
        return await connect(last)

    async def connect(
        self, host: str, port: int, seconds: float = DEFAULT_LIMITS.connect_seconds
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to the first of a host's addresses that answers, within so many seconds each.

        Raises:
            PullError: it leads only to where it mustn't.
            OSError: none answers, or its name isn't known.
        """

        async def connect(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            async with asyncio.timeout(seconds):
                return await asyncio.open_connection(address, port)

        return await self.connect_with(host, port, connect)  # TimeoutError is an OSError
