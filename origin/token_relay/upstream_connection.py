"""Sends one request over a connection of its own, and reads the response by the parser httptools.

A relayed answer is thousands of small chunks, each of which httpx passes through a dozen generators and time
limits. Here the parser has the bytes as soon as they come, and only the task that reads the body is woken.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import AsyncIterator
from typing import cast

import httptools
import httpx

from packager.sources.limits import GuardLimits
from packager.sources.pullers.address_guard import AddressGuard
from packager.sources.pullers.guarded_http import certificates
from packager.step_budget import StepBudget

MOST_WAITING_BYTES = 256 << 10
"""Received bytes that wait for the parser, from which on no more are read from the socket."""

PARSED_BYTES = 16 << 10
"""Bytes that are parsed before other tasks of the loop may run: some thousand chunks at most."""

PORTS = {"http": 80, "https": 443}


class _UpstreamConnection(asyncio.Protocol):
    """The connection of one request, and its response.

    The methods whose names begin with ``on_`` are those that httptools calls.

    Args:
        limits: most bytes and lines of the response's head.
    """

    def __init__(self, limits: GuardLimits) -> None:
        self._limits = limits
        self._parser = httptools.HttpResponseParser(self)
        # RFC 9112 §2.2: a single LF may end a line. Small servers of models write their heads so, and pad the
        # sizes of chunks. Nothing follows the response that could be taken for another one.
        self._parser.set_dangerous_leniencies(
            lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
        )
        self._waiting = deque[bytes]()
        self._waiting_bytes = 0
        self._is_paused = self._is_lost = False
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._fields: list[tuple[bytes, bytes]] = []
        self._body: list[bytes] = []
        # Bytes since the last of the body: of a head, of trailers, or of what frames chunks.
        self._unread_bytes = 0
        self._status = 0
        self._is_framed = self._is_complete = False
        self._budget = StepBudget()

    # asyncio's protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self._error is not None:
            return
        self._waiting.append(data)
        self._waiting_bytes += len(data)
        if self._waiting_bytes >= MOST_WAITING_BYTES and not self._is_paused:
            self._is_paused = True
            self._transport.pause_reading()
        self._wake()

    def connection_lost(self, error: Exception | None) -> None:
        self._is_lost, self._error = True, self._error or error
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # The parser's calls

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields.append((name, value))
        if len(self._fields) > self._limits.head_fields:
            raise httptools.HttpParserError("the head of its answer is too long")

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        # RFC 9110 §15.2: any number of interim responses may precede the final one.
        if status >= 200:
            self._status = status
            names = {name.lower() for name, _ in self._fields}
            self._is_framed = not names.isdisjoint((b"content-length", b"transfer-encoding"))

    def on_body(self, data: bytes) -> None:
        self._body.append(data)

    def on_message_complete(self) -> None:
        if self._status:
            self._is_complete = True
        else:
            self._fields.clear()

    # One request

    async def send(self, request: httpx.Request) -> httpx.Response:
        """Send a request, and return the response once its head is there; its body is read from here.

        Raises:
            httpx.TransportError: there is none.
        """
        target, body = request.url.raw_path, request.content
        lines = [b"%b %b HTTP/1.1" % (request.method.encode(), target)]
        lines += [b"%b: %b" % field for field in request.headers.raw]
        self._transport.write(b"\r\n".join((*lines, b"", body)))
        while not self._status:
            if not await self._parse():
                raise httpx.RemoteProtocolError("the server has sent no response")
        fields, self._fields = self._fields, []
        return httpx.Response(self._status, headers=fields, stream=_UpstreamBody(self))

    async def body(self) -> AsyncIterator[bytes]:
        """Return the body as it comes, without its framing.

        Raises:
            httpx.TransportError: it broke off.
        """
        while True:
            if self._body:
                data, self._body = self._body[0] if len(self._body) == 1 else b"".join(self._body), []
                yield data
            if self._is_complete:
                return
            if not await self._parse():
                if self._is_framed:
                    raise httpx.RemoteProtocolError("the server has closed the connection")
                return

    def close(self) -> None:
        """Close the connection, unless it is closed."""
        if not self._is_lost:
            self._is_lost = True
            self._transport.abort()

    async def _parse(self) -> bool:
        """Parse the next bytes received; return False at the end of the connection."""
        while not self._waiting:
            if isinstance(self._error, httptools.HttpParserError | httptools.HttpParserUpgrade):
                raise httpx.RemoteProtocolError("it isn't HTTP") from self._error
            if self._error is not None:
                raise httpx.ReadError("the connection was lost") from self._error
            if self._is_lost:
                return False
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
            self._budget.restart()
        data = self._waiting.popleft()
        if len(data) > PARSED_BYTES:
            self._waiting.appendleft(data[PARSED_BYTES:])
            data = data[:PARSED_BYTES]
        self._waiting_bytes -= len(data)
        if self._is_paused and self._waiting_bytes < MOST_WAITING_BYTES // 2:
            self._is_paused = False
            self._transport.resume_reading()
        await self._budget.spend()
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self._is_complete:
                # The body before the error is passed on first.
                self._waiting.clear()
                self.close()
                self._error = error
        self._unread_bytes = 0 if self._body else self._unread_bytes + len(data)
        if self._unread_bytes > self._limits.head_bytes and not self._is_complete:
            raise httpx.RemoteProtocolError("the head of its answer is too long")
        return True


class _UpstreamBody(httpx.AsyncByteStream):
    def __init__(self, connection: _UpstreamConnection) -> None:
        self._connection = connection

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._connection.body()

    async def aclose(self) -> None:
        self._connection.close()


async def request_once(request: httpx.Request, guard: AddressGuard, seconds: float) -> httpx.Response:
    """Send a request over a connection of its own, which the response closes.

    Args:
        guard: decides which addresses may be connected to.
        seconds: that a connection may take, its encryption included.

    Raises:
        PullError: the address isn't allowed.
        httpx.TransportError: there is no response.
    """
    url = request.url
    tls = None
    if url.scheme not in PORTS:
        raise httpx.UnsupportedProtocol("neither http nor https")
    if url.scheme == "https":
        tls = certificates()
        tls.set_alpn_protocols(["http/1.1"])
    host, port = url.raw_host.decode("ascii"), url.port or PORTS[url.scheme]
    loop = asyncio.get_running_loop()

    async def connect(address: str, port: int, own_tls: ssl.SSLContext | None) -> _UpstreamConnection:
        used = own_tls if tls is None else tls
        async with asyncio.timeout(seconds):
            _, connection = await loop.create_connection(
                lambda: _UpstreamConnection(guard.limits),
                address,
                port,
                ssl=used,
                server_hostname=None if used is None else host,
            )
            return connection

    try:
        connection = await guard.connect_with(host, port, connect, (OSError, TimeoutError))
    except TimeoutError as error:
        raise httpx.ConnectTimeout("it doesn't answer in time") from error
    except OSError as error:
        raise httpx.ConnectError("it can't be reached") from error
    try:
        return await connection.send(request)
    except BaseException:
        connection.close()
        raise
