"""Decodes a station's tracks with a small pool of ffmpeg processes, one per shape of track."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from pathlib import Path

import structlog

from media.errors import MalformedError, UnsupportedError
from media.mp3.bit_reservoir import BitReservoirRepair, Shape
from media.mp3.reader import Frame
from packager.ffmpeg.radio import file_decoder_arguments
from packager.process.ffmpeg_discovery import Tools, ToolsError
from packager.process.process import Process, last_error, read_only_sandbox
from packager.radio.audio_blocks import AudioFormat
from packager.radio.crossfade import SAMPLE_BYTES
from packager.radio.decoder import Decoder, in_time
from packager.radio.limits import StationLimits

log = structlog.get_logger()

MAX_DECODERS = 3
"""Most decoder processes; tracks of alternating formats then need no new process each."""


class DecoderPool:
    """The decoder processes of one station, one for each shape of its tracks.

    Args:
        audio_format: of the output, interleaved 32-bit floats.
    """

    def __init__(self, audio_format: AudioFormat, tools: Tools, limits: StationLimits) -> None:
        self._format = audio_format
        self._tools = tools
        self._limits = limits
        # In order of use, the most recent last.
        self._running: dict[Shape, Decoder] = {}

    async def track(self, frames: AsyncIterator[Frame], unheard: tuple[range, ...]) -> AsyncGenerator[bytes]:
        """Decode a track.

        Args:
            frames: all frames of the track.
            unheard: ranges of samples that aren't part of the recording, at the track's own rate.

        Yields:
            Whole samples; not much more is decoded than was asked for.

        Raises:
            MalformedError: no frame, or none of the first seconds, can be decoded.
            UnsupportedError: it has AAC frames.
            ToolsError: the decoder broke.
            TimeoutError: it hangs.
        """
        decoder: Decoder | None = None
        repair = BitReservoirRepair()
        async for shape, data in _repaired(frames, repair):
            if decoder is None or decoder.shape != shape:
                if decoder is not None:
                    yield await self._unless_broken(decoder, decoder.finish())
                    unheard = ()
                decoder = await self._ready(shape)
                decoder.begin(unheard)
            if samples := await self._unless_broken(decoder, decoder.feed(data)):
                if not repair.intact:
                    break
                yield samples
        if not repair.intact:
            raise MalformedError("no frame that can be decoded")
        if decoder is not None:
            yield await self._unless_broken(decoder, decoder.finish())

    async def stop(self) -> None:
        """Stop all processes."""
        while self._running:
            await self._running.popitem()[1].stop()

    async def _ready(self, shape: Shape) -> Decoder:
        """Return a decoder of this shape, starting it if needed; the least recently used one makes room."""
        decoder = self._running.pop(shape, None)
        if decoder is not None and decoder.has_ended:
            log.warning("an idle decoder ended", reason=decoder.reason)
            await decoder.stop()
            decoder = None
        if decoder is None:
            while len(self._running) >= MAX_DECODERS:
                await self._running.pop(next(iter(self._running))).stop()
            decoder = await Decoder.start(shape, self._format, self._tools, self._limits)
        self._running[shape] = decoder
        return decoder

    async def _unless_broken(self, decoder: Decoder, samples: Awaitable[bytes]) -> bytes:
        """Await samples; a decoder that fails is stopped and removed from the pool."""
        try:
            return await samples
        except (ToolsError, TimeoutError):
            self._running.pop(decoder.shape, None)
            await decoder.stop()
            raise


async def decode_alone(
    path: Path, audio_format: AudioFormat, tools: Tools, limits: StationLimits
) -> AsyncGenerator[bytes]:
    """Decode a track with a process of its own: free format, or another layer than III.

    Yields:
        Whole samples.

    Raises:
        ToolsError: the track can't be decoded to its end.
        TimeoutError: ffmpeg hangs.
    """
    words = file_decoder_arguments(path, audio_format.sample_rate, audio_format.channels)
    sandbox = read_only_sandbox(path)
    process = await Process.start([tools.ffmpeg, *words], sandbox=sandbox)
    unit, rest = SAMPLE_BYTES * audio_format.channels, b""
    try:
        while chunk := await in_time(process.read(), limits):
            data = rest + chunk
            rest = data[len(data) - len(data) % unit :]
            yield data[: len(data) - len(rest)]
        if await in_time(process.wait(), limits) != 0:
            raise ToolsError(last_error(process.errors))
    finally:
        await process.stop()


async def _repaired(
    frames: AsyncIterator[Frame], repair: BitReservoirRepair
) -> AsyncGenerator[tuple[Shape, bytes]]:
    async for frame in frames:
        if frame.header.codec != "mp3":
            raise UnsupportedError("AAC, not an MP3")
        for shaped in repair.feed(frame):
            yield shaped
    for shaped in repair.end():
        yield shaped
