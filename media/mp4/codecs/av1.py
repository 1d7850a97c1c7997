"""AV1's bitstream as far as MP4 needs it: OBUs in low-overhead format, and sequence headers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from media.errors import MalformedError
from media.mp4.codecs.bits import BitReader

SEQUENCE_HEADER, TEMPORAL_DELIMITER = 1, 2
FRAMES = (3, 6)
"""Types of OBUs (AV1 §6.2.2): of frames, a header alone and one with its tiles."""

MAX_OBUS = 64
"""Most OBUs that are searched."""

_MOST_HEADER_BYTES = 128
"""Most bytes of a sequence header that are read: 32 operating points take less."""

_SELECT = 2
"""SELECT_SCREEN_CONTENT_TOOLS (§3)."""


@dataclass(frozen=True, slots=True)
class Av1Sequence:
    """A parsed sequence header.

    Attributes:
        size: largest width and height of a frame in pixels.
        colour: primaries, transfer and matrix, as ITU-T H.273 numbers them; None where it doesn't say.
    """

    size: tuple[int, int]
    colour: tuple[int, int, int] | None


def obus(data: bytes, size: int | None = None) -> Iterator[tuple[int, int, int, int]]:
    """Yield type, offset, offset of the payload, and end of the first OBUs (§5.3).

    Args:
        data: OBUs one behind the other, or their beginning.
        size: bytes of all OBUs, if ``data`` is only their beginning; an OBU may end behind ``data``.

    Raises:
        MalformedError: one is cut off.
    """
    size = len(data) if size is None else size
    position = 0
    for _ in range(MAX_OBUS):
        if position >= len(data):
            return
        begin, first = position, data[position]
        position += 2 if first & 4 else 1
        end = size
        if first & 2:  # obu_has_size_field
            length, position = _leb128(data, position)
            end = position + length
        if first & 0x80 or end > size or position > end:
            raise MalformedError("AV1 whose OBUs are cut off")
        yield first >> 3 & 15, begin, position, end
        position = end


def _leb128(data: bytes, position: int) -> tuple[int, int]:
    """Read a number (§4.10.5); return its value and the offset behind it."""
    value = 0
    for index, byte in enumerate(data[position : position + 8]):
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return value, position + index + 1
    raise MalformedError("AV1 whose OBUs are cut off")


def without_delimiters(data: bytes) -> bytes:
    """Convert a temporal unit to an MP4 sample ("AV1 Codec ISO Media File Format Binding" §2.4).

    Raises:
        MalformedError: its first OBUs are cut off.
    """
    for kind, begin, _, _ in obus(data):
        if kind != TEMPORAL_DELIMITER:
            return data[begin:] if begin else data
    return b""


def begins_with_key_frame(data: bytes, size: int | None = None) -> bool:
    """Return whether the first frame of a temporal unit is a key frame that is shown (§5.9.2).

    Args:
        data: the unit, or the beginning of it; without a frame header the result is False.
        size: bytes of the whole unit, if ``data`` is only its beginning.

    Raises:
        MalformedError: its first OBUs are cut off.
    """
    found = ((payload, end) for kind, _, payload, end in obus(data, size) if kind in FRAMES)
    payload, end = next(found, (0, 0))
    # show_existing_frame 1 bit, frame_type 2 (0 is KEY_FRAME), show_frame 1
    return payload < min(end, len(data)) and data[payload] >> 4 == 1


def find_sequence(data: bytes) -> tuple[bytes, Av1Sequence] | None:
    """Find the first sequence header among OBUs; return its bytes and its parsed form, or None.

    Raises:
        MalformedError: an OBU is cut off, or the header is impossible.
    """
    for kind, begin, payload, end in obus(data):
        if kind == SEQUENCE_HEADER:
            found = _parse_sequence(data[payload : min(end, payload + _MOST_HEADER_BYTES)])
            return data[begin:end], found
    return None


def _parse_sequence(payload: bytes) -> Av1Sequence:
    """Read a sequence header (§5.5.1) up to its colours."""
    bits = BitReader(payload, "sequence header of AV1")
    profile, _still, reduced = bits.read(3), bits.read(1), bits.read(1)
    if reduced:
        bits.read(5)
    else:
        _skip_operating_points(bits)
    sizes = bits.read(4) + 1, bits.read(4) + 1
    size = bits.read(sizes[0]) + 1, bits.read(sizes[1]) + 1
    if not reduced and bits.read(1):  # frame_id_numbers_present_flag
        bits.read(4 + 3)
    bits.read(3)  # use_128x128_superblock, enable_filter_intra, enable_intra_edge_filter
    if not reduced:
        bits.read(4)
        order = bits.read(1)  # enable_order_hint
        bits.read(2 * order)
        tools = _SELECT if bits.read(1) else bits.read(1)
        if tools and not bits.read(1):
            bits.read(1)
        bits.read(3 * order)
    bits.read(3)  # enable_superres, enable_cdef, enable_restoration
    return Av1Sequence(size, _colour(bits, profile))


def _skip_operating_points(bits: BitReader) -> None:
    delay_bits = 0
    if bits.read(1):  # timing_info_present_flag
        bits.read(32 + 32)
        if bits.read(1):  # equal_picture_interval
            bits.golomb()
        if bits.read(1):  # decoder_model_info_present_flag
            delay_bits = bits.read(5) + 1
            bits.read(32 + 5 + 5)
    has_delays = bits.read(1)
    for _ in range(bits.read(5) + 1):
        bits.read(12)
        if bits.read(5) > 7:
            bits.read(1)
        if delay_bits and bits.read(1):
            bits.read(2 * delay_bits + 1)
        if has_delays and bits.read(1):
            bits.read(4)


def _colour(bits: BitReader, profile: int) -> tuple[int, int, int] | None:
    """Read the beginning of ``color_config`` (§5.5.2)."""
    high = bits.read(1)
    if profile == 2 and high:
        bits.read(1)
    if profile != 1:
        bits.read(1)  # mono_chrome
    return (bits.read(8), bits.read(8), bits.read(8)) if bits.read(1) else None
