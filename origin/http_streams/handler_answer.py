"""Answers the request of a stream by a handler, as `HandlerExchange` does it on HTTP/1."""

from __future__ import annotations

from functools import partial

from origin.answers.pieces import TruncatedFileError
from origin.answers.reply import Reply
from origin.http1.application_exchange import log_failure
from origin.http1.handler_exchange import HandlerExchange
from origin.http_streams.application_answer import ApplicationAnswer
from origin.http_streams.priority import goes_first
from origin.http_streams.stream import (
    CANCEL,
    INTERNAL_ERROR,
    HttpStream,
    StreamAnswer,
    StreamConnection,
    value_of,
)


class HandlerAnswer(StreamAnswer):
    """The answer of a handler on a stream; see `ReplyingConnection`. All of its body is known."""

    def __init__(self, connection: StreamConnection, stream: HttpStream, exchange: HandlerExchange) -> None:
        self._connection = connection
        self._stream = stream
        self._exchange = exchange

    def send_reply(self, exchange: HandlerExchange, reply: Reply) -> None:
        """Send the reply of the handler."""
        stream, connection = self._stream, self._connection
        if connection.is_over:
            return
        head, body, source, chunks = reply[:4]
        file = -1 if source is None else source.descriptor()
        if file is None or chunks is not None:
            self._send_in_task(exchange, reply)
            return
        exchange.begun(head.status, 0)
        path = exchange.line.target.partition(b"?")[0]
        stream.goes_first = goes_first(path, value_of(head.fields, b"content-type"))
        dated = connection.fast_path.dated(connection.default_headers)
        fields = (*dated, *head.fields, *connection.fast_path.headers)
        stream.body.add_all(body, source)
        connection.send_head(stream, head.status, fields, is_all=not body)

    def _send_in_task(self, exchange: HandlerExchange, reply: Reply) -> None:
        """Send a reply whose bytes have to be awaited, as an application would."""
        connection = self._connection
        sending = ApplicationAnswer(connection, self._stream, exchange.task_scope(connection.version))
        self._stream.answer = sending
        sending.start(partial(exchange.send_in_task, reply, connection.fast_path.headers))

    def cut_reply(self, exchange: HandlerExchange) -> None:
        """End the reply at once, and its stream with it."""
        del exchange
        self._connection.reset(self._stream, CANCEL)

    def fail(self, exchange: HandlerExchange) -> None:
        """Reply with 500: the handler has failed."""
        if self._stream.body.is_complete:
            self._connection.reset(self._stream, INTERNAL_ERROR)
        else:
            self.send_reply(exchange, exchange.failure())

    def hang_up(self) -> None:
        """Stop waiting, and release what the reply holds."""
        self._exchange.hang_up()
        self._exchange.ended(self._stream.sent)

    def on_end(self, error: Exception | None) -> None:
        """Count and log the request, whose answer was sent or can't be."""
        self._exchange.ended(self._stream.sent)
        if isinstance(error, OSError | TruncatedFileError):
            log_failure(self._exchange.path, error)
