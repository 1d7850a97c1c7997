"""An FLV file as a movie: its tracks with the tables that a ``moov`` would have.

No index has the sizes of frames, so the headers of all tags are read, one after the other, as in Matroska.
"""

from __future__ import annotations

import struct
from array import array
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

from media.errors import MalformedError, MediaError, TooLargeError, UnsupportedError
from media.flv.amf0 import read_values
from media.flv.audio_video_tags import FlvPacket, PacketKind, read_packets
from media.flv.tags import AUDIO, FILE_HEADER_BYTES, SCRIPT, SIZE_BEHIND, TAG_HEADER, VIDEO
from media.matroska.located_tracks import LocatedTrack, located_movie
from media.matroska.timing import frames_in_turn, picture_times, sound_times
from media.matroska.tracks import AUDIO as SOUND
from media.matroska.tracks import VIDEO as PICTURE
from media.matroska.tracks import MatroskaTrack
from media.mp3.frame import parse_frame_header
from media.mp4.codecs.audio_specific_config import audio_specific_config, core_frames
from media.mp4.codecs.av1 import find_sequence
from media.mp4.codecs.sequence_parameters import avc_parameters, hevc_parameter_sets, hevc_parameters
from media.mp4.movie.assembled_samples import Read
from media.mp4.movie.box_arrays import Int64
from media.mp4.movie.movie import Movie, foreign_format
from media.mp4.movie.one_sample_entry import kept_samples
from media.mp4.movie.sample_table_writer import FrameRoom, Reserve, reserve_nothing

MAGIC = b"FLV\1"
MILLISECOND = 1_000_000
"""Nanoseconds of a tick of the tags' timestamps."""

WINDOW_BYTES = 4 << 10
"""Bytes that are read at once."""

HEAD_BYTES = 48
"""Bytes that hold the headers of a tag and of its packet."""

FIRST_BYTES = 4 << 10
"""Most bytes of a first frame that are parsed."""

LARGEST_CONFIGURATION = 64 << 10
"""Largest configuration of a codec, and largest metadata."""

WRAP = 1 << 32
"""Timestamps have 32 bits."""

RATES = (5512, 11025, 22050, 44100)
"""Sampling rates of sound without a configuration (FLV 10.1 §E.4.2.1)."""

_DECODED_SOUND = {
    1: (b"msSF", 0),
    4: (b"nmos", 16_000),
    5: (b"nmos", 8000),
    6: (b"nmos", 0),
    7: (b"alaw", 8000),
    8: (b"ulaw", 8000),
    11: (b"spex", 16_000),
}
"""The type of QuickTime's sample entry by the format of sound, and the rate of what has only one, in mono."""

_SPARK_SIZES = {2: (352, 288), 3: (176, 144), 4: (128, 96), 5: (320, 240), 6: (160, 120)}
"""Sizes of pictures of Sorenson Spark by their code."""


@dataclass(frozen=True, slots=True)
class FlvFileLimits:
    """Limits of an FLV file.

    Attributes:
        tags: most tags: six hours of film and sound have a million and a half.
        table_bytes: memory for the tables of samples of both tracks.
    """

    tags: int = 3 << 19
    table_bytes: int = 48 << 20


@dataclass(frozen=True, slots=True)
class FlvMovie:
    """The movie of an FLV file.

    Attributes:
        cut_short: whether the file ends within a tag.
    """

    movie: Movie
    cut_short: bool


@dataclass(slots=True)
class _TagFrames:
    """The frames of a track as they are found.

    Attributes:
        first_byte: that of the first tag's body, which says the format of sound.
        codec: by its name in tags.
        number: place of the latest configuration among all.
        configurations: all that have come so far, with their places.
        numbers: place of the configuration that each frame needs.
    """

    codec: str = ""
    first_byte: int = 0
    configuration: bytes = b""
    number: int = 0
    configurations: dict[bytes, int] = field(default_factory=dict)
    times: array[int] = field(default_factory=lambda: array("q"))
    offsets: array[int] = field(default_factory=lambda: array("q"))
    sizes: array[int] = field(default_factory=lambda: array("I"))
    keys: array[int] = field(default_factory=lambda: array("B"))
    numbers: array[int] = field(default_factory=lambda: array("B"))

    def choose_configuration(self) -> Fraction:
        """Keep the frames of the configuration that most have; return how many seconds of others there are.

        Pictures behind others are only kept from the next key frame on.
        """
        numbers, keys = np.asarray(self.numbers), np.asarray(self.keys) != 0
        if len(self.configurations) < 2 or not len(numbers):
            return Fraction(0)
        main = int(np.bincount(numbers).argmax())
        kept = kept_samples(numbers == main, keys, is_cut=False)
        durations = np.diff(np.asarray(self.times, np.int64), append=self.times[-1])
        self.configuration = next(one for one, number in self.configurations.items() if number == main)
        self.times, self.offsets, self.sizes, self.keys, self.numbers = (
            array(column.typecode, np.asarray(column)[kept].tobytes())
            for column in (self.times, self.offsets, self.sizes, self.keys, self.numbers)
        )
        return Fraction(max(int(durations[~kept].sum()), 0), 1000)


def read_flv(read: Read, size: int, limits: FlvFileLimits, reserve: Reserve = reserve_nothing) -> FlvMovie:
    """Read an FLV file.

    Args:
        read: reads from the file; it may block.
        size: length of the file in bytes.
        reserve: called before memory is allocated for samples.

    Raises:
        MalformedError: the file violates its format.
        TooLargeError: a limit is exceeded.
        OSError: the file can't be read.
    """
    reader = _TagReader(read, size, limits, FrameRoom(reserve))
    reader.run()
    tracks = [reader.described(kind, found) for kind, found in sorted(reader.found.items(), reverse=True)]
    return FlvMovie(located_movie(tracks, limits.table_bytes), reader.cut_short)


class _TagReader:
    """Reads the headers of a file's tags.

    Attributes:
        found: frames of pictures and of sound by the kind of tag.
        cut_short: whether the file ends within a tag.
    """

    def __init__(self, read: Read, size: int, limits: FlvFileLimits, room: FrameRoom) -> None:
        self._read, self._size, self._limits, self._room = read, size, limits, room
        self.found: dict[int, _TagFrames] = {}
        self.cut_short = False
        self._shape = (0, 0)
        self._wraps = 0
        self._latest = 0

    def run(self) -> None:
        """Read the file to its end, or to what is no tag."""
        header = self._read(0, FILE_HEADER_BYTES)
        position = int.from_bytes(header[5:9], "big") + SIZE_BEHIND
        window, start = b"", 0
        for count in range(self._limits.tags + 1):
            at = position - start
            if at + TAG_HEADER + HEAD_BYTES > len(window):
                window, start, at = self._read(position, WINDOW_BYTES), position, 0
            head = window[at : at + TAG_HEADER]
            if len(head) < TAG_HEADER:
                return
            kind, length = head[0] & 0x1F, int.from_bytes(head[1:4], "big")
            if kind not in (AUDIO, VIDEO, SCRIPT):
                self.cut_short = True
                return
            body = position + TAG_HEADER
            if body + length > self._size:
                self.cut_short = True
                return
            time = int.from_bytes(head[4:7], "big") | head[7] << 24
            self._room.reserve(count)
            self._tag(kind, time, body, length, window[at + TAG_HEADER : at + TAG_HEADER + HEAD_BYTES])
            position = body + length + SIZE_BEHIND
        raise TooLargeError(f"more than {self._limits.tags} tags")

    def _tag(self, kind: int, time: int, body: int, length: int, head: bytes) -> None:
        if kind == SCRIPT:
            if not any(self._shape) and length <= LARGEST_CONFIGURATION:
                self._shape = _shape(self._read(body, length))
            return
        head = head[:length]
        try:
            packets = read_packets(kind, head)
        except MediaError:  # several tracks in one tag, or damage
            return
        if not packets:
            return
        packet, frames = packets[0], self.found.setdefault(kind, _TagFrames())
        if not frames.codec:
            frames.codec, frames.first_byte = packet.codec, head[0]
        if packet.codec != frames.codec or packet.track:
            return
        skipped = len(head) - len(packet.data)
        if packet.kind is PacketKind.CONFIGURATION:
            if length <= LARGEST_CONFIGURATION:
                self._configure(frames, self._read(body + skipped, length - skipped))
        elif packet.kind is PacketKind.FRAMES and length > skipped + (packet.codec == "VP6"):
            self._frame(frames, packet, time, (body + skipped, length - skipped))

    def _configure(self, frames: _TagFrames, configuration: bytes) -> None:
        if configuration and (configuration in frames.configurations or len(frames.configurations) < 256):
            known = frames.configurations
            frames.configuration, frames.number = configuration, known.setdefault(configuration, len(known))

    def _frame(self, frames: _TagFrames, packet: FlvPacket, time: int, place: tuple[int, int]) -> None:
        if self._latest - time > WRAP // 2:
            self._wraps += 1
        elif time - self._latest > WRAP // 2 and self._wraps:
            time -= WRAP
        self._latest = time % WRAP
        offset, size = place
        if packet.codec == "VP6":  # a byte of cropping is before each picture
            frames.configuration = frames.configuration or packet.data[:1]
            offset, size = offset + 1, size - 1
        frames.times.append(time + self._wraps * WRAP + packet.composition_time)
        frames.offsets.append(offset)
        frames.sizes.append(size)
        frames.keys.append(packet.is_key)
        frames.numbers.append(frames.number)

    def described(self, kind: int, frames: _TagFrames) -> LocatedTrack:
        """Describe a track."""
        lacking = foreign_format(frames.choose_configuration())
        offsets, sizes = np.asarray(frames.offsets, np.int64), np.asarray(frames.sizes, np.int64)
        keys, ticks = np.asarray(frames.keys) != 0, np.asarray(frames.times, np.int64)
        first = self._read(frames.offsets[0], min(frames.sizes[0], FIRST_BYTES)) if len(sizes) else b""
        try:
            if not len(sizes):
                raise UnsupportedError("it has no samples")
            if kind == VIDEO:
                facts = _picture(frames, first, self._shape)
                times = picture_times(ticks, MILLISECOND, 0, None)
            else:
                facts, samples = _sound(frames, first)
                rate = round(facts.sample_rate)
                kept = frames_in_turn(ticks, _alone(ticks), MILLISECOND, rate, samples)
                if kept is not None:
                    ticks, offsets, sizes, keys = ticks[kept], offsets[kept], sizes[kept], keys[kept]
                times = sound_times(ticks, _alone(ticks), MILLISECOND, rate, samples, None)
        except TooLargeError:
            raise
        except MediaError as error:
            facts = MatroskaTrack(kind, PICTURE if kind == VIDEO else SOUND, frames.codec)
            return LocatedTrack(facts, offsets, sizes, keys, None, obstacle=str(error))
        return LocatedTrack(facts, offsets, sizes, keys, times, first, lacking=lacking)


def _alone(ticks: Int64) -> Int64:
    """Return the place of each frame among those of its tag: each is alone."""
    return np.zeros(len(ticks), np.int64)


def _shape(script: bytes) -> tuple[int, int]:
    """Read the size of the picture from metadata; zeros where they don't say."""
    try:
        values = read_values(script)
    except MediaError:
        return 0, 0
    for value in values:
        if isinstance(value, dict):
            found = [value.get(name) for name in ("width", "height")]
            if all(isinstance(one, float) and 0 < one < 1 << 16 for one in found):
                width, height = (int(one) for one in found if isinstance(one, float))
                return width, height
    return 0, 0


def _picture(frames: _TagFrames, first: bytes, shape: tuple[int, int]) -> MatroskaTrack:
    """Describe a track of pictures."""
    configuration = frames.configuration
    if frames.codec == "avc1":
        if len(configuration) < 8 or not configuration[5] & 31:
            raise MalformedError("H.264 without its configuration")
        length = int.from_bytes(configuration[6:8], "big")
        parameters = avc_parameters(configuration[8 : 8 + length])
        across, down = parameters.pixel_aspect
        size, display = parameters.size, (parameters.size[0] * across, parameters.size[1] * down)
        codec = "V_MPEG4/ISO/AVC"
        return MatroskaTrack(VIDEO, PICTURE, codec, configuration, pixels=size, display=display)
    if frames.codec == "hvc1":
        unit = next((unit for kind, unit in hevc_parameter_sets(configuration) if kind == 33), b"")
        return MatroskaTrack(
            VIDEO, PICTURE, "V_MPEGH/ISO/HEVC", configuration, pixels=hevc_parameters(unit).size
        )
    if frames.codec == "av01" and (found := find_sequence(configuration[4:])) is not None:
        return MatroskaTrack(VIDEO, PICTURE, "V_AV1", configuration, pixels=found[1].size)
    fourccs = {"H.263": b"FLV1", "VP6": b"VP6F"}
    if frames.codec not in fourccs or frames.first_byte & 0x0F == 5:
        raise UnsupportedError(f"codec {frames.codec} in FLV isn't one that can be packaged")
    size = shape if any(shape) else _spark_size(first)
    private = struct.pack("<IIIHH4s20x", 40, *size, 1, 24, fourccs[frames.codec]) + configuration
    return MatroskaTrack(VIDEO, PICTURE, "V_MS/VFW/FOURCC", private, pixels=size)


def _spark_size(first: bytes) -> tuple[int, int]:
    """Read the size of a picture of Sorenson Spark from its header."""
    bits = int.from_bytes(first[:9].ljust(9, b"\0"), "big")
    code = bits >> 39 & 7
    if code == 0:
        return bits >> 31 & 0xFF, bits >> 23 & 0xFF
    if code == 1:
        return bits >> 23 & 0xFFFF, bits >> 7 & 0xFFFF
    return _SPARK_SIZES.get(code, (0, 0))


def _sound(frames: _TagFrames, first: bytes) -> tuple[MatroskaTrack, int]:
    """Describe a track of sound; also return the samples of a frame, 0 if unknown."""
    configuration, flags = frames.configuration, frames.first_byte
    rate, channels, bits = RATES[flags >> 2 & 3], 1 + (flags & 1), 8 << (flags >> 1 & 1)
    if frames.codec == "mp4a":
        core, samples = core_frames(configuration)
        if not core:
            raise MalformedError("AAC without its configuration")
        channels = audio_specific_config(configuration).channels or 2
        track = MatroskaTrack(AUDIO, SOUND, "A_AAC", configuration, sample_rate=core, channels=channels)
        return track, samples
    if frames.codec == ".mp3":
        found = parse_frame_header(first)
        rate, channels = found.sample_rate, found.channels
        return MatroskaTrack(AUDIO, SOUND, "A_MPEG/L3", sample_rate=rate, channels=channels), found.samples
    if frames.codec == "PCM":
        codec = "A_PCM/INT/LIT"
        track = MatroskaTrack(AUDIO, SOUND, codec, sample_rate=rate, channels=channels, bit_depth=bits)
        return track, frames.sizes[0] * 8 // (bits * channels)
    if (known := _DECODED_SOUND.get(flags >> 4)) is not None:
        fourcc, fixed_rate = known
        rate, channels = fixed_rate or rate, 1 if fixed_rate else channels
        private = struct.pack(">I4s", 8, fourcc)
        track = MatroskaTrack(AUDIO, SOUND, "A_QUICKTIME", private, sample_rate=rate, channels=channels)
        return track, frames.sizes[0] // 64 * 256 if fourcc == b"nmos" else 0
    raise UnsupportedError(f"codec {frames.codec} in FLV isn't one that can be packaged")
