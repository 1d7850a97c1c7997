"""Reads chained Ogg streams (RFC 3533 §4) with audio: the headers of each link, then its pages.

Of multiplexed streams only the audio is used; of several audio streams, the one that began last.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from media.errors import MalformedError, MediaError, TooLargeError
from media.ogg.headers import HEADER_BYTES, HeaderReader, Link, is_skeleton
from media.ogg.page import FIRST, LAST, Page, PageReader

PAGE_SECONDS = 30
"""Longest plausible audio of a page: 255 packets of Opus (RFC 6716 §2)."""


@dataclass(frozen=True, slots=True)
class AudioPage:
    """A page of audio.

    Attributes:
        duration: samples that the page adds to the link; 0 if unknown.
    """

    link: Link
    page: Page
    duration: int


Event = Link | AudioPage


class OggReader:
    """Reads links and their pages from bytes in any portions; does no I/O.

    Memory is bounded by ``HEADER_BYTES``, a page, and what is handed over at once.
    """

    def __init__(self) -> None:
        self._pages = PageReader()
        self._eof = False
        self._error: MediaError | None = None
        self._headers: _Headers | None = None
        self._link: Link | None = None
        self._serial: int | None = None
        self._position: int | None = None
        self._found = False

    def receive_data(self, data: bytes) -> None:
        """Parse the next bytes."""
        if self._error is None:
            self._pages.receive_data(data)

    def receive_eof(self) -> None:
        """Note the end of the stream."""
        self._eof = True
        self._pages.receive_eof()

    def events(self) -> Iterator[Event]:
        """Yield each link when its headers are complete, then its pages.

        Raises:
            MalformedError: too much garbage, malformed headers, or an end without any link.
            UnsupportedError: the codec isn't supported.
        """
        if self._error is not None:
            raise self._error
        try:
            for page in self._pages.pages():
                event = self._push_page(page)
                if event is not None:
                    self._found = True
                    yield event
            if self._eof and not self._found:
                raise MalformedError("no Ogg stream with audio in all of the input")
        except MediaError as error:
            self._error = error
            raise

    def _push_page(self, page: Page) -> Event | None:
        if page.flags & FIRST:
            self._begin(page)
            return None
        if page.serial != self._serial:
            return None
        if self._headers is not None:
            return self._take_header(self._headers, page)
        if self._link is None:
            return None
        if page.flags & LAST:
            self._serial = None
        return AudioPage(self._link, page, self._duration(self._link, page))

    def _begin(self, page: Page) -> None:
        # RFC 3533 §6: a stream's first page has its first packet and nothing else.
        first, whole = next(page.pieces(), (b"", False))
        if is_skeleton(first):
            return
        if not whole:
            raise MalformedError("the first packet of a stream is longer than its page")
        self._headers = _Headers(first, page.sequence)
        self._serial, self._link, self._position = page.serial, None, None

    def _take_header(self, headers: _Headers, page: Page) -> Link | None:
        try:
            link = headers.push(page)
        except LostPageError:
            # A link without its headers can't be decoded; the next link may be whole.
            self._headers, self._serial = None, None
            return None
        if link is not None:
            self._headers, self._link = None, link
        return link

    def _duration(self, link: Link, page: Page) -> int:
        """Compute the duration from granule positions, which count from 0 unless the start was missed."""
        if page.granule < 0:
            return 0
        before, self._position = self._position, page.granule
        duration = page.granule - (link.pre_skip if before is None else before)
        return duration if 0 <= duration <= PAGE_SECONDS * link.sample_rate else 0


class LostPageError(Exception):
    """A page of the headers is missing."""


class _Headers:
    """The headers of one link while they are read.

    Args:
        first: first packet of the link.
        sequence: number of that packet's page.
    """

    def __init__(self, first: bytes, sequence: int) -> None:
        self._reader = HeaderReader(first)
        self._sequence = sequence
        self._partial = bytearray()

    def push(self, page: Page) -> Link | None:
        """Push the next page; return the link when its headers are complete.

        Raises:
            LostPageError: a page is missing before it.
            MediaError: as for :class:`HeaderReader`.
        """
        self._sequence = (self._sequence + 1) & 0xFFFFFFFF
        if page.sequence != self._sequence or page.is_fresh == bool(self._partial):
            raise LostPageError
        for piece, ends in page.pieces():
            self._partial += piece
            if len(self._partial) > HEADER_BYTES:
                raise TooLargeError(f"a header of more than {HEADER_BYTES} bytes")
            if not ends:
                break
            packet, self._partial = bytes(self._partial), bytearray()
            link = self._reader.push(packet)
            if link is not None:
                # Vorbis I §A.2, RFC 7845 §3, RFC 9639 §10.1: audio begins on a page of its own.
                return link
        return None
