"""Where somebody else's playlists and redirects may lead: no further inside than the configured address.

A server outside would have us ask our own machine, or our neighbours, who trust us (server-side request
forgery). So names are resolved here, and what is connected to is the address that was judged.
"""

from __future__ import annotations

import asyncio
import enum
import functools
import ipaddress
import socket
import ssl
import urllib.request
from typing import Any

import httpx

from packager.sources.fetching import PullError

MAX_ADDRESSES = 8
"""How many addresses of one name are tried."""

_TRANSLATED = ipaddress.IPv6Network("64:ff9b::/96")


class Reach(enum.IntEnum):
    """How far inside an address is."""

    PUBLIC = 0
    PRIVATE = 1
    """Of a network such as 10.0.0.0/8 (RFC 1918, RFC 4193, RFC 6598)."""
    OWN = 2
    """This machine, its link, or what is no host at all (RFC 6890)."""


def reach(address: str) -> Reach:
    """Tell how far inside an IP address is; one that holds another is as far as that.

    Args:
        address: without brackets; a zone may follow.
    """
    found = ipaddress.ip_address(address)
    if isinstance(found, ipaddress.IPv6Address):
        teredo = found.teredo[1] if found.teredo else None
        translated = ipaddress.IPv4Address(int(found) & 0xFFFF_FFFF) if found in _TRANSLATED else None
        inner = found.ipv4_mapped or found.sixtofour or teredo or translated
        if inner is not None:
            return reach(str(inner))
    if found.is_loopback or found.is_link_local or found.is_unspecified or found.is_multicast:
        return Reach.OWN
    if found.is_reserved or (found.version == 4 and str(found).startswith("0.")):
        return Reach.OWN
    return Reach.PUBLIC if found.is_global else Reach.PRIVATE


class Guard:
    """Decides where one configured URL may lead.

    Args:
        url: as configured; where it is when it is asked first, it may lead.
        limit: where it is; None: it is looked up.
    """

    def __init__(self, url: str, limit: Reach | None = None) -> None:
        self._host = httpx.URL(url).host
        self._limit = limit

    async def addresses(self, url: httpx.URL) -> list[str]:
        """Look up where a URL leads.

        Raises:
            PullError: only to where it mustn't.
            OSError: its name isn't known.
        """
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(url.host, url.port or 0, type=socket.SOCK_STREAM)
        known = list(dict.fromkeys(str(place[4][0]) for place in found))[:MAX_ADDRESSES]
        if self._limit is None and url.host == self._host:
            # Once for all: names may lead elsewhere later.
            self._limit = max(map(reach, known))
        limit = Reach.PUBLIC if self._limit is None else self._limit
        allowed = [address for address in known if reach(address) <= limit]
        if not allowed:
            raise PullError("it leads to a private address, which the configured one is not")
        return allowed

    async def check(self, request: httpx.Request) -> None:
        """Judge a request that a proxy will send, as far as its name is known here.

        Raises:
            PullError: it mustn't be.
        """
        try:
            await self.addresses(request.url)
        except OSError:
            return


@functools.cache
def certificates() -> ssl.SSLContext:
    """Read the authorities whose certificates are believed, once for all.

    It takes a tenth of a second: whoever has a loop calls it in a thread before anything here needs it.
    """
    return httpx.create_ssl_context()


class GuardedTransport(httpx.AsyncBaseTransport):
    """Connects to the addresses that were judged, and to no others.

    Args:
        guard: who judges.
    """

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._inner = httpx.AsyncHTTPTransport(verify=certificates())

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request to the first of its host's addresses that answers; see httpx."""
        host = request.url.host
        try:
            known = await self._guard.addresses(request.url)
        except OSError as error:
            raise httpx.ConnectError("its name isn't known") from error
        for address in known[:-1]:
            try:
                return await self._send(request, host, address)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                continue
        return await self._send(request, host, known[-1])

    async def _send(self, request: httpx.Request, host: str, address: str) -> httpx.Response:
        # The certificate is that of the name (RFC 9110 §4.3.4).
        named = {} if host == address else {"sni_hostname": host}
        return await self._inner.handle_async_request(
            httpx.Request(
                request.method,
                request.url.copy_with(host=address),
                headers=request.headers,
                stream=request.stream,
                extensions={**request.extensions, **named},
            )
        )

    async def aclose(self) -> None:
        """Close all connections."""
        await self._inner.aclose()


def guarded(url: str, **options: Any) -> httpx.AsyncClient:
    """Make a client for a configured URL, and for what it leads to.

    Args:
        url: as configured.
        options: of the client.
    """
    guard = Guard(url)
    if {"http", "https", "all"} & set(urllib.request.getproxies()):
        hooks = {"request": [guard.check]}
        return httpx.AsyncClient(event_hooks=hooks, verify=certificates(), **options)
    return httpx.AsyncClient(transport=GuardedTransport(guard), **options)
