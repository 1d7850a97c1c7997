"""Reads and writes Ogg pages (RFC 3533 §6).

Only complete pages with correct checksums are returned; anything else is skipped.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from media.crc import crc32
from media.errors import MalformedError

CAPTURE = b"OggS"
HEADER_BYTES = 27

GARBAGE_BYTES = 64 * 1024
"""Most bytes between two pages of a stream from outside."""

DOUBTFUL_BYTES = 1024 * 1024
"""Most bytes of pages with wrong checksums of a stream from outside."""

NO_POSITION = -1
"""Granule position of a page on which no packet ends (RFC 3533 §6)."""

CONTINUED, FIRST, LAST = 1, 2, 4
"""Bits of the header type: the page continues a packet; begins its stream; ends its stream."""

_HEADER = struct.Struct("<4sBBqIIIB")


@dataclass(frozen=True, slots=True)
class Page:
    """An Ogg page.

    Attributes:
        flags: ``CONTINUED``, ``FIRST``, ``LAST``.
        granule: position behind the last packet that ends here, or ``NO_POSITION``.
        sequence: number of the page in its stream.
        lacing: lengths of the segments; one shorter than 255 ends a packet.
    """

    flags: int
    granule: int
    serial: int
    sequence: int
    lacing: bytes
    body: bytes

    @property
    def size(self) -> int:
        """Its length in bytes."""
        return HEADER_BYTES + len(self.lacing) + len(self.body)

    @property
    def is_fresh(self) -> bool:
        """Whether the page begins with a new packet."""
        return not self.flags & CONTINUED

    def pieces(self) -> Iterator[tuple[bytes, bool]]:
        """Yield the packets, or their parts on this page, and whether each ends here."""
        start = end = 0
        for length in self.lacing:
            end += length
            if length < 255:
                yield self.body[start:end], True
                start = end
        if self.lacing and self.lacing[-1] == 255:
            yield self.body[start:], False

    def trimmed(self) -> Page:
        """Remove the rest of a packet that began on an earlier page, which is useless without it."""
        if self.is_fresh:
            return self
        segments = next((at + 1 for at, length in enumerate(self.lacing) if length < 255), len(self.lacing))
        lacing, body = self.lacing[segments:], self.body[sum(self.lacing[:segments]) :]
        ends = any(length < 255 for length in lacing)
        return replace(
            self,
            flags=self.flags & ~CONTINUED,
            granule=self.granule if ends else NO_POSITION,
            lacing=lacing,
            body=body,
        )

    def serialize(self) -> bytes:
        """Serialize the page with its checksum."""
        return _serialize(self)


def checksum(data: bytes) -> int:
    """Compute the CRC of RFC 3533."""
    return crc32(data, 0)


def paginate(packets: Sequence[bytes], serial: int, sequence: int, flags: int = 0) -> list[Page]:
    """Put packets without positions (headers) on pages of their own.

    Args:
        sequence: number of the first page.
        flags: of the first page.
    """
    lacing = b"".join(b"\xff" * (len(packet) // 255) + bytes([len(packet) % 255]) for packet in packets)
    body = b"".join(packets)
    pages: list[Page] = []
    start = 0
    for first in range(0, len(lacing), 255):
        part = lacing[first : first + 255]
        if first:
            flags = CONTINUED if lacing[first - 1] == 255 else 0
        granule = 0 if any(length < 255 for length in part) else NO_POSITION
        end = start + sum(part)
        pages.append(Page(flags, granule, serial, sequence + len(pages), part, body[start:end]))
        start = end
    return pages


class PageReader:
    """Reads pages from bytes in any portions; does no I/O.

    Memory is bounded by one page and what is handed over at once.

    Args:
        garbage: most bytes between two pages until the input counts as malformed.
        doubtful: most bytes of pages with wrong checksums, beyond the bytes of correct pages.
    """

    def __init__(self, garbage: int = GARBAGE_BYTES, doubtful: int = DOUBTFUL_BYTES) -> None:
        self._limits = garbage, doubtful
        self._buffer = bytearray()
        self._dropped = 0
        self._position = 0
        self._garbage = 0
        self._doubtful = 0
        self._eof = False

    def receive_data(self, data: bytes) -> None:
        """Parse the next bytes."""
        del self._buffer[: self._position]
        self._dropped += self._position
        self._position = 0
        self._buffer += data

    @property
    def position(self) -> int:
        """How many bytes are before the next page, from the beginning of the input."""
        return self._dropped + self._position

    def receive_eof(self) -> None:
        """Note the end; an incomplete page is dropped."""
        self._eof = True

    def pages(self) -> Iterator[Page]:
        """Yield complete pages, in order.

        Raises:
            MalformedError: more than ``GARBAGE_BYTES`` between pages, or too many broken pages.
        """
        while self._find():
            page = self._page()
            if page is not None:
                self._garbage = 0
                self._doubtful = max(self._doubtful - page.size, 0)
                self._position += page.size
                yield page
            elif self._is_short():
                return
            else:
                self._pass_over(self._position + 1)

    def _find(self) -> bool:
        """Skip to the next possible page; return False if more bytes are needed."""
        found = self._buffer.find(CAPTURE, self._position)
        if found < 0:
            # The last bytes may be the beginning of a capture pattern.
            keep = 0 if self._eof else len(CAPTURE) - 1
            self._pass_over(max(self._position, len(self._buffer) - keep))
            return False
        self._pass_over(found)
        return True

    def _pass_over(self, target: int) -> None:
        self._garbage += target - self._position
        self._position = target
        if self._garbage > self._limits[0]:
            raise MalformedError(f"no Ogg page in {self._limits[0]} bytes")

    def _wanted(self) -> int:
        """Return the length of the page that begins here, as far as known; 0 if none does."""
        available = len(self._buffer) - self._position
        if available < HEADER_BYTES:
            return HEADER_BYTES
        if self._buffer[self._position + 4]:  # RFC 3533 §6: the version is 0
            return 0
        segments = self._buffer[self._position + HEADER_BYTES - 1]
        body = HEADER_BYTES + segments
        if available < body:
            return body
        return body + sum(self._buffer[self._position + HEADER_BYTES : self._position + body])

    def _is_short(self) -> bool:
        return not self._eof and len(self._buffer) - self._position < self._wanted()

    def _page(self) -> Page | None:
        """Return the page that begins here; None if it is incomplete or broken."""
        size = self._wanted()
        if not size or len(self._buffer) - self._position < size:
            return None
        data = bytes(self._buffer[self._position : self._position + size])
        _, _, flags, granule, serial, sequence, crc, segments = _HEADER.unpack_from(data)
        if checksum(data[:22] + bytes(4) + data[26:]) != crc:
            self._doubtful += size
            if self._doubtful > self._limits[1]:
                raise MalformedError(f"more than {self._limits[1]} bytes of Ogg pages with wrong checksums")
            return None
        body = HEADER_BYTES + segments
        return Page(flags, granule, serial, sequence, data[HEADER_BYTES:body], data[body:])


def _serialize(page: Page) -> bytes:
    fields = (CAPTURE, 0, page.flags, page.granule, page.serial, page.sequence)
    rest = page.lacing + page.body
    crc = checksum(_HEADER.pack(*fields, 0, len(page.lacing)) + rest)
    return _HEADER.pack(*fields, crc, len(page.lacing)) + rest
