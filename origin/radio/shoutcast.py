"""HTTP to older SHOUTcast servers, which begin answers with ``ICY 200 OK`` instead of a version of HTTP."""

from __future__ import annotations

import contextlib
import re
import ssl
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from typing import Any

import httpcore
import httpx

from packager.sources.guard import Guard, certificates

ERRORS = (
    httpcore.TimeoutException,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.UnsupportedProtocol,
)
"""What requests and bodies fail with, beside httpx's own."""

_ICY, _HTTP = b"ICY ", b"HTTP/1.0 "
HEAD_BYTES, HEAD_FIELDS = 32 * 1024, 128
"""Longest head of an answer: tens of thousands of fields would hold everybody while they are read."""

_HEAD_END = re.compile(rb"\n\r?\n")


class IcyTransport(httpx.AsyncBaseTransport):
    """A transport for ``httpx.AsyncClient`` that takes such answers for HTTP/1.0's, which they are else.

    Args:
        guard: judges where it connects to.
    """

    def __init__(self, guard: Guard) -> None:
        self._pool = httpcore.AsyncConnectionPool(ssl_context=certificates(), network_backend=_Backend(guard))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Ask; see httpx. Errors are those of httpcore (``ERRORS``), and the guard's."""
        url = httpcore.URL(
            scheme=request.url.raw_scheme,
            host=request.url.raw_host,
            port=request.url.port,
            target=request.url.raw_path,
        )
        answer = await self._pool.handle_async_request(
            httpcore.Request(
                request.method, url, headers=request.headers.raw, extensions=dict(request.extensions)
            )
        )
        if not isinstance(answer.stream, AsyncIterable):
            raise TypeError("the answer's body isn't asynchronous")
        return httpx.Response(answer.status, headers=answer.headers, stream=_Body(answer))

    async def aclose(self) -> None:
        """Close all connections."""
        await self._pool.aclose()


class _Body(httpx.AsyncByteStream):
    def __init__(self, answer: httpcore.Response) -> None:
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._answer.aiter_stream():
            yield part

    async def aclose(self) -> None:
        await self._answer.aclose()


class _Backend(httpcore.AnyIOBackend):
    """Connects to the addresses that were judged, and to no others."""

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
        try:
            known = await self._guard.addresses(httpx.URL(scheme="http", host=host, port=port))
        except OSError as error:
            raise httpcore.ConnectError("its name isn't known") from error
        for address in known[:-1]:
            with contextlib.suppress(httpcore.ConnectError, httpcore.ConnectTimeout):
                return await self._connect(address, port, timeout, local_address, socket_options)
        return await self._connect(known[-1], port, timeout, local_address, socket_options)

    async def _connect(self, *arguments: Any) -> httpcore.AsyncNetworkStream:
        return _Stream(await super().connect_tcp(*arguments))


class _Stream(httpcore.AsyncNetworkStream):
    """A connection, the first bytes of whose answer may be replaced, and whose head is bounded."""

    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self._stream = stream
        self._begun = False
        # What has come of the head; None behind it.
        self._head: bytes | None = b""

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        data = await self._first(max_bytes, timeout)
        if self._head is not None:
            self._head += data
            end = _HEAD_END.search(self._head)
            head = self._head if end is None else self._head[: end.start()]
            if len(head) > HEAD_BYTES or head.count(b"\n") > HEAD_FIELDS:
                raise httpcore.RemoteProtocolError("the head of its answer is too long")
            self._head = None if end else head
        return data

    async def _first(self, max_bytes: int, timeout: float | None) -> bytes:  # noqa: ASYNC109
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

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        self._head = b""  # an answer follows
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> httpcore.AsyncNetworkStream:
        return _Stream(await self._stream.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
