"""One encoder for all the tracks that don't fit a mount: it runs on from track to track, so nothing gaps.

Each track has a short-lived decoder, whose samples go into the encoder behind those of the track before, or
faded into them. The encoder's frames come out in order, and counting samples tells where one track ends.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable
from pathlib import Path
from typing import TypeVar

import ffmpeg

from media.errors import MediaError
from media.mpegaudio import Frame, MpegAudioReader
from packager.ffmpeg import (
    LOCAL_PROTOCOLS,
    Process,
    compile_arguments,
    last_error,
    local_input,
    pipe,
    reading,
)
from packager.radio.audioblocks import Sound
from packager.radio.crossfade import SAMPLE_BYTES, Crossfader
from packager.tools import Tools, ToolsError

T = TypeVar("T")

FFMPEG_SECONDS = 10.0
"""How long ffmpeg may take or give nothing before its track is given up."""

FRAME_SAMPLES = 1152
"""Of Layer III in MPEG-1, which all mounts' sample rates are (ISO/IEC 11172-3 §2.4.2.3)."""

DELAY_SAMPLES = 1105
"""By which LAME's frames are behind what goes in: 576 of the encoder and 529 of every decoder."""

PEAK = 0.89
"""Where a track that is turned up is limited: 1 dB below full scale, which leaves room for the encoding."""

HELD_SECONDS = 2.0
"""What the encoder may keep back of what it was given; beyond, its frames are waited for."""


class Transcoder:
    """Encodes tracks one after another; see ``track``.

    Args:
        sound: of the mount.
        bitrate: of its frames in kbit/s, constant.
        tools: ffmpeg.
        crossfade: seconds in which a track's end and the next one's beginning are heard together.
    """

    def __init__(self, sound: Sound, bitrate: int, tools: Tools, crossfade: float = 0.0) -> None:
        self._sound = sound
        self._unit = SAMPLE_BYTES * sound.channels
        self._crossfader = Crossfader(round(crossfade * sound.sample_rate), sound.channels)
        self._bitrate = bitrate
        self._tools = tools
        self._encoder: Process | None = None
        self._reader = MpegAudioReader()
        self._samples = 0
        self._frames = 0
        self._title = ""
        # Titles of what is still in the encoder, each with the first frame that it is for.
        self._changes: deque[tuple[int, str]] = deque()

    async def track(self, path: Path, title: str, gain: float = 0.0) -> AsyncGenerator[tuple[str, Frame]]:
        """Encode a track.

        Args:
            path: an MP3, or what ffmpeg takes for one.
            title: of it.
            gain: decibels by which it is turned up.

        Yields:
            Titles and frames: at first the rest of the track before. About ``HELD_SECONDS`` of this one,
            and what may yet fade, are given by the next call, or by ``drain``.

        Raises:
            ToolsError: the track can't be decoded to its end, or the encoder broke.
            TimeoutError: ffmpeg hangs.
        """
        encoder = await self._running()
        decoder = await Process.start([self._tools.ffmpeg, *self._decoding(path, gain)], cage=reading(path))
        begun, rest = False, b""
        try:
            while chunk := await _in_time(decoder.read()):
                if not begun:
                    await self._write(encoder, self._crossfader.begin())
                    self._changes.append(((self._samples + DELAY_SAMPLES) // FRAME_SAMPLES, title))
                    begun = True
                chunk = rest + chunk
                whole = len(chunk) - len(chunk) % self._unit
                rest = chunk[whole:]
                await self._write(encoder, self._crossfader.feed(chunk[:whole]))
                async for sound in self._read_until(encoder, self._due()):
                    yield sound
            if await _in_time(decoder.wait()) != 0 or not begun:
                raise ToolsError(last_error(decoder.errors) or "nothing to hear in it")
        finally:
            await decoder.stop()

    async def drain(self) -> AsyncGenerator[tuple[str, Frame]]:
        """End the encoder and give what was in it; the next track has a new one.

        Raises:
            ToolsError: it broke.
            TimeoutError: it hangs.
        """
        encoder = self._encoder
        if encoder is None:
            return
        await self._write(encoder, self._crossfader.end())
        if not self._samples:
            await self.stop()
            return
        encoder.close_stdin()
        try:
            async for sound in self._read_until(encoder, None):
                yield sound
        finally:
            await self.stop()

    async def stop(self) -> None:
        """End the encoder, whatever is in it."""
        encoder, self._encoder = self._encoder, None
        self._reader = MpegAudioReader()
        self._samples = self._frames = 0
        self._changes.clear()
        self._crossfader.clear()
        if encoder is not None:
            await encoder.stop()

    def _due(self) -> int:
        """Count the frames that must have come out by now."""
        return int((self._samples - HELD_SECONDS * self._sound.sample_rate) // FRAME_SAMPLES)

    async def _running(self) -> Process:
        if self._encoder is None:
            self._encoder = await Process.start([self._tools.ffmpeg, *self._encoding()], stdin=True)
        return self._encoder

    async def _write(self, encoder: Process, chunk: bytes) -> None:
        if not chunk:
            return
        # The whole of it is taken though nobody reads the frames meanwhile: their pipe holds much more.
        try:
            async with asyncio.timeout(FFMPEG_SECONDS):
                await encoder.write(chunk)
        except (BrokenPipeError, TimeoutError) as error:
            reason = last_error(encoder.errors)
            await self.stop()
            raise ToolsError(f"the encoder broke: {reason or type(error).__name__}") from error
        self._samples += len(chunk) // self._unit

    async def _read_until(self, encoder: Process, due: int | None) -> AsyncGenerator[tuple[str, Frame]]:
        """Read frames until so many have come, or all."""
        while due is None or self._frames < due:
            data = await _in_time(encoder.read())
            if data:
                self._reader.receive_data(data)
            else:
                self._reader.receive_eof()
            try:
                frames = [event for event in self._reader.events() if isinstance(event, Frame)]
            except MediaError as error:
                reason = last_error(encoder.errors)
                await self.stop()
                raise ToolsError(f"the encoder broke: {reason or error}") from error
            for frame in frames:
                yield self._titled(), frame
            if not data:
                if due is None:
                    return
                await self.stop()
                raise ToolsError("the encoder ended")

    def _titled(self) -> str:
        """Give the title of the next frame."""
        while self._changes and self._changes[0][0] <= self._frames:
            self._title = self._changes.popleft()[1]
        self._frames += 1
        return self._title

    def _decoding(self, path: Path, gain: float) -> list[str]:
        source = ffmpeg.input(local_input(path), format="mp3", protocol_whitelist=LOCAL_PROTOCOLS)["a:0"]
        if gain:
            source = source.filter("volume", f"{gain:.2f}dB")
        if gain > 0:
            source = source.filter("alimiter", limit=PEAK, level="disabled")
        output = ffmpeg.output(
            source, pipe(0), format="s16le", acodec="pcm_s16le", threads=1, **self._shape()
        )
        return compile_arguments(ffmpeg.get_args(output))

    def _encoding(self) -> list[str]:
        source = ffmpeg.input("pipe:0", format="s16le", protocol_whitelist="pipe", **self._shape())
        output = ffmpeg.output(
            source["a:0"],
            pipe(0),
            format="mp3",
            acodec="libmp3lame",
            audio_bitrate=f"{self._bitrate}k",
            map_metadata=-1,
            write_xing=0,
            id3v2_version=0,
            flush_packets=1,
            threads=1,
        )
        return compile_arguments(ffmpeg.get_args(output))

    def _shape(self) -> dict[str, int]:
        return {"ar": self._sound.sample_rate, "ac": self._sound.channels}


async def _in_time(awaitable: Awaitable[T]) -> T:
    async with asyncio.timeout(FFMPEG_SECONDS):
        return await awaitable
