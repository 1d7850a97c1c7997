"""Decodes track after track with one ffmpeg process, telling them apart by counting samples.

Silence is sent behind each track's last frame; it flushes the decoder, and its samples are discarded.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Iterator
from typing import TypeVar

from media.mp3.bit_reservoir import Shape
from packager.ffmpeg.radio import decoder_arguments
from packager.process.ffmpeg_discovery import Tools, ToolsError
from packager.process.process import Process, last_error
from packager.radio.audio_blocks import AudioFormat
from packager.radio.crossfade import SAMPLE_BYTES
from packager.radio.limits import StationLimits
from packager.step_budget import StepBudget

T = TypeVar("T")

FIRST_FRAMES = 8
"""Frames of silence that ffmpeg is given first, so that it doesn't probe a track to detect its format."""

LAST_FRAMES = 5
"""Frames of silence behind a track: two for the delay of decoder and resampler, and 1,024 bytes, which the
demuxer reads at once (each frame has at least 480: 160 kbit/s, 576 samples at 24 kHz).
"""

AHEAD_SECONDS = 2.0
"""Most seconds of audio inside a decoder: more than the 1,024 bytes it waits for, at 8 kbit/s."""

BATCH_SECONDS = 0.5
"""Seconds of audio that are written to a decoder at once."""


class Decoder:
    """A running ffmpeg that decodes frames of one shape; made by ``start``.

    Attributes:
        shape: of all frames that are fed.
    """

    def __init__(
        self, process: Process, shape: Shape, audio_format: AudioFormat, limits: StationLimits
    ) -> None:
        self.shape = shape
        self._limits = limits
        self._process = process
        self._rate = audio_format.sample_rate
        self._unit = SAMPLE_BYTES * audio_format.channels
        self._batch = bytearray()
        self._budget = StepBudget()
        self._batched = 0
        # Samples written, at the shape's rate, and read, at the mount's.
        self._written = 0
        self._position = 0
        self._rest = b""
        # Ranges of output positions to discard, in ascending order.
        self._unheard: tuple[range, ...] = ()

    @classmethod
    async def start(
        cls, shape: Shape, audio_format: AudioFormat, tools: Tools, limits: StationLimits
    ) -> Decoder:
        """Start the process.

        Raises:
            ToolsError: it can't be started.
        """
        words = decoder_arguments(audio_format.sample_rate, audio_format.channels)
        process = await Process.start([tools.ffmpeg, *words], stdin=True)
        decoder = cls(process, shape, audio_format, limits)
        decoder._add(shape.silence, FIRST_FRAMES)
        await decoder._send()
        return decoder

    @property
    def has_ended(self) -> bool:
        """Whether the process ended without being stopped."""
        return self._process.returncode is not None

    @property
    def reason(self) -> str:
        """The last line of the process's errors."""
        return last_error(self._process.errors)

    def begin(self, unheard: tuple[range, ...]) -> None:
        """Begin a track, discarding what is left of the previous one.

        Args:
            unheard: ranges of the track's samples to discard, counted at its own rate.
        """
        self._batch.clear()
        self._batched = 0
        start = self._written
        parts = (range(self._at(start + part.start), self._at(start + part.stop)) for part in unheard)
        self._unheard = (range(self._at(start)), *parts)

    async def feed(self, frame: bytes) -> bytes:
        """Decode the track's next frame; return the samples that are ready.

        Args:
            frame: whole, of the decoder's shape, and decodable.

        Returns:
            Samples that are due.

        Raises:
            ToolsError: the decoder broke.
            TimeoutError: it hangs.
        """
        self._add(frame)
        if self._batched < BATCH_SECONDS * self.shape.sample_rate:
            return b""
        await self._send()
        ahead = round(AHEAD_SECONDS * self._rate)
        return await self._read(self._at(self._written) - ahead)

    async def finish(self) -> bytes:
        """End the track.

        Returns:
            The rest of its samples.

        Raises:
            ToolsError: the decoder broke.
            TimeoutError: it hangs, or has lost frames.
        """
        end = self._at(self._written + self._batched)
        earlier = (
            part for part in self._unheard if part.start < end
        )  # the track may be shorter than its Info frame says
        self._unheard = (*earlier, range(end, sys.maxsize))
        self._add(self.shape.silence, LAST_FRAMES)
        await self._send()
        return await self._read(end)

    async def stop(self) -> None:
        """End the process, closing its input first: ffmpeg ignores signals while it reads."""
        self._process.close_stdin()
        await self._process.stop()

    def _at(self, samples: int) -> int:
        """Convert a sample position from the input rate to the output rate."""
        return (2 * samples * self._rate + self.shape.sample_rate) // (2 * self.shape.sample_rate)

    def _add(self, frame: bytes, count: int = 1) -> None:
        self._batch += frame * count
        self._batched += self.shape.samples * count

    async def _send(self) -> None:
        batch = bytes(self._batch)
        self._batch.clear()
        self._written += self._batched
        self._batched = 0
        # A fast decoder never makes us wait: yield to the loop ourselves.
        await self._budget.spend()
        try:
            # Can't deadlock with the reads: no more than ``decoder_ahead_seconds`` is inside, which is less
            # than the pipes hold.
            await in_time(self._process.write(batch), self._limits)
        except BrokenPipeError as error:
            raise ToolsError(f"the decoder broke: {self.reason or 'it ended'}") from error

    async def _read(self, until: int) -> bytes:
        """Read at least up to a position; return the samples that are not discarded."""
        heard: list[bytes] = []
        while self._position < until:
            data = self._rest + await in_time(self._process.read(), self._limits)
            if len(data) == len(self._rest):
                raise ToolsError(f"the decoder broke: {self.reason or 'it ended'}")
            count = len(data) // self._unit
            self._rest = data[count * self._unit :]
            heard += self._heard(self._position, count, data)
            self._position += count
            if self._position > self._at(self._written):
                raise ToolsError("the decoder returns more audio than the track has")
        return b"".join(heard)

    def _heard(self, first: int, count: int, data: bytes) -> Iterator[bytes]:
        start = 0
        for unheard in (*self._unheard, range(first + count, first + count)):
            stop = min(max(unheard.start - first, start), count)
            yield data[start * self._unit : stop * self._unit]
            start = min(max(unheard.stop - first, start), count)


async def in_time(awaitable: Awaitable[T], limits: StationLimits) -> T:
    """Await an ffmpeg operation for at most ``ffmpeg_seconds``."""
    async with asyncio.timeout(limits.ffmpeg_seconds):
        return await awaitable
