"""Reads what listeners of a station hear first: the frames of a file, which must be like the station's."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from media.errors import MediaError, UnsupportedError
from media.mp3.frame import FrameHeader, parse_frame_header
from media.mp3.reader import Frame, MpegAudioReader
from packager.radio.audio_blocks import AudioBlock
from packager.radio.limits import StationLimits
from packager.reader_guard import ReaderGuard


@dataclass(frozen=True, slots=True)
class Intro:
    """Frames of MP3 or AAC that each listener gets before the station's audio.

    Attributes:
        header: of the first, whose codec, sample rate and channels all have.
    """

    data: bytes = field(repr=False)
    seconds: Fraction
    header: FrameHeader

    def differs_from(self, block: AudioBlock) -> str:
        """Return how a station's audio differs in ways that would break a decoder; "" if it doesn't."""
        if block.ogg is not None:
            return f"it is {self.header.codec}, and the station sends Ogg"
        try:
            with ReaderGuard("a station"):
                other = parse_frame_header(block.data)
        except MediaError:
            other = None
        if other is None:
            return "the station's format isn't known"
        ours, theirs = _format(self.header), _format(other)
        return "" if ours == theirs else f"it has {ours}, and the station {theirs}"


def read_intro(path: Path, limits: StationLimits) -> Intro:
    """Read an intro from a file. Blocks: call it in a thread.

    Raises:
        OSError: it can't be read.
        MediaError: it isn't MP3 or AAC of one format, or too long.
    """
    with path.open("rb") as file:
        content = file.read(limits.intro_bytes + 1)
    if len(content) > limits.intro_bytes:
        raise UnsupportedError(f"the file is larger than {limits.intro_bytes} bytes")
    reader = MpegAudioReader()
    reader.receive_data(content)
    reader.receive_eof()
    frames = [event for event in reader.events() if isinstance(event, Frame)]
    if not frames:
        raise UnsupportedError("the file has no frames of MP3 or AAC")
    first = frames[0].header
    if any(_format(frame.header) != _format(first) for frame in frames):
        raise UnsupportedError("the file's codec, sample rate or channels change")
    samples = sum(frame.header.samples for frame in frames)
    return Intro(b"".join(frame.data for frame in frames), Fraction(samples, first.sample_rate), first)


def _format(header: FrameHeader) -> str:
    return f"{header.codec} of {header.sample_rate} Hz, channels: {header.channels}"
