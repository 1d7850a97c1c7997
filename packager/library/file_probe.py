"""The streams of a file of the library by ffprobe, and whether browsers can play them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path, PurePosixPath
from typing import Any

from packager.ffmpeg.arguments import LOCAL_PROTOCOLS, MAX_PIXELS, local_input, probe_arguments
from packager.library.codec_strings import codec_string
from packager.library.file_endings import CONTAINERS, SOUND_ENDINGS
from packager.library.file_listing import CatalogueLimits
from packager.process.ffmpeg_discovery import BusyError, Tools, ToolsError
from packager.process.process import OutputTooLargeError, read_only_sandbox, run

MAX_CODECS = 16
"""Most streams of a file whose codecs are listed."""

MAX_FRAME_RATE = 1000
"""Frames a second from which on it is no rate of pictures."""

DECODERS = (
    "h264,hevc,vp8,vp9,libvpx,libvpx-vp9,av1,libdav1d,libaom-av1,mpeg4,msmpeg4v1,msmpeg4v2,msmpeg4,mpeg2video,"
    "mpeg1video,h263,flv,vp6,vp6f,vc1,wmv1,wmv2,wmv3,mjpeg,png,prores,theora,ffv1,huffyuv,dvvideo,dnxhd,cinepak,"
    "aac,aac_latm,mp3,mp3float,mp2,mp2float,ac3,eac3,dca,opus,libopus,vorbis,flac,"
    "alac,pcm_s16le,pcm_s16be,pcm_s24le,pcm_s24be,pcm_s32le,pcm_u8,pcm_f32le,pcm_mulaw,pcm_alaw,adpcm_g722,adpcm_g726,"
    "adpcm_g726le,adpcm_ms,adpcm_ima_wav,wmav1,wmav2,wmapro,truehd,mlp,mov_text,srt,ass"
)
"""Decoders that ffprobe may use on the library's files."""

UNREAD = "m1v m2v evo rm rmvb wtv dv mxf ivf aif aiff ac3 eac3 dts ape wv tta mpc amr ra mp2 au caf spx"
"""Extensions of films and sounds that are listed without a look into them: most browsers play none."""

UNREAD_ENDINGS = frozenset(f".{name}" for name in UNREAD.split())

_PCM = frozenset({"pcm_s16le", "pcm_s24le", "pcm_s32le", "pcm_u8", "pcm_f32le", "pcm_alaw", "pcm_mulaw"})
_MP4 = frozenset({"h264", "vp9", "av1", "aac", "mp3", "opus", "flac"})

BROWSER_CODECS = {
    "mov": _MP4,
    "matroska": frozenset({"vp8", "vp9", "av1", "opus", "vorbis"}),
    "mp3": frozenset({"mp3"}),
    "aac": frozenset({"aac"}),
    "ogg": frozenset({"opus", "vorbis", "flac"}),
    "flac": frozenset({"flac"}),
    "wav": _PCM,
}
"""Codecs that most browsers play, by kind of file; the demuxers are those of `CONTAINERS`."""

BROWSER_CONTAINERS = frozenset(
    ending for ending, demuxer in CONTAINERS.items() if demuxer in BROWSER_CODECS
) - {".mkv", ".mka"}
PACKAGED_CONTAINERS = frozenset({"mov", "matroska", "mpegts", "flv", "ogg"})
"""Demuxers of files that HLS can be made of; its segments are MP4."""

BROWSER_PIXELS = re.compile(r"yuvj?420p")

MAX_TAG_CHARACTERS = 200
"""Most characters of a title, an artist or an album."""

_TAGS = ",".join(
    name
    for one in ("title", "artist", "album", "album_artist", "track")
    for name in (one, one.upper(), one.title())
)
TAGS_QUESTION = f":format_tags={_TAGS}:stream_tags={_TAGS}"
"""The entries of tags in ffprobe's answer about music."""

MAX_OUTPUT_BYTES = 128 << 10
"""Most bytes of ffprobe's answer: some hundred streams."""

MAX_MEMORY_BYTES = 640 << 20
"""Address space of ffprobe: it expands the index of a file, of ten hours to 270 MB."""


@dataclass(frozen=True, slots=True)
class SubtitleTrack:
    """A subtitle track of a film's HLS, from the film or a file beside it.

    Attributes:
        language: BCP 47 tag, or None.
        default: whether players show it unless the viewer chooses.
        forced: whether it has only text that viewers need who understand the spoken language.
        sdh: whether it describes sounds, too, for viewers who don't hear them.
        file: name of the subtitle file beside the film; None for a track of the film itself.
        path: address of the whole text as WebVTT, below that of VOD.
    """

    name: str
    language: str | None
    default: bool
    forced: bool
    sdh: bool
    file: str | None
    path: str


@dataclass(frozen=True, slots=True)
class BurnedSubtitles:
    """Subtitles that encoded renditions of a film have in their pictures where a viewer chooses them.

    Attributes:
        number: the number that addresses have as ``burn``, from 1 on.
        language, default, forced, sdh: as those of a subtitle track.
    """

    number: int
    name: str
    language: str | None
    default: bool
    forced: bool
    sdh: bool


@dataclass(frozen=True, slots=True)
class TextFacts:
    """The text of a film.

    Attributes:
        left_out: a line for each of its text tracks, and each subtitle file beside it, that isn't offered.
        chapters: path of its chapters below the address of VOD, or None.
        burned: the subtitles that can be had within the picture, by their numbers.
        unused: names of files of subtitles that seem to be the film's and aren't offered, with the reasons.
    """

    subtitles: tuple[SubtitleTrack, ...] = ()
    left_out: tuple[str, ...] = ()
    chapters: str | None = None
    burned: tuple[BurnedSubtitles, ...] = ()
    unused: tuple[tuple[str, str], ...] = ()


NO_TEXT = TextFacts()


@dataclass(frozen=True, slots=True)
class MusicTags:
    """Title, artist and album in the tags of a file of music; None for each that it lacks.

    Attributes:
        track: number of the track in the album.
    """

    title: str | None = None
    artist: str | None = None
    album: str | None = None
    track: int | None = None


NO_TAGS = MusicTags()


@dataclass(frozen=True, slots=True)
class Facts:
    """The facts about a file that the library lists, from ffprobe and the file's index.

    Attributes:
        duration: seconds; None if unknown.
        width: width of the first video stream as shown, in pixels.
        height: height of that picture, in pixels.
        frame_rate: of the first video stream, in frames a second.
        codecs: ffmpeg's names of the streams' codecs, video first.
        codec_strings: the strings with which browsers are asked for each of the codecs.
        reason: why most browsers can't play the file, neither as a whole nor in segments; None if they can.
        obstacle: why the file can't be served as HLS; None if it can, or wasn't checked.
        encoded: whether renditions of it are encoded on request, so that all browsers can play them.
        text: the subtitles and chapters that its HLS has.
        incomplete: how much of the file is there, by its own header; None of a whole one.
        thumbnails: whether there are thumbnails of the film.
        tags: the title, artist and album of music.
        has_cover: whether a cover is in the file.
        cover: path of the cover beside the file; None without.
    """

    duration: float | None = None
    width: int | None = None
    height: int | None = None
    frame_rate: float | None = None
    codecs: tuple[str, ...] = ()
    codec_strings: tuple[str, ...] = ()
    reason: str | None = None
    obstacle: str | None = None
    encoded: bool = False
    incomplete: str | None = None
    text: TextFacts = NO_TEXT
    thumbnails: bool = False
    tags: MusicTags = NO_TAGS
    has_cover: bool = False
    cover: str | None = None


DEFAULT_LIMITS = CatalogueLimits()


REPACKAGED = "repackaged as MP4 it would play"
"""End of the reason of a file whose container alone is the obstacle."""


def unread_reason(path: str) -> str | None:
    """Return why a listed file isn't looked into; None if it is."""
    ending = PurePosixPath(path).suffix.lower()
    return f"the server doesn't read {ending[1:].upper()} files" if ending in UNREAD_ENDINGS else None


async def probe(
    path: Path, tools: Tools, limits: CatalogueLimits = DEFAULT_LIMITS, *, is_packaged: bool = False
) -> Facts:
    """Read the streams and the duration of a file by ffprobe.

    Args:
        path: the file; its ending names the one demuxer that may open it.
        limits: how long ffprobe may run, and how much it may write.
        is_packaged: whether the file is served as HLS, which may play where the file doesn't.

    Returns:
        The facts; a file that can't be read has its error as the reason.

    Raises:
        BusyError: ffprobe can't be started now.
    """
    if path.suffix.lower() not in SOUND_ENDINGS:
        return await _probe(path, tools, limits, "", is_packaged=is_packaged)
    try:
        return await _probe(path, tools, limits, TAGS_QUESTION, is_packaged=is_packaged)
    except OutputTooLargeError:
        # A tag may be as long as the file.
        return await _probe(path, tools, limits, "", is_packaged=is_packaged)


async def _probe(path: Path, tools: Tools, limits: CatalogueLimits, tags: str, *, is_packaged: bool) -> Facts:
    wanted = f"format=duration{tags}:stream_side_data=rotation,side_data_type:stream="
    wanted += "codec_type,codec_name,codec_tag_string,profile,level,pix_fmt,width,height,avg_frame_rate"
    options = {
        "max_pixels": MAX_PIXELS,
        "codec_whitelist": DECODERS,
        "protocol_whitelist": LOCAL_PROTOCOLS,
        "format_whitelist": CONTAINERS[path.suffix.lower()],
    }
    entries = f"{wanted}:stream_disposition=attached_pic,default"
    words = probe_arguments(local_input(path), options, "-show_entries", entries)
    try:
        output = await run(
            [tools.ffprobe, *words],
            limit=limits.probe_seconds,
            max_bytes=MAX_OUTPUT_BYTES,
            sandbox=replace(read_only_sandbox(path), memory=MAX_MEMORY_BYTES),
        )
        answer: dict[str, Any] = json.loads(output)
    except BusyError:
        raise
    except (ToolsError, ValueError) as error:
        if tags and isinstance(error, OutputTooLargeError):
            raise
        return Facts(reason=f"can't be read: {str(error).removeprefix(f'{local_input(path)}: ')}")
    return _facts_of(answer, path.suffix.lower(), is_packaged=is_packaged)


def _facts_of(answer: dict[str, Any], suffix: str, *, is_packaged: bool) -> Facts:
    streams = [
        stream
        for stream in answer.get("streams", [])
        if stream.get("codec_type") in ("video", "audio")
        and not stream.get("disposition", {}).get("attached_pic")
    ]
    has_cover = any(stream.get("disposition", {}).get("attached_pic") for stream in answer.get("streams", []))
    streams.sort(key=lambda stream: stream["codec_type"] != "video")
    video: dict[str, Any] = next((stream for stream in streams if stream["codec_type"] == "video"), {})
    try:
        duration = float(answer.get("format", {}).get("duration", ""))
    except ValueError:
        duration = None
    size = video.get("width"), video.get("height")
    width, height = reversed(size) if _lies_on_its_side(video) else size
    return Facts(
        duration=duration,
        width=width,
        height=height,
        frame_rate=_frame_rate(str(video.get("avg_frame_rate", ""))),
        codecs=tuple(str(stream.get("codec_name", "unknown")) for stream in streams[:MAX_CODECS]),
        # No browser is asked for media whose keys it would need.
        codec_strings=()
        if any(map(_is_encrypted, streams))
        else tuple(map(codec_string, streams[:MAX_CODECS])),
        reason=_reason(streams, suffix, is_packaged=is_packaged),
        tags=_tags(answer, streams),
        has_cover=has_cover and not video,
    )


def _tags(answer: dict[str, Any], streams: Sequence[dict[str, Any]]) -> MusicTags:
    """Read the tags of a file; those of Ogg are its first stream's, in any case of letters."""
    found: dict[str, str] = {}
    for holder in (*streams[:1], answer.get("format", {})):
        tags = holder.get("tags", {})
        found |= {name.lower(): _in_one_line(value) for name, value in tags.items()}
    number = re.match("[0-9]{1,4}", found.get("track", ""))
    return MusicTags(
        found.get("title") or None,
        found.get("artist") or found.get("album_artist") or None,
        found.get("album") or None,
        int(number[0]) if number else None,
    )


def _in_one_line(text: object) -> str:
    """Return a text without control characters, and not longer than a title is."""
    shown = "".join(one if one.isprintable() else " " for one in str(text)[:MAX_TAG_CHARACTERS])
    return " ".join(shown.split())


def _lies_on_its_side(video: dict[str, Any]) -> bool:
    """Return whether a picture is turned by a quarter for display, like those of phones held upright."""
    found = (one.get("rotation") for one in video.get("side_data_list", ()))
    return any(isinstance(angle, int | float) and round(angle) % 180 == 90 for angle in found)


def _frame_rate(text: str) -> float | None:
    try:
        rate = Fraction(text)
    except (ValueError, ZeroDivisionError):
        return None
    return round(float(rate), 3) if 0 < rate < MAX_FRAME_RATE else None


def _reason(streams: Sequence[dict[str, Any]], suffix: str, *, is_packaged: bool) -> str | None:
    if not streams:
        return "there is neither video nor audio in it"
    if any(map(_is_encrypted, streams)):
        return "it is encrypted"
    container = CONTAINERS[suffix]
    in_segments = _refusal(streams, _MP4) if is_packaged and container in PACKAGED_CONTAINERS else ""
    if in_segments is None:
        return None
    if suffix not in BROWSER_CONTAINERS:
        refusal = _refusal(streams, _MP4.union(*BROWSER_CODECS.values()))
        return refusal or f"browsers don't play {suffix[1:].upper()} files; {REPACKAGED}"
    refusal = _refusal(streams, BROWSER_CODECS[container])
    if refusal is not None and _refusal(streams, _MP4.union(*BROWSER_CODECS.values())) is None:
        return f"{refusal} in {suffix[1:].upper()} files"
    return refusal


def _is_encrypted(stream: dict[str, Any]) -> bool:
    # ISO/IEC 23001-7 §4.2: the sample entries of protected streams, of which ffprobe may name the codec.
    kinds = (str(one.get("side_data_type", "")) for one in stream.get("side_data_list", ()))
    return stream.get("codec_tag_string") in ("encv", "enca") or any(
        kind.startswith("Encryption") for kind in kinds
    )


def _refusal(streams: Sequence[dict[str, Any]], codecs: frozenset[str]) -> str | None:
    """Return why no picture of a file plays, or not the sound that players begin with; None if both play."""
    pictures, sounds = ([one for one in streams if one["codec_type"] == kind] for kind in ("video", "audio"))
    sounds.sort(key=lambda stream: not stream.get("disposition", {}).get("default"))
    refusals = [_refusal_of(stream, codecs) for stream in pictures]
    if refusals and all(refusals):
        return refusals[0]
    return _refusal_of(sounds[0], codecs) if sounds else None


def _refusal_of(stream: dict[str, Any], codecs: frozenset[str]) -> str | None:
    codec, pixels = str(stream.get("codec_name", "unknown")), stream.get("pix_fmt")
    if codec not in codecs:
        return f"most browsers don't play {codec} {stream['codec_type']}"
    if codec == "h264" and pixels and not BROWSER_PIXELS.fullmatch(pixels):
        return f"most browsers don't play H.264 {stream.get('profile', '')} ({pixels})"
    return None
