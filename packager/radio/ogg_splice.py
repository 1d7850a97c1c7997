"""Ogg for a station's encoder: what its links have, as one logical stream whose positions count from 0.

ffmpeg doesn't follow a chain of Opus without errors, and where positions begin again it needs to guess.
"""

from __future__ import annotations

from dataclasses import replace

from media.ogg.headers import Link
from media.ogg.page import FIRST, LAST, NO_POSITION, Page, paginate
from packager.radio.audio_blocks import OggAudio

_SERIAL = 1
_NUMBERS = 1 << 32


class OggSplice:
    """Writes blocks whose links have the same ``decoder``."""

    def __init__(self) -> None:
        self._link: Link | None = None
        self._shift = 0
        self._next = 0
        self._position = 0

    def write(self, audio: OggAudio, duration: int) -> bytes:
        """Write the next block; before the first one the headers.

        Args:
            audio: the block's.
            duration: the same, in samples.
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
