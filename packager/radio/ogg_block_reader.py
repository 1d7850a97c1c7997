"""Splits the Ogg stream of a source client or relay into blocks of whole pages."""

from __future__ import annotations

from media.ogg.headers import Link
from media.ogg.page import LAST, Page
from media.ogg.reader import AudioPage, OggReader
from packager.radio.audio_blocks import BLOCK_SECONDS, AudioBlock, OggAudio
from packager.radio.block_reader import AudioBlockReader

MEDIA_TYPE = "application/ogg"

BLOCK_BYTES = 64 * 1024
"""Most bytes of one block; a page is never longer (RFC 3533 §6)."""


class OggBlockReader(AudioBlockReader):
    """Makes blocks of Ogg pages; pictures are left out."""

    def __init__(self) -> None:
        super().__init__()
        self._reader: OggReader = OggReader()
        self._link: Link | None = None
        self._given = ""
        self._pages: list[Page] = []
        self._size = 0
        self._duration = 0
        # Bytes and ticks of all blocks of the link.
        self._bytes = 0
        self._ticks = 0

    @property
    def bitrate(self) -> int:
        """In kbit/s: nominal if the headers say it, else the average of the link so far; 0 if unknown."""
        link = self._link
        if link is None:
            return 0
        if link.bitrate or not self._ticks:
            return link.bitrate // 1000
        return round(8 * self._bytes * link.sample_rate / self._ticks / 1000)

    def retitle(self, title: str) -> list[AudioBlock]:
        """Begin a new block and a new link with this title; return the blocks before it."""
        blocks = self._read_blocks()
        self.title = self._given = title
        if self._link is not None:
            self._link = self._link.retitled(title)
        return blocks

    def _gather(self) -> list[AudioBlock]:
        blocks: list[AudioBlock] = []
        for event in self._reader.events():
            if isinstance(event, AudioPage):
                if self._size + event.page.size > BLOCK_BYTES:
                    blocks += self._read_blocks()
                self._add(event)
                # Checked before adding: a page often lasts a second, less a few samples.
                full = self._duration + event.duration > BLOCK_SECONDS * event.link.sample_rate
                if full or event.page.flags & LAST:
                    blocks += self._read_blocks()
            else:
                blocks += self._read_blocks()
                self._begin(event)
        return blocks

    def _begin(self, link: Link) -> None:
        # Encoders without comments keep the title that was set out of band.
        title = link.title or self._given
        self._link = link if link.title or not title else link.retitled(title)
        self.title = title
        self._bytes = self._ticks = 0

    def _add(self, event: AudioPage) -> None:
        self.frames += 1
        self._pages.append(event.page)
        self._size += event.page.size
        self._duration += event.duration

    def _read_blocks(self) -> list[AudioBlock]:
        if self._link is None or not self._pages:
            return []
        audio, duration = OggAudio(self._link, tuple(self._pages)), self._duration
        self._bytes += self._size
        self._ticks += duration
        self._pages, self._size, self._duration = [], 0, 0
        return [AudioBlock(b"", duration, self._link.sample_rate, self.title, (), MEDIA_TYPE, audio)]
