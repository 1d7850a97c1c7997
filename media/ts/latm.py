"""Frames of AAC in LOAS and LATM, as DVB broadcasts have them (ISO/IEC 14496-3 §1.7)."""

from __future__ import annotations

from dataclasses import dataclass

from media.errors import MalformedError, UnsupportedError
from media.mp4.codecs.audio_specific_config import general_audio_config
from media.mp4.codecs.bits import BitReader

SYNC_WORD = 0x2B7

HEADER_BYTES = 64
"""Bytes that always hold a frame's header, where it has a configuration that is supported, too."""

_SHORTEST = 3


@dataclass(frozen=True, slots=True)
class LatmFrame:
    """The header of a frame.

    Attributes:
        size: bytes of the frame.
        begin: offset in bits of the AAC frame in it, which mostly doesn't begin with a whole byte.
        length: bytes of the AAC frame.
        config: its AudioSpecificConfig; None where the one before is in force.
    """

    size: int
    begin: int
    length: int
    config: bytes | None = None


def read_latm_frame(data: bytes) -> LatmFrame:
    """Read the header of a frame, an AudioSyncStream with one frame of one layer (§1.7.2, §1.7.3).

    Args:
        data: the frame's first ``HEADER_BYTES``, or less where the frame's rest hasn't come.

    Raises:
        MalformedError: the bytes are no frame.
        UnsupportedError: it has several programs, layers or frames, or another payload than AAC.
    """
    bits = BitReader(data, "LATM")
    if bits.read(11) != SYNC_WORD:
        raise MalformedError("no frame of LATM")
    size = _SHORTEST + bits.read(13)
    if len(data) < min(size, HEADER_BYTES):
        return LatmFrame(size, 8 * _SHORTEST, 0)
    whole = bits.left
    config = None if bits.read(1) else _stream_mux_config(bits, data)
    # §1.7.3.1, table 1.44 PayloadLengthInfo()
    length = step = bits.read(8)
    while step == 0xFF:
        step = bits.read(8)
        length += step
    begin = 8 * _SHORTEST + whole - bits.left
    if not length or begin + 8 * length > 8 * size:
        raise MalformedError(f"an AAC frame of {length} bytes in a LATM frame of {size}")
    return LatmFrame(size, begin, length, config)


def shifted(data: bytes, shift: int, length: int) -> bytes:
    """Return the bytes that begin with a bit of the first one."""
    if not shift:
        return data[:length]
    value = int.from_bytes(data[: length + 1].ljust(length + 1, b"\0"), "big")
    return (value >> (8 - shift) & (1 << 8 * length) - 1).to_bytes(length, "big")


def _stream_mux_config(bits: BitReader, data: bytes) -> bytes:
    """Read StreamMuxConfig() (table 1.42); return the AudioSpecificConfig."""
    version = bits.read(1)
    if version and bits.read(1):
        raise UnsupportedError("LATM of a later version")
    if version:
        _value(bits)  # taraBufferFullness
    # allStreamsSameTimeFraming, numSubFrames, numProgram, numLayer
    if not bits.read(1) or bits.read(6) or bits.read(4) or bits.read(3):
        raise UnsupportedError("LATM with several programs, layers or frames together")
    told = _value(bits) if version else None
    begin = 8 * len(data) - bits.left
    used = general_audio_config(bits)
    if told is not None:
        if told < used:
            raise MalformedError("an AudioSpecificConfig that is longer than LATM says")
        bits.read(told - used)
        used = told
    if bits.read(3):  # frameLengthType
        raise UnsupportedError("LATM with frames of a fixed length")
    bits.read(8)  # latmBufferFullness
    if bits.read(1):  # otherDataPresent
        if version:
            _value(bits)
        else:
            while bits.read(1):
                bits.read(8)
            bits.read(8)
    if bits.read(1):  # crcCheckPresent
        bits.read(8)
    value = int.from_bytes(data, "big") >> 8 * len(data) - begin - used & (1 << used) - 1
    size = -(-used // 8)
    return (value << 8 * size - used).to_bytes(size, "big")


def _value(bits: BitReader) -> int:
    """Read LatmGetValue() (table 1.43)."""
    return bits.read(8 * (bits.read(2) + 1))
