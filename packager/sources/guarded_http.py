"""HTTP clients whose connections, redirects included, go through an ``AddressGuard``.

httpx doesn't let one choose a connection's address, but the network backend of httpcore below it does. The
backend here also limits response heads and accepts SHOUTcast's ``ICY 200 OK``.
"""

from __future__ import annotations

import asyncio
import contextlib
import encodings.idna  # noqa: F401  # asyncio looks up names by it, and would import it on the event loop
import functools
import re
import ssl
import urllib.request
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from typing import Any

import httpcore
import httpx

from packager.sources.address_guard import AddressGuard
from packager.sources.bounded_cookies import BoundedCookies
from packager.sources.limits import DEFAULT_LIMITS, GuardLimits

_ICY, _HTTP = b"ICY ", b"HTTP/1.0 "
_HEAD_END = re.compile(rb"\n\r?\n")

_FAILURES = (
    httpcore.TimeoutException,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.UnsupportedProtocol,
)


@functools.cache
def certificates() -> ssl.SSLContext:
    """Load the trusted certificate authorities once, and what a first request would import.

    It takes a tenth of a second, so it is first called in a thread.
    """
    if not _is_on_loop():
        asyncio.run(_request_nothing())
    return httpx.create_ssl_context()


def _is_on_loop() -> bool:
    """Tell whether this thread runs an event loop: whoever calls from one is held anyway."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


async def _request_nothing() -> None:
    """Let httpcore import what it imports at its first request, which would hold an event loop for 30 ms."""
    nobody = httpcore.AsyncMockBackend([b"HTTP/1.1 204 No Content\r\n\r\n"])
    async with httpcore.AsyncConnectionPool(network_backend=nobody) as pool:
        await pool.request("GET", "http://localhost/")


class _GuardedBackend(httpcore.AnyIOBackend):
    """A network backend of httpcore that connects only to addresses its guard allows."""

    def __init__(self, guard: AddressGuard) -> None:
        self._guard = guard

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  # httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect through the guard; see httpcore."""
        connect = super().connect_tcp
        try:
            stream = await self._guard.connect_with(
                host,
                port,
                lambda address: connect(address, port, timeout, local_address, socket_options),
                (httpcore.ConnectError, httpcore.ConnectTimeout),
            )
        except OSError as error:
            raise httpcore.ConnectError("its name isn't known") from error
        return _IcyStream(stream, self._guard.limits)


class _IcyStream(httpcore.AsyncNetworkStream):
    """A connection that limits response heads, and reads ``ICY 200 OK`` of old SHOUTcast servers as HTTP."""

    def __init__(self, stream: httpcore.AsyncNetworkStream, limits: GuardLimits) -> None:
        self._limits = limits
        self._stream = stream
        self._begun = False
        # The part of the head received so far; None once it is complete.
        self._head: bytes | None = b""

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109  # likewise
        data = await self._first(max_bytes, timeout)
        if self._head is not None:
            self._head += data
            end = _HEAD_END.search(self._head)
            head = self._head if end is None else self._head[: end.start()]
            if len(head) > self._limits.head_bytes or head.count(b"\n") > self._limits.head_fields:
                raise httpcore.RemoteProtocolError("the head of its answer is too long")
            self._head = None if end else head
        return data

    async def _first(self, max_bytes: int, timeout: float | None) -> bytes:  # noqa: ASYNC109  # likewise
        data = await self._stream.read(max_bytes, timeout)
        if self._begun:
            return data
        self._begun = True
        while data and len(data) < len(_ICY) and _ICY.startswith(data):
            more = await self._stream.read(max_bytes, timeout)
            if not more:
                break
            data += more
        return _HTTP + data[len(_ICY) :] if data.startswith(_ICY) else data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109  # likewise
        self._head = b""  # another response follows
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109  # likewise
    ) -> httpcore.AsyncNetworkStream:
        return _IcyStream(await self._stream.start_tls(ssl_context, server_hostname, timeout), self._limits)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class GuardedTransport(httpx.AsyncBaseTransport):
    """A transport for ``httpx.AsyncClient`` that connects through a guard."""

    def __init__(self, guard: AddressGuard) -> None:
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=certificates(), network_backend=_GuardedBackend(guard)
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; see httpx."""
        url = httpcore.URL(
            scheme=request.url.raw_scheme,
            host=request.url.raw_host,
            port=request.url.port,
            target=request.url.raw_path,
        )
        if not isinstance(request.stream, httpx.AsyncByteStream):
            raise TypeError("the request's body isn't asynchronous")
        with _failing_as_httpx():
            answer = await self._pool.handle_async_request(
                httpcore.Request(
                    request.method,
                    url,
                    headers=request.headers.raw,
                    content=request.stream,
                    extensions=dict(request.extensions),
                )
            )
        if not isinstance(answer.stream, AsyncIterable):
            raise TypeError("the answer's body isn't asynchronous")
        extensions = {name: value for name, value in answer.extensions.items() if name != "network_stream"}
        return httpx.Response(
            answer.status, headers=answer.headers, stream=_Body(answer), extensions=extensions
        )

    async def aclose(self) -> None:
        """Close all connections."""
        await self._pool.aclose()


class _Body(httpx.AsyncByteStream):
    def __init__(self, answer: httpcore.Response) -> None:
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _failing_as_httpx():
            async for part in self._answer.aiter_stream():
                yield part

    async def aclose(self) -> None:
        await self._answer.aclose()


@contextlib.contextmanager
def _failing_as_httpx() -> Iterator[None]:
    """Translate httpcore's errors to those of httpx, which have the same names."""
    try:
        yield
    except _FAILURES as error:
        raise getattr(httpx, type(error).__name__, httpx.TransportError)(str(error)) from error


def guard_for(url: str, limits: GuardLimits = DEFAULT_LIMITS.guard) -> AddressGuard:
    """Make the guard of a configured URL; an invalid one fails later, when it is requested."""
    try:
        return AddressGuard(httpx.URL(url).host, limits=limits)
    except httpx.InvalidURL:
        return AddressGuard("", limits=limits)


def guarded_client(url: str, limits: GuardLimits = DEFAULT_LIMITS.guard, **options: Any) -> httpx.AsyncClient:
    """Make a client for a configured URL and everything it refers to.

    Args:
        url: the configured URL.
        limits: the limits of connections, response heads and cookies.
        options: further arguments of ``httpx.AsyncClient``.
    """
    guard, cookies = guard_for(url, limits), BoundedCookies(limits)
    if not {"http", "https", "all"} & set(urllib.request.getproxies()):
        hooks = {"response": [check_location]}
        transport = GuardedTransport(guard)
        return httpx.AsyncClient(transport=transport, event_hooks=hooks, cookies=cookies, **options)

    async def check(request: httpx.Request) -> None:
        # The proxy makes the connection, so only the local resolution of the name can be checked.
        with contextlib.suppress(OSError):
            await guard.resolve(request.url.host, request.url.port)

    both: dict[str, list[Callable[..., Any]]] = {"request": [check], "response": [check_location]}
    return httpx.AsyncClient(event_hooks=both, verify=certificates(), cookies=cookies, **options)


async def check_location(response: httpx.Response) -> None:
    """Refuse a redirect to a name that is none: httpx's own failure there is none of its errors.

    Raises:
        httpx.RemoteProtocolError: there is no such name.
    """
    with contextlib.suppress(httpx.InvalidURL):
        try:
            httpx.URL(response.headers.get("location", "")).host  # noqa: B018  # decoded here
        except UnicodeError as error:
            raise httpx.RemoteProtocolError("it redirects to a name that is none") from error
