"""Audio in blocks of about a second, and when each is due."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate

from media.errors import UnsupportedError
from media.mp3.frame import FrameHeader
from media.mp3.reader import Frame
from media.ogg.headers import Link
from media.ogg.page import Page

BLOCK_SECONDS = 1
"""Audio in one block: all listeners of a mount are written to once for each."""


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """What doesn't change in a mount's stream, since a listener's decoder doesn't expect it to.

    Attributes:
        sample_rate: Hz.
        channels: 1 or 2.
    """

    sample_rate: int
    channels: int

    def matches(self, header: FrameHeader) -> bool:
        """Tell whether a frame sounds so; only Layer III does."""
        return (
            header.codec == "mp3"
            and header.sample_rate == self.sample_rate
            and header.channels == self.channels
        )


@dataclass(frozen=True, slots=True)
class OggAudio:
    """Pages of one logical stream.

    Attributes:
        link: the stream; it is another one where that is another object.
        pages: as they came, at least one.
    """

    link: Link
    pages: tuple[Page, ...]


@dataclass(frozen=True, slots=True)
class AudioBlock:
    """Whole frames of one track, or pages of one logical Ogg stream.

    Attributes:
        data: the frames.
        duration: in samples, that is ticks of ``timescale``.
        timescale: the sample rate in Hz.
        title: of the track.
        cuts: where frames begin in ``data``.
        media_type: of the frames; a listener's stream has one.
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
        """The type with the codec (RFC 5334 §4): FFmpeg's players can't follow a chain into another one."""
        return self.media_type if self.ogg is None else f"{self.media_type}; codecs={self.ogg.link.codec}"

    @property
    def seconds(self) -> Fraction:
        """Its duration."""
        return Fraction(self.duration, self.timescale)


def beginnings(frames: Sequence[bytes]) -> tuple[int, ...]:
    """Tell where each frame begins when all are joined."""
    # Not tuple(): one that grows while it is made isn't taken from those that CPython keeps for use again,
    # but goes there in the end, up to 2,000 of a length.
    return (*accumulate(map(len, frames[:-1]), initial=0),)


class BlockSchedule:
    """Tells when audio is due: each block when the one before it has been heard.

    The sum of samples is measured against one start, so that waits never add up to a drift.

    Args:
        timescale: ticks per second.
        prefill: seconds of audio that are due at once.
        late_seconds: how late the source may be and still make it up; after more it goes on from now.
    """

    def __init__(self, timescale: int, prefill: float, late_seconds: float) -> None:
        self._timescale = timescale
        self._prefill = prefill
        self._late_seconds = late_seconds
        self._start: float | None = None
        self._ticks = 0

    def wait(self, now: float) -> float:
        """Give the seconds until the next block is due, 0 when it is.

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
        """Take note that a block of this duration went out."""
        self._ticks += ticks


class BlockGatherer:
    """Gathers the frames of one track into blocks.

    Args:
        sound: of the mount.
        title: of the track; may be set until the first block is taken.
    """

    def __init__(self, sound: AudioFormat, title: str) -> None:
        self._sound = sound
        self._data: list[bytes] = []
        self._duration = 0
        self.title = title
        self.frames = 0

    @property
    def pending(self) -> bool:
        """Whether there is anything to take."""
        return bool(self._data)

    @property
    def complete(self) -> bool:
        """Whether a block's worth is there."""
        return self._duration >= BLOCK_SECONDS * self._sound.sample_rate

    def add(self, frame: Frame) -> None:
        """Take a frame of the track.

        Raises:
            UnsupportedError: the track changes its sound in its middle.
        """
        if not self._sound.matches(frame.header):
            raise UnsupportedError(
                f"changes to {frame.header.sample_rate} Hz, {frame.header.channels} channels"
            )
        self._data.append(frame.data)
        self._duration += frame.header.samples
        self.frames += 1

    def take(self) -> AudioBlock:
        """Give what is gathered."""
        cuts = beginnings(self._data)
        data, duration = b"".join(self._data), self._duration
        self._data, self._duration = [], 0
        return AudioBlock(data, duration, self._sound.sample_rate, self.title, cuts)
