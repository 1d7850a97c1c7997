"""The head of an HTTP/1 request: where it ends, what it may cost, and what it says (RFC 9112 §3)."""

from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass

import httptools

from origin.answers.request import CONDITIONS, RequestFields
from origin.http.byte_ranges import Span, plain_span
from origin.http1 import websocket
from origin.http1.limits import HttpLimits

HEAD_END = b"\r\n\r\n"

UNFRAMED_AREAS = ("/radio/",)
"""Path prefixes below which a PUT may have a body without framing, as Icecast's sources send it."""

UNFRAMED_TYPES = (b"audio/", b"application/ogg")
"""Beginnings of the Content-Type of such a PUT elsewhere: stations may have other addresses."""

WEBSOCKET_AREAS = ("/events/",)
"""Path prefixes at and below which WebSocket is spoken; elsewhere a request for it is ignored."""

PLAIN_BYTES = 4096
"""Longest head that the fast path reads; longer ones are rare."""

HOSTS_KEPT = 64
"""Most values of Host whose validity is cached."""

# RFC 9110 §7.2, RFC 3986 §3.2.2: uri-host [ ":" port ], or nothing; an IPv6 address is a group of its own.
_HOST = re.compile(
    rb"(?:\[(?:([0-9A-Fa-f:.]+)|v[0-9A-Fa-f]+\.[0-9A-Za-z._~!$&'()*+,;=:-]+)\]"
    rb"|(?:[0-9A-Za-z._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*)(?::[0-9]*)?"
)


# RFC 9112 §3, §5, but narrower than the grammar: the parser reads whatever doesn't match.
_LINE = re.compile(rb"(GET|HEAD) (/[A-Za-z0-9\-._~!$&'()*+,;=:@%/?]*) HTTP/1\.1\r\n")
_FIELDS = re.compile(rb"(?:[A-Za-z0-9!#$%&'*+\-.^_`|~]+:[\t\x20-\x7e\x80-\xff]*\r\n)+\r\n")
# Fields that announce a body, or another protocol on the connection.
_NOT_PLAIN = frozenset({b"content-length", b"transfer-encoding", b"upgrade", b"expect", b"te", b"trailer"})


@dataclass(frozen=True, slots=True)
class RequestLine:
    """The first line of a plain request: GET or HEAD, HTTP/1.1.

    Attributes:
        method: GET or HEAD.
        target: the request target in origin form, without a token.
        token_label: the label of the token, for logs; empty where none was needed.
    """

    method: str
    target: bytes
    token_label: str = ""


class HeadLimits:
    """Counts the bytes and fields of a head while it is still incomplete, and refuses one beyond its limits.

    Attributes:
        hosts: the values of its Host fields.
        codings: the values of its Transfer-Encoding fields.
    """

    __slots__ = (
        "_began",
        "_bytes",
        "_fields",
        "_limits",
        "_line",
        "_unparsed",
        "codings",
        "hosts",
    )

    def __init__(self, limits: HttpLimits) -> None:
        self._limits = limits
        self._began = False
        self._bytes = self._unparsed = self._fields = 0
        # The incomplete first line; None once it is right, or if its beginning is unknown.
        self._line: bytes | None = None
        self.hosts: list[bytes] = []
        self.codings: list[bytes] = []

    def begin(self) -> None:
        """Start counting at the first byte of a request."""
        self._began = True
        self._bytes = self._unparsed = self._fields = 0
        self._line = b""
        self.hosts = []
        self.codings = []

    def add(self, name: bytes, value: bytes) -> bool:
        """Count a field of the head or the trailer; return whether it is within the limits."""
        self._fields += 1
        self._bytes += len(name) + len(value) + 4
        if name == b"host":
            self.hosts.append(value.strip(b" \t"))
        elif name == b"transfer-encoding":
            self.codings.append(value)
        return self._fields <= self._limits.header_fields and self._bytes <= self._limits.header_bytes

    def judge(self, data: bytes, *, is_all: bool) -> int | None:
        """Count bytes that belong to an incomplete head.

        The parser reports whole fields only; this bounds the bytes that it keeps of an endless one.

        Args:
            is_all: whether all of them are this head's; otherwise the end of a body may precede it.

        Returns:
            The status to refuse the request with; None if its head may go on.
        """
        began, self._began = self._began, False
        if began and not is_all:
            self._line = None
            return None
        self._unparsed += len(data)
        if self._unparsed > self._limits.header_bytes:
            return 431
        if self._line is not None:
            line, end, _ = (self._line + data).lstrip(b"\r\n").partition(b"\n")
            self._line = None if end else line
            # RFC 9112 §2.3, appendix C.1: HTTP/0.9 has no version, and nothing would come behind this line.
            if end and len(line.split()) < 3:
                return 400
        return None


def fault_of(method: str, version: str, hosts: Sequence[bytes], codings: Sequence[bytes] = ()) -> int | None:
    """Return the status to refuse a request with; None if its head is valid.

    Args:
        version: the HTTP version, such as "1.1".
        hosts: the values of its Host fields.
        codings: the values of its Transfer-Encoding fields.
    """
    if version not in ("1.0", "1.1"):
        return 400 if version == "0.9" else 505
    # RFC 9112 §3.2: exactly one Host in HTTP/1.1, never more than one, and a valid one.
    if len(hosts) > 1 or (not hosts and version == "1.1") or not all(map(_is_host, hosts)):
        return 400
    # RFC 9112 §6.1: a Transfer-Encoding in HTTP/1.0 means that the framing can't be trusted.
    if codings and version == "1.0":
        return 400
    if codings and (coding := b",".join(codings).strip(b" \t").lower()) != b"chunked":
        # RFC 9112 §6.3: without chunked as the last coding nobody knows where the body ends; §6.1: others
        # than that aren't understood here.
        return 501 if coding.rpartition(b",")[2].strip(b" \t") == b"chunked" else 400
    # RFC 9110 §9.1, §9.3.6: this is no proxy.
    return 501 if method == "CONNECT" else None


@functools.lru_cache(maxsize=HOSTS_KEPT)
def _is_host(value: bytes) -> bool:
    """Return whether a value of Host is valid."""
    match = _HOST.fullmatch(value)
    if match is None or match[1] is None:
        return match is not None
    try:
        ipaddress.IPv6Address(match[1].decode("ascii"))
    except ValueError:
        return False
    return True


def split_target(target: bytes) -> tuple[bytes, bytes]:
    """Split a request target (RFC 9112 §3.2) into its path and query, both still percent-encoded.

    Args:
        target: the target in origin form, absolute form or asterisk form.

    Raises:
        HttpParserInvalidURLError: it has none of these forms.
    """
    if target.startswith(b"/"):
        path, _, query = target.partition(b"#")[0].partition(b"?")
        return path, query
    # RFC 9112 §3.2.2: a server must accept the absolute form too; its path may be empty.
    parsed = httptools.parse_url(target)
    return parsed.path or b"/", parsed.query or b""


def _range_value(data: bytes) -> tuple[int, int]:
    """Find the value of a Range field in bytes: its first position and its end, or -1 twice."""
    start = data.find(b"\r\nRange: bytes=")
    if start < 0 and (start := data.find(b"\r\nrange: bytes=")) < 0:
        return -1, -1
    start += len(b"\r\nRange: bytes=")
    return start, data.find(b"\r", start)


def part_range(data: bytes) -> tuple[bytes, Span | None]:
    """Separate a plain Range field from a head: a client's heads often differ only in that field.

    Returns:
        The head without the field, and the parsed field; the unchanged head and None if there is none.
    """
    start, end = _range_value(data)
    span = None if start < 0 else plain_span(data[start:end])
    if span is None:
        return data, None
    return data[: start - len(b"\r\nRange: bytes=")] + data[end:], span


def around_range(data: bytes) -> tuple[bytes, bytes]:
    """Return the bytes before and after the value of the Range field that `part_range` takes out."""
    start, end = _range_value(data)
    return data[:start], data[end:]


def read_line(line: bytes, limits: HttpLimits) -> RequestLine | None:
    """Read the first line of a plain request, given with its end; None if the parser has to read it."""
    match = _LINE.fullmatch(line)
    if match is None or len(match[2]) > limits.target_bytes:
        return None
    return RequestLine(match[1].decode("ascii"), match[2])


def read_fields(block: bytes, limits: HttpLimits) -> RequestFields | None:
    """Read the header fields of a plain request.

    Args:
        block: all bytes that came after the request's first line.

    Returns:
        None unless these are the complete, valid fields of one request without a body.
    """
    if _FIELDS.fullmatch(block) is None:
        return None
    fields, hosts = [], []
    is_conditional = has_range = is_last = False
    for line in block[:-4].split(b"\r\n"):
        name, _, value = line.partition(b":")
        name, value = name.lower(), value.strip(b" \t")
        if name == b"host":
            hosts.append(value)
        elif name == b"range":
            has_range = True
        elif name in CONDITIONS:
            is_conditional = True
        elif name == b"connection":
            # RFC 9112 §9.6.
            closes = value.lower() == b"close"
            is_last = is_last or closes
            if not closes and value.lower() != b"keep-alive":
                return None
        elif name in _NOT_PLAIN:
            return None
        fields.append((name, value))
    # RFC 9112 §3.2, as `fault_of` has it. A Range that was taken out before is a field more.
    right = len(hosts) == 1 and _is_host(hosts[0])
    if not right or len(fields) >= limits.header_fields:
        return None
    return RequestFields(tuple(fields), is_conditional, has_range, is_last)


def has_unframed_body(method: str, path: str, fields: Sequence[tuple[bytes, bytes]]) -> bool:
    """Return whether the body of a request is everything that comes until the connection ends.

    Icecast's sources send audio so, and a client of WebSocket sends its frames so. HTTP takes such a request
    for one without a body (RFC 9112 §6.3, rule 7), and a parser would read those bytes as the next request.

    Args:
        fields: its header fields, names in any case.
    """
    is_source = method == "SOURCE" or (
        method == "PUT" and (path.startswith(UNFRAMED_AREAS) or _has_type(fields, UNFRAMED_TYPES))
    )
    is_socket = f"{path}/".startswith(WEBSOCKET_AREAS) and websocket.is_upgrade(method, fields)
    if not is_source and not is_socket:
        return False
    return not any(name.lower() in (b"content-length", b"transfer-encoding") for name, _ in fields)


def _has_type(fields: Sequence[tuple[bytes, bytes]], beginnings: tuple[bytes, ...]) -> bool:
    return any(
        name.lower() == b"content-type" and value.lower().startswith(beginnings) for name, value in fields
    )


class HeadEnd:
    """Finds the ends of request heads in bytes that come in pieces of any size.

    A body may contain the same four bytes, which makes one cut more; no parser minds.
    """

    __slots__ = ("_tail",)

    def __init__(self) -> None:
        self._tail = b""

    def find(self, data: bytes, start: int = 0) -> int:
        """Return the position behind the next end of a head; the length of the bytes if there is none.

        Args:
            data: the next bytes; those before `start` were searched by an earlier call.
        """
        tail, self._tail = self._tail, b""
        kept = len(HEAD_END) - 1
        if tail:
            place = (tail + data[start : start + kept]).find(HEAD_END)
            if place >= 0:
                return start + place + len(HEAD_END) - len(tail)
        place = data.find(HEAD_END, start)
        if place >= 0:
            return place + len(HEAD_END)
        self._tail = (tail + data[max(start, len(data) - kept) :])[-kept:]
        return len(data)
