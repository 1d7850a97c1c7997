"""Tracks to samples, by as few processes as there are shapes of tracks, however many tracks there are."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from pathlib import Path

import structlog

from media.errors import MalformedError, UnsupportedError
from media.mp3.layer3 import BitReservoirRepair, Shape
from media.mp3.reader import Frame
from packager.ffmpeg.radio import file_decoder_arguments
from packager.process.process import Process, last_error, reading
from packager.process.tools import Tools, ToolsError
from packager.radio.audio_blocks import AudioFormat
from packager.radio.crossfade import SAMPLE_BYTES
from packager.radio.decoder import Decoder, in_time
from packager.radio.limits import StationLimits

log = structlog.get_logger()


class Decoders:
    """The decoders of one station, one for each shape that its tracks have; see ``track``.

    Args:
        sound: of the samples that they give, which are interleaved floats of 32 bits.
        tools: ffmpeg.
        limits: how many there are, and how long each may take.
    """

    def __init__(self, sound: AudioFormat, tools: Tools, limits: StationLimits) -> None:
        self._sound = sound
        self._tools = tools
        self._limits = limits
        # The one that was used last is last.
        self._running: dict[Shape, Decoder] = {}

    async def track(self, frames: AsyncIterator[Frame], unheard: tuple[range, ...]) -> AsyncGenerator[bytes]:
        """Decode a track.

        Args:
            frames: all of it.
            unheard: samples that aren't of the recording, counted at the track's own rate.

        Yields:
            Whole samples; not much more is decoded than was asked for.

        Raises:
            MalformedError: no frame can be decoded, of all or of the first seconds.
            UnsupportedError: there are frames of AAC.
            ToolsError: the decoder broke.
            TimeoutError: it hangs.
        """
        decoder: Decoder | None = None
        mender = BitReservoirRepair()
        async for shape, data in _mended(frames, mender):
            if decoder is None or decoder.shape != shape:
                if decoder is not None:
                    yield await self._unless_broken(decoder, decoder.finish())
                    unheard = ()
                decoder = await self._ready(shape)
                decoder.begin(unheard)
            if samples := await self._unless_broken(decoder, decoder.feed(data)):
                if not mender.intact:
                    break
                yield samples
        if not mender.intact:
            raise MalformedError("no frame that can be decoded")
        if decoder is not None:
            yield await self._unless_broken(decoder, decoder.finish())

    async def stop(self) -> None:
        """End all."""
        while self._running:
            await self._running.popitem()[1].stop()

    async def _ready(self, shape: Shape) -> Decoder:
        """Give the decoder of a shape; start it where there is none, and end the one that rested longest."""
        decoder = self._running.pop(shape, None)
        if decoder is not None and decoder.has_ended:
            log.warning("a resting decoder ended", reason=decoder.reason)
            await decoder.stop()
            decoder = None
        if decoder is None:
            while len(self._running) >= self._limits.decoders:
                await self._running.pop(next(iter(self._running))).stop()
            decoder = await Decoder.start(shape, self._sound, self._tools, self._limits)
        self._running[shape] = decoder
        return decoder

    async def _unless_broken(self, decoder: Decoder, samples: Awaitable[bytes]) -> bytes:
        """Wait for samples; a decoder that can't give them is ended, and the next track has a new one."""
        try:
            return await samples
        except (ToolsError, TimeoutError):
            self._running.pop(decoder.shape, None)
            await decoder.stop()
            raise


async def decode_alone(
    path: Path, sound: AudioFormat, tools: Tools, limits: StationLimits
) -> AsyncGenerator[bytes]:
    """Decode what isn't Layer III of a bitrate that its frames tell: by a process for this track alone.

    Args:
        path: of MPEG audio of any layer, or of free format.
        sound: of the samples.
        tools: ffmpeg.
        limits: how long it may take.

    Yields:
        Whole samples.

    Raises:
        ToolsError: the track can't be decoded to its end.
        TimeoutError: ffmpeg hangs.
    """
    words = file_decoder_arguments(path, sound.sample_rate, sound.channels)
    process = await Process.start([tools.ffmpeg, *words], sandbox=reading(path))
    unit, rest = SAMPLE_BYTES * sound.channels, b""
    try:
        while chunk := await in_time(process.read(), limits):
            data = rest + chunk
            rest = data[len(data) - len(data) % unit :]
            yield data[: len(data) - len(rest)]
        if await in_time(process.wait(), limits) != 0:
            raise ToolsError(last_error(process.errors))
    finally:
        await process.stop()


async def _mended(
    frames: AsyncIterator[Frame], mender: BitReservoirRepair
) -> AsyncGenerator[tuple[Shape, bytes]]:
    async for frame in frames:
        if frame.header.codec != "mp3":
            raise UnsupportedError("AAC, not an MP3")
        for piece in mender.feed(frame):
            yield piece
    for piece in mender.end():
        yield piece
