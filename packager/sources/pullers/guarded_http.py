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

from packager.sources.limits import DEFAULT_LIMITS, GuardLimits
from packager.sources.pullers.address_guard import AddressGuard
from packager.sources.pullers.bounded_cookies import BoundedCookies
from packager.step_budget import StepBudget

_ICY, _HTTP = b"ICY ", b"HTTP/1.0 "
_HEAD_END = re.compile(rb"\n\r?\n")
# RFC 9110 §15.2: any number of interim responses may precede the final one; 101 is final for HTTP/1.1.
_INTERIM = re.compile(rb"HTTP/1\.[01] 1(?!01)[0-9]{2}\b")
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
    """Return whether this thread runs an event loop, which a call from it holds up anyway."""
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
        plain = super().connect_tcp

        async def connect(address: str, port: int, tls: ssl.SSLContext | None) -> httpcore.AsyncNetworkStream:
            stream = await plain(address, port, timeout, local_address, socket_options)
            return stream if tls is None else await stream.start_tls(tls, host, timeout)

        failures = (httpcore.ConnectError, httpcore.ConnectTimeout)
        try:
            stream = await self._guard.connect_with(host, port, connect, failures)
        except OSError as error:
            raise httpcore.ConnectError("its name isn't known") from error
        return _IcyStream(stream, self._guard.limits)


class _IcyStream(httpcore.AsyncNetworkStream):
    """A connection that limits response heads, and reads ``ICY 200 OK`` of old SHOUTcast servers as HTTP.

    The heads of interim responses (1xx) count towards the limits of the one that they precede.
    """

    def __init__(self, stream: httpcore.AsyncNetworkStream, limits: GuardLimits) -> None:
        self._limits = limits
        self._stream = stream
        self._begun = False
        # The part of the head received so far, None once it is complete; what the heads before it had.
        self._head: bytes | None = b""
        self._interim_bytes = self._interim_lines = 0

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109  # likewise
        data = await self._first(max_bytes, timeout)
        if self._head is not None:
            self._head += data
            self._check_heads(self._head)
        return data

    def _check_heads(self, received: bytes) -> None:
        """Find the end of the final response's head.

        Raises:
            httpcore.RemoteProtocolError: the heads up to there are too long.
        """
        while True:
            end = _HEAD_END.search(received)
            head = received if end is None else received[: end.start()]
            nbytes, lines = self._interim_bytes + len(head), self._interim_lines + head.count(b"\n")
            if nbytes > self._limits.head_bytes or lines > self._limits.head_fields:
                raise httpcore.RemoteProtocolError("the head of its answer is too long")
            if end is None or _INTERIM.match(head) is None:
                self._head = received if end is None else None
                return
            self._interim_bytes, self._interim_lines = nbytes, lines + 1
            received = received[end.end() :]

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
        self._interim_bytes = self._interim_lines = 0
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

    def __init__(self, guard: AddressGuard, trust: ssl.SSLContext | None = None) -> None:
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=trust or certificates(), network_backend=_GuardedBackend(guard)
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
        body = _YieldingBody(_Body(answer))
        return httpx.Response(answer.status, headers=answer.headers, stream=body, extensions=extensions)

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


class _YieldingBody(httpx.AsyncByteStream):
    """A response's body whose reader yields to the event loop again and again.

    Each chunk of a chunked body comes by itself (RFC 9112 §7.1), and thousands of a byte each may have come
    at once: nothing is waited for between them.
    """

    def __init__(self, body: httpx.AsyncByteStream) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        budget = StepBudget()
        async for part in self._body:
            await budget.spend()
            yield part

    async def aclose(self) -> None:
        await self._body.aclose()


async def _yield_in_body(response: httpx.Response) -> None:
    """Have the body of a proxy's response read in bounded steps."""
    if isinstance(response.stream, httpx.AsyncByteStream):
        response.stream = _YieldingBody(response.stream)


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


def guarded_client(
    url: str,
    limits: GuardLimits = DEFAULT_LIMITS.guard,
    *,
    redirects: int = 0,
    trust: ssl.SSLContext | None = None,
    is_direct: bool = False,
    **options: Any,
) -> httpx.AsyncClient:
    """Make a client for a configured URL and everything it refers to: no part of the program has another one.

    It connects to no address that is nearer to this machine than the configured one, reads no long head, and
    follows no redirect unless told how many. Credentials of the URL go to its own host alone.

    Args:
        limits: the limits of connections, response heads and cookies.
        redirects: most redirects that are followed.
        trust: the certificates that are trusted; None: those of the known authorities.
        is_direct: whether it connects without the system's proxy.
        options: further arguments of ``httpx.AsyncClient``.
    """
    guard, cookies, trust = guard_for(url, limits), BoundedCookies(limits), trust or certificates()
    options |= {"follow_redirects": redirects > 0, "max_redirects": redirects, "cookies": cookies}
    if is_direct or not {"http", "https", "all"} & set(urllib.request.getproxies()):
        hooks = {"response": [check_redirect]}
        return httpx.AsyncClient(transport=GuardedTransport(guard, trust), event_hooks=hooks, **options)

    async def check(request: httpx.Request) -> None:
        # The proxy makes the connection, so only the local resolution of the name can be checked.
        with contextlib.suppress(OSError):
            await guard.resolve(request.url.host, request.url.port)

    judged = [check_redirect, _yield_in_body]
    both: dict[str, list[Callable[..., Any]]] = {"request": [check], "response": judged}
    return httpx.AsyncClient(event_hooks=both, verify=trust, **options)


async def read_content(response: httpx.Response, most: int) -> bytes:
    """Read a response's content without decoding it.

    Raises:
        httpx.RemoteProtocolError: it has more bytes than it may have.
    """
    content = bytearray()
    async for data in response.aiter_raw():
        content += data
        if len(content) > most:
            raise httpx.RemoteProtocolError(f"the answer is longer than {most} bytes")
    return bytes(content)


async def check_redirect(response: httpx.Response) -> None:
    """Refuse a redirect to a name that is none, and leave out the body of any other.

    httpx's own failure at such a name is none of its errors; and before it follows a redirect, it would read
    and decompress the body whole, however long that is.

    Raises:
        httpx.RemoteProtocolError: there is no such name.
    """
    with contextlib.suppress(httpx.InvalidURL):
        try:
            httpx.URL(response.headers.get("location", "")).host  # noqa: B018  # decoded here
        except UnicodeError as error:
            raise httpx.RemoteProtocolError("it redirects to a name that is none") from error
    if response.has_redirect_location and isinstance(response.stream, httpx.AsyncByteStream):
        body, response.stream = response.stream, httpx.ByteStream(b"")
        await body.aclose()
