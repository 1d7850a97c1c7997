"""The description of a DVD's title set (``VTS_01_0.IFO``): the colours of its subtitles, and languages.

A file consists of sectors. The first one describes the streams, and names the sector of the table of program
chains (http://dvd.sourceforge.net/dvdinfo/ifo_vts.html); a chain has the colours, and says which streams of
the VOBs are meant (http://dvd.sourceforge.net/dvdinfo/pgc.html).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from media.errors import MalformedError, UnsupportedError
from media.mp4.languages import known_language
from media.mp4.movie.assembled_samples import Read
from media.ps.program_stream import (
    AC3_SUBSTREAMS,
    AUDIO,
    DTS_SUBSTREAMS,
    PCM_FORMAT_SHIFT,
    PCM_SUBSTREAMS,
    SUBPICTURES,
    SUBSTREAM,
)

MAGIC = b"DVDVIDEO-VTS"

SECTOR_BYTES = 2048

_CHAINS, _VIDEO, _SOUNDS, _SUBPICTURES, _END = 0xCC, 0x200, 0x202, 0x254, 0x316
"""Places in the first sector: of the table of program chains, and of the attributes of streams."""

_SOUND_CONTROL, _SUBPICTURE_CONTROL, _PALETTE, _PALETTE_END = 0x0C, 0x1C, 0xA4, 0xE4
"""Places in a program chain."""

_IS_PRESENT = 0x80

MAX_SOUNDS, MAX_SUBPICTURES = 8, 32
"""Streams for which the attributes have room."""

_SOUND_STREAMS = {
    0: SUBSTREAM + AC3_SUBSTREAMS.start,
    2: AUDIO.start,
    3: AUDIO.start,
    4: SUBSTREAM + PCM_SUBSTREAMS.start,
    6: SUBSTREAM + DTS_SUBSTREAMS.start,
}
"""Numbers of the first streams of sound, by the coding in their attributes."""

_CAPTIONS, _FORCED = (5, 6, 7), 9
"""Kinds of subtitles: for who doesn't hear, in three sizes of letters; and those that are always shown."""

_FORMER_CODES = {"iw": "he", "in": "id", "ji": "yi"}
"""Codes of ISO 639 of 1988, which the format is older than."""


@dataclass(frozen=True, slots=True)
class DescribedStream:
    """The description of a stream of sound or subtitles.

    Attributes:
        number: with `SUBSTREAM` added to that of a substream.
        language: BCP 47 tag; None where its attributes have none.
        is_caption: whether subtitles are for who doesn't hear.
        is_forced: whether subtitles are for who understands the spoken language.
    """

    number: int
    language: str | None
    is_caption: bool = False
    is_forced: bool = False


@dataclass(frozen=True, slots=True)
class TitleSet:
    """The description of the streams in the VOBs of a title set.

    Attributes:
        palette: luma and chroma of each of the 16 colours, as PGS has them; empty where all are 0.
    """

    palette: tuple[bytes, ...] = ()
    streams: tuple[DescribedStream, ...] = ()

    def stream(self, track_id: int) -> DescribedStream | None:
        """Return the description of a track's stream; None where there is none."""
        number = track_id & ((1 << PCM_FORMAT_SHIFT) - 1)
        return next((one for one in self.streams if one.number == number), None)


def read_title_set(read: Read, size: int) -> TitleSet:
    """Read the description of a title set, and of its first program chain.

    Args:
        read: reads from the file; it may block.
        size: length of the file in bytes.

    Raises:
        MalformedError: the file is damaged.
        UnsupportedError: it isn't such a description.
        OSError: the file can't be read.
    """

    def part(at: int, length: int) -> bytes:
        data = read(at, length) if at + length <= size else b""
        if len(data) < length:
            raise MalformedError(f"the description of a title set ends before {at + length}")
        return data

    if read(0, len(MAGIC)) != MAGIC:
        raise UnsupportedError("it isn't the description of a title set")
    head = part(0, _END)
    table = SECTOR_BYTES * int.from_bytes(head[_CHAINS : _CHAINS + 4], "big")
    # The number of chains, and then for each of them its kind and its place in the table.
    chains = part(table, 16)
    if not int.from_bytes(chains[:2], "big"):
        raise MalformedError("a title set without a program chain")
    chain = part(table + int.from_bytes(chains[12:16], "big"), _PALETTE_END)
    colours = tuple(chain[at + 1 : at + 4] for at in range(_PALETTE, _PALETTE_END, 4))
    found = {one.number: one for one in reversed((*_sounds(head, chain), *_subpictures(head, chain)))}
    return TitleSet(colours if any(map(any, colours)) else (), tuple(found.values()))


def _sounds(head: bytes, chain: bytes) -> Iterator[DescribedStream]:
    """Return the streams of sound that a program chain has."""
    for number in range(min(head[_SOUNDS + 1], MAX_SOUNDS)):
        attributes = head[_SOUNDS + 2 + 8 * number :]
        control, first = chain[_SOUND_CONTROL + 2 * number], _SOUND_STREAMS.get(attributes[0] >> 5)
        if control & _IS_PRESENT and first is not None:
            is_told = attributes[0] >> 2 & 3 == 1
            yield DescribedStream(first + (control & 7), _language(attributes) if is_told else None)


def _subpictures(head: bytes, chain: bytes) -> Iterator[DescribedStream]:
    """Return the streams of subtitles that a program chain has; of a number that is there twice, both."""
    # A stream for pictures of 4:3, or streams for those of 16:9 that are shown wide, in a letterbox, or cut.
    kinds = (1, 2, 3) if head[_VIDEO] >> 2 & 3 else (0,)
    for kind in kinds:
        for number in range(min(head[_SUBPICTURES + 1], MAX_SUBPICTURES)):
            attributes = head[_SUBPICTURES + 2 + 6 * number :]
            control = chain[_SUBPICTURE_CONTROL + 4 * number :]
            if control[0] & _IS_PRESENT:
                yield DescribedStream(
                    SUBSTREAM + SUBPICTURES.start + (control[kind] & 0x1F),
                    _language(attributes) if attributes[0] & 3 == 1 else None,
                    attributes[5] in _CAPTIONS,
                    attributes[5] == _FORCED,
                )


def _language(attributes: bytes) -> str | None:
    """Return the language of a stream by its attributes."""
    code = attributes[2:4].decode("latin-1").lower()
    return known_language(_FORMER_CODES.get(code, code))
