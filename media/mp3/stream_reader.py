"""MPEG audio and ADTS as stream chunks; every frame is an access point."""

from __future__ import annotations

from fractions import Fraction

from media.errors import MediaError
from media.mp3.reader import Frame, MpegAudioReader
from media.stream_reader import CLOCK_RATE, StreamChunk


class AudioStreamReader:
    """Passes bytes on unchanged, and computes their time from the frames in them; does no I/O."""

    signature = b""
    muxed_container = ""

    def __init__(self) -> None:
        self._reader: MpegAudioReader | None = MpegAudioReader()
        self._seconds = Fraction(0)

    def receive_data(self, data: bytes) -> list[StreamChunk]:
        """Return the bytes as a chunk, without a clock if they can't be parsed here, though ffmpeg may."""
        if self._reader is None:
            return [StreamChunk(data)]
        try:
            self._reader.receive_data(data)
            for event in self._reader.events():
                if isinstance(event, Frame):
                    self._seconds += Fraction(event.header.samples, event.header.sample_rate)
        except MediaError:
            self._reader = None
            return [StreamChunk(data)]
        return [StreamChunk(data, clock=int(self._seconds * CLOCK_RATE))]
