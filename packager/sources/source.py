"""What a live channel plays: the test source, a file in a loop, a stream that is pulled or brought."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import structlog

from packager.cage import Cage
from packager.catalogue import CONTAINERS, DECODERS
from packager.ffmpeg import LOCAL_PROTOCOLS, MAX_PIXELS, Process, local_input, pipe, run
from packager.sources.keyframes import Observed, observed
from packager.sources.pump import Supply
from packager.sources.schemes import SCHEMES, is_url, redacted
from packager.tools import Tools, ToolsError

log = structlog.get_logger()

TEST_SOURCE = "testsrc"
"""The source that needs nothing: a test picture with a wall clock, and a tone."""

PROBE_SECONDS = 20.0
MAX_FRAME_RATE = 60
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0
"""Seconds between two questions to a URL that doesn't answer: doubled each time."""

SOUNDS = ("mp3", "aac")
"""Containers that have nothing but sound."""

SOUND_ANALYSE_MICROSECONDS = 200_000
"""How much of them is looked at: their first frame says everything, and more only comes with time."""

STILL_FRAME_RATE = Fraction(30)
"""Of the picture that is made where a source has only sound."""

MEMORY_BYTES = 4 << 30
"""Address space of a channel's ffmpeg, most of it for the stacks of its threads."""

ANALYSE_MICROSECONDS = 2_000_000
"""How much of a pulled stream is looked at before it is played; ffmpeg's own choice is up to 5 s."""

KNOWN = {"analyzeduration": 300_000, "fpsprobesize": 0}
"""How little an ffmpeg need look at a stream that ffprobe has seen, so that it begins at once."""

KEPT_VIDEO = ("h264", "hevc", "av1", "vp9")
KEPT_AUDIO = ("aac", "ac3", "eac3", "opus", "flac")
"""Codings that go out as they come, where a channel keeps its source's own."""

SEEN_SECONDS = 6
SEEN_FILE_SECONDS = 60
"""How much of a source is looked at for its key frames, where they are kept."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a channel's picture and sound come from.

    Attributes:
        path: a file that is played in a loop, or once.
        url: what is pulled.
        pump: what brings it to ffmpeg's standard input; where all three are None it is the test source.
        frame_rate: frames per second of what is made of it.
        has_video: whether it has a picture; without, a still one is made.
        has_audio: whether it has sound; without, silence is made.
        video_codec: ffmpeg's name of the picture's coding; empty without one.
        audio_codec: of the sound's.
        framed: whether its sound is AAC with a header on each frame, which MP4 hasn't (ADTS).
        seen: its first seconds, where its own picture is kept.
        options: ffmpeg's input options.
        inner: options with which a URL is opened.
        stream: what the pump said of its stream.
        duration: seconds of a file, where they are known.
        once: whether a file isn't looped.
    """

    path: Path | None = None
    url: str | None = None
    pump: Supply | None = None
    frame_rate: Fraction = STILL_FRAME_RATE
    has_video: bool = True
    has_audio: bool = True
    video_codec: str = ""
    audio_codec: str = ""
    framed: bool = False
    seen: Observed | None = None
    options: dict[str, Any] = field(default_factory=dict)
    inner: dict[str, Any] = field(default_factory=dict)
    stream: object = None
    duration: Fraction | None = None
    once: bool = False

    @property
    def keeps_audio(self) -> bool:
        """Whether its sound can go out as it comes."""
        return self.audio_codec in KEPT_AUDIO

    @property
    def made(self) -> bool:
        """Whether it is the test source."""
        return self.path is None and self.url is None and self.pump is None

    @property
    def feed(self) -> Callable[[Process], Coroutine[Any, Any, None]] | None:
        """What gives ffmpeg its standard input; None where it has none."""
        if self.pump is not None:
            return self.pump.give
        return None if self.url is None else self._give_script

    async def _give_script(self, process: Process) -> None:
        """Name the URL where no other process sees it: its arguments would show passwords to everybody."""
        with contextlib.suppress(BrokenPipeError):
            await process.write(self.script.encode())
            process.close_stdin()

    @property
    def script(self) -> str:
        """The URL and what it is opened with, in the words of ffmpeg's concat demuxer."""
        quoted = str(self.url).replace("'", r"'\''")
        options = "".join(f"option {name} {value}\n" for name, value in self.inner.items())
        return f"ffconcat version 1.0\nfile '{quoted}'\n{options}"

    @property
    def cage(self) -> Cage:
        """What the channel's ffmpeg may do: read its file or the network, and nothing else."""
        read = () if self.path is None else (str(self.path),)
        return Cage(read=read, network=self.url is not None, memory=MEMORY_BYTES)

    @property
    def address(self) -> str:
        """How ffmpeg's arguments name it."""
        return local_input(self.path) if self.path is not None else "pipe:0"


def playable(source: str) -> bool:
    """Tell whether a source is the test source, a file that is there, or a URL that can be pulled."""
    return source == TEST_SOURCE or is_url(source) or Path(source).expanduser().is_file()


async def inspect(source: str, tools: Tools, *, keep: bool = False) -> Source:
    """Find out what a configured source is.

    Args:
        source: ``testsrc``, a file's path, or a URL.
        tools: whose ffprobe looks into it.
        keep: whether its own picture is to be kept.

    Raises:
        ToolsError: it is none of these, or can't be read (a URL: now), or has neither picture nor sound, or
            none that can be kept.
    """
    if source == TEST_SOURCE:
        if keep:
            raise ToolsError(f"live source {source!r} is made here: it has no picture of its own to keep")
        return Source()
    found = _pulled(source, tools) if is_url(source) else await asyncio.to_thread(_located, source)
    try:
        return await _probed(found, tools, keep=keep)
    except ToolsError as error:
        raise ToolsError(f"live source {redacted(source)!r}: {str(error).replace(source, '')}") from error


async def inspect_pump(pump: Supply, tools: Tools, *, keep: bool = False) -> Source:
    """Find out what a stream is that somebody brings; wait until he does.

    Args:
        pump: which brings it.
        tools: whose ffprobe looks into it.
        keep: as for ``inspect``.

    Raises:
        ToolsError: it can't be read, or has neither picture nor sound, or none that can be kept.
    """
    await pump.flowing()
    options = {
        "f": pump.container,
        "protocol_whitelist": "pipe",
        "analyzeduration": ANALYSE_MICROSECONDS,
        **_decoding(),
    }
    source = Source(pump=pump, options=options, stream=pump.stream)
    if pump.container in SOUNDS:
        brief = {**options, "analyzeduration": SOUND_ANALYSE_MICROSECONDS}
        return replace(source, has_video=False, options=brief)
    return replace(await _probed(source, tools, keep=keep), options={**options, **KNOWN})


async def _probed(found: Source, tools: Tools, *, keep: bool) -> Source:
    """Ask ffprobe what a source has.

    Raises:
        ToolsError: it can't be read, or has neither picture nor sound, or none that can be kept.
    """
    command = [str(tools.ffprobe), "-v", "error"]
    for name, value in found.options.items():
        command += [f"-{name}", str(value)]
    if keep:
        seconds = SEEN_SECONDS if found.path is None else SEEN_FILE_SECONDS
        command += ["-show_packets", "-read_intervals", f"%+{seconds}"]
    command += ["-show_streams", "-show_format", "-of", "json", "-o", pipe(0), found.address]
    answer = json.loads(await run(command, limit=PROBE_SECONDS, cage=found.cage, feed=found.feed))
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
    return _kept(source, answer, video, audio) if keep else source


def _duration(form: dict[str, Any]) -> Fraction | None:
    """Take the seconds of a file as ffprobe tells them; None where it doesn't."""
    try:
        return Fraction(str(form.get("duration"))) or None
    except ValueError:
        return None


def _kept(
    source: Source, answer: dict[str, Any], video: dict[str, Any] | None, audio: dict[str, Any] | None
) -> Source:
    """Add what a channel must know that keeps a source's own picture."""
    if video is None or source.video_codec not in KEPT_VIDEO:
        what = f"a picture in {source.video_codec}" if source.video_codec else "no picture"
        raise ToolsError(f"it has {what}; what can be kept is {', '.join(KEPT_VIDEO)}")
    sound = audio["index"] if audio is not None and source.keeps_audio else None
    loop = source.duration if source.path is not None else None
    if loop is not None and loop > SEEN_FILE_SECONDS:
        loop = None
    return replace(source, seen=observed(answer.get("packets", ()), video["index"], sound, loop))


async def found(source: str, tools: Tools, channel: str, *, keep: bool = False) -> Source:
    """Inspect a source; a URL is asked until it answers, told once when it doesn't and once when it does.

    Args:
        source: as for ``inspect``.
        tools: likewise.
        channel: the channel's name, for the log.
        keep: as for ``inspect``.

    Raises:
        ToolsError: it isn't a URL and can't be played.
    """
    if is_url(source):
        return await _until_there(lambda: inspect(source, tools, keep=keep), channel)
    return await inspect(source, tools, keep=keep)


async def found_in(pump: Supply, tools: Tools, channel: str, *, keep: bool = False) -> Source:
    """Inspect a stream that somebody brings, until one can be read; told as by ``found``."""
    return await _until_there(lambda: inspect_pump(pump, tools, keep=keep), channel)


async def _until_there(ask: Callable[[], Awaitable[Source]], channel: str) -> Source:
    pause, told = FIRST_PAUSE, False
    while True:
        try:
            answer = await ask()
        except ToolsError as error:
            if not told:
                log.warning("source isn't there", channel=channel, reason=str(error))
            told = True
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
        else:
            if told:
                log.info("source is there", channel=channel)
            return answer


def _pulled(source: str, tools: Tools) -> Source:
    scheme = SCHEMES[urlsplit(source).scheme]
    if scheme.needs not in tools.protocols | tools.demuxers:
        raise ToolsError(f"live source {redacted(source)!r}: {tools.ffmpeg} lacks {scheme.needs}")
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
        raise ToolsError(f"live source {source!r}: {allowed}")
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
