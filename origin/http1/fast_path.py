"""The fast path: common requests are answered on the connection itself, without an ASGI task.

An ASGI task and its calls cost more than most answers. So before a request goes to the application,
`FastPath` shows its head to the responder of its area. A responder returns a `FastAnswer` if the request is
plain (`read_fields`) and can be decided at once; all others are left to the application, which decides by the
same pure functions.

The connection (`AnsweringConnection`) calls `begin` on the answer, and the answer calls `line.reply` once,
when it has its bytes: within `begin`, or later from a callback of the loop. A thousand answers that wait for
the same thing are a thousand small objects without tasks, and whoever releases them writes them all in one
pass; the bytes may be the same objects for all.

Meanwhile requests behind it wait unread. If the client goes before the reply, `hang_up` is called, and a
later `reply` is ignored. If `begin` raises, the connection answers 500; an answer that is released later
calls `line.fail` itself. In the end `ended` is called exactly once, in any case: that is the place for
counters, the log, and giving back what was held.

An answer that has to look something up first may find that the application has to answer after all. It calls
`line.decline` instead of `line.reply`, and is done: `ended` isn't called.
"""

from __future__ import annotations

import abc
import time
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, NamedTuple, Protocol

from origin.http import conditional
from origin.http.answer import Headers
from origin.http.byte_ranges import SelectedRange, Span
from origin.http1.access_log import AccessLog
from origin.http1.limits import HttpLimits
from origin.http1.request_head import (
    PLAIN_BYTES,
    PlainFields,
    RequestLine,
    part_range,
    read_fields,
    read_line,
)
from origin.http1.response_head import STATUS_LINE
from origin.http1.sendfile import Piece

REPEATS_KEPT = 64
"""Most heads that are kept because several connections send the same bytes, as players of one kind do."""

HEADS_KEPT = 1024
"""Most first lines, and most blocks of header fields, that are kept parsed; each has at most `PLAIN_BYTES`.
"""


class Reply(NamedTuple):
    """The bytes of a fast answer, and what its connection has to know about them.

    Attributes:
        pieces: the header as one piece, then bytes and ranges of the file, in this order.
        body_bytes: length of everything behind the header.
        file_bytes: length of the file's ranges alone.
        file: descriptor of the file, open until `ended` is called.
    """

    status: int
    pieces: Sequence[Piece]
    body_bytes: int
    file_bytes: int = 0
    file: int = -1


Again = tuple[bytes, int, int, int]
"""A header, the first and last position of the range of a file that follows it, and the file's descriptor."""


class ResponseTemplate:
    """Headers of 200, and of 206 with one range, encoded beforehand for one representation.

    Every fast answer is made from one, whether of a file, of live media or of a playlist.

    Args:
        size: the representation's length in bytes.
        lines: encoded header fields of all these responses, except those that depend on their length.
    """

    __slots__ = ("_common", "_lines", "_part_bytes", "_part_end", "_part_start", "_size", "_whole")

    def __init__(self, size: int, lines: bytes) -> None:
        self._size = size
        self._lines = lines
        # The encoded headers, and the common fields and the length of a range for which they are right.
        self._whole = self._part_start = self._part_end = self._common = b""
        self._part_bytes = 0

    def whole(self, common: bytes) -> bytes:
        """Return the header of a 200 response.

        `common` are the encoded header fields of every response of the server: the same object until they
        change.
        """
        if self._common is not common:
            self._renew(common)
        return self._whole

    def part(self, positions: bytes, length: int, common: bytes) -> bytes:
        """Return the header of a 206 response with `length` bytes; `positions` are as in Content-Range."""
        if self._common is not common:
            self._renew(common)
        if self._part_bytes != length:
            # Most ranges of a file have the same length, so this is rarely done.
            self._part_end = b"/%d\r\ncontent-length: %d\r\n\r\n" % (self._size, length)
            self._part_bytes = length
        return b"".join((self._part_start, positions, self._part_end))

    def _renew(self, common: bytes) -> None:
        """Encode what all responses share until Date changes."""
        fields = common + self._lines
        self._whole = b"%b%bcontent-length: %d\r\n\r\n" % (STATUS_LINE[200], fields, self._size)
        self._part_start = b"%b%bcontent-range: bytes " % (STATUS_LINE[206], fields)
        self._common = common


class AnsweringConnection(Protocol):
    """The connection as a fast answer sees it."""

    @property
    def client_host(self) -> str | None:
        """The address of the connection's peer, which may be a proxy."""

    def fields(self, answer: FastAnswer) -> bytes:
        """Return the header fields of every answer: Date, and ``connection: close`` if that is due."""

    def reply(self, answer: FastAnswer, reply: Reply) -> bool:
        """Send all the bytes of an answer; called once.

        Returns:
            Whether the answer has ended; otherwise it ends later.
        """

    def fail(self, answer: FastAnswer) -> None:
        """Reply with 500 because the answer can't be made."""

    def decline(self, answer: FastAnswer) -> None:
        """Leave the request to the application, instead of a reply; only for an answer that `may_decline`."""


class FastAnswer(abc.ABC):
    """The answer to one request, made on the connection without the application.

    Attributes:
        may_decline: whether the answer may leave its request to the application.
        client_host: the client's address as a trusted proxy tells it; None: it is the connection's peer.
        keep_alive: whether the connection stays open behind the answer.
        started: when the request came, by the monotonic clock.
    """

    __slots__ = ("_access_log", "_area", "client_host", "keep_alive", "request", "started")

    may_decline: ClassVar[bool] = False

    def __init__(self, request: RequestLine, access_log: AccessLog, area: str) -> None:
        self.request = request
        self.client_host: str | None = None
        self.keep_alive = True
        self.started = time.monotonic()
        self._access_log = access_log
        self._area = area

    @property
    def common_headers(self) -> bytes:
        """Encoded header fields that every answer of this area has."""
        return b""

    @property
    def path(self) -> str:
        """The decoded path of the request."""
        return urllib.parse.unquote(self.request.target.partition(b"?")[0].decode("ascii"))

    @abc.abstractmethod
    def begin(self, line: AnsweringConnection) -> None:
        """Reply on the connection, now or later; called when the answer's turn has come."""

    def hang_up(self) -> None:
        """Stop waiting, because the client has gone; an answer that waits extends this."""
        self.keep_alive = False

    def ended(self, status: int, sent: int, line: AnsweringConnection) -> None:
        """Count and log the answer, which was sent or has failed; called exactly once.

        Args:
            status: of the reply; 0 when there was none.
            sent: bytes of the body that the kernel has taken.
        """
        self._access_log.count(self._area, status, sent)
        if self._access_log.log_requests:
            client = self.client_host or line.client_host
            self._access_log.write(self.request.method, self.path, status, sent, self.started, client)

    def again(self, data: bytes) -> RepeatedRequest | None:
        """Return an object that answers this request, given by its head, with other ranges; or None."""
        del data
        return None

    def for_all(self, data: bytes) -> RepeatedRequest | None:
        """Return an object that answers the same head to the byte, from any client; or None."""
        del data
        return None


class RepeatedRequest(Protocol):
    """A request that is expected again: with other ranges on its connection, or unchanged on any.

    It saves the cost of `FastPath` and `FastAnswer`, a good part of the time of a short answer. `status` is
    that of its answers.
    """

    status: int

    def reply(self, data: bytes, common: bytes) -> Again | None:
        """Return the answer to the bytes of a request; None if it isn't this request, or has another answer.

        `common` are the encoded header fields that every response of the server has.
        """

    def count(self, length: int) -> None:
        """Count the last answer, whose body of `length` bytes has been sent."""

    def answer(self, part: SelectedRange) -> FastAnswer:
        """Return the last answer as a `FastAnswer` that is still being sent and holds what it needs."""


class Responder(Protocol):
    """Answers requests of one area on the fast path."""

    def find(self, request: RequestLine, fields: PlainFields, span: Span | None) -> FastAnswer | None:
        """Return the answer to a request, not begun; None if the application has to give it.

        Args:
            request: the request's first line.
            fields: its header fields; equal ones are parsed once and are the same object.
            span: the value of Range, if that is one range with a first position. It is then missing from the
                fields, where any other Range is.
        """


class FastPath:
    """Finds answers to requests before they reach the application; all connections of a server share it.

    Args:
        responders: by area, which is the first segment of the path.
    """

    def __init__(self, responders: Mapping[str, Responder]) -> None:
        self._responders = {area.encode(): responder for area, responder in responders.items()}
        self._lines: dict[bytes, tuple[Responder, RequestLine]] = {}
        self._blocks: dict[bytes, PlainFields] = {}
        self._fields: tuple[Headers, bytes] = ((), b"")
        self._outdated = 0
        self._repeats: dict[bytes, RepeatedRequest] = {}

    def repeat(self, data: bytes) -> RepeatedRequest | None:
        """Return what answers exactly these bytes, if several connections have sent them."""
        return self._repeats.get(data)

    def keep(self, data: bytes, repeat: RepeatedRequest) -> None:
        """Keep what answers exactly these bytes, whoever sends them."""
        if data not in self._repeats and len(self._repeats) >= REPEATS_KEPT:
            del self._repeats[next(iter(self._repeats))]
        self._repeats[data] = repeat

    def find(
        self, data: bytes, limits: HttpLimits, told: Callable[[Headers], str] | None = None
    ) -> FastAnswer | None:
        """Find the answer to a request by its head; None if the application has to give it.

        Args:
            data: the bytes as they came: usually one whole head, perhaps more or less than that.
            told: reads the client's address from a trusted proxy's header fields; None: the peer is the
                client.
        """
        if not self._responders or len(data) > PLAIN_BYTES or len(data) > limits.header_bytes:
            return None
        rest, span = part_range(data)
        end = rest.find(b"\r\n") + 2
        line, block = rest[:end], rest[end:]
        known = self._lines.get(line) or self._read_line(line, limits)
        if known is None:
            return None
        fields = self._blocks.get(block) or self._read_block(block, limits)
        if span is not None and fields is not None and (fields.has_range or fields.is_conditional):
            # With several Range fields or If-Range, a single range can't be decided by itself.
            fields, span = read_fields(data[end:], limits), None
        answer = None if fields is None else known[0].find(known[1], fields, span)
        if told is not None and answer is not None and fields is not None:
            answer.client_host = told(fields.fields)
        return answer

    def _read_line(self, line: bytes, limits: HttpLimits) -> tuple[Responder, RequestLine] | None:
        """Parse a first line that isn't cached."""
        start = line.find(b"/") + 1
        responder = self._responders.get(line[start : line.find(b"/", start)])
        if responder is None or (request := read_line(line, limits)) is None:
            return None
        if len(self._lines) >= HEADS_KEPT:
            del self._lines[next(iter(self._lines))]
        found = self._lines[line] = responder, request
        return found

    def _read_block(self, block: bytes, limits: HttpLimits) -> PlainFields | None:
        """Parse header fields that aren't cached."""
        fields = read_fields(block, limits)
        # Fields with a Range hardly ever recur, so they aren't kept.
        if fields is not None and not fields.has_range:
            if len(self._blocks) >= HEADS_KEPT:
                del self._blocks[next(iter(self._blocks))]
            self._blocks[block] = fields
        return fields

    def fields(self, default_headers: Headers) -> bytes:
        """Encode the header fields of every response, once for as long as they are the same.

        uvicorn renews Date every second, but may be late. Here it is always the current second's, so that no
        Last-Modified lies after it (RFC 9110 §8.8.2.1).
        """
        now = time.time()
        if self._fields[0] is not default_headers or now >= self._outdated:
            date = conditional.format_date(now).encode()
            dated = [(name, date if name == b"date" else value) for name, value in default_headers]
            self._fields, self._outdated = (default_headers, encoded(dated)), int(now) + 1
        return self._fields[1]


def encoded(headers: Headers) -> bytes:
    """Encode header fields as lines of HTTP/1."""
    return b"".join(b"%b: %b\r\n" % field for field in headers)
