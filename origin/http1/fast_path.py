"""Runs handlers on the connection itself: plain requests are answered without an ASGI task.

An ASGI task and its calls cost more than most replies. So before a request goes to the application,
`FastPath` reads its head, if that is plain (`read_fields`), and shows the request to the handler of its area.
A request that no handler serves, or whose head isn't plain, goes to the application, which has the same
handlers (`origin/answers/asgi.py`).

Heads recur: players of one kind send the same bytes. So first lines and blocks of header fields are kept
parsed, and replies that other connections get to the byte are kept ready (`RepeatedReply`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Protocol

from origin.answers.heads import CommonLines, encoded
from origin.answers.reply import FailedReply, Handler
from origin.answers.request import Request, RequestFields, request_from_headers
from origin.http import conditional
from origin.http.answer import Headers
from origin.http.path_prefixes import has_encoded_controls, split_token
from origin.http1.access_log import AccessLog, RequestCounters
from origin.http1.handler_exchange import HandlerExchange, PreparedRequest, RepeatedReply
from origin.http1.limits import HttpLimits
from origin.http1.request_head import PLAIN_BYTES, RequestLine, part_range, read_fields, read_line
from origin.http1.request_reader import RequestHead
from packager.bounded_dict import BoundedDict

REPEATS_KEPT = 64
"""Most heads that are kept because several connections send the same bytes, as players of one kind do."""

HEADS_KEPT = 1024
"""Most first lines, and most blocks of header fields, that are kept parsed; each has at most `PLAIN_BYTES`.
"""


class TargetGuard(Protocol):
    """Checks the tokens of requests."""

    @property
    def version(self) -> int:
        """A number that changes with the keys of tokens and with what needs one: all is guarded anew then."""

    def guarded(self, handler: Handler, token: str, target: str) -> tuple[Handler, str] | None:
        """Return what answers requests for a target with a token, and the token's label for logs.

        Returns:
            None where the application answers, which refuses a request without a valid token.
        """


class FastPath:
    """The handlers that answer before the application does; all connections of a server share it.

    Args:
        handlers: by area, which is the first segment of the path.
        access_log: counts and logs what handlers answer.
        headers: raw header fields that the server adds to every reply of a handler.
        guard: checks tokens; None where no address needs one.
    """

    def __init__(
        self,
        handlers: Mapping[str, Handler],
        access_log: AccessLog | None = None,
        headers: Headers = (),
        guard: TargetGuard | None = None,
    ) -> None:
        self._guard = guard
        self._handlers = {area.encode(): (area, handler) for area, handler in handlers.items()}
        self.access_log = access_log or AccessLog(RequestCounters(), log_requests=False)
        self.headers = tuple(headers)
        self._last = encoded(headers)
        self._common = CommonLines(b"", self._last)
        self._lines = BoundedDict[bytes, tuple[str, Handler, RequestLine]](HEADS_KEPT)
        self._blocks = BoundedDict[bytes, RequestFields](HEADS_KEPT)
        self._fields: tuple[Headers, bytes, Headers] = ((), b"", ())
        self._outdated = 0
        self._repeats = BoundedDict[bytes, RepeatedReply](REPEATS_KEPT)
        self._version = 0

    def repeat(self, data: bytes) -> RepeatedReply | None:
        """Return what answers exactly these bytes, if several connections have sent them."""
        self._check_version()
        return self._repeats.get(data)

    def keep(self, data: bytes, repeat: RepeatedReply) -> None:
        """Keep what answers exactly these bytes, on any connection."""
        self._repeats[data] = repeat

    def find(
        self,
        data: bytes,
        limits: HttpLimits,
        peer: str = "",
        told: Callable[[Headers], str] | None = None,
    ) -> HandlerExchange | None:
        """Have a handler handle a request, given by its head; None if the application has to answer.

        Args:
            data: the bytes as they came: usually one whole head, perhaps more or less than that.
            peer: the address of the connection's peer.
            told: reads the client's address from a trusted proxy's header fields; None: the peer is the
                client.
        """
        if not self._handlers or len(data) > PLAIN_BYTES or len(data) > limits.header_bytes:
            return None
        self._check_version()
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
        if fields is None:
            return None
        area, handler, first_line = known
        client = peer if told is None else told(fields.fields)
        request = Request(first_line.method, first_line.target, fields, span, client)
        return self._handled(PreparedRequest(first_line, area, handler, request, self._version))

    def find_read(self, head: RequestHead, limits: HttpLimits, client: str) -> HandlerExchange | None:
        """Have a handler handle a GET or HEAD whose head another wire has read; see `find`."""
        prepared = self.prepare(head, limits, client)
        return None if prepared is None else self.handle(prepared)

    def prepare(self, head: RequestHead, limits: HttpLimits, client: str) -> PreparedRequest | None:
        """Return a GET or HEAD whose head another wire has read, with its handler; None without one."""
        self._check_version()
        line = b"%b %b HTTP/1.1\r\n" % (head.method.encode("ascii"), head.target)
        known = self._lines.get(line) or self._read_line(line, limits)
        if known is None:
            return None
        area, handler, first_line = known
        request = request_from_headers(head.method, first_line.target, head.fields, client)
        return PreparedRequest(first_line, area, handler, request, self._version)

    def prepare_similar(
        self, prepared: PreparedRequest, target: bytes, limits: HttpLimits
    ) -> PreparedRequest | None:
        """Return a request that differs from another one in its target alone; None without a handler."""
        self._check_version()
        line = b"%b %b HTTP/1.1\r\n" % (prepared.line.method.encode("ascii"), target)
        known = self._lines.get(line) or self._read_line(line, limits)
        if known is None:
            return None
        area, handler, first_line = known
        like = prepared.request
        request = Request(like.method, first_line.target, like.fields, like.span, like.client)
        return PreparedRequest(first_line, area, handler, request, self._version)

    def handle(self, prepared: PreparedRequest) -> HandlerExchange | None:
        """Have a handler handle a request once or again; None if the application has to answer."""
        self._check_version()
        return self._handled(prepared) if prepared.version == self._version else None

    @property
    def version(self) -> int:
        """The number of what needs a token, and of its keys; see `TargetGuard`."""
        self._check_version()
        return self._version

    def _check_version(self) -> None:
        """Forget what was guarded by former keys, or wasn't guarded before."""
        if self._guard is not None and self._guard.version != self._version:
            self._version = self._guard.version
            self._lines.clear()
            self._repeats.clear()

    def _handled(self, prepared: PreparedRequest) -> HandlerExchange | None:
        try:
            outcome = prepared.handler.handle(prepared.request)
        except Exception as error:  # noqa: BLE001  # it concerns this request alone, and is logged
            outcome = FailedReply(error)
        if outcome is None:
            return None
        return HandlerExchange(prepared, outcome, self.access_log)

    def _read_line(self, line: bytes, limits: HttpLimits) -> tuple[str, Handler, RequestLine] | None:
        """Parse a first line that isn't cached."""
        start = line.find(b"/") + 1
        area = line[start : line.find(b"/", start)]
        is_token = self._guard is not None and area == b"t"
        if not (is_token or area in self._handlers) or (first_line := read_line(line, limits)) is None:
            return None
        if has_encoded_controls(first_line.target):
            return None
        token, target = "", first_line.target.decode("ascii")
        if is_token:
            token, target = split_token(target)
            area = target[1:].partition("/")[0].encode("ascii")
        if (found := self._handlers.get(area)) is None:
            return None
        known = *found, first_line
        if self._guard is not None:
            guarded = self._guard.guarded(found[1], token, target)
            if guarded is None:
                return None
            if token:
                first_line = RequestLine(first_line.method, target.encode("ascii"), guarded[1])
            known = found[0], guarded[0], first_line
        self._lines[line] = known
        return known

    def _read_block(self, block: bytes, limits: HttpLimits) -> RequestFields | None:
        """Parse header fields that aren't cached."""
        fields = read_fields(block, limits)
        # Fields with a Range hardly ever recur, so they aren't kept.
        if fields is not None and not fields.has_range:
            self._blocks[block] = fields
        return fields

    def fields(self, default_headers: Headers) -> bytes:
        """Encode the header fields of every response, once for as long as they are the same.

        uvicorn renews Date every second, but may be late. Here it is always the current second's, so that no
        Last-Modified lies after it (RFC 9110 §8.8.2.1).
        """
        self.dated(default_headers)
        return self._fields[1]

    def dated(self, default_headers: Headers) -> Headers:
        """Return the header fields of every response, with the time of now."""
        now = time.time()
        if self._fields[0] is not default_headers or now >= self._outdated:
            date = conditional.format_date(now).encode()
            dated = [(name, date if name == b"date" else value) for name, value in default_headers]
            self._fields, self._outdated = (default_headers, encoded(dated), dated), int(now) + 1
        return self._fields[2]

    def common(self, default_headers: Headers) -> CommonLines:
        """Encode the header fields of every reply of a handler: one object until the fields change."""
        made_of, first, _ = self._fields
        common = self._common
        if common.first is not first or made_of is not default_headers or time.time() >= self._outdated:
            common = self._common = CommonLines(self.fields(default_headers), self._last)
        return common
