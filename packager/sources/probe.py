"""Looking into what a live channel is to play: ffprobe tells what it has; a URL is asked until it answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import structlog

from packager.ffmpeg.arguments import LOCAL_PROTOCOLS, MAX_PIXELS, probe_arguments
from packager.library.catalogue import CONTAINERS, DECODERS
from packager.process.process import run
from packager.process.tools import BusyError, Tools, ToolsError
from packager.redaction import redacted_url
from packager.retry_policy import FailureCount, RetryPolicy
from packager.segment.keyframe_cadence import observe_keyframes
from packager.sources.limits import DEFAULT_LIMITS, SourceLimits
from packager.sources.pump import Supply
from packager.sources.schemes import OPENED_FORMATS, SCHEMES, is_url, without_url_secrets
from packager.sources.source import KEPT_VIDEO, STILL_FRAME_RATE, TEST_SOURCE, Source

log = structlog.get_logger()

MAX_FRAME_RATE = 60
SOUNDS = ("mp3", "aac", "ogg")
"""Containers that have nothing but sound."""

SOUND_ANALYSE_MICROSECONDS = 200_000
"""How much of them is looked at: their first frame says everything, and more only comes with time."""

ANALYSE_MICROSECONDS = 2_000_000
"""How much of a pulled stream is looked at before it is played; ffmpeg's own choice is up to 5 s."""

KNOWN = {"analyzeduration": 300_000, "fpsprobesize": 0}
"""How little an ffmpeg need look at a stream that ffprobe has seen, so that it begins at once."""


def playable(source: str) -> bool:
    """Tell whether a source is the test source, a file that is there, or a URL that can be pulled."""
    return source == TEST_SOURCE or is_url(source) or Path(source).expanduser().is_file()


async def inspect_source(
    source: str, tools: Tools, limits: SourceLimits = DEFAULT_LIMITS, *, keep: bool = False, by: str = ""
) -> Source:
    """Find out what a configured source is.

    Args:
        source: ``testsrc``, a file's path, or a URL.
        tools: whose ffprobe looks into it.
        limits: how long it may take, and how much it looks at.
        keep: whether its own picture is to be kept.
        by: the URL that ffmpeg fetches in its place, where it has one.

    Raises:
        ToolsError: it is none of these, or can't be read (a URL: now), or has neither picture nor sound, or
            none that can be kept.
    """
    if source == TEST_SOURCE:
        if keep:
            raise ToolsError(f"live source {source!r} is made here: it has no picture of its own to keep")
        return Source()
    found = url_source(by or source, tools) if is_url(source) else await asyncio.to_thread(_located, source)
    try:
        return await probe_streams(found, tools, limits, keep=keep)
    except ToolsError as error:
        # What passes stays what passes: nobody gives a source up for it.
        kind = BusyError if isinstance(error, BusyError) else ToolsError
        told = without_url_secrets(without_url_secrets(str(error), source), by or source)
        raise kind(f"live source {redacted_url(source)!r}: {told}") from error


async def inspect_supply(
    pump: Supply, tools: Tools, limits: SourceLimits = DEFAULT_LIMITS, *, keep: bool = False
) -> Source:
    """Find out what a stream is that somebody brings; wait until he does.

    Args:
        pump: which brings it.
        tools: whose ffprobe looks into it.
        limits: as for ``inspect``.
        keep: as for ``inspect``.

    Raises:
        ToolsError: it can't be read, or has neither picture nor sound, or none that can be kept.
    """
    await pump.wait_until_flowing()
    options = {
        **({"f": pump.container} if pump.container else {"format_whitelist": OPENED_FORMATS}),
        "protocol_whitelist": "pipe",
        "analyzeduration": ANALYSE_MICROSECONDS,
        **_decoding(),
    }
    source = Source(pump=pump, options=options, stream=pump.stream)
    if pump.container in SOUNDS:
        brief = {**options, "analyzeduration": SOUND_ANALYSE_MICROSECONDS}
        return replace(source, has_video=False, options=brief)
    return replace(await probe_streams(source, tools, limits, keep=keep), options={**options, **KNOWN})


async def probe_streams(found: Source, tools: Tools, limits: SourceLimits, *, keep: bool = False) -> Source:
    """Ask ffprobe what a source has.

    Raises:
        ToolsError: it can't be read, or has neither picture nor sound, or none that can be kept.
    """
    questions = ["-show_streams", "-show_format"]
    if keep:
        seconds = limits.seen_seconds if found.path is None else limits.seen_file_seconds
        questions += ["-show_packets", "-read_intervals", f"%+{seconds}"]
    command: list[str | Path] = [tools.ffprobe, *probe_arguments(found.address, found.options, *questions)]
    told = await run(
        command,
        limit=limits.probe_seconds,
        sandbox=found.sandbox,
        feed=found.feed,
        limits=limits.process,
    )
    answer = json.loads(told)
    streams: list[dict[str, Any]] = answer.get("streams", [])
    video = next((stream for stream in streams if _moves(stream)), None)
    audio = next((stream for stream in streams if stream.get("codec_type") == "audio"), None)
    if video is None and audio is None:
        raise ToolsError("it has neither video nor sound")
    source = replace(
        found,
        frame_rate=STILL_FRAME_RATE if video is None else frame_rate(video),
        has_video=video is not None,
        has_audio=audio is not None,
        video_codec="" if video is None else str(video.get("codec_name", "")),
        audio_codec="" if audio is None else str(audio.get("codec_name", "")),
        framed=audio is not None and audio.get("codec_name") == "aac" and not audio.get("extradata_size"),
        duration=_duration(answer.get("format", {})),
    )
    return _kept(source, answer, (video, audio), limits) if keep else source


def _duration(form: dict[str, Any]) -> Fraction | None:
    """Take the seconds of a file as ffprobe tells them; None where it doesn't."""
    try:
        return Fraction(str(form.get("duration"))) or None
    except ValueError:
        return None


def _kept(
    source: Source,
    answer: dict[str, Any],
    streams: tuple[dict[str, Any] | None, dict[str, Any] | None],
    limits: SourceLimits,
) -> Source:
    """Add what a channel must know that keeps a source's own picture."""
    video, audio = streams
    if video is None or source.video_codec not in KEPT_VIDEO:
        what = f"a picture in {source.video_codec}" if source.video_codec else "no picture"
        raise ToolsError(f"it has {what}; what can be kept is {', '.join(KEPT_VIDEO)}")
    sound = audio["index"] if audio is not None and source.keeps_audio else None
    loop = source.duration if source.path is not None else None
    if loop is not None and loop > limits.seen_file_seconds:
        loop = None
    return replace(source, seen=observe_keyframes(answer.get("packets", ()), video["index"], sound, loop))


async def wait_for_source(
    source: str,
    tools: Tools,
    channel: str,
    *,
    keep: bool = False,
    by: str = "",
    limits: SourceLimits = DEFAULT_LIMITS,
) -> Source:
    """Inspect a source; a URL is asked until it answers, told once when it doesn't and once when it does.

    Args:
        source: as for ``inspect``.
        tools: likewise.
        channel: the channel's name, for the log.
        keep: as for ``inspect``.
        by: likewise.
        limits: as for ``inspect``, and when it is asked again.

    Raises:
        ToolsError: it isn't a URL and can't be played.
    """
    if is_url(source):
        return await _until_there(
            lambda: inspect_source(source, tools, limits, keep=keep, by=by), channel, limits.retry
        )
    return await inspect_source(source, tools, limits, keep=keep)


async def wait_for_supply(
    pump: Supply, tools: Tools, channel: str, *, keep: bool = False, limits: SourceLimits = DEFAULT_LIMITS
) -> Source:
    """Inspect a stream that somebody brings, until one can be read; told as by ``found``."""
    return await _until_there(lambda: inspect_supply(pump, tools, limits, keep=keep), channel, limits.retry)


async def _until_there(ask: Callable[[], Awaitable[Source]], channel: str, policy: RetryPolicy) -> Source:
    count = FailureCount(policy)
    while True:
        try:
            answer = await ask()
        except ToolsError as error:
            if not count.failures:
                log.warning("source isn't there", channel=channel, reason=str(error))
            await asyncio.sleep(count.failed())
        else:
            if count.failures:
                log.info("source is there", channel=channel)
            return answer


def url_source(source: str, tools: Tools) -> Source:
    """Say how an ffmpeg fetches a URL.

    Raises:
        ToolsError: it can't.
    """
    scheme = SCHEMES[urlsplit(source).scheme]
    if scheme.needs not in tools.protocols | tools.demuxers:
        raise ToolsError(f"live source {redacted_url(source)!r}: {tools.ffmpeg} lacks {scheme.needs}")
    options = {
        "f": "concat",
        "safe": 0,
        "protocol_whitelist": f"pipe,{scheme.protocols}",
        "format_whitelist": f"concat,{scheme.formats}",
        "analyzeduration": ANALYSE_MICROSECONDS,
        **_decoding(),
    }
    inner = {"analyzeduration": ANALYSE_MICROSECONDS, **scheme.options}
    return Source(url=source, options=options, inner=inner)


def _located(source: str) -> Source:
    path = Path(source).expanduser().absolute()
    if path.suffix.lower() not in CONTAINERS or not path.is_file():
        allowed = f"neither {TEST_SOURCE!r} nor a media file that is there nor a URL of {', '.join(SCHEMES)}"
        raise ToolsError(f"live source {redacted_url(source)!r}: {allowed}")
    container = CONTAINERS[path.suffix.lower()]
    return Source(path, options={"f": container, "protocol_whitelist": LOCAL_PROTOCOLS, **_decoding()})


def _decoding() -> dict[str, Any]:
    return {"codec_whitelist": DECODERS, "max_pixels": MAX_PIXELS}


def _moves(stream: dict[str, Any]) -> bool:
    """Tell whether a stream is video, not the picture of a cover."""
    return stream.get("codec_type") == "video" and not stream.get("disposition", {}).get("attached_pic")


def frame_rate(stream: dict[str, Any]) -> Fraction:
    """Take the frame rate of a stream as ffprobe tells it; 30 where it tells nothing usable."""
    numerator, _, denominator = str(stream.get("avg_frame_rate", "")).partition("/")
    if not (numerator.isdecimal() and denominator.isdecimal() and int(denominator)):
        return STILL_FRAME_RATE
    told = Fraction(int(numerator), int(denominator))
    common = [Fraction(24000, 1001), Fraction(30000, 1001), Fraction(60000, 1001)]
    near = min((*common, Fraction(round(told))), key=lambda rate: abs(rate - told))
    while near > MAX_FRAME_RATE:
        near /= 2
    return near if near >= 1 else STILL_FRAME_RATE
