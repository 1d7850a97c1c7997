"""MP4 sample entries that ffmpeg decodes, for Matroska tracks whose codecs aren't packaged in MP4.

ffmpeg looks up types of QuickTime's, FourCCs of AVI and format tags of WAVE in sample entries, and takes a
decoder's configuration from boxes of its own (``glbl``, ``wfex``) where the codec has no box in MP4.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import replace

from media.errors import MalformedError, MediaError, UnsupportedError
from media.matroska.sample_entries import CodecFacts, codec_facts, sound_sample_entry, visual_sample_entry
from media.matroska.tracks import MatroskaTrack
from media.matroska.wavpack_frames import frame_samples as wavpack_samples
from media.mp4.boxes import box
from media.mp4.codecs.decodable_entry import WAVPACK_ENTRY, codec_of_fourcc
from media.mp4.codecs.esds import elementary_stream_box

MPEG4_VIDEO, MPEG2_VIDEO, MPEG1_VIDEO, VORBIS = 0x20, 0x61, 0x6A, 0xDD
"""Object types (registration authority for MP4)."""

PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE
"""Format tags of WAVE (RFC 2361)."""

WAVE_NAMES: Mapping[int, str] = {
    PCM: "PCM",
    FLOAT: "PCM",
    0x02: "ADPCM",
    0x06: "PCM of A-law",
    0x07: "PCM of mu-law",
    0x11: "ADPCM",
    0x50: "MPEG audio layer II",
    0x55: "MP3",
    0xFF: "AAC",
    0x160: "Windows Media Audio",
    0x161: "Windows Media Audio",
    0x162: "Windows Media Audio Professional",
    0x163: "Windows Media Audio Lossless",
    0x2000: "AC-3",
    0x2001: "DTS",
}
"""Names of codecs by format tag."""

QUICKTIME_NAMES: Mapping[bytes, str] = {
    b"nmos": "Nellymoser",
    b"spex": "Speex",
    b"msSF": "ADPCM of Flash",
    b"alaw": "PCM of A-law",
    b"ulaw": "PCM of mu-law",
}
"""Names of codecs by the type of QuickTime's sound description; all are of FLV, too."""

WAVPACK = "A_WAVPACK4"
"""The codec ID of WavPack."""

BITMAP_HEADER = 40
"""Bytes of a BITMAPINFOHEADER, behind which a decoder's configuration is."""

PRORES_HEADER = b"\0\0\0\0icpf"
"""The frame header that Matroska leaves out; decoders don't read the size in its first half."""


def decodable_facts(track: MatroskaTrack, frame: bytes) -> CodecFacts:
    """Write a sample entry of a track that ffmpeg decodes.

    Args:
        frame: the first frame, or its beginning.

    Raises:
        UnsupportedError: no sample entry carries the codec, or its frames are encrypted or compressed.
        MalformedError: its configuration is missing or impossible.
    """
    write = _CODECS.get(track.codec)
    if write is None or track.encrypted or track.compression is not None:
        raise UnsupportedError(f"codec {track.codec} isn't one that is decoded")
    return write(track, frame)


def facts_or_obstacle(track: MatroskaTrack, frame: bytes, frames_per_second: float) -> tuple[CodecFacts, str]:
    """Return a track's sample entry, and why the track can't be packaged if only a decoder reads it.

    Args:
        frame: the first frame, or its beginning.
        frames_per_second: of video; 0 if unknown.

    Raises:
        UnsupportedError: no sample entry carries the codec, or its frames are encrypted or compressed.
        MalformedError: its configuration is missing or impossible.
    """
    try:
        return codec_facts(track, frame, frames_per_second), ""
    except UnsupportedError as error:
        try:
            facts = decodable_facts(track, frame)
        except MediaError:
            raise error from None
        named = f"codec {facts.name} isn't one that can be packaged"
        return facts, named if facts.name else str(error)


def _configuration(private: bytes) -> bytes:
    """Write the box from which ffmpeg takes a decoder's configuration as it is."""
    return box(b"glbl", private) if private else b""


def _elementary(object_type: int) -> Callable[[MatroskaTrack, bytes], CodecFacts]:
    def write(track: MatroskaTrack, _frame: bytes) -> CodecFacts:
        esds = elementary_stream_box(object_type, track.private)
        return CodecFacts(visual_sample_entry(track, b"mp4v", esds), reordered=True)

    return write


def _picture(kind: bytes) -> Callable[[MatroskaTrack, bytes], CodecFacts]:
    def write(track: MatroskaTrack, _frame: bytes) -> CodecFacts:
        return CodecFacts(visual_sample_entry(track, kind, _configuration(track.private)))

    return write


def _prores(track: MatroskaTrack, _frame: bytes) -> CodecFacts:
    if len(track.private) < 4:
        raise MalformedError("ProRes without its FourCC")
    return CodecFacts(visual_sample_entry(track, track.private[:4], b""))


def _bitmap(track: MatroskaTrack, _frame: bytes) -> CodecFacts:
    """Write the entry of video that AVI's BITMAPINFOHEADER describes."""
    fourcc = track.private[16:20]
    name = codec_of_fourcc(fourcc)
    if name is None:
        raise UnsupportedError(f"video of FourCC {fourcc.decode('latin-1')!r} isn't decoded")
    extra = _configuration(track.private[BITMAP_HEADER:])
    entry = visual_sample_entry(track, fourcc, extra)
    return CodecFacts(entry, reordered=True, name=f"{name} ({fourcc.decode('latin-1')})")


def _dts(track: MatroskaTrack, frame: bytes) -> CodecFacts:
    rate = round(track.sample_rate)
    samples = 0
    if frame[:4] == b"\x7f\xfe\x80\x01" and len(frame) >= 8:  # ETSI TS 102 114 §5.4.1: the core's header
        samples = 32 * (((frame[4] & 1) << 6 | frame[5] >> 2) + 1)
    return CodecFacts(sound_sample_entry(track, b"dtsc", b"", rate), rate, samples)


def _truehd(track: MatroskaTrack, frame: bytes) -> CodecFacts:
    rate = round(track.sample_rate)
    # The major sync has the rate in four bits: 40 samples at 48 kHz and 44.1 kHz, and so on upwards.
    samples = 40 << (frame[8] >> 4 & 7) if len(frame) > 8 and frame[4:7] == b"\xf8\x72\x6f" else 0
    return CodecFacts(sound_sample_entry(track, b"mlpa", b"", rate), rate, samples)


def _mpeg_audio(track: MatroskaTrack, frame: bytes) -> CodecFacts:
    """Write the entry of MPEG audio of layers I and II (ISO/IEC 11172-3 §2.4.2.3)."""
    rate = round(track.sample_rate)
    if len(frame) < 4 or frame[0] != 0xFF or frame[1] & 0xE0 != 0xE0:
        raise MalformedError("a frame that isn't MPEG audio")
    samples = {3: 384, 2: 1152}.get(frame[1] >> 1 & 3, 0)
    return CodecFacts(sound_sample_entry(track, b"ms\0\x50", b"", rate), rate, samples)


def _vorbis(track: MatroskaTrack, _frame: bytes) -> CodecFacts:
    rate = round(track.sample_rate)
    esds = elementary_stream_box(VORBIS, track.private)
    return CodecFacts(sound_sample_entry(track, b"mp4a", esds, rate), rate)


def _pcm(*, is_big: bool = False, is_float: bool = False) -> Callable[[MatroskaTrack, bytes], CodecFacts]:
    def write(track: MatroskaTrack, frame: bytes) -> CodecFacts:
        flags = is_float << 0 | is_big << 1 | (not is_float and track.bit_depth > 8) << 2
        return uncompressed(track, frame, flags)

    return write


def uncompressed(track: MatroskaTrack, frame: bytes, flags: int) -> CodecFacts:
    """Write the entry of PCM (QuickTime File Format, "Sound sample description (version 2)").

    Args:
        flags: 1 for floating point, 2 for big-endian, 4 for signed integers.
    """
    rate, channels, bits = round(track.sample_rate), track.channels, track.bit_depth
    if bits not in (8, 16, 24, 32, 64) or not 0 < channels < 256:
        raise UnsupportedError(f"uncompressed sound of {bits} bits")
    each = channels * bits // 8
    fixed = struct.pack(">6xHH6xHHhHI", 1, 2, 3, 16, -2, 0, 1 << 16)
    fixed += struct.pack(">IdIIIIII", 72, rate, channels, 0x7F00_0000, bits, flags, each, 1)
    return CodecFacts(box(b"lpcm", fixed), rate, len(frame) // each)


def _wave(track: MatroskaTrack, frame: bytes) -> CodecFacts:
    """Write the entry of sound that a WAVEFORMATEX describes."""
    if len(track.private) < 16:
        raise MalformedError("sound without its WAVEFORMATEX")
    tag, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", track.private)
    if tag == EXTENSIBLE and len(track.private) >= 26:
        (tag,) = struct.unpack_from("<H", track.private, 24)
    if not 0 < rate < 1 << 24 or not channels:
        raise MalformedError(f"sound of {rate} Hz with {channels} channels")
    described = MatroskaTrack(
        track.number, track.kind, track.codec, sample_rate=rate, channels=channels, bit_depth=bits
    )
    name = f"{WAVE_NAMES.get(tag, 'sound')} (format {tag:#06x})"
    if tag in (PCM, FLOAT):
        facts = uncompressed(described, frame, 1 if tag == FLOAT else 4 * (bits > 8))
        return replace(facts, name=name)
    entry = sound_sample_entry(described, b"ms" + struct.pack(">H", tag), box(b"wfex", track.private), rate)
    return CodecFacts(entry, rate, frame_samples(tag, frame), name=name)


def _quicktime(track: MatroskaTrack, _frame: bytes) -> CodecFacts:
    """Write the entry of sound that QuickTime's sound description names by its type."""
    kind, rate = track.private[4:8], round(track.sample_rate)
    if kind not in QUICKTIME_NAMES:
        raise UnsupportedError(f"sound of QuickTime's type {kind.decode('latin-1')!r} isn't decoded")
    return CodecFacts(sound_sample_entry(track, kind, b"", rate), rate, name=QUICKTIME_NAMES[kind])


def _wavpack(track: MatroskaTrack, frame: bytes) -> CodecFacts:
    if track.stripped:
        raise UnsupportedError("frames of WavPack that lack their first bytes")
    rate = round(track.sample_rate)
    return CodecFacts(sound_sample_entry(track, WAVPACK_ENTRY, b"", rate), rate, wavpack_samples(frame))


def frame_samples(tag: int, frame: bytes) -> int:
    """Return the number of samples in a frame of a coding with a format tag of WAVE; 0 if unknown."""
    if tag in (0x50, 0x55) and len(frame) >= 4 and frame[0] == 0xFF:
        layer, is_first = 4 - (frame[1] >> 1 & 3), frame[1] & 0x18 == 0x18
        return {1: 384, 2: 1152, 3: 1152 if is_first else 576}.get(layer, 0)
    return 1536 if tag == 0x2000 else 0


_CODECS: dict[str, Callable[[MatroskaTrack, bytes], CodecFacts]] = {
    "V_MPEG1": _elementary(MPEG1_VIDEO),
    "V_MPEG2": _elementary(MPEG2_VIDEO),
    "V_MPEG4/ISO/SP": _elementary(MPEG4_VIDEO),
    "V_MPEG4/ISO/ASP": _elementary(MPEG4_VIDEO),
    "V_MPEG4/ISO/AP": _elementary(MPEG4_VIDEO),
    "V_MPEG4/MS/V3": _picture(b"DIV3"),
    "V_VP8": _picture(b"vp08"),
    "V_MJPEG": _picture(b"MJPG"),
    "V_THEORA": _picture(b"theo"),
    "V_FFV1": _picture(b"FFV1"),
    "V_PRORES": _prores,
    "V_MS/VFW/FOURCC": _bitmap,
    "A_DTS": _dts,
    "A_DTS/EXPRESS": _dts,
    "A_DTS/LOSSLESS": _dts,
    "A_TRUEHD": _truehd,
    "A_MLP": _truehd,
    "A_MPEG/L1": _mpeg_audio,
    "A_MPEG/L2": _mpeg_audio,
    "A_VORBIS": _vorbis,
    "A_PCM/INT/LIT": _pcm(),
    "A_PCM/INT/BIG": _pcm(is_big=True),
    "A_PCM/FLOAT/IEEE": _pcm(is_float=True),
    WAVPACK: _wavpack,
    "A_MS/ACM": _wave,
    "A_QUICKTIME": _quicktime,
}
