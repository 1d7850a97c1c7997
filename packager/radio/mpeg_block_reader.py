"""Splits the MP3 or AAC stream of a source client or relay into blocks of whole frames."""

from __future__ import annotations

from media.mp3.frame import FrameHeader
from media.mp3.id3 import Tags
from media.mp3.reader import Frame, MpegAudioReader
from packager.radio.audio_blocks import BLOCK_SECONDS, AudioBlock, beginnings
from packager.radio.block_reader import AudioBlockReader
from packager.radio.ogg_block_reader import MEDIA_TYPE, OggBlockReader

MEDIA_TYPES = {"mp3": "audio/mpeg", "aac": "audio/aac"}


def block_reader_for(media_type: str) -> AudioBlockReader:
    """Make the reader for a live source's audio.

    Args:
        media_type: one of ``MEDIA_TYPES`` or Ogg's; MP3 and AAC are detected from the frames.
    """
    return OggBlockReader() if media_type == MEDIA_TYPE else MpegBlockReader()


class MpegBlockReader(AudioBlockReader):
    """Makes blocks of MP3 or AAC frames; tags, pictures and Xing frames are left out.

    A block never mixes titles, sample rates, channels or codecs. ID3 tags in the stream set the title.
    """

    def __init__(self) -> None:
        super().__init__()
        self._reader: MpegAudioReader = MpegAudioReader()
        self._bitrate = 0
        self._header: FrameHeader | None = None
        self._data: list[bytes] = []
        self._duration = 0
        # Of all blocks: frames of AAC have no bitrate.
        self._bytes, self._seconds = 0, 0.0

    @property
    def bitrate(self) -> int:
        """In kbit/s, of the newest frame that has one; 0 if none does."""
        return self._bitrate

    @property
    def average_bitrate(self) -> int:
        """In kbit/s, of all blocks so far; 0 before the first."""
        return round(8 * self._bytes / self._seconds / 1000) if self._seconds else 0

    def retitle(self, title: str) -> list[AudioBlock]:
        """Begin a new block with this title; return the block of whole frames before it."""
        blocks = self._read_blocks()
        self.title = title
        return blocks

    def _gather(self) -> list[AudioBlock]:
        blocks: list[AudioBlock] = []
        for event in self._reader.events():
            if isinstance(event, Tags) and event.title:
                blocks += self._read_blocks()
                self.title = f"{event.artist} - {event.title}" if event.artist else event.title
            elif isinstance(event, Frame):
                if self._header is not None and not _same_format(self._header, event.header):
                    blocks += self._read_blocks()
                self._add(event)
                if self._duration >= BLOCK_SECONDS * event.header.sample_rate:
                    blocks += self._read_blocks()
        return blocks

    def _add(self, frame: Frame) -> None:
        self._header = frame.header
        self.frames += 1
        self._data.append(frame.data)
        self._duration += frame.header.samples
        self._bitrate = frame.header.bitrate // 1000 or self._bitrate

    def _read_blocks(self) -> list[AudioBlock]:
        if self._header is None or not self._data:
            return []
        cuts = beginnings(self._data)
        data, duration = b"".join(self._data), self._duration
        self._data, self._duration = [], 0
        self._bytes += len(data)
        self._seconds += duration / self._header.sample_rate
        media_type = MEDIA_TYPES[self._header.codec]
        return [AudioBlock(data, duration, self._header.sample_rate, self.title, cuts, media_type)]


def _same_format(one: FrameHeader, other: FrameHeader) -> bool:
    return (one.codec, one.sample_rate, one.channels) == (other.codec, other.sample_rate, other.channels)
