"""Frames of silence in the codecs of sound: each can be decoded behind any other frame of its track."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from media.errors import MediaError
from media.mp4.codecs.audio_specific_config import (
    PARAMETRIC_STEREO,
    SAMPLE_RATES,
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

_SCE, _CPE, _LFE, _END = 0, 1, 3, 7
_ELEMENTS = {
    1: (_SCE,),
    2: (_CPE,),
    3: (_SCE, _CPE),
    4: (_SCE, _CPE, _SCE),
    5: (_SCE, _CPE, _CPE),
    6: (_SCE, _CPE, _CPE, _LFE),
    7: (_SCE, _CPE, _CPE, _CPE, _LFE),
}
"""Syntactic elements of each channelConfiguration (ISO/IEC 14496-3 table 1.19)."""

_CHANNEL_BITS = 22
"""Bits of an individual channel stream without scale factor bands (§4.4.2.7): all are 0."""

_OBJECT_TYPES = (AAC_LC, SBR, PARAMETRIC_STEREO)
"""AAC-LC, and the object types whose core it is; without their extension decoders only double the rate."""

_MP3_SAMPLES = {1: 1152, 2: 576, 3: 576}
_MP3_RATES = (44100, 48000, 32000)


_OPUS_RATE = 48_000
_OPUS_SAMPLES, _OPUS_LONGEST = 960, 5760
"""Samples of 20 ms, and of the longest packet, 120 ms (RFC 6716 §3.2.5)."""

AC3_KILOBITS = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640)
"""Rates of AC-3 (ETSI TS 102 366 table 4.13), each by two values of frmsizecod."""

AC3_RATES = (48_000, 44_100, 32_000)
AC3_CHANNELS = (2, 1, 2, 3, 3, 4, 4, 5)
"""Full-bandwidth channels by acmod (table 4.3)."""

_AC3_SAMPLES = 1536
_AC3_SAME = 2 * 25 + 2 * 5 + 2
"""Three exponents that don't differ from the ones before (§6.1.2)."""


@dataclass(frozen=True, slots=True)
class SilentFrame:
    """A frame of silence.

    Attributes:
        samples: how many samples of each channel it has.
        rate: of which a second has so many.
        longest: how many samples a frame of the track's sound has at most.
    """

    data: bytes
    samples: int
    rate: int
    longest: int

    @property
    def seconds(self) -> Fraction:
        """How long it lasts."""
        return Fraction(self.samples, self.rate)


def silent_frame(entry: SampleEntry) -> SilentFrame | None:
    """Return a frame of silence for the tracks of a sample entry; None where none is known for the codec."""
    try:
        if entry.codec.startswith("mp4a.40."):
            return _aac(audio_decoder_configuration(entry))
        if entry.codec in ("mp4a.6B", "mp4a.69"):
            return _mp3(entry.sample_rate, entry.channels)
        if entry.kind == b"Opus":
            return _opus(entry.payload(b"dOps"))
        if entry.kind == b"ac-3":
            return _ac3(entry.payload(b"dac3"))
        if entry.kind == b"ec-3":
            return _enhanced_ac3(entry.payload(b"dec3"))
        if entry.kind == b"fLaC":
            return _flac(entry.payload(b"dfLa"))
    except MediaError:
        pass
    return None


def _aac(configuration: bytes) -> SilentFrame | None:
    """Write a raw data block (§4.4.2.1) whose channels have no spectrum."""
    bits = BitReader(configuration, "AudioSpecificConfig")
    object_type, rate_index = bits.read(5), bits.read(4)
    if rate_index == 15:
        bits.read(24)
    elements = _ELEMENTS.get(bits.read(4))
    rate, samples = core_frames(configuration)
    if object_type not in _OBJECT_TYPES or elements is None or rate not in SAMPLE_RATES:
        return None
    written, tags = "", dict.fromkeys(elements, 0)
    for element in elements:
        # §4.5.2.1: an instance tag of its own for each element of a kind
        written += f"{element:03b}{tags[element]:04b}"
        tags[element] += 1
        # common_window is 0: each channel has an ics_info of its own
        written += "0" + "0" * 2 * _CHANNEL_BITS if element == _CPE else "0" * _CHANNEL_BITS
    return SilentFrame(_bytes_of(f"{written}{_END:03b}"), samples, rate, samples)


def _bytes_of(bits: str) -> bytes:
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


def _mp3(rate: int, channels: int) -> SilentFrame | None:
    """Write a frame of Layer III (ISO/IEC 11172-3 §2.4.1) whose granules have no bits of main data."""
    version = next((number for number in _MP3_SAMPLES if (rate << number - 1) in _MP3_RATES), None)
    if version is None or channels not in (1, 2):
        return None
    # The lowest bit rate whose frame has room for the side information: 32 kbit/s of MPEG-1, else 16
    index, bitrate = (1, 32_000) if version == 1 else (2, 16_000)
    word = 0x7FF << 21 | {1: 3, 2: 2, 3: 0}[version] << 19 | 1 << 17 | 1 << 16 | index << 12
    word |= _MP3_RATES.index(rate << version - 1) << 10 | (3 if channels == 1 else 0) << 6
    samples = _MP3_SAMPLES[version]
    frame = word.to_bytes(4, "big").ljust(samples // 8 * bitrate // rate, b"\0")
    return SilentFrame(frame, samples, rate, samples)


def _opus(configuration: bytes) -> SilentFrame | None:
    """Write a packet of one CELT frame of 20 ms (RFC 6716 §3.1), for up to two channels (RFC 7845 §5.1.1)."""
    if len(configuration) < 11 or configuration[10] != 0:
        return None
    # Table 2: configuration 31 is CELT, full band, 20 ms. The frame's silence flag is set (§4.3).
    frame = bytes((31 << 3 | (configuration[1] == 2) << 2, 0xFF, 0xFE))
    return SilentFrame(frame, _OPUS_SAMPLES, _OPUS_RATE, _OPUS_LONGEST)


def _ac3(configuration: bytes) -> SilentFrame | None:
    """Write a frame of AC-3 (ETSI TS 102 366 §4.3, §4.4) all of whose bits are given to no mantissa.

    Args:
        configuration: the payload of ``dac3`` (§F.4), whose rate the frame has.
    """
    bits = BitReader(configuration, "dac3")
    rate_code, stream, mode, acmod = bits.read(2), bits.read(5), bits.read(3), bits.read(3)
    has_lfe, kilobits_code = bits.read(1), bits.read(5)
    if rate_code == 3 or stream > 8 or kilobits_code >= len(AC3_KILOBITS):
        return None
    rate, channels = AC3_RATES[rate_code], AC3_CHANNELS[acmod]
    size = 2 * (AC3_KILOBITS[kilobits_code] * 1000 * _AC3_SAMPLES // (16 * rate))
    # §4.4.2: levels of the mixes where there are any, and no options
    head = f"{rate_code:02b}{2 * kilobits_code:06b}{stream:05b}{mode:03b}{acmod:03b}"
    head += "00" * ((acmod & 1 and acmod != 1) + (acmod & 4 == 4) + (acmod == 2)) + f"{has_lfe}11111" + "000"
    head += "11111000" * (acmod == 0) + "00000"
    blocks = ""
    for number in range(6):
        # §4.4.3: long transforms, no dither, no dynamic range, which is said for both of two mono channels
        blocks += "00" * channels + "0" * (1 + (acmod == 0))
        # No coupling, and no matrixing of two channels; later blocks go on with it.
        blocks += ("10" if number == 0 else "0") + ("10000" if number == 0 else "0") * (acmod == 2)
        # Exponents of the strategy D45 over the smallest bandwidth, all alike; later blocks use them again.
        blocks += ("11" if number == 0 else "00") * channels + str(int(number == 0)) * has_lfe
        if number == 0:
            same = f"{_AC3_SAME:07b}"
            blocks += (
                "000000" * channels + ("1111" + 6 * same + "00") * channels + ("1111" + 2 * same) * has_lfe
            )
        # §6.2.2.4: where all offsets of the signal-to-noise ratio are 0, no mantissa has a bit.
        blocks += ("1" + "0" * 11 + "1" + "0" * 6 + "0" * 7 * (channels + has_lfe)) if number == 0 else "00"
        blocks += "00"
    written = b"\x0b\x77\0\0" + _bytes_of(head + blocks)
    if len(written) + 2 > size:
        return None
    frame = bytearray(written.ljust(size, b"\0"))
    # §6.1.6: both sums over their parts of the frame are 0, of which the first has its word in front.
    words = size // 2
    part = 2 * ((words >> 1) + (words >> 3))
    state = _crc(frame[4:part], 16, 0x8005)
    for _ in range(8 * (part - 2)):
        state = (state ^ 0x8005) >> 1 | 0x8000 if state & 1 else state >> 1
    frame[2:4] = state.to_bytes(2, "big")
    frame[-2:] = _crc(frame[2:-2], 16, 0x8005).to_bytes(2, "big")
    return SilentFrame(bytes(frame), _AC3_SAMPLES, rate, _AC3_SAMPLES)


def _enhanced_ac3(configuration: bytes) -> SilentFrame | None:
    """Write a frame of E-AC-3 (ETSI TS 102 366 §E.1.2) all of whose bits are given to no mantissa.

    Args:
        configuration: the payload of ``dec3`` (§F.6), of a programme without dependent substreams.
    """
    bits = BitReader(configuration, "dec3")
    kilobits, programmes = bits.read(13), bits.read(3) + 1
    rate_code, _, acmod, has_lfe = bits.read(2), bits.read(10), bits.read(3), bits.read(1)
    if rate_code == 3 or programmes > 1 or bits.read(3 + 4) & 15:
        return None
    rate, channels = AC3_RATES[rate_code], AC3_CHANNELS[acmod]
    # §E.1.2.2: six blocks, bsid 16, the usual level of dialogue, and no options
    head = f"{rate_code:02b}11{acmod:03b}{has_lfe}" + "10000" + "111110" * (1 + (acmod == 0)) + "000"
    # §E.1.2.3: a strategy of exponents for each block, no hybrid transform, levels of noise for the frame,
    # dither for each block, and nothing else; with more than two channels no block is coupled.
    head += "10" + "00" + "0" + "0" + "1" + "00000"
    head += "0" * 6 * (acmod > 1)
    head += "11" * channels + "00" * 5 * channels + ("1" + "0" * 5) * has_lfe
    # How a converter to AC-3 keeps the exponents, offsets of the signal-to-noise ratio of 0, and no index of
    # blocks.
    head += "00000" * channels + "0" * 10 + "0"
    blocks = ""
    for number in range(6):
        # §E.1.2.4: no dither, no dynamic range, no spectral extension, which later blocks go on with
        blocks += "0" * channels + "0" * (1 + (acmod == 0)) + "0"
        # No matrixing of two channels.
        blocks += ("0" * 4 if number == 0 else "0") * (acmod == 2)
        if number == 0:
            same = f"{_AC3_SAME:07b}"
            blocks += (
                "000000" * channels + ("1111" + 6 * same + "00") * channels + ("1111" + 2 * same) * has_lfe
            )
        # No offset for a converter.
        blocks += "0"
    body = _bytes_of(head + blocks)
    words = min(max(kilobits * 1000 * _AC3_SAMPLES // (16 * rate), (len(body) + 9) // 2), 2048)
    # strmtyp 0, substreamid 0, frmsiz
    frame = bytearray((b"\x0b\x77" + (words - 1).to_bytes(2, "big") + body).ljust(2 * words, b"\0"))
    frame[-2:] = _crc(frame[2:-2], 16, 0x8005).to_bytes(2, "big")
    return SilentFrame(bytes(frame), _AC3_SAMPLES, rate, _AC3_SAMPLES)


def _flac(configuration: bytes) -> SilentFrame | None:
    """Write a frame of constant subframes (RFC 9639 §9.2.3)."""
    # Behind version, flags and the header of the metadata block (§8.2): STREAMINFO
    info = configuration[8:42]
    if len(info) < 34:
        return None
    size, packed = int.from_bytes(info[2:4], "big"), int.from_bytes(info[10:18], "big")
    rate, channels, depth = packed >> 44, (packed >> 41 & 7) + 1, (packed >> 36 & 31) + 1
    if not rate or not size:
        return None
    # §9.1: fixed blocks, a size of 16 bits behind the frame's number 0, rate and depth of STREAMINFO
    head = bytes((0xFF, 0xF8, 0x70, channels - 1 << 4, 0)) + (size - 1).to_bytes(2, "big")
    head += bytes((_crc(head, 8, 0x07),))
    body = head + _bytes_of(("0" * (8 + depth)) * channels)
    return SilentFrame(body + _crc(body, 16, 0x8005).to_bytes(2, "big"), size, rate, size)


def _crc(data: bytes | bytearray, width: int, polynomial: int) -> int:
    """Compute a CRC of a few bytes, of FLAC (RFC 9639 §9.1.8, §9.3) or AC-3 (ETSI TS 102 366 §6.1.6)."""
    found, top = 0, 1 << width - 1
    for byte in data:
        found ^= byte << width - 8
        for _ in range(8):
            found = (found << 1 ^ (polynomial if found & top else 0)) & (1 << width) - 1
    return found
