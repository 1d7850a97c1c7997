"""What a live channel plays: the test source, a file in a loop, a stream that is pulled or brought."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from packager.ffmpeg.arguments import local_input
from packager.ffmpeg.live import LiveInput
from packager.process.process import Process
from packager.process.sandbox import Sandbox
from packager.segment.keyframe_cadence import KeyframePattern
from packager.sources.pump import Supply
from packager.sources.schemes import SCHEMES, outgoing_ports

TEST_SOURCE = "testsrc"
"""The source that needs nothing: a test picture with a wall clock, and a tone."""

STILL_FRAME_RATE = Fraction(30)
"""Of the picture that is made where a source has only sound."""

MEMORY_BYTES = 4 << 30
"""Address space of a channel's ffmpeg, most of it for the stacks of its threads."""

KEPT_VIDEO = ("h264", "hevc", "av1", "vp9")
KEPT_AUDIO = ("aac", "ac3", "eac3", "opus", "flac")
"""Codings that go out as they come, where a channel keeps its source's own."""


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
    url: str | None = field(default=None, repr=False)
    pump: Supply | None = None
    frame_rate: Fraction = STILL_FRAME_RATE
    has_video: bool = True
    has_audio: bool = True
    video_codec: str = ""
    audio_codec: str = ""
    framed: bool = False
    seen: KeyframePattern | None = None
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
    def sandbox(self) -> Sandbox:
        """What the channel's ffmpeg may do: read its file, or reach its URL's port, and nothing else."""
        read = () if self.path is None else (str(self.path),)
        tcp_port, udp = (0, False) if self.url is None else outgoing_ports(self.url)
        return Sandbox(read=read, tcp_port=tcp_port, udp=udp, memory=MEMORY_BYTES)

    @property
    def input(self) -> LiveInput:
        """What the channel's ffmpeg is told of it."""
        if self.path is not None:
            is_paced = False
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
        """How ffmpeg's arguments name it."""
        return local_input(self.path) if self.path is not None else "pipe:0"
