"""MPEG-4's AudioSpecificConfig (ISO/IEC 14496-3 §1.6.2): the kind of AAC, its rate and its channels."""

from __future__ import annotations

from dataclasses import dataclass

from media.errors import MalformedError, UnsupportedError
from media.mp4.codecs.bits import BitReader

SBR = 5
PARAMETRIC_STEREO = 29

SAMPLE_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)
"""Hz by samplingFrequencyIndex (table 1.18)."""

_CHANNELS = (0, 1, 2, 3, 4, 5, 6, 8, 0, 0, 0, 7, 8, 0, 8, 0)
"""Channels of each channelConfiguration (table 1.19); 0 where it doesn't say."""

_GENERAL_AUDIO = frozenset((1, 2, 3, 4, 6, 7, 17, 19, 20, 21, 22, 23))
"""Object types whose configuration is a GASpecificConfig (§1.6.2.1); the extension is searched only behind
these, as the lengths of others aren't known here."""

_PLAIN = frozenset((1, 2, 3, 4))
"""Object types of AAC without layers: main, low complexity, scalable sampling rate, long-term prediction."""

_SYNC_EXTENSION = 0x2B7
_PARAMETRIC_STEREO_EXTENSION = 0x548
_SCALABLE = (6, 20)
_ERROR_RESILIENT = (17, 19, 20, 23)


@dataclass(frozen=True, slots=True)
class AudioSpecificConfig:
    """An AAC stream's AudioSpecificConfig, with which a decoder is set up.

    Attributes:
        object_type: 2 for AAC-LC, 5 for HE-AAC, 29 for HE-AAC version 2.
        sample_rate: Hz of the decoder's output, spectral band replication included; 0 if unknown.
        channels: of the decoder's output; 0 if unknown.
    """

    object_type: int
    sample_rate: int = 0
    channels: int = 0


def _object_type(bits: BitReader) -> int:
    found = bits.read(5)
    return 32 + bits.read(6) if found == 31 else found  # escape: six more bits


def _rate(bits: BitReader) -> int:
    index = bits.read(4)
    if index == 15:  # the rate follows in 24 bits
        return bits.read(24)
    return SAMPLE_RATES[index] if index < len(SAMPLE_RATES) else 0


def audio_specific_config(data: bytes) -> AudioSpecificConfig:
    """Read an AudioSpecificConfig.

    HE-AAC is signalled in front, by the object type 5 or 29, or behind, in a sync extension that decoders of
    AAC-LC ignore (§1.6.5). Implicit signalling, by the frames alone, isn't found.

    Raises:
        MalformedError: it has no object type.
    """
    if len(data) < 2:
        raise MalformedError(f"AudioSpecificConfig of {len(data)} bytes is cut off")
    bits = BitReader(data, "AudioSpecificConfig")
    object_type = _object_type(bits)
    try:
        rate, configuration = _rate(bits), bits.read(4)
        channels = _CHANNELS[configuration]
        if object_type in (SBR, PARAMETRIC_STEREO):
            rate = _rate(bits)
        elif object_type in _GENERAL_AUDIO:
            object_type, rate = _extension(bits, object_type, rate, configuration)
    except MalformedError:
        return AudioSpecificConfig(object_type)
    if object_type == PARAMETRIC_STEREO and channels == 1:  # parametric stereo makes two channels of one
        channels = 2
    return AudioSpecificConfig(object_type, rate, channels)


def write_audio_specific_config(object_type: int, rate: int, channels: int) -> bytes:
    """Write an AudioSpecificConfig without extensions.

    Args:
        object_type: below 31.
        rate: one of ``SAMPLE_RATES``.
    """
    return (object_type << 11 | SAMPLE_RATES.index(rate) << 7 | channels << 3).to_bytes(2, "big")


def general_audio_config(bits: BitReader) -> int:
    """Read an AudioSpecificConfig that other fields follow; return its bits.

    Raises:
        MalformedError: it is cut off.
        UnsupportedError: its length isn't known here: it is of another coding, or describes its channels.
    """
    begin = bits.left
    object_type, _, channels = _object_type(bits), _rate(bits), bits.read(4)
    if object_type in (SBR, PARAMETRIC_STEREO):
        _rate(bits)
        object_type = _object_type(bits)
    if object_type not in _PLAIN:
        raise UnsupportedError(f"MPEG-4 audio of the object type {object_type}")
    if not channels:
        raise UnsupportedError("AAC with its channels in a program configuration element")
    # §4.4.1: frameLengthFlag, dependsOnCoreCoder, extensionFlag
    bits.read(1)
    if bits.read(1):
        bits.read(14)
    if bits.read(1):
        bits.read(1)
    return begin - bits.left


def core_frames(data: bytes) -> tuple[int, int]:
    """Read the sample rate of AAC's core, 0 if unknown, and the number of samples in each of its frames.

    Raises:
        MalformedError: it is cut off.
    """
    bits = BitReader(data, "AudioSpecificConfig")
    object_type, rate = _object_type(bits), _rate(bits)
    bits.read(4)
    if object_type in (SBR, PARAMETRIC_STEREO):
        _rate(bits)
        _object_type(bits)
    return rate, 960 if bits.left and bits.read(1) else 1024  # §4.4.1: frameLengthFlag


def _extension(bits: BitReader, object_type: int, rate: int, configuration: int) -> tuple[int, int]:
    """Read the sync extension behind a GASpecificConfig; return object type and rate of the output."""
    core = object_type, rate
    try:
        bits.read(1)  # §4.4.1: frameLengthFlag
        if bits.read(1):  # dependsOnCoreCoder
            bits.read(14)
        extended = bits.read(1)
        if configuration == 0:  # a program configuration element of any length follows
            return core
        bits.read(3 if object_type in _SCALABLE else 0)
        if extended:
            bits.read(16 if object_type == 22 else 0)
            bits.read(3 if object_type in _ERROR_RESILIENT else 0)
            bits.read(1)
        if object_type in _ERROR_RESILIENT:  # epConfig, and what its values bring
            return core
        if bits.read(11) == _SYNC_EXTENSION and _object_type(bits) == SBR and bits.read(1):
            core = SBR, _rate(bits)
            if bits.read(11) == _PARAMETRIC_STEREO_EXTENSION and bits.read(1):
                core = PARAMETRIC_STEREO, core[1]
    except MalformedError:
        pass
    return core
