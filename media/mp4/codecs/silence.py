"""Frames of silence in the codecs of sound, written by the standards' syntax and not encoded."""

from __future__ import annotations

from dataclasses import dataclass

from media.errors import MediaError
from media.mp4.codecs.audio_specific_config import (
    PARAMETRIC_STEREO,
    SBR,
    core_frames,
    write_audio_specific_config,
)
from media.mp4.codecs.bits import BitReader
from media.mp4.codecs.sample_entry import SampleEntry, audio_decoder_configuration

AAC_LC = 2
"""The object type of AAC-LC (ISO/IEC 14496-3 table 1.17)."""

USUAL_RATE, USUAL_CHANNELS = 48_000, 2

USUAL_CONFIGURATION = write_audio_specific_config(AAC_LC, USUAL_RATE, USUAL_CHANNELS)
"""The configuration of silence where a stream's own sound isn't known."""

_SINGLE, _PAIR, _LOW, _END = 0, 1, 3, 7
"""Elements of a raw data block (table 4.85): one channel, two, low frequencies, and its end."""

_ELEMENTS = (
    (),
    (_SINGLE,),
    (_PAIR,),
    (_SINGLE, _PAIR),
    (_SINGLE, _PAIR, _SINGLE),
    (_SINGLE, _PAIR, _PAIR),
    (_SINGLE, _PAIR, _PAIR, _LOW),
    (_SINGLE, _PAIR, _PAIR, _PAIR, _LOW),
)
"""The elements of each channelConfiguration (table 1.19)."""

_OPUS_FRAME = 960
"""Samples of a frame of 20 ms at the rate of all Opus in MP4."""


@dataclass(frozen=True, slots=True)
class SilentFrame:
    """A frame of silence.

    Attributes:
        samples: how many samples of each channel it has.
        longest: how many a frame of the track's sound has at most.
        rate: of which a second has so many.
    """

    data: bytes
    samples: int
    longest: int
    rate: int


def silence_of(entry: SampleEntry) -> SilentFrame | None:
    """Return the frame of silence that continues a track; None for a codec of which none is known here."""
    try:
        if entry.kind == b"mp4a":
            return _aac(audio_decoder_configuration(entry))
    except MediaError:
        return None
    if entry.kind == b"Opus" and entry.channels in (1, 2):
        # RFC 6716 §3.1: 20 ms of CELT over the full band, one frame; its range coder says silence (§4.3).
        return SilentFrame(
            bytes((31 << 3 | (entry.channels == 2) << 2, 0xFF, 0xFE)), _OPUS_FRAME, 6 * _OPUS_FRAME, 48_000
        )
    return None


def _aac(configuration: bytes) -> SilentFrame | None:
    bits = BitReader(configuration, "AudioSpecificConfig")
    object_type = bits.read(5)
    if bits.read(4) == 15:
        bits.read(24)
    channels = bits.read(4)
    if object_type not in (AAC_LC, SBR, PARAMETRIC_STEREO) or not 0 < channels < len(_ELEMENTS):
        return None
    rate, samples = core_frames(configuration)
    return SilentFrame(_aac_frame(channels), samples, samples, rate) if rate else None


def _aac_frame(configuration: int) -> bytes:
    """Write a raw data block (§4.4.2.1) whose channels have no band with anything in it."""
    text, tags = "", dict[int, int]()
    information = f"{0:011b}"  # ics_info: a long window, and max_sfb 0
    channel = f"{0:08b}", f"{0:03b}"  # global_gain; no pulses, no noise shaping, no gain control
    for element in _ELEMENTS[configuration]:
        tag = tags[element] = tags.get(element, -1) + 1
        text += f"{element:03b}{tag:04b}"
        if element == _PAIR:
            # common_window, then ms_mask_present behind what both channels share
            text += "1" + information + "00" + "".join(channel) * 2
        else:
            text += channel[0] + information + channel[1]
    text += f"{_END:03b}"
    size = -(-len(text) // 8)
    return int(text.ljust(8 * size, "0"), 2).to_bytes(size, "big")
