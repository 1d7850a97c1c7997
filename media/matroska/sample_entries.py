"""MP4 sample entries (ISO/IEC 14496-12 §8.5.2) of Matroska tracks, for the codecs that both formats have.

RFC 9559 names codecs by IDs; draft-ietf-cellar-codec defines their private data.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from math import gcd

from media.errors import MalformedError, UnsupportedError
from media.matroska.frame_headers import (
    AC3_SAMPLES,
    ac3_configuration,
    eac3_configuration,
    mp3_samples,
    opus_samples,
    vp9_configuration,
)
from media.matroska.stripped_frames import MAX_STRIPPED_BYTES
from media.matroska.tracks import ZLIB, MatroskaTrack
from media.mp4.boxes import box, full_box
from media.mp4.codecs.audio_specific_config import SAMPLE_RATES, core_frames, write_audio_specific_config
from media.mp4.codecs.clean_aperture import clean_aperture_box
from media.mp4.codecs.colour import Colour
from media.mp4.codecs.esds import MPEG1_AUDIO, MPEG2_AUDIO, MPEG4_AUDIO, elementary_stream_box

OPUS_RATE = 48_000
_NAMES = {
    "V_VP8": "VP8",
    "V_MPEG4/ISO/ASP": "MPEG-4 Part 2 video",
    "V_MPEG2": "MPEG-2 video",
    "V_MPEG1": "MPEG-1 video",
    "V_THEORA": "Theora",
    "V_MJPEG": "JPEG pictures",
    "V_MS/VFW/FOURCC": "video in the manner of AVI",
    "V_PRORES": "ProRes",
    "V_FFV1": "FFV1",
    "A_VORBIS": "Vorbis",
    "A_DTS": "DTS",
    "A_TRUEHD": "TrueHD",
    "A_MPEG/L2": "MPEG audio layer II",
    "A_PCM/INT/LIT": "PCM",
    "A_PCM/INT/BIG": "PCM",
    "A_PCM/FLOAT/IEEE": "PCM",
    "A_WAVPACK4": "WavPack",
}


@dataclass(frozen=True, slots=True)
class CodecFacts:
    """The MP4 sample entry of a Matroska track, and facts about its frames.

    Attributes:
        rate: of audio, samples per second, which are the track's ticks.
        frame_samples: of audio, samples in each frame; 0 if they differ or aren't known.
        reordered: whether presentation order may differ from decoding order.
        name: of a codec that isn't packaged, where the track's codec ID doesn't name it.
    """

    sample_entry: bytes
    rate: int = 0
    frame_samples: int = 0
    reordered: bool = False
    name: str = ""


def codec_facts(track: MatroskaTrack, frame: bytes, frames_per_second: float) -> CodecFacts:
    """Write the sample entry of a track.

    Args:
        frame: the first frame, or its beginning.
        frames_per_second: of video; 0 if unknown.

    Raises:
        UnsupportedError: its codec isn't carried in MP4 as it is, or its frames are encrypted or compressed.
        MalformedError: its configuration is missing or impossible.
    """
    if track.encrypted:
        raise UnsupportedError("encrypted media")
    write = _CODECS.get(track.codec) or next(
        (write for name, write in _CODECS.items() if name.endswith("/") and track.codec.startswith(name)),
        None,
    )
    if write is None:
        name = _NAMES.get(track.codec) or next(
            (name for codec, name in _NAMES.items() if track.codec.startswith(f"{codec}/")), None
        )
        shown = f"{name} ({track.codec})" if name else repr(track.codec)
        raise UnsupportedError(f"codec {shown} isn't one that can be packaged")
    if track.compression is not None:
        how = "with zlib" if track.compression == ZLIB else f"in manner {track.compression}"
        raise UnsupportedError(f"its frames are compressed {how}, so that they can't be sent as they are")
    if len(track.stripped) > MAX_STRIPPED_BYTES:
        raise UnsupportedError(f"its frames lack their first {len(track.stripped)} bytes")
    return write(track, frame, frames_per_second)


def _private(track: MatroskaTrack, length: int) -> bytes:
    if len(track.private) < length:
        raise MalformedError(f"{track.codec} without its configuration")
    return track.private


def visual_sample_entry(track: MatroskaTrack, kind: bytes, configuration: bytes) -> bytes:
    """Write the sample entry of a picture.

    Args:
        track: the track's entry of the header.

    Raises:
        MalformedError: its size is impossible.
    """
    width, height = track.pixels
    if not 0 < width < 1 << 16 or not 0 < height < 1 << 16:
        raise MalformedError(f"a picture of {width} by {height} pixels")
    fixed = struct.pack(">6xH16xHHIIIH32xHh", 1, width, height, 0x48_0000, 0x48_0000, 0, 1, 24, -1)
    boxes = [configuration]
    if any(track.crop):
        boxes.append(clean_aperture_box(track.pixels, track.crop))
        width, height = track.cropped
    if all(track.display) and track.display[0] * height != track.display[1] * width:
        horizontal, vertical = track.display[0] * height, track.display[1] * width
        common = gcd(horizontal, vertical)
        ratio = horizontal // common, vertical // common
        if max(ratio) < 1 << 32:
            boxes.append(box(b"pasp", struct.pack(">II", *ratio)))
    if track.colour is not None:
        one = track.colour
        numbers = [min(value, 255) for value in (one.primaries, one.transfer, one.matrix)]
        boxes.append(box(b"colr", b"nclx", struct.pack(">HHHB", *numbers, track.full_range << 7)))
    if track.dolby_vision is not None:
        boxes.append(box(*track.dolby_vision))
    return box(kind, fixed, *boxes)


def sound_sample_entry(track: MatroskaTrack, kind: bytes, configuration: bytes, rate: int) -> bytes:
    """Write the sample entry of sound.

    Args:
        rate: in Hz.
    """
    channels = min(track.channels, 255)
    shown = rate << 16 if rate < 1 << 16 else 0
    return box(kind, struct.pack(">6xH8xHHIHH", 1, channels, 16, 0, shown >> 16, 0), configuration)


def _avc(track: MatroskaTrack, _frame: bytes, _rate: float) -> CodecFacts:
    return CodecFacts(visual_sample_entry(track, b"avc1", box(b"avcC", _private(track, 7))), reordered=True)


def _hevc(track: MatroskaTrack, _frame: bytes, _rate: float) -> CodecFacts:
    # Where no frame has parameter sets of its own, the index makes it hvc1.
    return CodecFacts(visual_sample_entry(track, b"hev1", box(b"hvcC", _private(track, 23))), reordered=True)


def _av1(track: MatroskaTrack, _frame: bytes, _rate: float) -> CodecFacts:
    return CodecFacts(visual_sample_entry(track, b"av01", box(b"av1C", _private(track, 4))))


def _vp9(track: MatroskaTrack, frame: bytes, rate: float) -> CodecFacts:
    one = track.colour or Colour()
    colour = min(one.primaries, 255), min(one.transfer, 255), min(one.matrix, 255)
    configuration = vp9_configuration(frame, track.pixels, rate, colour)
    return CodecFacts(visual_sample_entry(track, b"vp09", box(b"vpcC", configuration)))


def _aac(track: MatroskaTrack, _frame: bytes, _rate: float) -> CodecFacts:
    config = track.private or _aac_by_name(track)
    rate, samples = core_frames(config)
    rate = rate or round(track.sample_rate)
    return CodecFacts(
        sound_sample_entry(track, b"mp4a", elementary_stream_box(MPEG4_AUDIO, config), rate), rate, samples
    )


def _aac_by_name(track: MatroskaTrack) -> bytes:
    """Write the AudioSpecificConfig of a track of old, whose codec ID names the profile."""
    named = [*track.codec.split("/"), "LC", "LC"][2]  # A_AAC/MPEG4/LC/SBR, or A_AAC alone
    profile = {"MAIN": 1, "LC": 2, "SSR": 3}.get(named)
    rate = round(track.sample_rate)
    if profile is None or rate not in SAMPLE_RATES or not 1 <= track.channels <= 7:
        raise MalformedError(f"{track.codec} without its configuration")
    return write_audio_specific_config(profile, rate, track.channels)


def _ac3(track: MatroskaTrack, frame: bytes, _rate: float) -> CodecFacts:
    rate = round(track.sample_rate)
    return CodecFacts(
        sound_sample_entry(track, b"ac-3", box(b"dac3", ac3_configuration(frame)), rate), rate, AC3_SAMPLES
    )


def _eac3(track: MatroskaTrack, frame: bytes, _rate: float) -> CodecFacts:
    rate = round(track.sample_rate)
    configuration, samples = eac3_configuration(frame)
    return CodecFacts(sound_sample_entry(track, b"ec-3", box(b"dec3", configuration), rate), rate, samples)


def _opus(track: MatroskaTrack, frame: bytes, _rate: float) -> CodecFacts:
    head = _private(track, 19)  # RFC 7845 §5.1, little-endian; dOps has the same in the other order
    channels, skip, rate, gain = struct.unpack_from("<BHIh", head, 9)
    # §5.1.1: but for family 0 it says which channel comes from which stream.
    end = 19 if not head[18] else 21 + channels
    if not channels or len(head) < end:
        raise MalformedError("Opus without its channels")
    dops = struct.pack(">BBHIh", 0, channels, skip, rate, gain) + head[18:end]
    entry = sound_sample_entry(track, b"Opus", box(b"dOps", dops), OPUS_RATE)
    return CodecFacts(entry, OPUS_RATE, opus_samples(frame))


def _flac(track: MatroskaTrack, _frame: bytes, _rate: float) -> CodecFacts:
    private = _private(track, 42)
    if private[:4] != b"fLaC" or private[4] & 0x7F:
        raise MalformedError("FLAC without STREAMINFO")
    info = private[8:42]
    least, most = struct.unpack_from(">HH", info)
    rate = int.from_bytes(info[10:13], "big") >> 4
    if not rate:
        raise MalformedError("FLAC of no rate")
    dfla = full_box(b"dfLa", 0, 0, b"\x80\0\0\x22", info)
    return CodecFacts(sound_sample_entry(track, b"fLaC", dfla, rate), rate, most if least == most else 0)


def _mp3(track: MatroskaTrack, frame: bytes, _rate: float) -> CodecFacts:
    rate = round(track.sample_rate)
    samples = mp3_samples(frame)
    kind = MPEG1_AUDIO if samples == 1152 else MPEG2_AUDIO
    return CodecFacts(
        sound_sample_entry(track, b"mp4a", elementary_stream_box(kind, b""), rate), rate, samples
    )


def _alac(track: MatroskaTrack, _frame: bytes, _rate: float) -> CodecFacts:
    private = _private(track, 24)
    rate = int.from_bytes(private[20:24], "big")
    if not 0 < rate < 1 << 24:
        raise MalformedError("ALAC of no rate")
    samples = int.from_bytes(private[:4], "big")
    return CodecFacts(
        sound_sample_entry(track, b"alac", full_box(b"alac", 0, 0, private), rate), rate, samples
    )


_CODECS: dict[str, Callable[[MatroskaTrack, bytes, float], CodecFacts]] = {
    "V_MPEG4/ISO/AVC": _avc,
    "V_MPEGH/ISO/HEVC": _hevc,
    "V_AV1": _av1,
    "V_VP9": _vp9,
    "A_AAC": _aac,
    "A_AAC/": _aac,
    "A_AC3": _ac3,
    "A_AC3/": _ac3,
    "A_EAC3": _eac3,
    "A_OPUS": _opus,
    "A_OPUS/": _opus,
    "A_FLAC": _flac,
    "A_MPEG/L3": _mp3,
    "A_ALAC": _alac,
}
"""Codec IDs; where one ends with a slash, so begin several."""
