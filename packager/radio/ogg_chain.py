"""Rewrites Ogg streams: into a valid chain for listeners (RFC 3533 §4), and into one stream for the encoder.

In a chain each link gets a serial number of its own, and a link that its source didn't end is ended. Gaps in
page numbers are kept, since decoders detect loss by them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from media.ogg.headers import Link
from media.ogg.page import FIRST, LAST, NO_POSITION, Page, paginate
from packager.radio.audio_blocks import AudioBlock, OggAudio

_NUMBERS = 1 << 32
_SERIAL = 1


@dataclass(frozen=True, slots=True)
class ChainedBlock:
    """A block of audio in the form that listeners get.

    Attributes:
        data: for listeners that have received everything before it.
        cuts: offsets in ``data`` at which new listeners may begin.
        lead: headers that new listeners need first.
        link: identifies the headers; a listener that has received them once doesn't need them again; 0 for
            none.
    """

    data: bytes
    cuts: tuple[int, ...]
    lead: bytes = b""
    link: int = 0


class OggChain:
    """Writes one mount's blocks as a chain; blocks that aren't Ogg are passed through.

    Args:
        serial: behind which the numbers of its links begin. Other chains should have others, as a listener
            may go on with another one.
    """

    def __init__(self, serial: int = 0) -> None:
        self._source: Link | None = None
        self._serial = serial
        self._shift = 0
        self._headers: list[Page] = []
        self._last: Page | None = None
        self._granule = 0

    def carry(self, block: AudioBlock) -> ChainedBlock:
        """Write the next block."""
        if block.ogg is None:
            # The listeners of a chain were sent away when its type changed: there is nobody to end it for.
            self._source = self._last = None
            return ChainedBlock(block.data, block.cuts)
        pages = list(block.ogg.pages)
        before: list[Page] = []
        if block.ogg.link is not self._source:
            before = [*self._ending(), *self._begin(block.ogg)]
            pages[0] = pages[0].trimmed()
        prelude = b"".join(page.serialize() for page in before)
        return self._written(prelude, [self._renumbered(page) for page in pages])

    def ending(self) -> tuple[int, bytes]:
        """Return the newest link's number, and the pages that end it for a listener who changes the chain.

        That is nothing where it has ended already, or isn't Ogg.
        """
        return self._serial, b"".join(page.serialize() for page in self._ending())

    def _written(self, prelude: bytes, pages: list[Page]) -> ChainedBlock:
        parts, cuts, at = [prelude], list[int](), len(prelude)
        for page in pages:
            if page.is_fresh:
                cuts.append(at)
            parts.append(page.serialize())
            at += len(parts[-1])
        beginning = self._headers
        if not cuts:
            # Packets of which each goes on in the next page: who begins here gets the rest of the first page.
            beginning = [*beginning, pages[0].trimmed()]
            cuts = [len(prelude) + pages[0].size]
        lead = b"".join(page.serialize() for page in beginning)
        return ChainedBlock(b"".join(parts), tuple(cuts), lead, self._serial)

    def _begin(self, audio: OggAudio) -> list[Page]:
        self._source, self._granule = audio.link, 0
        self._serial = self._serial % (_NUMBERS - 1) + 1
        first, *others = audio.link.packets
        self._headers = paginate([first], self._serial, 0, FIRST)
        self._headers += paginate(others, self._serial, 1)
        self._shift = len(self._headers) - audio.pages[0].sequence
        return self._headers

    def _ending(self) -> list[Page]:
        """Write an empty page that ends a link whose source stopped without one."""
        last = self._last
        if last is None or last.flags & LAST:
            return []
        return [Page(LAST, self._granule, last.serial, (last.sequence + 1) % _NUMBERS, b"", b"")]

    def _renumbered(self, page: Page) -> Page:
        sequence = (page.sequence + self._shift) % _NUMBERS
        self._last = replace(page, serial=self._serial, sequence=sequence)
        if page.granule != NO_POSITION:
            self._granule = page.granule
        return self._last


class OggJoiner:
    """Joins links with the same codec configuration into one logical stream with continuous positions.

    For ffmpeg, which can't follow a chain of Opus without errors and guesses where positions restart.
    """

    def __init__(self) -> None:
        self._link: Link | None = None
        self._shift = 0
        self._next = 0
        self._position = 0

    def write(self, audio: OggAudio, duration: int) -> bytes:
        """Write the next block; the headers precede the first.

        Args:
            duration: of the block, in samples.
        """
        pages = list(audio.pages)
        written: list[Page] = []
        if self._link is None:
            first, *others = audio.link.packets
            written = [*paginate([first], _SERIAL, 0, FIRST), *paginate(others, _SERIAL, 1)]
            self._next = len(written)
        if audio.link is not self._link:
            self._link, self._shift = audio.link, self._next - pages[0].sequence
            pages[0] = pages[0].trimmed()
        self._position += duration
        ends = [page.granule for page in pages if page.granule != NO_POSITION]
        later = self._position - ends[-1] if ends else 0
        written += [self._moved(page, later) for page in pages]
        self._next = written[-1].sequence + 1
        return b"".join(page.serialize() for page in written)

    def _moved(self, page: Page, later: int) -> Page:
        granule = page.granule if page.granule == NO_POSITION else max(page.granule + later, 0)
        sequence = (page.sequence + self._shift) % _NUMBERS
        return replace(page, flags=page.flags & ~LAST, granule=granule, serial=_SERIAL, sequence=sequence)
