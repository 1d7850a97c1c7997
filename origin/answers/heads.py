"""Heads of replies, encoded for HTTP/1 once for all requests that get the same one (RFC 9112 §4, §5)."""

from __future__ import annotations

import http
from typing import NamedTuple, Protocol

from origin.http.answer import Headers
from origin.http.byte_ranges import SelectedRange

STATUS_LINE = {
    **{status: b"HTTP/1.1 %d \r\n" % status for status in range(100, 600)},
    **{known.value: f"HTTP/1.1 {known.value} {known.phrase}\r\n".encode() for known in http.HTTPStatus},
}
"""Status lines by status; RFC 9112 §4 allows an empty reason phrase."""


def encoded(headers: Headers) -> bytes:
    """Encode header fields as lines of HTTP/1."""
    return b"".join([b"%b: %b\r\n" % field for field in headers])


class CommonLines(NamedTuple):
    """The encoded header fields that a server adds to every reply; the same object until they change.

    Attributes:
        first: the fields before the reply's own, such as Date.
        last: the fields behind the reply's own, such as the CORS fields.
    """

    first: bytes
    last: bytes


class ReplyHead(Protocol):
    """The status and the header fields of a reply."""

    @property
    def status(self) -> int:
        """The status."""

    @property
    def fields(self) -> Headers:
        """The header fields, without those that the server adds to every reply."""

    def encode(self, common: CommonLines) -> bytes:
        """Return the head as HTTP/1 has it, with the empty line behind it."""

    def private(self) -> ReplyHead:
        """Return the head of the same reply where no shared cache may keep it."""


def private_fields(fields: Headers) -> Headers:
    """Return header fields whose Cache-Control lets no shared cache keep the reply (RFC 9111 §5.2.2.7)."""
    values = [one.strip() for name, value in fields if name == b"cache-control" for one in value.split(b",")]
    if b"no-store" in values:
        return fields
    kept = (one for one in values if one != b"public" and not one.startswith(b"s-maxage"))
    others = (field for field in fields if field[0] != b"cache-control")
    return (*others, (b"cache-control", b", ".join((b"private", *kept))))


class PlainHead(NamedTuple):
    """A head that is made for one reply."""

    status: int
    fields: Headers

    def encode(self, common: CommonLines) -> bytes:
        """Return the head as HTTP/1 has it, with the empty line behind it."""
        return b"%b%b%b%b\r\n" % (STATUS_LINE[self.status], common.first, encoded(self.fields), common.last)

    def private(self) -> PlainHead:
        """Return the head of the same reply where no shared cache may keep it."""
        return PlainHead(self.status, private_fields(self.fields))


class RepresentationHead:
    """The head of each 200 reply with one representation, and what the heads of its 206 replies share.

    Args:
        size: the representation's length in bytes.
        fields: the header fields of all these replies, except those that depend on their length.
    """

    __slots__ = (
        "_common",
        "_fields",
        "_part_bytes",
        "_part_end",
        "_part_start",
        "_private",
        "_whole",
        "size",
    )

    status = 200

    def __init__(self, size: int, fields: Headers) -> None:
        self.size = size
        self._fields = tuple(fields)
        # The encoded heads, and the common fields and the length of a range for which they are right.
        self._whole = self._part_start = self._part_end = b""
        self._common: CommonLines | None = None
        self._private: RepresentationHead | None = None
        self._part_bytes = 0

    @property
    def fields(self) -> Headers:
        """The header fields of a 200."""
        return (*self._fields, (b"content-length", b"%d" % self.size))

    def encode(self, common: CommonLines) -> bytes:
        """Return the head of a 200 as HTTP/1 has it."""
        if self._common is not common:
            self._renew(common)
        return self._whole

    def private(self) -> RepresentationHead:
        """Return the head of the same replies where no shared cache may keep them."""
        if self._private is None:
            self._private = RepresentationHead(self.size, private_fields(self._fields))
        return self._private

    def part(self, part: SelectedRange) -> PartHead:
        """Return the head of the 206 with one range."""
        return PartHead(self, part)

    def part_fields(self, part: SelectedRange) -> Headers:
        """Return the header fields of a 206 with one range."""
        content_range = b"bytes %d-%d/%d" % (*part, self.size)
        length = b"%d" % part.length
        return (*self._fields, (b"content-range", content_range), (b"content-length", length))

    def encode_part(self, positions: bytes, length: int, common: CommonLines) -> bytes:
        """Return the head of a 206 with `length` bytes; `positions` are as in Content-Range."""
        if self._common is not common:
            self._renew(common)
        if self._part_bytes != length:
            # Most ranges of a file have the same length, so this is rarely done.
            self._part_end = b"/%d\r\ncontent-length: %d\r\n\r\n" % (self.size, length)
            self._part_bytes = length
        return b"".join((self._part_start, positions, self._part_end))

    def _renew(self, common: CommonLines) -> None:
        """Encode what all replies share until Date changes."""
        fields = b"%b%b%b" % (common.first, encoded(self._fields), common.last)
        self._whole = b"%b%bcontent-length: %d\r\n\r\n" % (STATUS_LINE[200], fields, self.size)
        self._part_start = b"%b%bcontent-range: bytes " % (STATUS_LINE[206], fields)
        self._common = common


class PartHead(NamedTuple):
    """The head of a 206 reply with one range of a representation (RFC 9110 §15.3.7.1)."""

    whole: RepresentationHead
    part: SelectedRange

    @property
    def status(self) -> int:
        """The status: 206."""
        return 206

    @property
    def fields(self) -> Headers:
        """The header fields, Content-Range among them."""
        return self.whole.part_fields(self.part)

    def encode(self, common: CommonLines) -> bytes:
        """Return the head as HTTP/1 has it, with the empty line behind it."""
        return self.whole.encode_part(b"%d-%d" % self.part, self.part.length, common)

    def private(self) -> PartHead:
        """Return the head of the same reply where no shared cache may keep it."""
        return PartHead(self.whole.private(), self.part)
