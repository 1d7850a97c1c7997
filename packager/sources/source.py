"""The source of a live channel: the test source, a file, a pulled URL or a supplied stream."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from media.packets import StreamTrack
from packager.ffmpeg.arguments import local_input
from packager.ffmpeg.live import LiveInput
from packager.process.process import Process
from packager.process.sandbox import Sandbox
from packager.segment.keyframe_cadence import KeyframePattern
from packager.sources.publication import Publication
from packager.sources.published_source import PublishedSource
from packager.sources.pump import Supply
from packager.sources.schemes import SCHEMES, outgoing_ports

TEST_SOURCE = "testsrc"
"""The name of the test source: a test picture with a clock, and a tone."""

STILL_FRAME_RATE = Fraction(30)
"""Frame rate of the still picture for a source without video."""

MEMORY_BYTES = 4 << 30
"""Address space of a channel's ffmpeg, mostly for threads' stacks."""

KEPT_VIDEO = ("h264", "hevc", "av1", "vp9")
KEPT_AUDIO = ("aac", "ac3", "eac3", "opus", "flac")
"""Codecs that can be passed through without encoding."""


MAX_FRAME_RATE, MAX_COPIED_FRAME_RATE = 60, 240


def usual_frame_rate(told: Fraction, most: int = MAX_FRAME_RATE) -> Fraction:
    """Return the usual frame rate that is nearest, halved until it is ``most``; 30 if there is none."""
    common = [Fraction(24000, 1001), Fraction(30000, 1001), Fraction(60000, 1001)]
    near = min((*common, Fraction(round(told))), key=lambda rate: abs(rate - told))
    while near > most:
        near /= 2
    return near if near >= 1 else STILL_FRAME_RATE


@dataclass(frozen=True, slots=True)
class Source:
    """Where a live channel's stream comes from, and what ffprobe has found there.

    Attributes:
        url: a URL that ffmpeg fetches.
        pump: supplies the stream on ffmpeg's standard input; if all three are None, it is the test source.
        frame_rate: frames per second of the encoded video.
        has_video: whether it has video; if not, a still picture is made.
        has_audio: whether it has audio; if not, silence is made.
        video_codec: ffmpeg's name of the video codec; empty without video.
        audio_codec: ffmpeg's name of the audio codec; empty without audio.
        size: width and height of the video in pixels; 0 where it isn't known.
        framed: whether the audio is AAC with ADTS headers, which MP4 doesn't have.
        seen: key frames of its first seconds, if its video is passed through.
        inner: ffmpeg's options for opening ``url``.
        stream: the format of the supplied stream, see ``Supply``.
        publication: the publication that was inspected; None where the stream isn't published.
        tracks: of a publication that is demuxed here for ffmpeg; none if ffmpeg gets it as it comes.
        duration: a file's duration in seconds, if known.
        once: whether a file isn't looped.
        copied: the publications whose picture and sound go out without an ffmpeg; None where one plays it.
        further: of these, the tracks of the pictures that are the channel's other renditions.
        began: when its first picture came, by the monotonic clock; None where that isn't known.
    """

    path: Path | None = None
    url: str | None = field(default=None, repr=False)
    pump: Supply | None = None
    frame_rate: Fraction = STILL_FRAME_RATE
    has_video: bool = True
    has_audio: bool = True
    video_codec: str = ""
    audio_codec: str = ""
    size: tuple[int, int] = (0, 0)
    framed: bool = False
    seen: KeyframePattern | None = None
    options: dict[str, Any] = field(default_factory=dict)
    inner: dict[str, Any] = field(default_factory=dict)
    stream: object = None
    publication: Publication | None = None
    tracks: tuple[StreamTrack, ...] = ()
    duration: Fraction | None = None
    once: bool = False
    copied: PublishedSource | None = None
    further: tuple[int, ...] = ()
    began: float | None = None

    @property
    def keeps_audio(self) -> bool:
        """Whether its audio can be passed through."""
        return self.audio_codec in KEPT_AUDIO

    @property
    def made(self) -> bool:
        """Whether the source is the test source."""
        return self.path is None and self.url is None and self.pump is None

    def feed_since(self, oldest: float | None) -> Callable[[Process], Coroutine[Any, Any, None]] | None:
        """Return ``feed`` for the run that plays a published stream from its beginning, as far as it is kept.

        Args:
            oldest: a moment of the monotonic clock; earlier data isn't played. None: as ``feed`` does.
        """
        if isinstance(self.pump, PublishedSource) and oldest is not None:
            return functools.partial(self.pump.feed, tracks=self.tracks, oldest=oldest)
        return self.feed

    def begins_at(self, oldest: float | None) -> float | None:
        """Return when the first picture came that ``feed_since`` feeds; see ``PublishedSource``."""
        if not isinstance(self.pump, PublishedSource) or not self.input.is_paced:
            return None
        return self.pump.begins_at(oldest)

    @property
    def feed(self) -> Callable[[Process], Coroutine[Any, Any, None]] | None:
        """The function that writes ffmpeg's standard input; None if it has none."""
        if isinstance(self.pump, PublishedSource) and self.tracks:
            return functools.partial(self.pump.feed, tracks=self.tracks)
        if self.pump is not None:
            return self.pump.feed
        return None if self.url is None else self._give_script

    async def _give_script(self, process: Process) -> None:
        """Write the URL to standard input, since other processes can see arguments."""
        with contextlib.suppress(BrokenPipeError):
            await process.write(self.script.encode())
            process.close_stdin()

    @property
    def script(self) -> str:
        """The URL and its options as a script of ffmpeg's concat demuxer."""
        quoted = str(self.url).replace("'", r"'\''")
        options = "".join(f"option {name} {value}\n" for name, value in self.inner.items())
        return f"ffconcat version 1.0\nfile '{quoted}'\n{options}"

    @property
    def sandbox(self) -> Sandbox:
        """The sandbox of the channel's ffmpeg: it may read the file, or connect to the URL's port."""
        read = () if self.path is None else (str(self.path),)
        tcp_port, udp = (0, False) if self.url is None else outgoing_ports(self.url)
        return Sandbox(read=read, tcp_port=tcp_port, udp=udp, memory=MEMORY_BYTES)

    @property
    def input(self) -> LiveInput:
        """The input for ``packager.ffmpeg.live``."""
        if self.path is not None:
            is_paced = False
        elif isinstance(self.pump, PublishedSource):
            # A stream that is demuxed here comes to ffmpeg at its own pace.
            is_demuxed = bool(self.tracks) and self.pump.may_demux
            is_paced = self.pump.paced or is_demuxed or self.pump.has_packets
        elif self.pump is not None:
            is_paced = self.pump.paced
        else:
            is_paced = self.url is not None and SCHEMES[urlsplit(self.url).scheme].paced
        return LiveInput(
            address="" if self.made else self.address,
            options=self.options,
            is_looped=self.path is not None and not self.once,
            is_paced=is_paced,
            has_video=self.has_video,
            has_audio=self.has_audio,
            video_codec=self.video_codec,
            keeps_audio=self.keeps_audio,
            is_framed=self.framed,
            is_played_once=self.once,
            duration=self.duration,
        )

    @property
    def address(self) -> str:
        """The URL of the input in ffmpeg's arguments."""
        return local_input(self.path) if self.path is not None else "pipe:0"
