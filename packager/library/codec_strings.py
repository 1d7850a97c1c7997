"""Codec strings for browsers (RFC 6381, RFC 4281), from ffprobe's description of a stream.

Browsers judge by codec, profile and level. A codec without a known string gets ffprobe's name: no browser
claims to play a codec that it doesn't know.
"""

from __future__ import annotations

from typing import Any

H264_PROFILES = {
    "Constrained Baseline": "42e0", "Baseline": "4200", "Main": "4d00", "Extended": "5800", "High": "6400",
    "High 10": "6e00", "High 10 Intra": "6e10", "High 4:2:2": "7a00", "High 4:2:2 Intra": "7a10",
    "High 4:4:4 Predictive": "f400", "CAVLC 4:4:4": "2c00",
}  # fmt: skip
"""ISO/IEC 14496-15 §E.3: profile_idc and the constraint flags."""

HEVC_PROFILES = {"Main": "1.6", "Main 10": "2.4", "Main Still Picture": "3.8", "Rext": "4.10"}
"""ISO/IEC 14496-15 §E.3: general_profile_idc and the compatibility flags in reverse order of bits."""

AV1_PROFILES = {"Main": 0, "High": 1, "Professional": 2}

AAC_TYPES = {"LC": 2, "HE-AAC": 5, "HE-AACv2": 29, "xHE-AAC": 42, "Main": 1}
"""ISO/IEC 14496-3 §1.5.1.1: audio object types."""

OTHERS = {
    "vp8": "vp8", "mpeg4": "mp4v.20.9", "mp3": "mp3", "opus": "opus", "vorbis": "vorbis", "flac": "flac",
    "ac3": "ac-3", "eac3": "ec-3", "alac": "alac", "theora": "theora", "pcm_s16le": "1", "pcm_s24le": "1",
    "pcm_s32le": "1", "pcm_u8": "1", "pcm_f32le": "3", "pcm_alaw": "6", "pcm_mulaw": "7",
}  # fmt: skip
"""Those without a profile; numbers are the format tags of WAVE."""


def codec_string(stream: dict[str, Any]) -> str:
    """Return the codec string of a stream as ffprobe describes it.

    Args:
        stream: with ``codec_name``, and ``profile``, ``level``, ``pix_fmt`` where they are known.
    """
    name, profile = str(stream.get("codec_name", "unknown")), str(stream.get("profile", ""))
    given = stream.get("level")
    level = given if isinstance(given, int) and 0 < given < 256 else None
    bits = 10 if "10" in str(stream.get("pix_fmt", "")) else 8
    if name == "h264":
        return f"avc1.{H264_PROFILES.get(profile, '6400')}{level or 40:02x}"
    if name == "hevc":
        return f"hvc1.{HEVC_PROFILES.get(profile, '1.6')}.L{level or 120}.B0"
    if name == "av1":
        # AV1 in ISOBMFF §5: the level is its index of the sequence header, which ffprobe reports.
        return f"av01.{AV1_PROFILES.get(profile, 0)}.{level or 8:02}M.{bits:02}"
    if name == "vp9":
        return f"vp09.0{profile[-1:] if profile[-1:] in '0123' and profile else 0}.{level or 40:02}.{bits:02}"
    if name == "aac":
        return f"mp4a.40.{AAC_TYPES.get(profile, 2)}"
    return OTHERS.get(name, name)
