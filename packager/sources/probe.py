"""Inspection of a live channel's source with ffprobe, repeated until a URL answers."""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import structlog

from media.packets import StreamTrack
from packager.ffmpeg.arguments import LOCAL_PROTOCOLS, MAX_PIXELS, probe_arguments
from packager.ffmpeg.ladder import Rung
from packager.library.file_endings import CONTAINERS
from packager.library.file_probe import DECODERS
from packager.process.ffmpeg_discovery import BusyError, Tools, ToolsError
from packager.process.process import Process, run
from packager.redaction import redacted_url
from packager.retry_policy import FailureCount, RetryPolicy
from packager.segment.keyframe_cadence import KeyframePattern, observe_keyframes
from packager.sources.copy_probe import find_tracks, inspect_demuxed
from packager.sources.demuxing import container_for
from packager.sources.limits import DEFAULT_LIMITS, SourceLimits
from packager.sources.published_source import PublishedSource
from packager.sources.pump import Supply
from packager.sources.schemes import OPENED_FORMATS, SCHEMES, is_url, without_url_secrets
from packager.sources.source import KEPT_VIDEO, STILL_FRAME_RATE, TEST_SOURCE, Source, usual_frame_rate
from packager.threads import SHARED_THREADS

log = structlog.get_logger()

SOUNDS = ("mp3", "aac", "ogg")
"""Containers that have audio only."""

SOUND_ANALYSE_MICROSECONDS = 200_000
"""ffprobe's analyzeduration for audio containers, whose first frame is sufficient."""

ANALYSE_MICROSECONDS = 2_000_000
"""ffmpeg's analyzeduration for pulled streams; its default is up to 5 s."""

PUBLISHED = {"analyzeduration": 500_000, "fpsprobesize": 5}
"""ffprobe's look at a publisher's stream, whose viewers wait for it: of FLV it would see forty frames to
reckon their rate, and of MPEG-TS all that it may."""

KNOWN = {"analyzeduration": 300_000, "fpsprobesize": 0}
"""Short analysis for a stream that ffprobe has inspected, so that ffmpeg begins at once."""


LOW_DELAY = {"thread_type": "slice"}
"""ffmpeg's option for decoding each picture as soon as it comes: otherwise it waits for as many pictures as
there are processors, which takes seconds of a stream with a picture in each."""

LOW_DELAY_PIXELS = 1920 * 1088
"""Largest picture that one processor decodes in time."""


def playable(source: str) -> bool:
    """Return whether a source is the test source, a file that is there, or a URL that can be pulled."""
    return source == TEST_SOURCE or is_url(source) or Path(source).expanduser().is_file()


async def inspect_source(
    source: str, tools: Tools, limits: SourceLimits = DEFAULT_LIMITS, *, keep: bool = False, by: str = ""
) -> Source:
    """Inspect a configured source.

    Args:
        source: ``testsrc``, a file's path, or a URL.
        keep: whether the source's video is passed through without encoding.
        by: the local URL of a relay that ffmpeg fetches in its place, or empty.

    Raises:
        ToolsError: the source is none of these, can't be read now, has neither video nor audio, or has video
            that can't be passed through.
    """
    if source == TEST_SOURCE:
        if keep:
            raise ToolsError(f"live source {source!r} is made here: it has no picture of its own to keep")
        return Source()
    found = url_source(by or source, tools) if is_url(source) else await SHARED_THREADS.run(_located, source)
    try:
        return await probe_streams(found, tools, limits, keep=keep)
    except ToolsError as error:
        # A temporary lack of resources stays a BusyError, so that the source isn't given up.
        kind = BusyError if isinstance(error, BusyError) else ToolsError
        told = without_url_secrets(without_url_secrets(str(error), source), by or source)
        raise kind(f"live source {redacted_url(source)!r}: {told}") from error


Feeding = Callable[[Process], Awaitable[None]]
"""Writes a stream to the standard input of an ffprobe."""


async def inspect_supply(
    pump: Supply,
    tools: Tools,
    limits: SourceLimits = DEFAULT_LIMITS,
    *,
    keep: bool = False,
    copied: Sequence[Rung] = (),
    former: Source | None = None,
) -> Source:
    """Wait for a supplied stream, and inspect it.

    Args:
        keep: whether the source's video is passed through without encoding.
        copied: the channel's video renditions, where a publisher can send them: then no ffmpeg is needed.
        former: the result of the last inspection, whose key frames stand for those of the same publication
            with another format: viewers miss what comes while more of them are waited for.

    Raises:
        ToolsError: it can't be read, has neither video nor audio, or has video that can't be passed through.
    """
    if not isinstance(pump, PublishedSource):
        await pump.wait_until_flowing()
        return await _inspect_by_ffprobe(pump, pump.feed, tools, limits, keep=keep)
    looks = 0
    while True:
        await pump.wait_until_flowing()
        publication, stream = pump.live, pump.stream
        looks += 1
        known = former if former is not None and former.publication is publication else None
        try:
            found = await inspect_demuxed(pump, copied, limits, known) if copied else None
            if found is not None and found.copied is None:
                options = _options(pump, found.tracks) | KNOWN | _decoding_of(found.size)
                found = replace(found, options=options)
            if found is None and (not copied or pump.stream == stream or looks >= limits.looks):
                tracks = await find_tracks(pump, limits, keep=keep)
                give = functools.partial(pump.feed_only, publication, tracks=tracks)
                found = await _inspect_by_ffprobe(
                    pump, give, tools, limits, keep=keep, tracks=tracks, former=known
                )
        except ToolsError:
            has_changed = pump.stream != stream and looks < limits.looks
            # A publication that took its place meanwhile isn't to blame for the error.
            if pump.live is None or (pump.live is publication and not has_changed):
                raise
        else:
            # Sound came later, or the encoder changed something, while it was looked at.
            has_changed = pump.stream != stream and looks < limits.looks
            if found is not None and pump.live is publication and not has_changed:
                began = None if publication is None else publication.playable_since
                return replace(found, stream=pump.stream, publication=publication, began=began)


async def _inspect_by_ffprobe(
    pump: Supply,
    give: Feeding,
    tools: Tools,
    limits: SourceLimits,
    *,
    keep: bool,
    tracks: tuple[StreamTrack, ...] = (),
    former: Source | None = None,
) -> Source:
    """Inspect a stream that flows, which a function gives to ffprobe.

    Args:
        tracks: as in ``Source``.
        former: as for ``inspect_supply``.

    Raises:
        ToolsError: as ``inspect_supply``.
    """
    options = _options(pump, tracks)
    source = Source(pump=pump, options=options, stream=pump.stream, tracks=tracks)
    if pump.container in SOUNDS:
        brief = {**options, "analyzeduration": SOUND_ANALYSE_MICROSECONDS}
        return replace(source, has_video=False, options=brief)
    found = await probe_streams(source, tools, limits, keep=keep, feed=give, former=former)
    low_delay = _decoding_of(found.size) if isinstance(pump, PublishedSource) else {}
    return replace(found, options={**options, **KNOWN, **low_delay})


def _decoding_of(size: tuple[int, int]) -> dict[str, Any]:
    """Return ffmpeg's options for decoding a publisher's pictures of a size."""
    return LOW_DELAY if 0 < size[0] * size[1] <= LOW_DELAY_PIXELS else {}


def _options(pump: Supply, tracks: Sequence[StreamTrack] = ()) -> dict[str, Any]:
    """Return ffprobe's options for a stream that is supplied; ``tracks`` are as in ``Source``."""
    container = container_for(tracks) if tracks else pump.container
    options = {
        **({"f": container} if container else {"format_whitelist": OPENED_FORMATS}),
        "protocol_whitelist": "pipe",
        "analyzeduration": ANALYSE_MICROSECONDS,
        **_decoding(),
    }
    return options | PUBLISHED if isinstance(pump, PublishedSource) else options


async def probe_streams(
    found: Source,
    tools: Tools,
    limits: SourceLimits,
    *,
    keep: bool = False,
    feed: Feeding | None = None,
    former: Source | None = None,
) -> Source:
    """Ask ffprobe for the streams of a source, which it is given as it would be played, or by ``feed``.

    Args:
        former: as for ``inspect_supply``.

    Raises:
        ToolsError: it can't be read, has neither video nor audio, or has video that can't be passed through.
    """
    questions = ["-show_streams", "-show_format"]
    seen = None if former is None else former.seen
    if keep and seen is None:
        seconds = limits.seen_seconds if found.path is None else limits.seen_file_seconds
        questions += ["-show_packets", "-read_intervals", f"%+{seconds}"]
    command: list[str | Path] = [tools.ffprobe, *probe_arguments(found.address, found.options, *questions)]
    told = await run(
        command,
        limit=limits.probe_seconds,
        sandbox=found.sandbox,
        feed=feed or found.feed,
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
        size=_size(video or {}),
        audio_codec="" if audio is None else str(audio.get("codec_name", "")),
        framed=audio is not None and audio.get("codec_name") == "aac" and not audio.get("extradata_size"),
        duration=_duration(answer.get("format", {})),
    )
    return _kept(source, answer, (video, audio), limits, seen) if keep else source


def _size(video: dict[str, Any]) -> tuple[int, int]:
    width, height = video.get("width"), video.get("height")
    return (width, height) if isinstance(width, int) and isinstance(height, int) else (0, 0)


def _duration(form: dict[str, Any]) -> Fraction | None:
    """Return a file's duration in seconds as ffprobe gives it; None if unknown."""
    try:
        return Fraction(str(form.get("duration"))) or None
    except ValueError:
        return None


def _kept(
    source: Source,
    answer: dict[str, Any],
    streams: tuple[dict[str, Any] | None, dict[str, Any] | None],
    limits: SourceLimits,
    seen: KeyframePattern | None,
) -> Source:
    """Add what a channel needs to pass the source's video through: its first key frames.

    Args:
        seen: these, if they are known.
    """
    video, audio = streams
    if video is None or source.video_codec not in KEPT_VIDEO:
        what = f"a picture in {source.video_codec}" if source.video_codec else "no picture"
        raise ToolsError(f"it has {what}; what can be kept is {', '.join(KEPT_VIDEO)}")
    sound = audio["index"] if audio is not None and source.keeps_audio else None
    loop = source.duration if source.path is not None else None
    if loop is not None and loop > limits.seen_file_seconds:
        loop = None
    seen = seen or observe_keyframes(answer.get("packets", ()), video["index"], sound, loop)
    rate = usual_frame_rate(1 / seen.picture_frame) if seen.picture_frame else source.frame_rate
    return replace(source, seen=seen, frame_rate=rate)


async def wait_for_source(
    source: str,
    tools: Tools,
    channel: str,
    *,
    keep: bool = False,
    by: str = "",
    limits: SourceLimits = DEFAULT_LIMITS,
    on_failure: Callable[[ToolsError], None] = lambda _: None,
) -> Source:
    """Inspect a source, a URL until it answers; log the first failure and the recovery.

    The arguments are those of ``inspect_source``, the channel's name for the log, and what is called with
    each failure of a URL.

    Raises:
        ToolsError: the source isn't a URL and can't be played.
    """
    if is_url(source):
        return await _until_there(
            lambda: inspect_source(source, tools, limits, keep=keep, by=by), channel, limits.retry, on_failure
        )
    return await inspect_source(source, tools, limits, keep=keep)


async def wait_for_supply(
    pump: Supply,
    tools: Tools,
    channel: str,
    *,
    keep: bool = False,
    copied: Sequence[Rung] = (),
    former: Source | None = None,
    limits: SourceLimits = DEFAULT_LIMITS,
    on_failure: Callable[[ToolsError], None] = lambda _: None,
) -> Source:
    """Inspect a supplied stream until one can be read; log as ``wait_for_source`` does.

    Args:
        pump: as for ``inspect_supply``.
        channel: the channel's name, for the log.
        keep: as for ``inspect_supply``.
        former: as for ``inspect_supply``.
    """
    return await _until_there(
        lambda: inspect_supply(pump, tools, limits, keep=keep, copied=copied, former=former),
        channel,
        limits.retry,
        on_failure,
    )


async def _until_there(
    ask: Callable[[], Awaitable[Source]],
    channel: str,
    policy: RetryPolicy,
    on_failure: Callable[[ToolsError], None],
) -> Source:
    count = FailureCount(policy)
    while True:
        try:
            answer = await ask()
        except ToolsError as error:
            if not count.failures:
                log.warning("source isn't there", channel=channel, reason=str(error))
            on_failure(error)
            await asyncio.sleep(count.failed())
        else:
            if count.failures:
                log.info("source is there", channel=channel)
            return answer


def url_source(source: str, tools: Tools) -> Source:
    """Make the ``Source`` of a URL, with the options for ffmpeg to fetch it.

    Raises:
        ToolsError: this ffmpeg lacks the protocol.
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
    """Return whether a stream is video and not cover art."""
    return stream.get("codec_type") == "video" and not stream.get("disposition", {}).get("attached_pic")


def frame_rate(stream: dict[str, Any]) -> Fraction:
    """Return a stream's frame rate as ffprobe gives it, at most ``MAX_FRAME_RATE``; 30 if unknown."""
    numerator, _, denominator = str(stream.get("avg_frame_rate", "")).partition("/")
    if not (numerator.isdecimal() and denominator.isdecimal() and int(denominator)):
        return STILL_FRAME_RATE
    return usual_frame_rate(Fraction(int(numerator), int(denominator)))
