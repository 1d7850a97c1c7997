"""Blocks of about a second of encoded audio, and the schedules by which they are sent."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate

from media.errors import UnsupportedError
from media.mp3.frame import FrameHeader
from media.mp3.reader import Frame
from media.ogg.headers import Link
from media.ogg.page import Page
from packager.radio.limits import LiveSourceLimits

BLOCK_SECONDS = 1
"""Target length of a block; each is written to all of a mount's listeners together."""

MAX_BYTES_PER_SECOND = 4 << 20
"""More bytes per second than any audio has; a block that claims to last less than that counts for longer."""


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """The sample rate and channels of a mount's stream, which must not change: decoders don't expect it to.

    Attributes:
        sample_rate: Hz.
        channels: 1 or 2.
    """

    sample_rate: int
    channels: int

    def matches(self, header: FrameHeader) -> bool:
        """Return whether a frame is Layer III of this format."""
        return (
            header.codec == "mp3"
            and header.sample_rate == self.sample_rate
            and header.channels == self.channels
        )


@dataclass(frozen=True, slots=True)
class OggAudio:
    """Pages of one logical Ogg stream.

    Attributes:
        link: identifies the stream: another object is another stream.
        pages: at least one, as they were received.
    """

    link: Link
    pages: tuple[Page, ...]


@dataclass(frozen=True, slots=True)
class AudioBlock:
    """Whole frames of one track, or pages of one logical Ogg stream.

    Attributes:
        duration: in ticks of ``timescale``, which are samples.
        timescale: the sample rate in Hz.
        cuts: offsets in ``data`` at which frames begin.
        ogg: the pages, in place of ``data`` and ``cuts``.
    """

    data: bytes
    duration: int
    timescale: int
    title: str
    cuts: tuple[int, ...]
    media_type: str = "audio/mpeg"
    ogg: OggAudio | None = None

    @property
    def sort(self) -> str:
        """The media type with its codec (RFC 5334 §4): players can't follow a chain into another codec."""
        return self.media_type if self.ogg is None else f"{self.media_type}; codecs={self.ogg.link.codec}"

    @property
    def seconds(self) -> Fraction:
        """The duration in seconds."""
        return Fraction(self.duration, self.timescale)

    @property
    def size(self) -> int:
        """Bytes of the frames, or of the pages."""
        return len(self.data) if self.ogg is None else sum(page.size for page in self.ogg.pages)


def beginnings(frames: Sequence[bytes]) -> tuple[int, ...]:
    """Return the offset of each frame in their concatenation."""
    # Not tuple(): one that grows while it is made isn't taken from those that CPython keeps for use again,
    # but goes there in the end, up to 2,000 of a length.
    return (*accumulate(map(len, frames[:-1]), initial=0),)


class BlockSchedule:
    """Decides when blocks are due: each when the block before has been played.

    Samples are summed up against one start time, so rounding never adds up to a drift.

    Args:
        timescale: ticks per second.
        prefill: seconds of audio that are due at once.
        late_seconds: how late the source may be and still catch up; beyond, the schedule restarts from now.
    """

    def __init__(self, timescale: int, prefill: float, late_seconds: float) -> None:
        self._timescale = timescale
        self._prefill = prefill
        self._late_seconds = late_seconds
        self._start: float | None = None
        self._ticks = 0

    def wait(self, now: float) -> float:
        """Return the seconds until the next block is due, 0 when it is.

        Args:
            now: seconds of a monotonic clock.
        """
        if self._start is None:
            self._start = now - self._prefill
        elapsed = self._ticks / self._timescale
        if now - self._start - elapsed > self._prefill + self._late_seconds:
            self._start = now - elapsed
        return max(self._start + elapsed - now, 0.0)

    def advance(self, ticks: int) -> None:
        """Note that a block of this duration was sent."""
        self._ticks += ticks


NANOSECONDS = 10**9
"""In a second: ticks in which blocks of any sample rate are counted together."""


class Throttle:
    """Makes a live source wait that sends faster than real time, whatever its sample rates and times are."""

    def __init__(self, limits: LiveSourceLimits) -> None:
        self._bytes_per_second = MAX_BYTES_PER_SECOND
        self._pace = BlockSchedule(NANOSECONDS, limits.ahead_seconds, limits.late_seconds)

    async def wait(self, block: AudioBlock) -> None:
        """Wait until a block is due."""
        await asyncio.sleep(self._pace.wait(time.monotonic()))
        # Of Ogg's pages the source alone says how long they last, which may be no time at all.
        least = block.size * NANOSECONDS // self._bytes_per_second
        self._pace.advance(max(round(block.seconds * NANOSECONDS), least))


class BlockGatherer:
    """Collects the frames of one track into blocks.

    Args:
        audio_format: every frame must have it.
        title: of the track; may be set until the first block is taken.
    """

    def __init__(self, audio_format: AudioFormat, title: str) -> None:
        self._format = audio_format
        self._data: list[bytes] = []
        self._duration = 0
        self.title = title
        self.frames = 0

    @property
    def pending(self) -> bool:
        """Whether any frame was collected since the last block."""
        return bool(self._data)

    @property
    def complete(self) -> bool:
        """Whether the collected frames fill a block."""
        return self._duration >= BLOCK_SECONDS * self._format.sample_rate

    def add(self, frame: Frame) -> None:
        """Collect a frame.

        Raises:
            UnsupportedError: its format differs from the mount's.
        """
        if not self._format.matches(frame.header):
            raise UnsupportedError(
                f"changes to {frame.header.sample_rate} Hz, {frame.header.channels} channels"
            )
        self._data.append(frame.data)
        self._duration += frame.header.samples
        self.frames += 1

    def pop(self) -> AudioBlock:
        """Return the collected frames as a block."""
        cuts = beginnings(self._data)
        data, duration = b"".join(self._data), self._duration
        self._data, self._duration = [], 0
        return AudioBlock(data, duration, self._format.sample_rate, self.title, cuts)
