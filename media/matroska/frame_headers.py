"""Codec configurations from frames, for codecs that have one in MP4 and none in Matroska."""

from __future__ import annotations

from media.errors import MalformedError
from media.mp4.codecs.bits import BitReader

AC3_SAMPLES = 1536
_EC3_BLOCKS = (1, 2, 3, 6)
_FLAC_CODED = {6: 1, 7: 2}
"""Bytes of a FLAC frame's block size in its header, by the block size code (RFC 9639 §9.1.1)."""

_VP9_LEVELS = (
    *((829440, 36864, 10), (2764800, 73728, 11), (4608000, 122880, 20), (9216000, 245760, 21)),
    *((20736000, 552960, 30), (36864000, 983040, 31), (83558400, 2228224, 40), (160432128, 2228224, 41)),
    *((311951360, 8912896, 50), (588251136, 8912896, 51), (1176502272, 8912896, 52)),
    *((1176502272, 35651584, 60), (2353004544, 35651584, 61), (4706009088, 35651584, 62)),
)
"""Most luma samples a second and in a picture, of each level of VP9 (VP9 Levels, "Level definitions")."""


def ac3_configuration(frame: bytes) -> bytes:
    """Write the payload of ``dac3`` (ETSI TS 102 366 §F.4) from a frame's header (§4.4.1).

    Raises:
        MalformedError: the bytes are no AC-3 frame.
    """
    bits = _synchronized(frame, "AC-3")
    bits.read(16)
    rate, size = bits.read(2), bits.read(6)
    identification, mode, channels = bits.read(5), bits.read(3), bits.read(3)
    if channels & 1 and channels != 1:
        bits.read(2)
    if channels & 4:
        bits.read(2)
    if channels == 2:
        bits.read(2)
    fields = ((rate, 2), (identification, 5), (mode, 3), (channels, 3), (bits.read(1), 1), (size >> 1, 5))
    return _packed(*fields, (0, 5))


def eac3_configuration(frame: bytes) -> tuple[bytes, int]:
    """Write the payload of ``dec3`` (ETSI TS 102 366 §F.6) from the headers of a block's frames (§E.1.2).

    Returns:
        The payload, and the samples of a block.

    Raises:
        MalformedError: the bytes are no E-AC-3 frame.
    """
    streams: list[list[int]] = []
    position = samples = 0
    while position < len(frame) and len(streams) <= 8:
        head = frame[position : position + 64]
        if head[:2] != b"\x0b\x77" and streams:
            break
        kind, size, one, location = _eac3_header(head)
        if kind == 1 and streams:
            streams[-1][4] += 1
            streams[-1][5] |= location
        elif kind != 1 and (
            not streams or one[5]
        ):  # another independent stream, not the same one's next frame
            streams.append([*one[:4], 0, 0])
        if kind != 1 and one[5] == 0:
            samples += one[4]
        position += size
    if not streams or not samples:
        raise MalformedError("a frame of E-AC-3 without an independent stream")
    seconds_rate = (48000, 44100, 32000, 48000)[streams[0][0]]
    kilobits = min(len(frame) * 8 * seconds_rate // (samples * 1000), (1 << 13) - 1)
    fields = [(kilobits, 13), (len(streams) - 1, 3)]
    for rate, identification, channels, low, dependent, location in streams:
        fields += [(rate, 2), (identification, 5), (0, 1), (0, 1), (0, 3), (channels, 3), (low, 1), (0, 3)]
        fields += [(dependent, 4), (location, 9) if dependent else (0, 1)]
    return _packed(*fields), samples


def _eac3_header(head: bytes) -> tuple[int, int, tuple[int, int, int, int, int, int], int]:
    """Read an E-AC-3 frame's type, size, facts and, of a dependent substream, the channel locations."""
    bits = _synchronized(head, "E-AC-3")
    kind, number, size = bits.read(2), bits.read(3), 2 * (bits.read(11) + 1)
    rate, blocks = bits.read(2), bits.read(2)
    samples = 256 * (6 if rate == 3 else _EC3_BLOCKS[blocks])
    channels, low, identification = bits.read(3), bits.read(1), bits.read(5)
    location = 0
    if kind == 1:
        for _ in range(1 if channels else 2):
            bits.read(5)
            bits.read(8 if bits.read(1) else 0)
        location = (bits.read(16) >> 5 & 0x1F) if bits.read(1) else 0
    return kind, size, (rate, identification, channels, low, samples, number), location


def _synchronized(frame: bytes, name: str) -> BitReader:
    if frame[:2] != b"\x0b\x77":
        raise MalformedError(f"a frame that isn't {name}")
    return BitReader(frame[2:66], name)


def vp9_configuration(
    frame: bytes, size: tuple[int, int], rate: float, colour: tuple[int, int, int]
) -> bytes:
    """Write the payload of ``vpcC`` ("VP Codec ISO Media File Format Binding") from a key frame (VP9 §6.2).

    Args:
        size: width and height in pixels.
        rate: frames per second; 0 where it isn't known.
        colour: primaries, transfer and matrix, as ITU-T H.273 numbers them.

    Raises:
        MalformedError: the frame is no VP9 key frame.
    """
    profile, depth, chroma, full, _ = _vp9_key_frame(frame)
    pixels = size[0] * size[1]
    fits = [level for speed, most, level in _VP9_LEVELS if pixels <= most and pixels * rate <= speed]
    level = fits[0] if fits else 62
    body = bytes((profile, level, depth << 4 | chroma << 1 | full, *colour, 0, 0))
    return b"\x01\0\0\0" + body


def vp9_size(frame: bytes) -> tuple[int, int]:
    """Read width and height in pixels from a key frame of VP9.

    Raises:
        MalformedError: the frame is no VP9 key frame.
    """
    bits = _vp9_key_frame(frame)[-1]
    return bits.read(16) + 1, bits.read(16) + 1


def _vp9_key_frame(frame: bytes) -> tuple[int, int, int, int, BitReader]:
    """Read a key frame's header (VP9 §6.2): profile, depth, chroma, range, and what is before its size."""
    bits = BitReader(frame[:16], "VP9")
    if bits.read(2) != 2:
        raise MalformedError("a frame that isn't VP9")
    profile = bits.read(1) | bits.read(1) << 1
    if profile == 3:
        bits.read(1)
    # show_existing_frame, frame_type (0 is a key frame), show_frame, error_resilient_mode, frame_sync_code
    if bits.read(2) or bits.read(2) > 3 or bits.read(24) != 0x498342:
        raise MalformedError("VP9 that doesn't begin with a key frame")
    depth = (12 if bits.read(1) else 10) if profile >= 2 else 8
    full, chroma = 0, 1
    if bits.read(3) != 7:
        full = bits.read(1)
        if profile & 1:
            horizontal, vertical = bits.read(1), bits.read(1)
            bits.read(1)
            chroma = 3 if not horizontal else 1 if vertical else 2
    else:
        full, chroma = 1, 3
        bits.read(profile & 1)
    return profile, depth, chroma, full, bits


def mp3_samples(frame: bytes) -> int:
    """Return the number of samples in an MP3 frame (ISO/IEC 11172-3 §2.4.2.3, 13818-3)."""
    if len(frame) < 4 or frame[0] != 0xFF or frame[1] & 0xE6 != 0xE2:
        raise MalformedError("a frame that isn't MP3")
    return 1152 if frame[1] & 0x18 == 0x18 else 576


def opus_samples(packet: bytes) -> int:
    """Return the number of samples at 48 kHz in a packet of Opus (RFC 6716 §3.1, §3.2)."""
    if not packet:
        raise MalformedError("a packet of Opus without a byte")
    configuration, code = packet[0] >> 3, packet[0] & 3
    if configuration < 12:
        length = (480, 960, 1920, 2880)[configuration & 3]
    elif configuration < 16:
        length = (480, 960)[configuration & 1]
    else:
        length = (120, 240, 480, 960)[configuration & 3]
    frames = (1, 2, 2, packet[1] & 0x3F if len(packet) > 1 else 0)[code]
    return length * frames


def flac_samples(frame: bytes) -> int:
    """Return the number of samples per channel in a frame of FLAC (RFC 9639 §9.1).

    Raises:
        MalformedError: the bytes are no FLAC frame.
    """
    if len(frame) < 5 or frame[0] != 0xFF or frame[1] & 0xFE != 0xF8:
        raise MalformedError("a frame that isn't FLAC")
    code = frame[2] >> 4
    if code == 0:
        raise MalformedError("a frame of FLAC of a reserved size")
    if code not in _FLAC_CODED:
        return 192 if code == 1 else 576 << code - 2 if code <= 5 else 256 << code - 8
    # §9.1.5: the number of the frame or sample comes first, coded like a character of UTF-8.
    ones = 8 - (frame[4] ^ 0xFF).bit_length()
    at, size = 4 + max(ones, 1), _FLAC_CODED[code]
    if ones == 1 or len(frame) < at + size:
        raise MalformedError("a frame of FLAC that is cut off")
    return int.from_bytes(frame[at : at + size], "big") + 1


def _packed(*fields: tuple[int, int]) -> bytes:
    value = length = 0
    for field, width in fields:
        value, length = value << width | field & (1 << width) - 1, length + width
    padding = -length % 8
    return (value << padding).to_bytes((length + padding) // 8, "big")
