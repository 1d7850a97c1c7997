"""HTTP to where a guard lets it: one client for a configured URL, its redirects and what its answers name."""

from __future__ import annotations

import contextlib
import functools
import ssl
import urllib.request
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import Any

import httpcore
import httpx

from packager.sources.guard import Guard

_FAILURES = (
    httpcore.TimeoutException,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.UnsupportedProtocol,
)


@functools.cache
def certificates() -> ssl.SSLContext:
    """Read the authorities whose certificates are believed, once for all.

    It takes a tenth of a second: whoever has a loop calls it in a thread before anything here needs it.
    """
    return httpx.create_ssl_context()


class GuardedBackend(httpcore.AnyIOBackend):
    """Connects to the addresses that were judged, and to no others.

    Args:
        guard: who judges.
    """

    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  # httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect by the guard; see httpcore."""
        connect = super().connect_tcp
        try:
            return await self._guard.connect_by(
                host,
                port,
                lambda address: connect(address, port, timeout, local_address, socket_options),
                (httpcore.ConnectError, httpcore.ConnectTimeout),
            )
        except OSError as error:
            raise httpcore.ConnectError("its name isn't known") from error


class GuardedTransport(httpx.AsyncBaseTransport):
    """A transport for ``httpx.AsyncClient`` that connects through a guard.

    Args:
        guard: judges where it connects to.
        backend: makes the connections.
    """

    def __init__(self, guard: Guard, backend: type[GuardedBackend] = GuardedBackend) -> None:
        self._pool = httpcore.AsyncConnectionPool(ssl_context=certificates(), network_backend=backend(guard))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Ask; see httpx."""
        url = httpcore.URL(
            scheme=request.url.raw_scheme,
            host=request.url.raw_host,
            port=request.url.port,
            target=request.url.raw_path,
        )
        with _failing_as_httpx():
            answer = await self._pool.handle_async_request(
                httpcore.Request(
                    request.method, url, headers=request.headers.raw, extensions=dict(request.extensions)
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
    """Raise httpcore's errors as those of httpx, which have the same names."""
    try:
        yield
    except _FAILURES as error:
        raise getattr(httpx, type(error).__name__, httpx.TransportError)(str(error)) from error


def guard_of(url: str) -> Guard:
    """Make the guard of a configured URL; where it can't be read, whoever asks for it is told so."""
    try:
        return Guard(httpx.URL(url).host)
    except httpx.InvalidURL:
        return Guard("")


def guarded(url: str, **options: Any) -> httpx.AsyncClient:
    """Make a client for a configured URL, and for what it leads to.

    Args:
        url: as configured.
        options: of the client.
    """
    guard = guard_of(url)
    if not {"http", "https", "all"} & set(urllib.request.getproxies()):
        return httpx.AsyncClient(transport=GuardedTransport(guard), **options)

    async def check(request: httpx.Request) -> None:
        # What a proxy connects to is its own affair; judged is what is known of the name here.
        with contextlib.suppress(OSError):
            await guard.addresses(request.url.host, request.url.port)

    return httpx.AsyncClient(event_hooks={"request": [check]}, verify=certificates(), **options)
