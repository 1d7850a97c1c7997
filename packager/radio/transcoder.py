"""Encodes all tracks that don't have a mount's format with one encoder that runs on, so there are no gaps.

Each track's samples follow those of the track before, or are crossfaded. Encoded frames come out in order,
and the end of a track is found by counting samples.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterator

import numpy as np
import structlog

from media.errors import MediaError
from media.mp3.bit_reservoir import RESERVOIR_BYTES, mute
from media.mp3.reader import Frame, MpegAudioReader
from packager.ffmpeg.radio import encoder_arguments
from packager.process.ffmpeg_discovery import Tools, ToolsError
from packager.process.process import Process, last_error
from packager.radio.audio_blocks import AudioFormat
from packager.radio.crossfade import SAMPLE_BYTES, Crossfader
from packager.radio.decoder import in_time
from packager.radio.limits import StationLimits
from packager.reader_guard import ReaderGuard

FRAME_SAMPLES = 1152
"""Samples of a Layer III frame in MPEG-1, which all mounts use (ISO/IEC 11172-3 §2.4.2.3)."""

DELAY_SAMPLES = 1105
"""LAME's delay: 576 samples of the encoder and 529 of every decoder."""

FLUSH_SILENCE_SECONDS = 1.0
"""Silence that flushes a track: more than ffmpeg reads at once and LAME looks ahead."""

log = structlog.get_logger()

HELD_SECONDS = 2.0
"""Most seconds of audio that the encoder may keep back; beyond, its frames are waited for."""


class Transcoder:
    """Encodes tracks one after another.

    Args:
        bitrate: of its frames in kbit/s, constant.
        crossfade: seconds over which consecutive tracks are mixed.
        limited: whether tracks may be amplified, so that peaks are limited.
    """

    def __init__(
        self,
        audio_format: AudioFormat,
        bitrate: int,
        tools: Tools,
        limits: StationLimits,
        crossfade: float = 0.0,
        *,
        limited: bool = False,
    ) -> None:
        self._limits = limits
        self._format = audio_format
        self._unit = SAMPLE_BYTES * audio_format.channels
        self._crossfader = Crossfader(round(crossfade * audio_format.sample_rate), audio_format.channels)
        self._bitrate = bitrate
        self._tools = tools
        self._limited = limited
        self._encoder: Process | None = None
        self._reader = MpegAudioReader()
        self._samples = 0
        self._frames = 0
        self._title = ""
        # Titles of the audio in the encoder, each with the number of its first frame.
        self._changes: deque[tuple[int, str]] = deque()
        # Frames of silence that flushed a track: those to leave out, and those that lead the next track,
        # because its first frames may have bits in them (bit reservoir).
        self._silences: deque[tuple[range, range]] = deque()
        self._leading: deque[Frame] = deque()
        self._lead_frames = -(
            -RESERVOIR_BYTES * 8 * audio_format.sample_rate // (FRAME_SAMPLES * 1000 * bitrate)
        )

    async def track(
        self, samples: AsyncIterator[bytes], title: str, gain: float = 0.0
    ) -> AsyncGenerator[tuple[str, Frame]]:
        """Encode a track.

        Args:
            samples: whole samples of the track.
            gain: decibels by which it is turned up.

        Yields:
            Titles and frames, beginning with the rest of the previous track. Frames of this track that the
            encoder still holds, and the crossfade, come with the next call, or with ``flush`` or ``drain``.

        Raises:
            ToolsError: the track has no samples, or the encoder broke.
            TimeoutError: ffmpeg hangs.
        """
        encoder: Process | None = None
        async for chunk in samples:
            if not chunk:
                continue
            if encoder is None:
                encoder = await self._running()
                await self._write(encoder, self._crossfader.begin())
                self._changes.append((self._frame_at(self._samples), title))
            await self._write(encoder, self._crossfader.feed(_amplified(chunk, gain)))
            async for titled_frame in self._read_until(encoder, self._due()):
                yield titled_frame
        if encoder is None:
            raise ToolsError("the file has no audio that can be decoded")

    async def flush(self) -> AsyncGenerator[tuple[str, Frame]]:
        """Yield the rest of the tracks so far, and keep the encoder: tracks that need none come first.

        Raises:
            ToolsError: the encoder broke.
            TimeoutError: it hangs.
        """
        encoder = self._encoder
        if encoder is None or self._is_idle:
            return
        await self._write(encoder, self._crossfader.end())
        heard = self._frame_at(self._samples + FRAME_SAMPLES - 1)
        end = (
            heard
            + self._lead_frames
            + round(FLUSH_SILENCE_SECONDS * self._format.sample_rate / FRAME_SAMPLES)
        )
        begin = end - self._lead_frames
        self._silences.append((range(heard, begin), range(begin, end)))
        await self._write(encoder, bytes((end * FRAME_SAMPLES - DELAY_SAMPLES - self._samples) * self._unit))
        async for titled_frame in self._read_until(encoder, heard):
            yield titled_frame

    async def drain(self) -> AsyncGenerator[tuple[str, Frame]]:
        """End the encoder and yield what was in it.

        Raises:
            ToolsError: the encoder broke.
            TimeoutError: it hangs.
        """
        encoder = self._encoder
        if encoder is None:
            return
        await self._write(encoder, self._crossfader.end())
        if not self._samples or self._is_idle:
            await self.stop()
            return
        encoder.close_stdin()
        try:
            async for titled_frame in self._read_until(encoder, None):
                yield titled_frame
        finally:
            await self.stop()

    async def stop(self) -> None:
        """End the encoder, discarding what is in it."""
        encoder, self._encoder = self._encoder, None
        self._reader = MpegAudioReader()
        self._samples = self._frames = 0
        self._silences.clear()
        self._leading.clear()
        self._changes.clear()
        self._crossfader.clear()
        if encoder is not None:
            encoder.close_stdin()  # ffmpeg ignores signals while it waits for samples
            await encoder.stop()

    @property
    def _is_idle(self) -> bool:
        """Whether the encoder got only silence since the last track."""
        return bool(self._silences) and self._frame_at(self._samples) == self._silences[-1][1].stop

    @staticmethod
    def _frame_at(samples: int) -> int:
        """Return the number of the first frame in which a sample is audible."""
        return (samples + DELAY_SAMPLES) // FRAME_SAMPLES

    def _due(self) -> int:
        """Count the frames that must have come out by now."""
        return int((self._samples - HELD_SECONDS * self._format.sample_rate) // FRAME_SAMPLES)

    async def _running(self) -> Process:
        if self._encoder is not None and self._encoder.returncode is not None:
            log.warning("the encoder ended between tracks", reason=last_error(self._encoder.errors))
            await self.stop()
        if self._encoder is None:
            words = encoder_arguments(
                self._format.sample_rate, self._format.channels, self._bitrate, limited=self._limited
            )
            self._encoder = await Process.start([self._tools.ffmpeg, *words], stdin=True)
        return self._encoder

    async def _write(self, encoder: Process, chunk: bytes) -> None:
        if not chunk:
            return
        # This can't deadlock with the reads: the output pipe holds much more than a chunk's frames.
        try:
            await in_time(encoder.write(chunk), self._limits)
        except (BrokenPipeError, TimeoutError) as error:
            reason = last_error(encoder.errors)
            await self.stop()
            raise ToolsError(f"the encoder broke: {reason or type(error).__name__}") from error
        self._samples += len(chunk) // self._unit

    async def _read_until(self, encoder: Process, due: int | None) -> AsyncGenerator[tuple[str, Frame]]:
        """Read until so many frames have come out; None reads to the end."""
        while due is None or self._frames < due:
            try:
                data = await in_time(encoder.read(), self._limits)
            except TimeoutError:
                await self.stop()
                raise
            if data:
                self._reader.receive_data(data)
            else:
                self._reader.receive_eof()
            try:
                with ReaderGuard("an encoder"):
                    frames = [event for event in self._reader.events() if isinstance(event, Frame)]
            except MediaError as error:
                reason = last_error(encoder.errors)
                await self.stop()
                raise ToolsError(f"the encoder broke: {reason or error}") from error
            for titled_frame in self._heard(frames):
                yield titled_frame
            if not data:
                if due is None:
                    return
                await self.stop()
                raise ToolsError("the encoder ended")

    def _heard(self, frames: list[Frame]) -> Iterator[tuple[str, Frame]]:
        """Pair frames with their titles; leave out silence, except for what must lead the next track."""
        for frame in frames:
            number = self._frames
            self._frames += 1
            while self._silences and number >= self._silences[0][1].stop:
                self._silences.popleft()
            unheard, lead = self._silences[0] if self._silences else (range(0), range(0))
            if number in unheard:
                continue
            if number in lead:
                self._leading.append(Frame(frame.header, mute(frame.data)))
                continue
            while self._changes and self._changes[0][0] <= number:
                self._title = self._changes.popleft()[1]
            while self._leading:
                yield self._title, self._leading.popleft()
            yield self._title, frame


def _amplified(samples: bytes, gain: float) -> bytes:
    """Amplify samples; the limiter takes care of peaks."""
    if not gain:
        return samples
    factor = np.float32(10 ** (gain / 20))
    return (np.frombuffer(samples, "<f4") * factor).tobytes()
