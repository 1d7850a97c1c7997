"""A live source's bytes as blocks of whole frames: of a source client, or of another server's stream."""

from __future__ import annotations

import asyncio
import time
from itertools import accumulate

from media.id3 import Tags
from media.mpegaudio import Frame, MpegAudioReader
from media.mpegframe import FrameHeader
from packager.radio.audioblocks import BLOCK_SECONDS, AudioBlock, Pace

MEDIA_TYPES = {"mp3": "audio/mpeg", "aac": "audio/aac"}

AHEAD_SECONDS = 10.0
"""How far a source may be ahead of real time before it is made to wait: clocks differ a little."""


class Intake:
    """Gathers what a source sends; does no I/O. Tags, pictures and Xing frames fall away on the way.

    Attributes:
        title: of what is played, for the blocks from now on; tags in the stream set it too.
        bitrate: of the newest frame in kbit/s, 0 when it doesn't say.
        frames: that came so far.
    """

    def __init__(self, title: str = "") -> None:
        self.title = title
        self.bitrate = 0
        self.frames = 0
        self._reader = MpegAudioReader()
        self._header: FrameHeader | None = None
        self._data: list[bytes] = []
        self._duration = 0

    def receive(self, data: bytes) -> list[AudioBlock]:
        """Take bytes, cut anywhere; give the blocks that are complete.

        A block never mixes titles, sample rates, channels or codecs.

        Raises:
            MalformedError: what comes is no audio.
            UnsupportedError: it is audio that no mount carries.
        """
        self._reader.receive_data(data)
        return self._gather()

    def finish(self) -> list[AudioBlock]:
        """Give what is left at the source's end, but for the part of a frame.

        Raises:
            MediaError: there was no audio at all.
        """
        self._reader.receive_eof()
        return [*self._gather(), *self._take()]

    def flush(self) -> list[AudioBlock]:
        """Give the whole frames that are there, though they aren't a block yet."""
        return self._take()

    def _gather(self) -> list[AudioBlock]:
        blocks: list[AudioBlock] = []
        for event in self._reader.events():
            if isinstance(event, Tags) and event.title:
                blocks += self._take()
                self.title = f"{event.artist} - {event.title}" if event.artist else event.title
            elif isinstance(event, Frame):
                if self._header is not None and not _same_sound(self._header, event.header):
                    blocks += self._take()
                self._add(event)
                if self._duration >= BLOCK_SECONDS * event.header.sample_rate:
                    blocks += self._take()
        return blocks

    def _add(self, frame: Frame) -> None:
        self._header = frame.header
        self.frames += 1
        self._data.append(frame.data)
        self._duration += frame.header.samples
        self.bitrate = frame.header.bitrate // 1000 or self.bitrate

    def _take(self) -> list[AudioBlock]:
        if self._header is None or not self._data:
            return []
        cuts = tuple(accumulate(map(len, self._data[:-1]), initial=0))
        data, duration = b"".join(self._data), self._duration
        self._data, self._duration = [], 0
        media_type = MEDIA_TYPES[self._header.codec]
        return [AudioBlock(data, duration, self._header.sample_rate, self.title, cuts, media_type)]


class Throttle:
    """Makes a source that sends faster than real time wait; one whose sample rate changes begins anew."""

    def __init__(self, ahead: float = AHEAD_SECONDS) -> None:
        self._ahead = ahead
        self._timescale = 0
        self._pace = Pace(1, ahead)

    async def wait(self, block: AudioBlock) -> None:
        """Wait until a block is due."""
        if block.timescale != self._timescale:
            self._timescale = block.timescale
            self._pace = Pace(block.timescale, self._ahead)
        await asyncio.sleep(self._pace.wait(time.monotonic()))
        self._pace.advance(block.duration)


def _same_sound(one: FrameHeader, other: FrameHeader) -> bool:
    return (one.codec, one.sample_rate, one.channels) == (other.codec, other.sample_rate, other.channels)
