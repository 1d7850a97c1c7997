"""Reads the requests of one connection by the parser httptools, within the limits of a public server.

Requests that are too large, never end or don't name their host are refused early. The reader knows no socket:
it gets bytes, and its connection gets heads, bytes of bodies and faults.
"""

from __future__ import annotations

import math
import re
from typing import NamedTuple, Protocol

import httptools

from origin.http1 import states
from origin.http1.limits import HttpLimits
from origin.http1.request_head import HeadEnd, HeadLimits, fault_of
from origin.http1.states import ReadingEvent

_METHOD = re.compile(rb"[A-Za-z0-9!#$%&'*+\-.^_`|~]+(?: /|$)")

FEW_BYTES, MANY_BYTES = 4 * 1024, 64 * 1024
FEW_LINES, MANY_LINES = 128, 512
"""Bytes of a chunked body that are parsed at once, and most lines in so many that more are parsed.

The fewest have 680 chunks of one byte, which take 0.3 ms.
"""

FRAMING_PER_BYTE = 16
"""Most bytes of framing per byte of a chunked body; tiny chunks have 5."""


class _RequestRefusedError(httptools.HttpParserError):
    """Raised in the parser's callbacks to make it stop."""


class RequestHead(NamedTuple):
    """The head of a request that the application has to answer.

    Attributes:
        version: of HTTP, such as "1.1".
        target: the request target as it was sent.
        fields: names in lower case, and values.
        expects_continue: whether the client waits for a 100 before it sends the body.
        keep_alive: whether another request may follow.
        is_upgrade: whether the client asks for another protocol.
        body_bytes: how long the announced body is; 0 without one, infinite where that isn't said.
    """

    method: str
    version: str
    target: bytes
    fields: list[tuple[bytes, bytes]]
    expects_continue: bool
    keep_alive: bool
    is_upgrade: bool
    body_bytes: float

    @property
    def has_body(self) -> bool:
        """Whether a body is announced, even an empty one in chunks."""
        return self.body_bytes > 0


def _content_length(fields: list[tuple[bytes, bytes]]) -> int:
    """Return the length that the fields of a head announce, which the parser has checked; 0 without any."""
    return next((int(value) for name, value in fields if name == b"content-length"), 0)


class RequestConsumer(Protocol):
    """The connection as the reader of its requests sees it."""

    def request_begun(self) -> None:
        """The first byte of a request was read."""

    def head_read(self, head: RequestHead) -> ReadingEvent:
        """Have a request answered, and return whether its body is framed, unframed, or another process's."""

    def body_read(self, data: bytes) -> None:
        """Pass on bytes of the body, without their framing."""

    def body_complete(self) -> None:
        """The last byte of the body was read."""

    def refuse(self, status: int) -> None:
        """Refuse what is read with an error, and close behind it; the reader has stopped."""

    def cut(self, error: states.IllegalTransitionError) -> None:
        """Cut the connection, whose state is unknown: the server is at fault."""


class RequestReader:
    """The state of reading, and the parser of requests.

    Args:
        keeps_head: whether the bytes of a head are kept until its end, for another process.

    Attributes:
        state: the part of a message to which the next byte belongs; only `move` changes it.
        head: the bytes of the head that is being read, if they are kept.
    """

    def __init__(self, consumer: RequestConsumer, limits: HttpLimits, *, keeps_head: bool) -> None:
        self._consumer = consumer
        self._limits = limits
        self._keeps_head = keeps_head
        self.state = states.IDLE
        self.head = b""
        self._parser = httptools.HttpRequestParser(self)
        # RFC 9112 §9.3, §9.6: bytes behind a request that asks to close are dropped; they are no error.
        self._parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._head_end = HeadEnd()
        # Measures the head that is being read.
        self._gauge = HeadLimits(limits)
        self._target = b""
        self._fields: list[tuple[bytes, bytes]] = []
        self._expects_continue = False
        # The status by which a callback of the parser has refused the request.
        self._fault: int | None = None
        # How many requests have begun; bytes of the current one's body, and of the framing around its chunks.
        self._requests = self._body_bytes = self._framing_bytes = 0
        self._chunks: list[bytes] = []
        self._is_chunked = False

    def close(self) -> None:
        """Release the parser and the connection, which refer to this: no cycle is left to collect."""
        del self._parser, self._consumer

    def move(self, event: ReadingEvent) -> None:
        """Change the state as ``states.TRANSITIONS`` says.

        Raises:
            IllegalTransitionError: the table has no such change; the connection is cut.
        """
        try:
            self.state = states.TRANSITIONS[self.state, event]
        except states.IllegalTransitionError as error:
            self._consumer.cut(error)
            raise

    def end_of_piece(self, data: bytes, start: int) -> int:
        """Return the end of the bytes that are read next: behind a head, or behind not too many chunks."""
        if self.state is not states.BODY or not self._is_chunked or len(data) - start <= FEW_BYTES:
            return self._head_end.find(data, start)
        # RFC 9112 §7.1: each chunk has a line end behind its size, and another one behind its bytes.
        most = FEW_BYTES
        for size, lines in ((FEW_BYTES, FEW_LINES), (MANY_BYTES, MANY_LINES)):
            if data.count(b"\r\n", start, start + size) > lines:
                break
            most = size
        return start + self._head_end.find(data[start : start + most])

    def receive_data(self, data: bytes) -> None:
        """Read bytes from the client, up to the end of a head at most."""
        state = self.state
        if state is states.UNFRAMED:
            self._consumer.body_read(data)
            return
        if state is states.STOPPED:
            return
        is_all, number, before = state is not states.BODY, self._requests, self._body_bytes
        if self._keeps_head:
            self.head = self.head + data if state is states.HEAD else data
        try:
            try:
                self._parser.feed_data(data)
            finally:
                self._hand_on_body()
        except httptools.HttpParserUpgrade:
            self.move(states.UPGRADE)
            return
        except httptools.HttpParserInvalidMethodError:
            # RFC 9110 §9.1: 501 is for an unknown method, of which only the first bytes may have come.
            self._consumer.refuse(501 if is_all and _METHOD.match(data) else 400)
            return
        except httptools.HttpParserError:
            # Bytes that aren't parsed any more need no refusal: a source is served, or the connection is cut
            # or handed over.
            if self.state not in (states.UNFRAMED, states.STOPPED, states.LEAVING):
                self._consumer.refuse(400 if self._fault is None else self._fault)
            return
        if self.state is states.HEAD:
            if (status := self._gauge.judge(data, is_all=is_all)) is not None:
                self._consumer.refuse(status)
        elif self.state is states.BODY and not is_all and self._requests == number:
            self._framing_bytes += len(data) - (self._body_bytes - before)
            # RFC 9112 §7.1.1: a server ought to limit the total length of chunk extensions.
            if self._framing_bytes > self._limits.header_bytes + FRAMING_PER_BYTE * self._body_bytes:
                self._consumer.refuse(400)

    # The parser's events

    def on_message_begin(self) -> None:
        """Begin a request: its first byte was read."""
        if self.state is states.UNFRAMED:
            # Behind a head with bare LFs, these are the first bytes of its body.
            raise _RequestRefusedError
        self.move(states.BEGIN)
        self._requests += 1
        self._target = b""
        self._expects_continue = False
        self._fields = []
        self._body_bytes = self._framing_bytes = 0
        self._gauge.begin()
        self._consumer.request_begun()

    def on_url(self, url: bytes) -> None:
        """Append a piece of the request target."""
        self._target += url
        if len(self._target) > self._limits.target_bytes:
            self._stop(414)
        if self._parser.get_method() == b"SOURCE":
            # RFC 9112 §2.2: a line may end with a bare LF, as darkice's do; no other request follows.
            self._parser.set_dangerous_leniencies(
                lenient_optional_cr_before_lf=True, lenient_optional_lf_after_cr=True
            )

    def on_header(self, name: bytes, value: bytes) -> None:
        """Add a header field; trailer fields are only counted."""
        # RFC 9112 §5.1: the whitespace behind a value isn't part of it; the parser leaves it there.
        name, value = name.lower(), value.rstrip(b" \t")
        if not self._gauge.add(name, value):
            self._stop(431)
        if self.state is not states.HEAD:
            return
        if name == b"expect":
            self._expects_continue = value.lower() == b"100-continue"
        self._fields.append((name, value))

    def on_headers_complete(self) -> None:
        """Hand the request to the connection: its head is complete."""
        method, version = self._parser.get_method().decode("ascii"), self._parser.get_http_version()
        gauge = self._gauge
        if (status := fault_of(method, version, gauge.hosts, gauge.codings)) is not None:
            self._stop(status)
        self._is_chunked = bool(gauge.codings)
        is_upgrade = self._parser.should_upgrade()
        # Behind a request for an upgrade the parser reads nothing more, even if the upgrade is ignored, and
        # behind a SOURCE it would be lenient with heads that a proxy has let pass as something else.
        has_next = version != "1.0" and method != "SOURCE" and not is_upgrade
        # Nothing here keeps them for as long as somebody listens.
        target, fields, self._target, self._fields = self._target, self._fields, b"", []
        head = RequestHead(
            method,
            version,
            target,
            fields,
            self._expects_continue and version == "1.1",
            has_next and self._parser.should_keep_alive(),
            is_upgrade,
            math.inf if gauge.codings else _content_length(fields),
        )
        event = self._consumer.head_read(head)
        self.move(event)
        if event is states.HAND_OVER:
            raise _RequestRefusedError

    def on_body(self, body: bytes) -> None:
        """Keep bytes of the request's body, without its framing, until the end of what is being read."""
        self._body_bytes += len(body)
        self._chunks.append(body)

    def _hand_on_body(self) -> None:
        """Pass all chunks of the body on at once: a single read may have tens of thousands."""
        if self._chunks:
            chunks, self._chunks = self._chunks, []
            self._consumer.body_read(b"".join(chunks))

    def on_message_complete(self) -> None:
        """Complete the request: its last byte was read."""
        self._hand_on_body()
        self.move(states.END_OF_MESSAGE)
        if self.state is not states.UNFRAMED:
            self._consumer.body_complete()

    def _stop(self, status: int) -> None:
        """Stop the parser; the request is refused with this status."""
        self._fault = status
        raise _RequestRefusedError
