"""A station's audio as it goes to other machines: blocks, and what is to be known beside them. Pure."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from media.errors import MalformedError
from media.ogg.headers import KEPT_BYTES, MAX_HEADER_PACKETS
from media.ogg.page import Page
from packager.radio.audio_blocks import AudioBlock, OggAudio
from packager.radio.audio_source import NO_STATION_INFO, StationInfo
from packager.radio.mpeg_block_reader import MEDIA_TYPES
from packager.replication.log_entries import read_message

CODECS = frozenset(("vorbis", "opus", "flac"))
"""The codecs in Ogg that stations carry."""

LONGEST_SECONDS = 60
"""A block has about one second of audio; what has more than so many is none."""

Line = Annotated[str, Meta(max_length=1024, pattern=r"^[^\x00-\x1f\x7f]*\Z")]


class StationState(Struct, frozen=True):
    """The state of a station for other machines, beside its audio.

    Attributes:
        available: False while it has no audio, so that the fallback is heard.
        is_idle: whether it waits for a source client.
        trouble: why the station has no audio.
        media_type: such as ``audio/mpeg``.
        bitrate: in kbit/s.
        info: its description by its source.
    """

    available: bool
    is_idle: bool
    trouble: Line
    media_type: Line
    bitrate: Annotated[int, Meta(ge=0, le=1_000_000)]
    info: StationInfo = NO_STATION_INFO


class SharedBlock(Struct, frozen=True):
    """One entry of a station's log.

    Attributes:
        block: the next audio; None in an entry with the state alone.
        link: number of the logical Ogg stream that the block belongs to.
    """

    state: StationState
    block: AudioBlock | None = None
    link: int = 0


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(SharedBlock)


def as_line(text: str) -> str:
    """Return a text within the length that a state allows."""
    return "".join(filter(str.isprintable, text))[:1024]


def encode(state: StationState, block: AudioBlock | None, link: int) -> bytes:
    """Write an entry."""
    if block is not None and not block.title.isascii():
        # UTF-8 has no lone surrogates.
        block = replace(block, title=block.title.encode("utf-8", "replace").decode())
    return _ENCODER.encode(SharedBlock(state, block, link))


def decode(message: bytes) -> SharedBlock:
    """Read an entry.

    Raises:
        MalformedError: it is none, or isn't audio that a station carries.
    """
    found = read_message(_DECODER, message, "block of a station")
    if found.block is not None and not _is_sound(found.block):
        raise MalformedError("a block that no station has made")
    return found


def _is_sound(block: AudioBlock) -> bool:
    if block.timescale <= 0 or not 0 < block.duration <= LONGEST_SECONDS * block.timescale:
        return False
    if block.ogg is not None:
        return not block.data and _is_sound_ogg(block.ogg)
    cuts = block.cuts
    ascends = all(earlier < later for earlier, later in pairwise(cuts))
    is_within = bool(cuts) and ascends and cuts[0] >= 0 and cuts[-1] < len(block.data)
    return is_within and block.media_type in MEDIA_TYPES.values()


def _is_sound_ogg(audio: OggAudio) -> bool:
    link = audio.link
    # A title that was set later isn't among the bytes that are kept of a source's headers.
    if not 0 < len(link.packets) <= MAX_HEADER_PACKETS or sum(map(len, link.packets)) > 2 * KEPT_BYTES:
        return False
    is_audio = link.codec in CODECS and link.sample_rate > 0
    return is_audio and bool(audio.pages) and all(map(_is_sound_page, audio.pages))


def _is_sound_page(page: Page) -> bool:
    numbers = 0 <= page.serial < 1 << 32 and 0 <= page.sequence < 1 << 32
    fields = 0 <= page.flags < 8 and -1 <= page.granule < 1 << 63
    return numbers and fields and len(page.lacing) < 256 and sum(page.lacing) == len(page.body)
