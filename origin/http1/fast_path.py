"""Answers on the connection itself: what needs no ASGI task, at once, as a file, or later.

An ASGI task, a scope and a dozen calls cost more than most answers. So before a request goes that way, the
connection shows its head to the responder of its area (`FastPath`). A responder knows a request when it is
whole and plain (`read_fields`) and when it can decide it at once; everything else it leaves to the
application, which decides by the same pure functions. What it gives back is a `FastAnswer`, and the
connection (`AnsweringConnection`) calls `begin` on it. From there all kinds are one: whenever the answer has
its bytes, it hands them over by `line.reply`, once. An answer that is complete replies within `begin`; so
does one whose body is ranges of an open file, which may go on for hours. An answer that waits for something
returns from `begin` and replies later, from a callback of the loop's own thread; a thousand of them are a
thousand small objects, without tasks, and whoever releases them writes them all in one pass. The bytes may be
the same objects for all: nothing copies or joins them.

Meanwhile the connection is theirs alone. Requests behind it wait unread (pipelining), a client that ends its
own side still gets its answer, the end of the server lets it end (`keep_alive` turns False, and `line.fields`
then say so), and whoever takes nothing is dropped, as with exchanges. When the client goes before the reply,
`hang_up` is called: the answer stops waiting, and a `reply` that comes nevertheless is ignored. What `begin`
raises becomes an answer of 500; an answer that is released later sees to that itself (`line.fail`). Whatever
happens, `ended` is called exactly once, last, with the status (0: none was sent) and the bytes of the body
that the kernel took: that is the place for counters, the request log and for giving back what was held.
"""

from __future__ import annotations

import abc
import time
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from origin.http import conditional
from origin.http.byte_ranges import ByteRange, Span
from origin.http.select import Headers
from origin.http1.access_log import AccessLog
from origin.http1.request_head import (
    PLAIN_BYTES,
    HttpLimits,
    PlainFields,
    RequestLine,
    part_range,
    read_fields,
    read_line,
)
from origin.http1.response_head import STATUS_LINE
from origin.http1.sendfile import Piece

REPEATS_KEPT = 64
"""Heads of requests that several connections repeat to the byte, as players of one kind do."""

HEADS_KEPT = 1024
"""First lines, and header fields, that are kept as they were read; each has at most `PLAIN_BYTES`."""


class Reply(NamedTuple):
    """The bytes of an answer, and what the connection has to know of them.

    Attributes:
        status: The answer's.
        pieces: Its header, then bytes and ranges of the file, in this order. The header is one piece.
        body_bytes: Length of what is behind the header.
        file_bytes: Length of the ranges alone.
        file: Descriptor of the file that they are of, open until `ended`.
    """

    status: int
    pieces: Sequence[Piece]
    body_bytes: int
    file_bytes: int = 0
    file: int = -1


Again = tuple[bytes, int, int, int]
"""An answer's header, the first and last position of the range behind it, and the file's descriptor."""


class ResponseTemplate:
    """The headers of a representation's answers of 200, and of 206 with one range, written beforehand.

    Whatever a connection answers by itself has one: a file, live media, a playlist.

    Args:
        size: The representation's length in bytes.
        lines: Encoded header fields of all these answers, but for those that say their length.
    """

    __slots__ = ("_common", "_lines", "_part_bytes", "_part_end", "_part_start", "_size", "_whole")

    def __init__(self, size: int, lines: bytes) -> None:
        self._size = size
        self._lines = lines
        # What was written, with which common fields, and for which length of a range.
        self._whole = self._part_start = self._part_end = self._common = b""
        self._part_bytes = 0

    def whole(self, common: bytes) -> bytes:
        """The header of an answer of 200.

        Args:
            common: Encoded header fields that every answer of the server has; the same object while they are
                the same.
        """
        if self._common is not common:
            self._renew(common)
        return self._whole

    def part(self, positions: bytes, length: int, common: bytes) -> bytes:
        """The header of an answer of 206.

        Args:
            positions: The range's first and last position, as Content-Range says them.
            length: Number of its bytes.
            common: As for `whole`.
        """
        if self._common is not common:
            self._renew(common)
        if self._part_bytes != length:
            # Most ranges of a file are of one length.
            self._part_end = b"/%d\r\ncontent-length: %d\r\n\r\n" % (self._size, length)
            self._part_bytes = length
        return b"".join((self._part_start, positions, self._part_end))

    def _renew(self, common: bytes) -> None:
        """Write once what is the same for all answers, for as long as a second lasts."""
        fields = common + self._lines
        self._whole = b"%b%bcontent-length: %d\r\n\r\n" % (STATUS_LINE[200], fields, self._size)
        self._part_start = b"%b%bcontent-range: bytes " % (STATUS_LINE[206], fields)
        self._common = common


class AnsweringConnection(Protocol):
    """What an answer sees of its connection."""

    @property
    def client_host(self) -> str | None:
        """The address of the connection's other end."""

    def fields(self, answer: FastAnswer) -> bytes:
        """Header lines that every answer has now: Date, and that the connection closes if it does."""

    def reply(self, answer: FastAnswer, reply: Reply) -> bool:
        """Send an answer's bytes, all that it ever will have.

        Returns:
            Whether the answer has ended; else it does so later.
        """

    def fail(self, answer: FastAnswer) -> None:
        """Reply with 500 in the place of an answer that can't be made."""


class FastAnswer(abc.ABC):
    """An answer on its way.

    Args:
        request: The request's first line.
        access_log: Where it is counted.
        area: Under which name.

    Attributes:
        client_host: The client's address, where proxies have told it; None: it is the connection's.
        keep_alive: Whether the connection stays open behind it.
        started: When the request came, by the monotonic clock.
    """

    __slots__ = ("_access_log", "_area", "client_host", "keep_alive", "request", "started")

    def __init__(self, request: RequestLine, access_log: AccessLog, area: str) -> None:
        self.request = request
        self.client_host: str | None = None
        self.keep_alive = True
        self.started = time.monotonic()
        self._access_log = access_log
        self._area = area

    @property
    def common_headers(self) -> bytes:
        """Header lines that every answer of its area has."""
        return b""

    @property
    def path(self) -> str:
        """The path of the address that was asked for."""
        return urllib.parse.unquote(self.request.target.partition(b"?")[0].decode("ascii"))

    @abc.abstractmethod
    def begin(self, line: AnsweringConnection) -> None:
        """The answer's turn has come: reply on the line, now or later."""

    def hang_up(self) -> None:
        """The client has gone: wait no longer. Answers that wait add to this."""
        self.keep_alive = False

    def ended(self, status: int, sent: int, line: AnsweringConnection) -> None:
        """The answer has ended, well or not; called exactly once.

        Args:
            status: Of the reply; 0 when there was none.
            sent: Bytes of its body that the kernel has taken.
            line: The connection.
        """
        self._access_log.count(self._area, status, sent)
        if self._access_log.log_requests:
            client = self.client_host or line.client_host
            self._access_log.write(self.request.method, self.path, status, sent, self.started, client)

    def again(self, data: bytes) -> RepeatedRequest | None:
        """What answers this request with other ranges.

        Args:
            data: Its whole head.
        """
        del data
        return None

    def for_all(self, data: bytes) -> RepeatedRequest | None:
        """What answers this request, the same to the byte, to whoever else sends it.

        Args:
            data: Its whole head.
        """
        del data
        return None


class RepeatedRequest(Protocol):
    """A request that comes again: with nothing but other ranges on its connection, or the same on others.

    It spares what `FastPath` and `FastAnswer` cost, for answers that are sent at once: a good part of the
    time of a short one.

    Attributes:
        status: Of its answers.
    """

    status: int

    def reply(self, data: bytes, common: bytes) -> Again | None:
        """Answer a request, if it is this one.

        Args:
            data: Bytes as they came.
            common: Encoded header fields that every answer of the server has.

        Returns:
            The answer; None where it is another request or another answer.
        """

    def count(self, length: int) -> None:
        """Count the last answer, which is sent; `length` is that of its body."""

    def answer(self, part: ByteRange) -> FastAnswer:
        """The last answer as one that goes on, holding what it needs."""


class Responder(Protocol):
    """What answers requests of one area."""

    def find(self, request: RequestLine, fields: PlainFields, span: Span | None) -> FastAnswer | None:
        """Decide whether a request is answered here.

        Args:
            request: Its first line.
            fields: Its header fields. Equal ones are read once, and are the same object then.
            span: What its Range says, where that is one range with a first position. It isn't among the
                fields then; any other Range is.

        Returns:
            The answer, not begun; or None where the request has to go the application's way.
        """


class FastPath:
    """What answers requests before ASGI, by areas; the connections of a server share it.

    Args:
        responders: By the first segment of the path.
    """

    def __init__(self, responders: Mapping[str, Responder]) -> None:
        self._responders = {area.encode(): responder for area, responder in responders.items()}
        self._lines: dict[bytes, tuple[Responder, RequestLine]] = {}
        self._blocks: dict[bytes, PlainFields] = {}
        self._fields: tuple[Headers, bytes] = ((), b"")
        self._outdated = 0
        self._repeats: dict[bytes, RepeatedRequest] = {}

    def repeat(self, data: bytes) -> RepeatedRequest | None:
        """What answers a head that came before to the byte, if anything does."""
        return self._repeats.get(data)

    def keep(self, data: bytes, repeat: RepeatedRequest) -> None:
        """Let a repeat answer whoever sends a head."""
        if data not in self._repeats and len(self._repeats) >= REPEATS_KEPT:
            del self._repeats[next(iter(self._repeats))]
        self._repeats[data] = repeat

    def find(
        self, data: bytes, limits: HttpLimits, told: Callable[[Headers], str] | None = None
    ) -> FastAnswer | None:
        """Find who answers a request, by its head.

        Args:
            data: Bytes as they came: usually one head, whole; perhaps more or less than that.
            limits: What a request may cost.
            told: Gives the client's address as the header fields of a trusted proxy tell it; None: the
                connection is the client's own.

        Returns:
            The answer, or None where the application has to give it.
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
            # Several Range fields, or If-Range.
            fields, span = read_fields(data[end:], limits), None
        answer = None if fields is None else known[0].find(known[1], fields, span)
        if told is not None and answer is not None and fields is not None:
            answer.client_host = told(fields.fields)
        return answer

    def _read_line(self, line: bytes, limits: HttpLimits) -> tuple[Responder, RequestLine] | None:
        """Read a first line that isn't known yet."""
        start = line.find(b"/") + 1
        responder = self._responders.get(line[start : line.find(b"/", start)])
        if responder is None or (request := read_line(line, limits)) is None:
            return None
        if len(self._lines) >= HEADS_KEPT:
            del self._lines[next(iter(self._lines))]
        found = self._lines[line] = responder, request
        return found

    def _read_block(self, block: bytes, limits: HttpLimits) -> PlainFields | None:
        """Read header fields that aren't known yet."""
        fields = read_fields(block, limits)
        # Those with a Range no other client has the same.
        if fields is not None and not fields.has_range:
            if len(self._blocks) >= HEADS_KEPT:
                del self._blocks[next(iter(self._blocks))]
            self._blocks[block] = fields
        return fields

    def fields(self, default_headers: Headers) -> bytes:
        """Encode the header fields of every answer of the server, once for all that are alike.

        The server writes Date anew as each second begins, but may come late to that: here it is this second's
        in any case, so that no Last-Modified is after it (RFC 9110 §8.8.2.1).
        """
        now = time.time()
        if self._fields[0] is not default_headers or now >= self._outdated:
            date = conditional.format_date(now).encode()
            dated = [(name, date if name == b"date" else value) for name, value in default_headers]
            self._fields, self._outdated = (default_headers, encoded(dated)), int(now) + 1
        return self._fields[1]


def encoded(headers: Headers) -> bytes:
    """Header fields as lines of HTTP/1."""
    return b"".join(b"%b: %b\r\n" % field for field in headers)
