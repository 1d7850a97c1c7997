"""A live source's bytes as blocks of whole frames: of a source client, or of another server's stream."""

from __future__ import annotations

import asyncio
import time

from media.mp3.frame import FrameHeader
from media.mp3.id3 import Tags
from media.mp3.reader import Frame, MpegAudioReader
from packager.radio.audio_blocks import BLOCK_SECONDS, AudioBlock, BlockSchedule, beginnings
from packager.radio.limits import IntakeLimits
from packager.radio.live_intake import LiveIntake
from packager.radio.ogg_intake import MEDIA_TYPE, OggIntake

MEDIA_TYPES = {"mp3": "audio/mpeg", "aac": "audio/aac"}

INTAKE_BYTES = 4 << 10
"""How much of a source is parsed at once: frames may have eight bytes."""


def intake_of(media_type: str) -> LiveIntake:
    """Make what gathers a source's audio.

    Args:
        media_type: of ``MEDIA_TYPES``, or Ogg's; MP3 and AAC are told apart by what comes.
    """
    return OggIntake() if media_type == MEDIA_TYPE else Intake()


class Intake(LiveIntake):
    """Makes blocks of whole frames of a source's MP3 or AAC; tags, pictures and Xing frames fall away.

    A block never mixes titles, sample rates, channels or codecs; tags in the stream set the title, too.
    """

    def __init__(self) -> None:
        super().__init__()
        self._reader: MpegAudioReader = MpegAudioReader()
        self._bitrate = 0
        self._header: FrameHeader | None = None
        self._data: list[bytes] = []
        self._duration = 0

    @property
    def bitrate(self) -> int:
        """Of the newest frame that says it, in kbit/s; 0 when none does."""
        return self._bitrate

    def retitle(self, title: str) -> list[AudioBlock]:
        """Begin a new block with this title; give the whole frames that are there before it."""
        blocks = self._take()
        self.title = title
        return blocks

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
        self._bitrate = frame.header.bitrate // 1000 or self._bitrate

    def _take(self) -> list[AudioBlock]:
        if self._header is None or not self._data:
            return []
        cuts = beginnings(self._data)
        data, duration = b"".join(self._data), self._duration
        self._data, self._duration = [], 0
        media_type = MEDIA_TYPES[self._header.codec]
        return [AudioBlock(data, duration, self._header.sample_rate, self.title, cuts, media_type)]


class Throttle:
    """Makes a source that sends faster than real time wait; one whose sample rate changes begins anew.

    Args:
        limits: how far it may be from real time.
    """

    def __init__(self, limits: IntakeLimits) -> None:
        self._limits = limits
        self._timescale = 0
        self._pace = self._schedule(1)

    async def wait(self, block: AudioBlock) -> None:
        """Wait until a block is due."""
        if block.timescale != self._timescale:
            self._timescale = block.timescale
            self._pace = self._schedule(block.timescale)
        await asyncio.sleep(self._pace.wait(time.monotonic()))
        self._pace.advance(block.duration)

    def _schedule(self, timescale: int) -> BlockSchedule:
        return BlockSchedule(timescale, self._limits.ahead_seconds, self._limits.late_seconds)


def _same_sound(one: FrameHeader, other: FrameHeader) -> bool:
    return (one.codec, one.sample_rate, one.channels) == (other.codec, other.sample_rate, other.channels)
