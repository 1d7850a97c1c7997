"""Protection against server-side request forgery by foreign playlists and redirects.

A public server must not make this one connect to itself or to its private network. Each host name is resolved
here once per connection, and the connection goes to the very address that was checked. HTTP uses it in
``guarded_http``, RTSP in ``rtsp_relay``.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import errno
import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from packager.sources.limits import DEFAULT_LIMITS, GuardLimits
from packager.sources.retries import PullError
from packager.threads import SHARED_THREADS

T = TypeVar("T")

LARGEST_PORT = 65_535

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_NO_HOST = ipaddress.IPv4Network("0.0.0.0/8")
"""RFC 1122 §3.2.1.3: "this network"; systems connect to themselves."""

_ISATAP = 0x0000_5EFE
"""RFC 5214 §6.1: the third word of an IPv6 address that embeds an IPv4 one; the universal bit may be set."""

_UNIVERSAL = 0x0200_0000

_NOT_GLOBAL = (
    ipaddress.ip_network("fec0::/10"),  # RFC 3879: site-local, as some networks still have
    ipaddress.ip_network("3fff::/20"),  # RFC 9637: of documentation
    ipaddress.ip_network("192.88.99.0/24"),  # RFC 7526: relays of 6to4
)
"""Networks that some versions of Python consider global."""

_METADATA = frozenset(
    map(ipaddress.ip_address, ("100.100.100.200", "168.63.129.16", "fd00:ec2::254", "fd20:ce::254"))
)
"""Metadata services of clouds outside the link-local range, which give a machine's credentials."""


class AddressScope(enum.IntEnum):
    """How close to this machine an address is; a larger value is closer."""

    PUBLIC = 0
    PRIVATE = 1
    """A private network such as 10.0.0.0/8 (RFC 1918, RFC 4193, RFC 6598)."""
    LOCAL = 2
    """This machine, its link, or a special-purpose address (RFC 6890)."""


def address_scope(address: str) -> AddressScope:
    """Classify an IP address; an embedded IPv4 address decides where there is one.

    Args:
        address: without brackets, optionally with a zone.
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


@dataclass(frozen=True, slots=True)
class OwnServer:
    """This program's own server, whose plain port answers with nothing but redirects to another one.

    Attributes:
        names: of the server in configured URLs.
        port: number of the plain port.
        host: at which it is reached instead.
        own_port: at which it is reached instead.
        trust: returns by which certificates it is verified there, and blocks; None: it isn't encrypted.
    """

    names: frozenset[str]
    port: int
    host: str
    own_port: int
    trust: Callable[[], ssl.SSLContext] | None


class _OwnConnections:
    server: OwnServer | None = None


def lead_own_connections(server: OwnServer | None) -> None:
    """Have connections to this program's own plain port lead to where the server answers.

    Args:
        server: None where its plain port answers.
    """
    _OwnConnections.server = server


class AddressGuard:
    """Allows connections no closer to this machine than one configured host.

    Args:
        host: the host of the configured URL; its scope when first resolved is the limit.
        limit: the limit if it is known already; None to resolve ``host``.
        limits: how many addresses are tried.
    """

    def __init__(
        self, host: str, limit: AddressScope | None = None, limits: GuardLimits = DEFAULT_LIMITS.guard
    ) -> None:
        self.limits = limits
        self._host = host
        self._limit = limit

    async def resolve(self, host: str, port: int | None) -> list[str]:
        """Resolve a host to the addresses that may be connected to.

        Raises:
            PullError: none of its addresses is allowed.
            OSError: the name doesn't resolve, or there is no such port.
        """
        if port is not None and not 0 <= port <= LARGEST_PORT:
            raise OSError(errno.EINVAL, "its port is none")
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(host, port or 0, type=socket.SOCK_STREAM)
        except UnicodeError as error:
            raise OSError("its name is none") from error
        known = list(dict.fromkeys(str(place[4][0]) for place in found))[: self.limits.addresses]
        if self._limit is None and host == self._host:
            # Decided once, as DNS may answer differently later. A name with a public and a private address
            # counts as public: anybody may control it.
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
        connect: Callable[[str, int, ssl.SSLContext | None], Awaitable[T]],
        failures: tuple[type[Exception], ...] = (OSError,),
    ) -> T:
        """Connect to the first of a host's allowed addresses that answers.

        Args:
            host: a name or an address.
            connect: connects to one address that was checked, at a port; with the settings of TLS where the
                connection is encrypted although nobody has asked for that, as to this program's own server.
            failures: the exceptions of ``connect`` after which the next address is tried.

        Raises:
            PullError: none of the addresses is allowed.
            OSError: the name doesn't resolve, or there is no such port.
            Exception: the failure at the last address.
        """
        *others, last = await self.resolve(host, port)
        own = _OwnConnections.server
        if own is not None and own.port == port and host in own.names:
            trust = None if own.trust is None else await SHARED_THREADS.run(own.trust)
            return await connect(own.host, own.own_port, trust)
        for address in others:
            with contextlib.suppress(*failures):
                return await connect(address, port, None)
        return await connect(last, port, None)

    async def connect(
        self, host: str, port: int, seconds: float = DEFAULT_LIMITS.connect_seconds
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a TCP connection to the first allowed address that answers, within ``seconds`` for each.

        Raises:
            PullError: none of the addresses is allowed.
            OSError: none answers, or the name doesn't resolve.
        """

        async def connect(
            address: str, port: int, tls: ssl.SSLContext | None
        ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            async with asyncio.timeout(seconds):
                return await asyncio.open_connection(address, port, ssl=tls)

        return await self.connect_with(host, port, connect)  # TimeoutError is an OSError
