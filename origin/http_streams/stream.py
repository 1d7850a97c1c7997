"""A stream: one request of a connection that has many, and its answer (RFC 9113 §5, RFC 9114 §4.1)."""

from __future__ import annotations

import asyncio
import time
from typing import Any, ClassVar, Protocol

from origin.http.answer import Headers
from origin.http1.fast_path import FastPath
from origin.http1.limits import HttpLimits
from origin.http1.timeouts import LeastRate
from origin.http_streams.outgoing_body import OutgoingBody
from origin.http_streams.priority import Priority

NO_ERROR, INTERNAL_ERROR, FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL = 0x0, 0x2, 0x6, 0x7, 0x8
ENHANCE_YOUR_CALM = 0xB
"""RFC 9113 §7: error codes; HTTP/3 has others for the same causes."""


Rank = tuple[int, bool, bool, int]
"""The place of a stream among those that have bytes to send."""


class StreamAnswer:
    """The answer to the request of a stream, as the connection sees it; this one has nothing to do.

    It stands for a refusal, whose bytes the connection itself sends.
    """

    def feed(self, data: bytes) -> None:
        """Accept bytes of the request's body."""

    def end_body(self) -> None:
        """Note the end of the request's body."""

    def hang_up(self) -> None:
        """Note that the client doesn't want the answer any more."""

    def on_room(self) -> None:
        """Note that bytes of the body have been sent, so that there is room for more."""

    def on_end(self, error: Exception | None) -> None:
        """Note that the last byte was sent, or why it can't be; not called behind `hang_up`."""


class HttpStream:
    """The state of a stream, as the connection knows it.

    Attributes:
        since: when it began, by the monotonic clock.
        goes_first: whether the answer goes before others of the same urgency.
        sent: bytes of the body that were sent.
        unread: bytes of the request's body that the client isn't allowed to replace yet.
        turn: number of the last turn in which bytes of it were sent.
        blocked_since: since when the client allows no bytes of it; None where it does.
        rate: counts what the client takes while it allows hardly any bytes.
        is_request_over: whether the request has come to its end.
        trailers: the fields behind the body (RFC 9110 §6.5).
    """

    __slots__ = (
        "answer",
        "blocked_since",
        "body",
        "goes_first",
        "is_request_over",
        "number",
        "priority",
        "rate",
        "sent",
        "since",
        "trailers",
        "turn",
        "unread",
    )

    def __init__(self, number: int, priority: Priority) -> None:
        self.number = number
        self.priority = priority
        self.answer: StreamAnswer
        self.goes_first = self.is_request_over = False
        self.body = OutgoingBody()
        self.since = time.monotonic()
        self.sent = self.unread = self.turn = 0
        self.blocked_since: float | None = None
        self.rate = LeastRate()
        self.trailers: Headers = ()

    def rank(self) -> Rank:
        """Return the place among streams that have bytes to send: the least goes first (RFC 9218 §10)."""
        urgency, is_incremental = self.priority
        return urgency, not self.goes_first, is_incremental, self.turn if is_incremental else self.number


class StreamConnection(Protocol):
    """The connection as the answers on its streams see it.

    Attributes:
        version: version of HTTP, such as "2".
    """

    version: ClassVar[str]
    limits: HttpLimits
    fast_path: FastPath
    loop: asyncio.AbstractEventLoop
    tasks: set[asyncio.Task[None]]

    @property
    def is_over(self) -> bool:
        """Whether nothing more can be sent."""

    @property
    def default_headers(self) -> Headers:
        """The header fields of every response."""

    def send_head(self, stream: HttpStream, status: int, fields: Headers, *, is_all: bool) -> None:
        """Send the head of an answer, whose body follows unless it is all."""

    def has_stream(self, stream: HttpStream) -> bool:
        """Return whether an answer isn't over yet."""

    def send_body(self, stream: HttpStream) -> None:
        """Send what was added to the body of a stream."""

    def acknowledge(self, stream: HttpStream, count: int) -> None:
        """Let the client send as many bytes of the request's body more."""

    def reset(self, stream: HttpStream, code: int) -> None:
        """End a stream at once."""


class StreamTransport(asyncio.Transport):
    """One stream as a transport, for a writer of bytes that has no task of its own."""

    def __init__(self, connection: StreamConnection, stream: HttpStream) -> None:
        super().__init__()
        self._connection = connection
        self._stream = stream

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return nothing: the socket belongs to all streams."""
        del name
        return default

    def get_write_buffer_size(self) -> int:
        """Return how many bytes wait for the client's window, or for their turn."""
        return self._stream.body.buffered

    def write(self, data: Any) -> None:
        """Send bytes behind those that wait."""
        self._stream.body.add((data,))
        self._connection.send_body(self._stream)

    def write_eof(self) -> None:
        """End the body behind the bytes that wait."""
        self._stream.body.is_complete = True
        self._connection.send_body(self._stream)

    def abort(self) -> None:
        """End the stream, which tells the client that the body is incomplete."""
        self._connection.reset(self._stream, CANCEL)


_OF_CONNECTIONS = frozenset(
    {
        b"connection",
        b"transfer-encoding",
        b"keep-alive",
        b"upgrade",
        b"proxy-connection",
        b"sec-websocket-accept",
    }
)


def without_connection_fields(headers: Headers) -> list[tuple[bytes, bytes]]:
    """Leave out the header fields that other wires than HTTP/1.1 lack (RFC 9113 §8.2.2, RFC 8441 §5)."""
    return [(name, value) for name, value in headers if name not in _OF_CONNECTIONS]


def value_of(headers: Headers, wanted: bytes) -> bytes:
    """Return the value of the first header field with a name; b"" if there is none."""
    return next((value for name, value in headers if name == wanted), b"")
