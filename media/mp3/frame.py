"""Headers of MPEG audio frames: Layer III of MPEG-1, 2 and 2.5, and AAC in ADTS."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from media.errors import MalformedError, NeedMoreDataError, UnsupportedError
from media.mp4.codecs.audio_specific_config import SAMPLE_RATES

_BITRATES_1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_BITRATES_2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_LAYER_3_SAMPLE_RATES = (44100, 48000, 32000)


@dataclass(frozen=True, slots=True)
class FrameHeader:
    """A frame's header.

    Attributes:
        codec: ``mp3`` for Layer III, ``aac`` for ADTS.
        version: 1, 2 or 3 for MPEG-1, 2 or 2.5; ADTS: the profile field, 1 for AAC LC.
        sample_rate: in Hz; also the timescale of ``samples``. With SBR in ADTS that of the core.
        channels: 1 or 2; ADTS: the channel configuration.
        samples: per channel.
        size: bytes, header included.
        bitrate: in bit/s; 0 in ADTS, which has none.
    """

    codec: Literal["mp3", "aac"]
    version: int
    sample_rate: int
    channels: int
    samples: int
    size: int
    bitrate: int

    def continues(self, other: FrameHeader) -> bool:
        """Return whether two headers may belong to one stream, in which these fields never change."""
        return (
            self.sample_rate == other.sample_rate
            and self.version == other.version
            and self.codec == other.codec
        )


def parse_frame_header(data: bytes) -> FrameHeader:
    """Parse a frame's header.

    Args:
        data: from the start of the frame; 7 bytes are enough.

    Returns:
        The header (ISO/IEC 11172-3 §2.4.1.3, 13818-3 §2.4.2.3; ADTS: ISO/IEC 13818-7 §6.2).

    Raises:
        NeedMoreDataError: it is incomplete.
        MalformedError: no header begins here.
        UnsupportedError: Layer I or II, or free format.
    """
    if len(data) < 4:
        raise NeedMoreDataError("a frame header has at least 4 bytes")
    if data[0] != 0xFF or data[1] < 0xE0:
        raise MalformedError("no sync word")
    if data[1] & 0xF6 == 0xF0:
        return _adts_header(data)
    return _layer_header(int.from_bytes(data[:4], "big"))


@lru_cache(maxsize=1024)
def _layer_header(word: int) -> FrameHeader:
    version = {0: 3, 2: 2, 3: 1}.get(word >> 19 & 3, 0)
    layer = 4 - (word >> 17 & 3)
    bitrate_index, rate_index = word >> 12 & 15, word >> 10 & 3
    if not version or layer == 4 or bitrate_index == 15 or rate_index == 3 or word & 3 == 2:
        raise MalformedError("reserved value in a frame header")
    if layer != 3:
        raise UnsupportedError(f"MPEG audio Layer {'I' * layer}")
    if not bitrate_index:
        raise UnsupportedError("free format bitrate")
    bitrate = 1000 * (_BITRATES_1 if version == 1 else _BITRATES_2)[bitrate_index]
    sample_rate = _LAYER_3_SAMPLE_RATES[rate_index] >> version - 1
    samples = 1152 if version == 1 else 576
    return FrameHeader(
        codec="mp3",
        version=version,
        sample_rate=sample_rate,
        channels=1 if word >> 6 & 3 == 3 else 2,
        samples=samples,
        size=samples // 8 * bitrate // sample_rate + (word >> 9 & 1),
        bitrate=bitrate,
    )


def _adts_header(data: bytes) -> FrameHeader:
    if len(data) < 7:
        raise NeedMoreDataError("an ADTS header has at least 7 bytes")
    word = int.from_bytes(data[:7], "big")
    rate_index, size = word >> 34 & 15, word >> 13 & 0x1FFF
    if rate_index >= len(SAMPLE_RATES) or size <= (7 if data[1] & 1 else 9):
        raise MalformedError("reserved value in an ADTS header")
    return FrameHeader(
        codec="aac",
        version=word >> 38 & 3,
        sample_rate=SAMPLE_RATES[rate_index],
        channels=word >> 30 & 7,
        samples=1024 * ((word & 3) + 1),
        size=size,
        bitrate=0,
    )
