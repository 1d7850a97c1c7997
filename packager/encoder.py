"""The arguments of a live channel's one ffmpeg: a source, a ladder of H.264, one AAC rendition."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import ffmpeg

from media.m3u8 import decimal
from packager.cage import Cage
from packager.catalogue import CONTAINERS
from packager.ffmpeg import LOCAL_PROTOCOLS, UNTRUSTED, compile_arguments, local_input, pipe, run
from packager.ladder import AUDIO_BITRATE, SAMPLE_RATE, Cadence, Rung
from packager.tools import Tools, ToolsError

TEST_SOURCE = "testsrc"
"""The source that needs nothing: a test picture with a wall clock, and a tone."""

PRESET = "ultrafast"
"""x264's preset: a ladder beside a browser on two cores."""

THREADS = 2
"""Threads of each video encoder."""

PROBE_SECONDS = 20.0
MAX_FRAME_RATE = 60

MEMORY_BYTES = 4 << 30
"""Address space of a channel's ffmpeg, most of it for the stacks of its threads."""

MOVFLAGS = "+frag_every_frame+empty_moov+default_base_moof+cmaf+frag_discont"
"""A fragment per frame, for the segmenter cuts by itself; frag_discont keeps the decode times exact."""

CLOCK = ":".join(
    f"%{{eif:mod(floor(time(0)/{unit}),{wrap}):d:2}}" for unit, wrap in ((3600, 24), (60, 60), (1, 60))
)
"""drawtext's words for the time of day (UTC) at which the frame was made."""

MILLISECONDS = "%{eif:mod(floor(time(0)*1000),1000):d:3}"

TONE = (
    "aevalsrc='0.15*sin(2*PI*220*pow(2,mod(floor(t)*5,24)/12)*t)"
    f"+0.3*sin(2*PI*1000*t)*lt(mod(t,1),0.05)':s={SAMPLE_RATE}"
)
"""Another note each second, with a beep at its beginning."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a channel's picture and sound come from.

    Attributes:
        path: a file that is played in a loop; None for the test source.
        frame_rate: frames per second of what is made of it.
        has_audio: whether it has sound; without, silence is made.
    """

    path: Path | None
    frame_rate: Fraction = Fraction(30)
    has_audio: bool = True


async def inspect(source: str, tools: Tools) -> Source:
    """Find out what a configured source is.

    Args:
        source: ``testsrc`` or a file's path.
        tools: whose ffprobe looks into the file.

    Raises:
        ToolsError: it is neither, or the file has no video.
    """
    if source == TEST_SOURCE:
        return Source(None)
    path = await asyncio.to_thread(_locate, source)
    command: list[str | Path] = [
        tools.ffprobe,
        "-v",
        "error",
        *UNTRUSTED,
        "-f",
        CONTAINERS[path.suffix.lower()],
    ]
    command += ["-protocol_whitelist", LOCAL_PROTOCOLS, "-show_streams", "-of", "json", "-o", pipe(0)]
    cage = Cage(read=(str(path),))
    answer = json.loads(await run([*command, local_input(path)], limit=PROBE_SECONDS, cage=cage))
    streams: list[dict[str, Any]] = answer.get("streams", [])
    video = next((stream for stream in streams if stream.get("codec_type") == "video"), None)
    if video is None:
        raise ToolsError(f"live source {source!r} has no video")
    return Source(path, frame_rate(video), any(stream.get("codec_type") == "audio" for stream in streams))


def _locate(source: str) -> Path:
    path = Path(source).expanduser().absolute()
    if path.suffix.lower() not in CONTAINERS or not path.is_file():
        raise ToolsError(f"live source {source!r}: neither {TEST_SOURCE!r} nor a media file that is there")
    return path


def frame_rate(stream: dict[str, Any]) -> Fraction:
    """Take the frame rate of a stream as ffprobe tells it; 30 where it tells nothing usable."""
    numerator, _, denominator = str(stream.get("avg_frame_rate", "")).partition("/")
    if not (numerator.isdecimal() and denominator.isdecimal() and int(denominator)):
        return Fraction(30)
    told = Fraction(int(numerator), int(denominator))
    common = [Fraction(24000, 1001), Fraction(30000, 1001), Fraction(60000, 1001)]
    near = min((*common, Fraction(round(told))), key=lambda rate: abs(rate - told))
    while near > MAX_FRAME_RATE:
        near /= 2
    return near if near >= 1 else Fraction(30)


def cage(source: Source) -> Cage:
    """Say what the channel's ffmpeg may do: read its file, and nothing else."""
    read = () if source.path is None else (str(source.path),)
    return Cage(read=read, memory=MEMORY_BYTES)


def arguments(
    source: Source, name: str, ladder: Sequence[Rung], cadence: Cadence, start: Fraction, *, captions: bool
) -> list[str]:
    """Compile ffmpeg's arguments; output pipe i is the i-th rung, the last one the sound.

    Args:
        source: what is played.
        name: the channel's name, shown in the test picture.
        ladder: the video renditions.
        cadence: the channel's.
        start: decode time in seconds of the first frame.
        captions: whether drawtext can write the clock and the name.

    Returns:
        Everything behind the program's name.
    """
    picture, sound = _inputs(source, name, ladder[0], cadence, captions=captions)
    branches = picture.filter_multi_output("split", len(ladder)) if len(ladder) > 1 else [picture]
    outputs = [
        ffmpeg.output(
            _scaled(branches[index], rung, test=source.path is None),
            pipe(index),
            **_video(rung, cadence),
            **_muxer(start),
        )
        for index, rung in enumerate(ladder)
    ]
    # Exact numbers of samples from the first on, whatever gaps the source has.
    sound = sound.filter("aresample", SAMPLE_RATE, **{"async": 1, "first_pts": 0}).filter(
        "asetpts", "N/SR/TB"
    )
    options = {"c:a": "aac", "b:a": AUDIO_BITRATE, "ac": 2}
    outputs.append(ffmpeg.output(sound, pipe(len(ladder)), **options, **_muxer(start)))
    return compile_arguments(ffmpeg.get_args(ffmpeg.merge_outputs(*outputs)))


def _inputs(source: Source, name: str, top: Rung, cadence: Cadence, *, captions: bool) -> tuple[Any, Any]:
    rate = cadence.frame_rate
    if source.path is None:
        test = f"testsrc2=size={top.width}x{top.height}:rate={rate}"
        picture = ffmpeg.input(test, format="lavfi", re=None)
        return _captioned(picture, name, top) if captions else picture, ffmpeg.input(
            TONE, format="lavfi", re=None
        )
    played = ffmpeg.input(
        local_input(source.path),
        format=CONTAINERS[source.path.suffix.lower()],
        protocol_whitelist=LOCAL_PROTOCOLS,
        stream_loop=-1,
        re=None,
    )
    silence = ffmpeg.input(f"anullsrc=sample_rate={SAMPLE_RATE}", format="lavfi", re=None)
    # From 0 and without a gap, so that every boundary has its key frame.
    steady = played.video.filter("fps", fps=str(rate), start_time=0).filter("setpts", "N/FR/TB")
    return steady, played.audio if source.has_audio else silence


def _captioned(picture: Any, name: str, top: Rung) -> Any:
    size = top.height // 10
    style = {"fontcolor": "white", "box": 1, "boxcolor": "black@0.6", "x": "(w-tw)/2"}
    clock = f"{CLOCK}.{MILLISECONDS}"
    return picture.filter("drawtext", text=clock, fontsize=size, y=f"h-{2 * size}", **style).filter(
        "drawtext", text=name, expansion="none", fontsize=size // 2, y=size, **style
    )


def _scaled(picture: Any, rung: Rung, *, test: bool) -> Any:
    if test:
        return picture.filter("scale", rung.width, rung.height).filter("format", "yuv420p")
    fitted = picture.filter("scale", rung.width, rung.height, force_original_aspect_ratio="decrease")
    padded = fitted.filter("pad", rung.width, rung.height, "(ow-iw)/2", "(oh-ih)/2")
    return padded.filter("setsar", 1).filter("format", "yuv420p")


def _video(rung: Rung, cadence: Cadence) -> dict[str, Any]:
    return {
        "c:v": "libx264",
        "preset": PRESET,
        "tune": "zerolatency",
        "threads": THREADS,
        "b:v": rung.bitrate,
        "maxrate": rung.bitrate * 5 // 4,
        "bufsize": rung.bitrate,
        "g": cadence.gop,
        "keyint_min": cadence.gop,
        "sc_threshold": 0,
    }


def _muxer(start: Fraction) -> dict[str, Any]:
    return {
        "format": "mp4",
        "movflags": MOVFLAGS,
        "use_editlist": 0,
        "avoid_negative_ts": "disabled",
        "output_ts_offset": decimal(start, 6),
        "flush_packets": 1,
    }
