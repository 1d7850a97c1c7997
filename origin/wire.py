"""The uvicorn protocol class: HTTP/1 on a connection, with the limits that a public server needs.

Beside uvicorn's own it offers the ASGI extension `http.response.zerocopysend`, ends bodies of unknown length
for HTTP/1.0 by closing, and refuses early what can't become an answer: requests that never end, that are too
large, that don't say for which host they are. `uvicorn.Config(app, http=WireProtocol)` is all it takes.
"""

from __future__ import annotations

import asyncio
import urllib.parse
from typing import Any, ClassVar

import httptools
import structlog
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.flow_control import service_unavailable
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from origin.exchange import Exchange, log_failure, refusal
from origin.progress import Progress
from origin.requesthead import WireLimits, fault_of, split_target
from origin.shortcut import FileAnswer, Shortcut
from origin.takeover import HeadEnd, has_endless_body, may_begin
from origin.zerocopy import ZERO_COPY, FileSender, TruncatedFileError

__all__ = ["WireLimits", "WireProtocol", "wire_protocol"]

log = structlog.get_logger()

_SHORTEST_CHECK = 0.05

CONNECTIONS_TO_REFUSE = 16
"""Connections beyond the limit that are still told so, by an answer of 503 to their first request."""


class _RefusedError(httptools.HttpParserError):
    """Raised in the parser's callbacks to make it stop."""


class WireProtocol(HttpToolsProtocol):
    """One connection. Its limits are those of the class: see `wire_protocol`."""

    limits: ClassVar[WireLimits] = WireLimits()
    shortcut: ClassVar[Shortcut | None] = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._active: Exchange | FileAnswer | None = None
        self._sender: FileSender | None = None
        self._progress: Progress
        self._zero_copy = False
        self._is_excess = False
        self._timer: asyncio.TimerHandle | None = None
        self._interval = max(
            _SHORTEST_CHECK,
            min(self.limits.header_seconds, self.limits.stalled_seconds, self.timeout_keep_alive),
        )
        # Idle, or in a request's header, since then.
        self._since = 0.0
        self._served = False
        # Of the request that is being read.
        self._in_head = False
        self._in_body = False
        self._began = False
        self._head_bytes = 0
        self._unparsed_bytes = 0
        self._fields = 0
        self._hosts: list[bytes] = []
        self._codings: list[bytes] = []
        # Of a request that may be a source's, and the one whose body is the rest of the connection.
        self._head_end: HeadEnd | None = None
        self._endless: Exchange | None = None
        # Of a connection that is read no further: why, once the responses before it are out.
        self._deaf = False
        self._refusal: int | None = None

    # The connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has connected."""
        super().connection_made(transport)
        # Those that were here before are served on.
        self._is_excess = len(self.connections) > self.limits.connections
        if len(self.connections) > self.limits.connections + CONNECTIONS_TO_REFUSE:
            transport.abort()
        self._zero_copy = self.scheme == "http" and transport.get_extra_info("socket") is not None
        self._progress = Progress(transport)
        self._since = self.loop.time()
        self._timer = self.loop.call_later(self._interval, self._check)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone: whoever sends or waits ends now."""
        self._stop_timer()
        for exchange in self._exchanges():
            exchange.hang_up()
        self.pipeline.clear()
        super().connection_lost(exc)
        if self._sender is not None:
            self._sender.close()

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """The client sends nothing more. Some still read the answers to what they have asked."""
        exchanges = self._exchanges()
        if not exchanges or self.scheme == "https":
            return None
        self._deaf = True
        exchanges[-1].keep_alive = False
        for exchange in exchanges:
            exchange.half_close()
        return True

    def shutdown(self) -> None:
        """The server ends: a running response may go on, nothing else."""
        if self._active is None:
            self.transport.close()
        else:
            self._active.keep_alive = False

    def file_sender(self) -> FileSender:
        """The connection's sender of file bytes."""
        if self._sender is None:
            self._sender = FileSender(self.loop, self.transport.get_extra_info("socket").fileno())
        return self._sender

    def _exchanges(self) -> list[Exchange | FileAnswer]:
        """Those that aren't answered yet, in the order of their requests."""
        waiting = [cycle for cycle, _ in reversed(self.pipeline) if isinstance(cycle, Exchange)]
        return [*waiting] if self._active is None else [self._active, *waiting]

    # Time

    def _check(self) -> None:
        """Look, now and then, whether the client has used up a time: cheaper than a timer per request."""
        now = self.loop.time()
        due = now + self._interval
        if self._progress.seconds_without(now, self._sender) >= self.limits.stalled_seconds:
            log.info("dropped a client that takes nothing", client=self.client)
            self.transport.abort()
            return
        if self._active is None and not self.transport.is_closing() and not self._deaf:
            # RFC 9110 §15.5.9, RFC 9112 §9.5: a request that doesn't come to its end; a connection idle.
            waiting_for_head = self._in_head or not self._served
            limit = self.limits.header_seconds if waiting_for_head else self.timeout_keep_alive
            if now >= self._since + limit:
                if self._in_head:
                    self._refuse(408)
                else:
                    self.transport.close()
            due = min(due, max(self._since + limit, now + _SHORTEST_CHECK))
        self._timer = self.loop.call_at(due, self._check)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # Reading

    def data_received(self, data: bytes) -> None:
        """Bytes from the client."""
        while data:
            data = self._receive(data)

    def _receive(self, data: bytes) -> bytes:
        """Take bytes up to a head that may be a source's, or all. Returns those behind it."""
        if self._endless is not None:
            self._endless.feed(data)
            return b""
        if self._deaf or (self.shortcut is not None and self._answer_shortly(self.shortcut, data)):
            return b""
        if self._head_end is None and not (self._in_head or self._in_body) and may_begin(data):
            self._head_end = HeadEnd()
        end = None if self._head_end is None else self._head_end.find(data)
        if end is None:
            self._parse(data)
            return b""
        self._parse(data[:end])
        self._head_end = None
        return data[end:]

    def _parse(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._deaf = True
            if self._should_upgrade():
                self._stop_timer()
                self.handle_websocket_upgrade()
            return
        except httptools.HttpParserError:
            self._refuse(self._refusal or 400)
            return
        if self._in_head:
            # The parser reports whole fields only; this bounds what it keeps of one that doesn't end.
            self._unparsed_bytes += 0 if self._began else len(data)
            self._began = False
            if self._unparsed_bytes > self.limits.header_bytes:
                self._refuse(431)

    def _answer_shortly(self, shortcut: Shortcut, data: bytes) -> bool:
        """Answer a request that needs no parser and no application. Returns whether it was one."""
        if self._active is not None or self._in_head or self._in_body or not self._zero_copy:
            return False
        if self.transport.is_closing() or self.transport.get_write_buffer_size() or self._is_excess:
            return False
        answer = shortcut.answer(data, self.limits, self.server_state.default_headers)
        if answer is None:
            return False
        self._active = answer
        try:
            reply, sender = answer.reply, self.file_sender()
            answer.begun_at = sender.sent + len(reply.pieces[0])
            if sender.begin(reply.pieces, reply.file_bytes, answer.file, self._end_shortly):
                self._end_shortly(None)
            else:
                answer.hold()
        except (OSError, TruncatedFileError) as error:
            self._end_shortly(error)
        return True

    def _end_shortly(self, error: Exception | None) -> None:
        """Such an answer has ended, well or not."""
        answer = self._active
        if not isinstance(answer, FileAnswer) or self.shortcut is None:
            raise RuntimeError("no such answer is under way")
        answer.release()
        sent = max(self.file_sender().sent - answer.begun_at, 0)
        self.shortcut.record(answer, sent, self.client[0] if self.client else None)
        if error is not None:
            log_failure(answer.path, error)
            # RFC 9112 §8: with fewer bytes than promised, closing is what marks the message incomplete.
            self.transport.abort()
        elif not answer.keep_alive:
            self.transport.close()
        self.on_response_complete()

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        super().on_message_begin()
        self._in_head = self._began = True
        self._head_bytes = self._unparsed_bytes = self._fields = 0
        self._hosts = []
        self._codings = []
        if self._active is None:
            self._since = self.loop.time()

    def on_url(self, url: bytes) -> None:
        """A piece of the request target."""
        self.url += url
        if len(self.url) > self.limits.target_bytes:
            self._stop(414)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header field, or a trailer field, which nobody here asks for."""
        self._fields += 1
        self._head_bytes += len(name) + len(value) + 4
        if self._fields > self.limits.header_fields or self._head_bytes > self.limits.header_bytes:
            self._stop(431)
        if not self._in_head:
            return
        name = name.lower()
        if name == b"host":
            self._hosts.append(value.strip(b" \t"))
        elif name == b"transfer-encoding":
            self._codings.append(value)
        elif name == b"expect":
            self.expect_100_continue = value.lower() == b"100-continue"
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """The header is complete: the application's turn, or the next in line."""
        self._in_head, self._in_body = False, True
        method, version = self.parser.get_method().decode("ascii"), self.parser.get_http_version()
        if (status := fault_of(method, version, self._hosts, self._codings)) is not None:
            self._stop(status)
        self.scope["method"] = method
        self.scope["http_version"] = version
        upgrading = self.parser.should_upgrade()
        if upgrading and self._should_upgrade():
            return
        self._set_target()
        if self._zero_copy:
            self.scope["extensions"] = {ZERO_COPY: {}}
        # After an upgrade that isn't taken, the parser reads nothing more.
        keep_alive = version != "1.0" and not upgrading and self.parser.should_keep_alive()
        exchange = Exchange(
            self.file_sender,
            scope=self.scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue and version == "1.1",
            keep_alive=keep_alive,
            on_response=self.on_response_complete,
        )
        self.cycle = exchange
        is_source = self._head_end is not None and self._active is None
        if is_source and has_endless_body(method, self.scope["path"], self.headers):
            self._endless = exchange
            exchange.keep_alive = False
        self._queue(exchange, service_unavailable if self._is_excess else self.app)

    def on_message_complete(self) -> None:
        """The request's last byte."""
        self._in_body = False
        if self._endless is None:
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """The response's last byte is on its way: the next request's turn."""
        self.server_state.total_requests += 1
        self._active = None
        self._served = True
        self._since = self.loop.time()
        if self.transport.is_closing():
            return
        if self.pipeline:
            exchange, app = self.pipeline.pop()
            self._begin(exchange, app)
        elif self._refusal is not None:
            self._refuse(self._refusal)
        if not self.pipeline:
            self.flow.resume_reading()

    def _set_target(self) -> None:
        raw_path, query = split_target(self.url)
        path = raw_path.decode("ascii")
        if "%" in path:
            path = urllib.parse.unquote(path)
        self.scope["path"] = self.root_path + path
        self.scope["raw_path"] = self.root_path.encode("ascii") + raw_path
        self.scope["query_string"] = query

    def _queue(self, exchange: Exchange, app: ASGI3Application) -> None:
        if self._active is None:
            self._begin(exchange, app)
            return
        if len(self.pipeline) >= self.limits.pipelined_requests:
            self._stop(429)
        self.flow.pause_reading()
        self.pipeline.appendleft((exchange, app))

    def _begin(self, exchange: Any, app: ASGI3Application) -> None:
        self._active = exchange
        self._start_asgi_task(exchange, app)

    # Refusing

    def _stop(self, status: int) -> None:
        """Make the parser stop, for a reason."""
        self._refusal = status
        raise _RefusedError

    def _refuse(self, status: int) -> None:
        """Answer with an error, once the requests before it are answered, and close."""
        self._deaf = True
        if self._active is not None:
            self._refusal = status
            if self._in_body and self.cycle is self._active:
                # The application is waiting for a body that never comes to its end.
                self._active.keep_alive = False
                self._active.half_close()
            return
        self._refusal = None
        self.transport.write(refusal(status, self.server_state.default_headers))
        if self.scheme == "https":
            self.transport.close()
            return
        # Closing with unread bytes makes the kernel reset the connection, and the reason would be lost.
        self.flow.resume_reading()
        self.transport.write_eof()
        self.loop.call_later(self.limits.linger_seconds, self.transport.close)


def wire_protocol(limits: WireLimits, shortcut: Shortcut | None = None) -> type[WireProtocol]:
    """A protocol class with limits of one's own, to be given to `uvicorn.Config(http=...)`.

    Args:
        limits: The limits of every connection.
        shortcut: What answers plain requests for open files; None leaves all to the application.
    """
    return type("LimitedWireProtocol", (WireProtocol,), {"limits": limits, "shortcut": shortcut})
