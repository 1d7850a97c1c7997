"""A request that a handler answers on an HTTP/1 connection, without a task of its own."""

from __future__ import annotations

import time
import urllib.parse
from collections.abc import Callable
from typing import NamedTuple, Protocol

import structlog
from starlette.types import Message, Receive, Scope, Send

from origin.answers.asgi import send_reply
from origin.answers.heads import CommonLines, PlainHead
from origin.answers.pieces import TruncatedFileError
from origin.answers.reply import Handler, Pending, Repeatable, Reply, ReplyWatch, SharedSource
from origin.answers.request import Request
from origin.http.answer import Headers
from origin.http.byte_ranges import verbatim_range
from origin.http1.access_log import AccessLog, RequestCounter
from origin.http1.application_exchange import log_failure
from origin.http1.request_head import RequestLine, around_range
from origin.http1.response_head import FAILURE, FAILURE_TEXT

log = structlog.get_logger()


class ReplyingConnection(Protocol):
    """The connection as a request sees it that a handler answers."""

    def send_reply(self, exchange: HandlerExchange, reply: Reply) -> None:
        """Send the reply; called once."""

    def fail(self, exchange: HandlerExchange) -> None:
        """Reply with 500, or cut a reply that has begun."""

    def cut_reply(self, exchange: HandlerExchange) -> None:
        """End a reply at once, whatever was sent of it."""


class PreparedRequest(NamedTuple):
    """A request with its handler.

    Attributes:
        area: the label of the request in metrics.
        version: see `TargetGuard`; with other keys the request has to be prepared anew.
    """

    line: RequestLine
    area: str
    handler: Handler
    request: Request
    version: int


class HandlerExchange:
    """A request that a handler answers: its reply, now or later, until the last byte is sent.

    Args:
        prepared: the request and its handler, which may be asked the same again.
        outcome: the handler's reply, or the reply that comes later.

    Attributes:
        line: the first line; equal lines of requests are one object.
        keep_alive: whether the connection stays open behind the reply.
    """

    __slots__ = (
        "_access_log",
        "_body_from",
        "_connection",
        "_in_memory",
        "_outcome",
        "_repeat",
        "_reply",
        "_replying",
        "_started",
        "_status",
        "_watch",
        "keep_alive",
        "line",
        "prepared",
    )

    def __init__(self, prepared: PreparedRequest, outcome: Reply | Pending, access_log: AccessLog) -> None:
        self.prepared = prepared
        self.line = prepared.line
        self.keep_alive = not prepared.request.fields.is_last
        self._access_log = access_log
        self._started = time.monotonic()
        self._outcome: Reply | Pending | None = outcome
        self._connection: ReplyingConnection | None = None
        self._replying: ReplyingConnection | None = None
        self._watch: ReplyWatch | None = None
        # The reply that is being sent, its status, and the bytes sent on the connection before its body.
        self._reply: Reply | None = None
        self._repeat: Repeatable | None = None
        self._status = self._body_from = 0
        self._in_memory = False

    @property
    def path(self) -> str:
        """The decoded path of the request."""
        return urllib.parse.unquote(self.line.target.partition(b"?")[0].decode("ascii"))

    @property
    def client_host(self) -> str:
        """The address of the client."""
        return self.prepared.request.client

    @property
    def is_ranged(self) -> bool:
        """Whether the request has one plain range."""
        return self.prepared.request.span is not None

    @property
    def outcome(self) -> Reply | Pending | None:
        """The reply, or the reply that comes later, before `begin`."""
        return self._outcome

    def send_at_once(self, reply: Reply, send: Callable[[Reply], int]) -> None:
        """Send the reply in place of `begin`, where all of it goes at once.

        Args:
            send: sends it, and returns how many bytes its body has.
        """
        self._outcome, self._reply, self._status = None, reply, reply.head.status
        sent = 0
        try:
            sent = send(reply)
        except (OSError, TruncatedFileError) as error:
            log_failure(self.path, error)
        finally:
            self.ended(sent)

    def drop(self) -> None:
        """Release what the handler has returned, in place of `begin`: nothing of it is sent."""
        outcome, self._outcome = self._outcome, None
        if isinstance(outcome, Reply):
            outcome.release()
        elif outcome is not None:
            outcome.cancel()

    def begin(self, connection: ReplyingConnection) -> None:
        """Send the reply, or begin to wait for it."""
        self._connection = connection
        outcome, self._outcome = self._outcome, None
        if isinstance(outcome, Reply):
            self.reply(outcome)
        elif outcome is not None:
            self._outcome = outcome
            try:
                outcome.start(self)
            except Exception as error:  # noqa: BLE001  # it concerns this request alone, and is logged
                self.fail(error)

    def reply(self, reply: Reply) -> None:
        """Send the reply on the connection; see `ReplyReceiver`."""
        connection, self._connection, self._outcome = self._connection, None, None
        if connection is None:
            reply.release()
            return
        self._reply, self._repeat = reply, reply.repeat
        self._in_memory = is_in_memory(reply)
        if reply.watch is not None:
            self._replying, self._watch = connection, reply.watch
            reply.watch.begin(self.cut)
        try:
            connection.send_reply(self, reply)
        except Exception:
            log.exception("a reply can't be sent", path=self.path)
            connection.fail(self)

    def cut(self) -> None:
        """End the reply at once, whatever was sent of it."""
        if self._replying is not None:
            self._replying.cut_reply(self)

    def _end_watch(self) -> None:
        watch, self._watch, self._replying = self._watch, None, None
        if watch is not None:
            watch.end(self.cut)

    def fail(self, error: BaseException) -> None:
        """Reply with 500, and log the error; see `ReplyReceiver`."""
        connection, self._connection, self._outcome = self._connection, None, None
        if connection is not None:
            log.error("a request can't be answered", path=self.path, exc_info=error)
            connection.fail(self)

    def begun(self, status: int, body_from: int) -> None:
        """Note that the head is sent, and how many bytes the connection has sent before the body then."""
        self._status, self._body_from = status, body_from

    def half_close(self) -> None:
        """Nothing to do: a client that has ended its side may still read the reply."""

    def hang_up(self) -> None:
        """Stop waiting, because the client has gone."""
        outcome, self._outcome, self._connection = self._outcome, None, None
        self.keep_alive = False
        if isinstance(outcome, Pending):
            outcome.cancel()

    def ended(self, sent: int) -> None:
        """Release what the reply holds, and count and log the request; called exactly once.

        Args:
            sent: bytes that the connection has sent by now.
        """
        self._end_watch()
        reply, self._reply = self._reply, None
        if reply is not None and reply.source is not None:
            reply.source.release()
        body_bytes = max(0, sent - self._body_from) if self._status else 0
        access_log = self._access_log
        access_log.count(self.prepared.area, self._status, body_bytes)
        if access_log.log_requests:
            self._log(self._status, body_bytes)

    def _log(self, status: int, sent: int) -> None:
        line = self.line
        self._access_log.write(
            line.method, self.path, status, sent, self._started, self.client_host, line.token_label
        )

    def task_scope(self, version: str) -> Scope:
        """Return the ASGI scope of the request, for a reply that is sent in a task.

        Args:
            version: version of HTTP, such as "2".
        """
        return {
            "type": "http",
            "http_version": version,
            "method": self.line.method,
            "path": self.path,
            "client": (self.client_host, 0),
            "extensions": {},
        }

    def failure(self) -> Reply:
        """Return the reply 500 (RFC 9110 §15.6.1): the handler has failed."""
        return Reply(PlainHead(500, FAILURE), (FAILURE_TEXT,) if self.line.method == "GET" else ())

    async def send_in_task(
        self, reply: Reply, headers: Headers, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Send a reply whose bytes have to be awaited: as an ASGI application, which counts and logs it."""
        del receive
        sent = 0

        async def count(message: Message) -> None:
            nonlocal sent
            await send(message)
            size = 0 if scope["method"] == "HEAD" else len(message.get("body", b""))
            sent += size
            self._access_log.count_bytes(self.prepared.area, size)

        # The reply is released by its sender.
        self._reply = None
        try:
            await send_reply(reply, scope, count, headers)
        finally:
            self._end_watch()
            self._access_log.count_request(self.prepared.area, reply.head.status)
            if self._access_log.log_requests:
                self._log(reply.head.status, sent)

    def repeated(self, data: bytes, version: int) -> RepeatedReply | None:
        """Return an object that answers the request again; None if there can be none.

        Args:
            data: the head of the request.
            version: see `TargetGuard`.
        """
        # Each request that is logged has to be handled by itself.
        if self._repeat is None or self._access_log.log_requests:
            return None
        return RepeatedReply(self, self._repeat, data, version)

    @property
    def is_repeatable(self) -> bool:
        """Whether the next request is better shown to the handler at once, as players ask for playlists.

        A reply in memory that goes at once needs no exchange, unless it is logged.
        """
        return self._in_memory and not self._access_log.log_requests

    def again(self, source: SharedSource) -> HandlerExchange:
        """Return an exchange for the same request, whose reply is being sent and holds the source."""
        source.acquire()
        reply = Reply(PlainHead(0, ()), (), source)
        exchange = HandlerExchange(self.prepared, reply, self._access_log)
        exchange._outcome, exchange._reply = None, reply
        return exchange

    def counter(self, status: int) -> RequestCounter:
        """Return the counter of the requests of this area with a status."""
        return self._access_log.counter(self.prepared.area, status)


def is_in_memory(reply: Reply) -> bool:
    """Return whether all of a reply lies in memory, and nobody ends it early."""
    return reply.source is None and reply.stream is None and reply.watch is None


class RepeatedReply:
    """Answers requests that differ in nothing, or only in their range, from a representation's encoded head.

    That saves the reading of the head and the handler, a good part of the time of a short reply.

    Args:
        repeat: the representation that answers further requests.
        data: the head of the request.
        version: see `TargetGuard`; behind another one the request has to be handled anew.

    Attributes:
        status: of the replies: 206 to requests with a range, otherwise 200.
    """

    __slots__ = (
        "_before",
        "_behind",
        "_counter",
        "_data",
        "_end",
        "_exchange",
        "_repeat",
        "_start",
        "status",
        "version",
    )

    def __init__(self, exchange: HandlerExchange, repeat: Repeatable, data: bytes, version: int) -> None:
        self.version = version
        self._exchange = exchange
        self._repeat = repeat
        # The bytes around the value of Range; without a Range, all bytes of the head.
        self._data = data
        self._before = self._behind = b""
        self._start = self._end = 0
        self.status = 200
        if exchange.is_ranged:
            self._before, self._behind = around_range(data)
            self._start, self._end = len(self._before), -len(self._behind)
            self.status = 206
        self._counter = exchange.counter(self.status)

    def reply(self, data: bytes, common: CommonLines) -> tuple[bytes, int, int, SharedSource] | None:
        """Return the reply to the bytes of a request.

        Returns:
            The head, the first and last position of the bytes that follow it, and their source; None if the
            request isn't the same one, or has to be handled anew.
        """
        start, end = self._start, self._end
        if start:
            if data[:start] != self._before or data[end:] != self._behind:
                return None
        elif data != self._data:
            return None
        current = self._repeat.current()
        if current is None:
            return None
        head, source = current
        if not start:
            return head.encode(common), 0, head.size - 1, source
        positions = data[start:end]
        part = verbatim_range(positions, head.size)
        if part is None:
            return None
        first, last = part
        return head.encode_part(positions, last + 1 - first, common), first, last, source

    def count(self, length: int) -> None:
        """Count a reply that was sent with `length` bytes of the body."""
        self._counter.add(length)

    def exchange(self, source: SharedSource) -> HandlerExchange:
        """Return the exchange of the last reply, which is still being sent."""
        return self._exchange.again(source)
