"""Answers on the connection itself: what needs no ASGI task, at once, as a file, or later.

An ASGI task, a scope and a dozen calls cost more than most answers. So before a request goes that way, the
connection shows its head to the responder of its area (`Shortcuts`). A responder knows a request when it is
whole and plain (`read_plain`) and when it can decide it at once; everything else it leaves to the
application, which decides by the same pure functions. What it gives back is a `WireAnswer`, and the
connection (`Line`) calls `begin` on it. From there all kinds are one: whenever the answer has its bytes, it
hands them over by `line.reply`, once. An answer that is complete replies within `begin`; so does one whose
body is ranges of an open file, which may go on for hours. An answer that waits for something returns from
`begin` and replies later, from a callback of the loop's own thread; a thousand of them are a thousand small
objects, without tasks, and whoever releases them writes them all in one pass. The bytes may be the same
objects for all: nothing copies or joins them.

Meanwhile the connection is theirs alone. Requests behind it wait unread (pipelining), a client that ends its
own side still gets its answer, the end of the server lets it end (`keep_alive` turns False, and `line.fields`
then say so), and whoever takes nothing is dropped, as with exchanges. When the client goes before the reply,
`hang_up` is called: the answer stops waiting, and a `reply` that comes nevertheless is ignored. Whatever
happens, `ended` is called exactly once, last, with the status (0: none was sent) and the bytes of the body
that the kernel took: that is the place for counters, the request log and for giving back what was held.
"""

from __future__ import annotations

import abc
import time
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from origin.byteranges import Span
from origin.edge import Ledger
from origin.requesthead import PlainHead, WireLimits, part_range, read_plain, target_of
from origin.selection import Headers
from origin.zerocopy import Piece

HEADS_KEPT = 512
"""Heads that are kept as they were read; each has at most `requesthead.PLAIN_BYTES`."""


class Reply(NamedTuple):
    """An answer's bytes.

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


class Line(Protocol):
    """What an answer sees of its connection."""

    @property
    def client_host(self) -> str | None:
        """The client's address."""

    def fields(self, answer: WireAnswer) -> bytes:
        """Header lines that every answer has now: Date, and that the connection closes if it does."""

    def reply(self, answer: WireAnswer, reply: Reply) -> bool:
        """Send an answer's bytes, all that it ever will have.

        Returns:
            Whether the answer has ended; else it does so later.
        """


class WireAnswer(abc.ABC):
    """An answer on its way.

    Args:
        head: The request.
        ledger: Where it is counted.
        area: Under which name.

    Attributes:
        keep_alive: Whether the connection stays open behind it.
        started: When the request came, by the monotonic clock.
    """

    __slots__ = ("_area", "_ledger", "head", "keep_alive", "started")

    def __init__(self, head: PlainHead, ledger: Ledger, area: str) -> None:
        self.head = head
        self.keep_alive = True
        self.started = time.monotonic()
        self._ledger = ledger
        self._area = area

    @property
    def path(self) -> str:
        """The path of the address that was asked for."""
        return urllib.parse.unquote(self.head.target.partition(b"?")[0].decode("ascii"))

    @abc.abstractmethod
    def begin(self, line: Line) -> None:
        """The answer's turn has come: reply on the line, now or later."""

    def hang_up(self) -> None:
        """The client has gone: wait no longer. Answers that wait add to this."""
        self.keep_alive = False

    def ended(self, status: int, sent: int, line: Line) -> None:
        """The answer has ended, well or not; called exactly once.

        Args:
            status: Of the reply; 0 when there was none.
            sent: Bytes of its body that the kernel has taken.
            line: The connection.
        """
        self._ledger.count(self._area, status, sent)
        if self._ledger.log_requests:
            self._ledger.write(self.head.method, self.path, status, sent, self.started, line.client_host)


class Responder(Protocol):
    """What answers requests of one area."""

    def find(self, head: PlainHead, span: Span | None) -> WireAnswer | None:
        """Decide whether a request is answered here.

        Args:
            head: The request, which others may share: equal heads are read once.
            span: What its Range says, where that is one range with a first position. It isn't in the head
                then; any other Range is.

        Returns:
            The answer, not begun; or None where the request has to go the application's way.
        """


class Shortcuts:
    """What answers requests before ASGI, by areas; the connections of a server share it.

    Args:
        responders: By the first segment of the path.
    """

    def __init__(self, responders: Mapping[str, Responder]) -> None:
        self._responders = {area.encode(): responder for area, responder in responders.items()}
        self._known: dict[bytes, tuple[Responder, PlainHead]] = {}
        self._fields: tuple[Headers, bytes] = ((), b"")

    def find(self, data: bytes, limits: WireLimits) -> WireAnswer | None:
        """Find who answers a request, by its head.

        Args:
            data: Bytes as they came: usually one head, whole; perhaps more or less than that.
            limits: What a request may cost.

        Returns:
            The answer, or None where the application has to give it.
        """
        rest, span = part_range(data)
        known = self._known.get(rest) or self._read(rest, limits)
        if known is None:
            return None
        responder, head = known
        if span is not None and (head.has_range or head.is_conditional):
            # Several Range fields, or If-Range.
            if (whole := read_plain(data, limits)) is None:
                return None
            head, span = whole, None
        return responder.find(head, span)

    def _read(self, data: bytes, limits: WireLimits) -> tuple[Responder, PlainHead] | None:
        """Read a head that isn't known yet."""
        target = target_of(data)
        responder = self._responders.get(target[1 : target.find(b"/", 1)])
        if responder is None or (head := read_plain(data, limits)) is None:
            return None
        if not head.has_range:
            # Of those with a Range no other client has the same.
            if len(self._known) >= HEADS_KEPT:
                del self._known[next(iter(self._known))]
            self._known[data] = responder, head
        return responder, head

    def fields(self, default_headers: Headers) -> bytes:
        """Encode the header fields of every answer of the server, once for all that are alike."""
        if self._fields[0] is not default_headers:
            # The server makes a new list when the second changes.
            self._fields = (default_headers, encoded(default_headers))
        return self._fields[1]


def encoded(headers: Headers) -> bytes:
    """Header fields as lines of HTTP/1."""
    return b"".join(b"%b: %b\r\n" % field for field in headers)
