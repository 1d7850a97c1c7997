"""One encoder for all the tracks that don't fit a mount: it runs on from track to track, so nothing gaps.

The samples of each go into it behind those of the track before, or faded into them. Its frames come out in
order, and counting samples tells where one track ends.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterator

import numpy as np
import structlog

from media.errors import MediaError
from media.mp3.layer3 import RESERVOIR_BYTES, mute
from media.mp3.reader import Frame, MpegAudioReader
from packager.ffmpeg.radio import encoder_arguments
from packager.process.process import Process, last_error
from packager.process.tools import Tools, ToolsError
from packager.radio.audio_blocks import AudioFormat
from packager.radio.crossfade import SAMPLE_BYTES, Crossfader
from packager.radio.decoder import in_time
from packager.radio.limits import StationLimits

FRAME_SAMPLES = 1152
"""Of Layer III in MPEG-1, which all mounts' sample rates are (ISO/IEC 11172-3 §2.4.2.3)."""

DELAY_SAMPLES = 1105
"""By which LAME's frames are behind what goes in: 576 of the encoder and 529 of every decoder."""

REST_SECONDS = 1.0
"""Silence that brings out the last of a track: more than ffmpeg takes at once and LAME looks ahead."""

log = structlog.get_logger()


class Transcoder:
    """Encodes tracks one after another; see ``track``.

    Args:
        sound: of the mount.
        bitrate: of its frames in kbit/s, constant.
        tools: ffmpeg.
        limits: how long it may take, and what it may keep back.
        crossfade: seconds in which a track's end and the next one's beginning are heard together.
        limited: whether tracks may be turned up, so that what gets too loud is limited.
    """

    def __init__(
        self,
        sound: AudioFormat,
        bitrate: int,
        tools: Tools,
        limits: StationLimits,
        crossfade: float = 0.0,
        *,
        limited: bool = False,
    ) -> None:
        self._limits = limits
        self._sound = sound
        self._unit = SAMPLE_BYTES * sound.channels
        self._crossfader = Crossfader(round(crossfade * sound.sample_rate), sound.channels)
        self._bitrate = bitrate
        self._tools = tools
        self._limited = limited
        self._encoder: Process | None = None
        self._reader = MpegAudioReader()
        self._samples = 0
        self._frames = 0
        self._title = ""
        # Titles of what is still in the encoder, each with the first frame that it is for.
        self._changes: deque[tuple[int, str]] = deque()
        # Frames of silence that went into it before other tracks went out as they are; and those of it that
        # lead the next one, whose first frames may have bits in them.
        self._rests: deque[tuple[range, range]] = deque()
        self._leading: deque[Frame] = deque()
        self._lead_frames = -(-RESERVOIR_BYTES * 8 * sound.sample_rate // (FRAME_SAMPLES * 1000 * bitrate))

    async def track(
        self, samples: AsyncIterator[bytes], title: str, gain: float = 0.0
    ) -> AsyncGenerator[tuple[str, Frame]]:
        """Encode a track.

        Args:
            samples: of it, whole ones.
            title: of it.
            gain: decibels by which it is turned up.

        Yields:
            Titles and frames: at first the rest of the track before. About ``encoder_held_seconds`` of this
            one, and what may yet fade, are given by the next call, or by ``rest`` or ``drain``.

        Raises:
            ToolsError: there is nothing to hear in the track, or the encoder broke.
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
            async for sound in self._read_until(encoder, self._due()):
                yield sound
        if encoder is None:
            raise ToolsError("nothing to hear in it")

    async def rest(self) -> AsyncGenerator[tuple[str, Frame]]:
        """Give all of the tracks so far; the encoder waits for the next one, after others that don't need it.

        Raises:
            ToolsError: it broke.
            TimeoutError: it hangs.
        """
        encoder = self._encoder
        if encoder is None or self._is_resting:
            return
        await self._write(encoder, self._crossfader.end())
        heard = self._frame_at(self._samples + FRAME_SAMPLES - 1)
        end = heard + self._lead_frames + round(REST_SECONDS * self._sound.sample_rate / FRAME_SAMPLES)
        begin = end - self._lead_frames
        self._rests.append((range(heard, begin), range(begin, end)))
        await self._write(encoder, bytes((end * FRAME_SAMPLES - DELAY_SAMPLES - self._samples) * self._unit))
        async for sound in self._read_until(encoder, heard):
            yield sound

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
        if not self._samples or self._is_resting:
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
        self._rests.clear()
        self._leading.clear()
        self._changes.clear()
        self._crossfader.clear()
        if encoder is not None:
            encoder.close_stdin()  # ffmpeg heeds no signal while it waits for samples
            await encoder.stop()

    @property
    def _is_resting(self) -> bool:
        """Whether it got nothing but silence since the last track."""
        return bool(self._rests) and self._frame_at(self._samples) == self._rests[-1][1].stop

    @staticmethod
    def _frame_at(samples: int) -> int:
        """Give the first frame in which a sample is heard."""
        return (samples + DELAY_SAMPLES) // FRAME_SAMPLES

    def _due(self) -> int:
        """Count the frames that must have come out by now."""
        return int(
            (self._samples - self._limits.encoder_held_seconds * self._sound.sample_rate) // FRAME_SAMPLES
        )

    async def _running(self) -> Process:
        if self._encoder is not None and self._encoder.returncode is not None:
            log.warning("the encoder ended between tracks", reason=last_error(self._encoder.errors))
            await self.stop()
        if self._encoder is None:
            words = encoder_arguments(
                self._sound.sample_rate, self._sound.channels, self._bitrate, limited=self._limited
            )
            self._encoder = await Process.start([self._tools.ffmpeg, *words], stdin=True)
        return self._encoder

    async def _write(self, encoder: Process, chunk: bytes) -> None:
        if not chunk:
            return
        # The whole of it is taken though nobody reads the frames meanwhile: their pipe holds much more.
        try:
            await in_time(encoder.write(chunk), self._limits)
        except (BrokenPipeError, TimeoutError) as error:
            reason = last_error(encoder.errors)
            await self.stop()
            raise ToolsError(f"the encoder broke: {reason or type(error).__name__}") from error
        self._samples += len(chunk) // self._unit

    async def _read_until(self, encoder: Process, due: int | None) -> AsyncGenerator[tuple[str, Frame]]:
        """Read frames until so many have come, or all."""
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
                frames = [event for event in self._reader.events() if isinstance(event, Frame)]
            except MediaError as error:
                reason = last_error(encoder.errors)
                await self.stop()
                raise ToolsError(f"the encoder broke: {reason or error}") from error
            for sound in self._heard(frames):
                yield sound
            if not data:
                if due is None:
                    return
                await self.stop()
                raise ToolsError("the encoder ended")

    def _heard(self, frames: list[Frame]) -> Iterator[tuple[str, Frame]]:
        """Give the next frames their titles; leave out those of a rest, but for what leads the next track."""
        for frame in frames:
            number = self._frames
            self._frames += 1
            while self._rests and number >= self._rests[0][1].stop:
                self._rests.popleft()
            unheard, lead = self._rests[0] if self._rests else (range(0), range(0))
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
    """Turn samples up by decibels; what is too loud then is for the limiter."""
    if not gain:
        return samples
    factor = np.float32(10 ** (gain / 20))
    return (np.frombuffer(samples, "<f4") * factor).tobytes()
