"""Relays single requests to the control process, where the client's connection stays in the worker.

What OpenSSL and the library h2 know of a connection can't be handed over with its descriptor. So a request on
such a connection that the control process answers goes there as HTTP/1.1, over a pair of Unix sockets that is
made for it. The worker counts and logs nothing of it: the control process does.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
from collections import deque
from collections.abc import Callable

import httptools
import structlog
from starlette.types import Message, Receive, Scope, Send

from origin.http.answer import Headers
from origin.http.path_prefixes import split_token
from origin.http1.application_exchange import exchange_of, take_slowly
from origin.http1.handover_target import RELAYED, RelayedFrom
from origin.http1.protocol import UNAVAILABLE
from origin.http1.request_head import has_unframed_body
from packager.concurrency import background_task

log = structlog.get_logger()

READ_BYTES = 64 << 10
"""Most bytes of an answer that are read at once."""

OF_CONNECTIONS = frozenset((b"connection", b"keep-alive", b"transfer-encoding", b"proxy-connection"))
"""Fields about one connection (RFC 9110 §7.6.1)."""

OF_EVERY_RESPONSE = frozenset((b"date", b"server", b"alt-svc"))
"""Fields that the worker adds to each response by itself."""

Relay = Callable[[RelayedFrom, int], None]
"""Sends the control process a descriptor, over which it gets a request of a connection."""


class ControlRequests:
    """An ASGI application that relays each request to the control process, and its answer back."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        try:
            ours, its = socket.socketpair()
        except OSError as error:
            log.warning("a request can't be relayed", reason=error.strerror)
            await UNAVAILABLE(scope, receive, send)
            return
        # The control process has its own limits of time, and knows which bodies may pause.
        take_slowly(scope, math.inf)
        self._relay(RelayedFrom(scope["client"], scope["server"], scope["scheme"]), its.detach())
        with ours:
            ours.setblocking(False)
            request = _RelayedRequest(scope, receive, ours)
            async with background_task(request.send()):
                await _answer(scope, ours, send, request.may_continue)


class _RelayedRequest:
    """A request on its way to the control process.

    The socket has no transport of asyncio: an answer that comes before the request's end, behind which no
    more of the request is read, could be lost with one.

    Attributes:
        may_continue: set once the body is wanted (RFC 9110 §10.1.1).
    """

    def __init__(self, scope: Scope, receive: Receive, sock: socket.socket) -> None:
        self._scope = scope
        self._receive = receive
        self._socket = sock
        self.may_continue = asyncio.Event()
        fields = [(name.lower(), value) for name, value in scope["headers"]]
        names = {name for name, _ in fields}
        self._is_upgrade = b"upgrade" in names
        self._is_unframed = has_unframed_body(scope["method"], split_token(scope["path"])[1], fields)
        self._waits = b"expect" in names
        # HTTP/2 needs no length of a body.
        has_body: bool = scope["extensions"][RELAYED]["has_body"]
        self._is_chunked = has_body and b"content-length" not in names and not self._is_unframed
        self._fields = fields

    async def send(self) -> None:
        """Send the request, and end the connection once the client has gone."""
        try:
            await self._send()
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            # The control process needs no more of it; its answer says so.
            return

    async def _send(self) -> None:
        sock, loop = self._socket, asyncio.get_running_loop()
        await loop.sock_sendall(sock, self._head())
        if self._waits:
            await self.may_continue.wait()
        while (message := await self._receive())["type"] == "http.request":
            body, is_last = message["body"], not message["more_body"]
            if self._is_chunked:
                body = (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + b"0\r\n\r\n" * is_last
                self._is_chunked = not is_last
            await loop.sock_sendall(sock, body)

    def _head(self) -> bytes:
        scope = self._scope
        target = scope["raw_path"][len(scope["root_path"]) :]
        if scope["query_string"]:
            target += b"?" + scope["query_string"]
        version = b"1.0" if scope["http_version"] == "1.0" else b"1.1"
        lines = [b"%b %b HTTP/%b\r\n" % (scope["method"].encode("ascii"), target, version)]
        lines += [b"%b: %b\r\n" % field for field in self._fields if field[0] not in OF_CONNECTIONS]
        lines.append(b"connection: upgrade\r\n" if self._is_upgrade else b"connection: close\r\n")
        if self._is_chunked:
            lines.append(b"transfer-encoding: chunked\r\n")
        return b"".join((*lines, b"\r\n"))


class _AnswerReader:
    """Makes ASGI's messages of an answer in HTTP/1.1; its methods are those that httptools calls.

    Attributes:
        messages: the answer so far, as ASGI has it; the reader's owner removes them.
        is_complete: whether the last one is among them.
        wants_body: whether the body of the request is waited for.
        is_framed: whether the answer says where its body ends; otherwise it does with the connection.
    """

    def __init__(self, method: str) -> None:
        self.messages = deque[Message]()
        self.is_complete = self.wants_body = self.is_framed = self.has_begun = False
        self._method = method
        self._parser = httptools.HttpResponseParser(self)
        self._fields: list[tuple[bytes, bytes]] = []
        self._is_interim = self._is_raw = False

    def receive_data(self, data: bytes) -> None:
        """Read bytes of the answer.

        Raises:
            httptools.HttpParserError: they aren't HTTP.
        """
        if self._is_raw:
            self.on_body(data)
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as end:
            # Another protocol follows (RFC 9110 §15.2.2).
            if rest := data[end.args[0] :]:
                self.on_body(rest)

    def receive_eof(self) -> None:
        """Note the end of the connection, which is that of a body without another one."""
        if self.has_begun and not self.is_framed:
            self._complete()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        status, fields, self._fields = self._parser.get_status_code(), self._fields, []
        self._is_raw = status == 101
        self._is_interim = status < 200 and not self._is_raw
        if self._is_interim:
            self.wants_body = True
            return
        names = {name for name, _ in fields}
        is_bodyless = self._method == "HEAD" or status in (204, 304)
        self.is_framed = is_bodyless or not names.isdisjoint((b"content-length", b"transfer-encoding"))
        self.has_begun = True
        self.messages.append(
            {
                "type": "http.response.start",
                "status": status,
                "headers": _kept(fields, is_upgrade=self._is_raw),
                "close_delimited": not self.is_framed,
            }
        )
        if is_bodyless:
            self._complete()

    def on_body(self, data: bytes) -> None:
        if not self.is_complete:
            self.messages.append({"type": "http.response.body", "body": data, "more_body": True})

    def on_message_complete(self) -> None:
        if not self._is_interim and not self._is_raw and self.is_framed:
            self._complete()

    def _complete(self) -> None:
        if not self.is_complete:
            self.is_complete = True
            self.messages.append({"type": "http.response.body", "body": b"", "more_body": False})


def _kept(fields: Headers, *, is_upgrade: bool) -> Headers:
    """Return the fields of an answer that go on to the client."""
    dropped = OF_EVERY_RESPONSE if is_upgrade else OF_EVERY_RESPONSE | OF_CONNECTIONS
    return [one for one in fields if one[0] not in dropped]


async def _answer(scope: Scope, sock: socket.socket, send: Send, may_continue: asyncio.Event) -> None:
    """Send the client what the control process answers; an answer that ends too early is cut."""
    answer, loop = _AnswerReader(scope["method"]), asyncio.get_running_loop()
    while not answer.is_complete:
        data = b""
        with contextlib.suppress(ConnectionError):
            data = await loop.sock_recv(sock, READ_BYTES)
        if data:
            answer.receive_data(data)
        else:
            answer.receive_eof()
        if answer.wants_body or answer.has_begun:
            may_continue.set()
        while answer.messages:
            await send(answer.messages.popleft())
        if not data:
            break
    exchange = exchange_of(scope)
    if not answer.is_complete and exchange is not None:
        exchange.cut()
