"""Ogg for the listeners of a mount: what comes from one source and the next as one valid chain (RFC 3533 §4).

Each link gets a serial number of its own, since no two in one chain may share it and sources come again; what
a source didn't end is ended here. Page numbers keep the gaps that they came with: they tell decoders of loss.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from media.ogg.headers import Link
from media.ogg.page import FIRST, LAST, NO_POSITION, Page, paginate
from packager.radio.audio_blocks import AudioBlock, OggAudio

_NUMBERS = 1 << 32


@dataclass(frozen=True, slots=True)
class ChainedBlock:
    """A block as listeners get it.

    Attributes:
        data: for those who have had all before it.
        cuts: where in it others may begin.
        lead: what these need first.
        link: tells what the lead is of: who has had it needs it no more; 0 where there is none.
    """

    data: bytes
    cuts: tuple[int, ...]
    lead: bytes = b""
    link: int = 0


class OggChain:
    """Writes the blocks of one mount; frames that aren't in Ogg go through it as they are."""

    def __init__(self) -> None:
        self._source: Link | None = None
        self._serial = 0
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
        self._source, self._serial, self._granule = audio.link, self._serial + 1, 0
        first, *others = audio.link.packets
        self._headers = paginate([first], self._serial, 0, FIRST)
        self._headers += paginate(others, self._serial, 1)
        self._shift = len(self._headers) - audio.pages[0].sequence
        return self._headers

    def _ending(self) -> list[Page]:
        """Write the page that ends a link whose source didn't: it says where, and has nothing else."""
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
