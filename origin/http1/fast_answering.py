"""The answers of handlers on a connection, without a task: to new requests, and to repeated ones."""

from __future__ import annotations

import weakref
from collections.abc import Coroutine, Sequence
from functools import partial
from typing import Any, Protocol

from origin.answers.asgi import GONE
from origin.answers.heads import CommonLines
from origin.answers.pieces import Piece, TruncatedFileError
from origin.answers.reply import Pending, Reply
from origin.http.byte_ranges import SelectedRange
from origin.http1.application_exchange import log_failure
from origin.http1.exchange import Exchange, ExchangeConnection
from origin.http1.handler_exchange import HandlerExchange, PreparedRequest, RepeatedReply, is_in_memory
from origin.http1.request_head import RequestLine

CLOSING = b"connection: close\r\n"

_BYTES = (bytes, memoryview)


class FastConnection(ExchangeConnection, Protocol):
    """The connection as handlers see it that answer at once.

    Attributes:
        active: the request that is being answered.
    """

    active: Exchange | HandlerExchange | None

    @property
    def may_handle(self) -> bool:
        """Whether a handler may answer now, past the transport."""

    def find_handled(self, data: bytes) -> HandlerExchange | None:
        """Return the exchange of a request that a handler handles; None if the application has to answer."""

    def begin_answer(self, exchange: HandlerExchange) -> None:
        """Begin the answer of a handler."""

    def replace_answer(self, exchange: Exchange, run: Coroutine[Any, Any, None]) -> None:
        """Continue an answer of a handler in a task, as one of the application."""

    def note_repeated(self) -> None:
        """Note an answer that needed no exchange."""


class FastAnswering:
    """Answers the requests of a connection by handlers, one at a time; see `ReplyingConnection`.

    Args:
        connection: reads the requests, and refers to this until it is lost.
    """

    __slots__ = ("_again", "_before", "_connection", "_repeat")

    def __init__(self, connection: FastConnection) -> None:
        self._connection = connection
        # The previous request, and what answers it if it is repeated while nothing else is under way.
        self._before: RequestLine | None = None
        self._repeat: RepeatedReply | None = None
        self._again: tuple[bytes, PreparedRequest] | None = None

    def forget(self) -> None:
        """Read the next request anew, even if it is the previous one again."""
        self._repeat = self._again = None

    def answer_again(self, data: bytes) -> bool:
        """Answer the previous request once more; return False if the bytes aren't that request."""
        if self._repeat is not None and self._reply_again(self._repeat, data):
            return True
        if self._again is not None:
            asked, prepared = self._again
            if data == asked and self._ask_again(prepared):
                return True
            self._again = None
        return False

    def answer(self, data: bytes) -> bool:
        """Have a handler answer a request; return False if the parser has to read it."""
        connection = self._connection
        if not connection.may_handle:
            return False
        fast_path = connection.fast_path
        repeat = fast_path.repeat(data)
        if repeat is not None and self._reply_again(repeat, data):
            return True
        exchange = connection.find_handled(data)
        if exchange is None:
            return False
        self._begin(exchange)
        if connection.active is not exchange and exchange.keep_alive:
            version = fast_path.version
            if exchange.line is self._before:
                self._repeat = exchange.repeated(data, version) if exchange.is_ranged else None
                self._again = (data, exchange.prepared) if exchange.is_repeatable else None
            if repeat is None and not exchange.is_ranged:
                repeat = exchange.repeated(data, version)
                if repeat is not None:
                    fast_path.keep(data, repeat)
        self._before = exchange.line
        return True

    def _begin(self, exchange: HandlerExchange) -> None:
        self._connection.begin_answer(exchange)
        exchange.begin(self)

    # A request that is repeated

    def _reply_again(self, repeat: RepeatedReply, data: bytes) -> bool:
        """Answer a repeated request; return False if the bytes aren't that request."""
        connection, self._repeat = self._connection, None
        if repeat.version != connection.fast_path.version:
            return False
        again = repeat.reply(data, connection.fast_path.common(connection.default_headers))
        if again is None:
            return False
        head, first, last, source = again
        sender = connection.sender or connection.file_sender()
        sent = sender.sent
        error: Exception | None = None
        try:
            if sender.begin_range(head, first, last, source.descriptor(), self._on_sent):
                repeat.count(last + 1 - first)
                connection.note_repeated()
                self._repeat = repeat
                return True
        except (OSError, TruncatedFileError) as caught:
            error = caught
        self._go_on(repeat.exchange(source), repeat.status, sent + len(head), error)
        return True

    def _ask_again(self, prepared: PreparedRequest) -> bool:
        """Answer what was asked before by what the handler says now; return False if it has to be read."""
        fast_path = self._connection.fast_path
        if prepared.version != fast_path.version or not self._connection.may_handle:
            return False
        try:
            outcome = prepared.handler.handle(prepared.request)
        except Exception:  # noqa: BLE001  # it is handled anew, and then logged
            return False
        if outcome is None:
            return False
        if isinstance(outcome, Pending) or not is_in_memory(outcome):
            self._begin(HandlerExchange(prepared, outcome, fast_path.access_log))
        else:
            self._send_in_memory(prepared, outcome)
        return True

    def _send_in_memory(self, prepared: PreparedRequest, reply: Reply) -> None:
        """Send a reply that lies in memory; if all of it goes at once, it needs no exchange."""
        connection = self._connection
        access_log, status = connection.fast_path.access_log, reply.head.status
        head = reply.head.encode(connection.fast_path.common(connection.default_headers))
        sender = connection.sender or connection.file_sender()
        sent = sender.sent
        error: Exception | None = None
        try:
            if sender.begin((head, *reply.body), 0, -1, self._on_sent):
                access_log.counter(prepared.area, status).add(sum(map(len, reply.body)))
                connection.note_repeated()
                return
        except OSError as caught:
            error = caught
        self._go_on(HandlerExchange(prepared, reply, access_log), status, sent + len(head), error)

    def _go_on(self, exchange: HandlerExchange, status: int, body_from: int, error: Exception | None) -> None:
        """Have an exchange for an answer that didn't go at once, or failed."""
        self._connection.begin_answer(exchange)
        self._connection.on_response_start()
        exchange.begun(status, body_from)
        if error is not None:
            self._end(exchange, error)

    # The reply of a handler

    def send_reply(self, exchange: HandlerExchange, reply: Reply) -> None:
        """Send the reply of a handler."""
        connection = self._connection
        if connection.active is not exchange or connection.transport.is_closing():
            return
        reply_head, body, source, stream = reply[:4]
        file = -1 if source is None else source.descriptor()
        if file is None or stream is not None:
            self._send_in_task(exchange, reply)
            return
        common = connection.fast_path.common(connection.default_headers)
        if not exchange.keep_alive:
            # RFC 9112 §9.6: a server that is going to close the connection says so.
            common = CommonLines(common.first + CLOSING, common.last)
        head = reply_head.encode(common)
        sender = connection.sender or connection.file_sender()
        connection.on_response_start()
        exchange.begun(reply_head.status, sender.sent + len(head))
        try:
            if source is not None and len(body) == 1 and isinstance(body[0], SelectedRange):
                is_sent = sender.begin_range(head, *body[0], file, self._on_sent)
            else:
                file_bytes = 0 if source is None else _file_bytes(body)
                is_sent = sender.begin((head, *body), file_bytes, file, self._on_sent)
            if not is_sent:
                return
        except (OSError, TruncatedFileError) as error:
            self._end(exchange, error)
        else:
            self._end(exchange)

    def _send_in_task(self, exchange: HandlerExchange, reply: Reply) -> None:
        """Send a reply whose bytes have to be awaited, as an application would."""
        connection = self._connection
        scope = exchange.task_scope("1.1")
        sending = Exchange(connection, scope, expect_100_continue=False, keep_alive=exchange.keep_alive)
        scope["extensions"][GONE] = {"exchange": weakref.ref(sending)}
        run = sending.run(partial(exchange.send_in_task, reply, connection.fast_path.headers))
        connection.replace_answer(sending, run)

    def cut_reply(self, exchange: HandlerExchange) -> None:
        """End a handler's reply at once, and the connection with it."""
        del exchange
        self._connection.transport.abort()

    def fail(self, exchange: HandlerExchange) -> None:
        """Reply with 500: the handler has failed."""
        self.send_reply(exchange, exchange.failure())

    def _on_sent(self, error: Exception | None) -> None:
        exchange = self._connection.active
        if isinstance(exchange, HandlerExchange):
            self._end(exchange, error)

    def _end(self, exchange: HandlerExchange, error: Exception | None = None) -> None:
        """Finish the answer of a handler, whether it was sent to its end or failed."""
        connection = self._connection
        exchange.ended(0 if connection.sender is None else connection.sender.sent)
        if error is not None:
            log_failure(exchange.path, error)
            # RFC 9112 §8: closing marks a message with fewer bytes than promised as incomplete.
            connection.transport.abort()
        elif not exchange.keep_alive:
            connection.transport.close()
        connection.on_response_complete()


def _file_bytes(body: Sequence[Piece]) -> int:
    """Return how many bytes of a body are ranges of a file."""
    ranges = (piece for piece in body if not isinstance(piece, _BYTES))
    return sum(piece.length if isinstance(piece, SelectedRange) else len(piece) for piece in ranges)
