"""Rewrites video and audio of a live transport stream as fragmented MP4, without I/O or decoding.

The program's first stream of H.264 or HEVC, and its first of AAC, AC-3 or E-AC-3, become tracks. The input is
whole packets, as ``TransportReader`` emits them; frames with lost packets are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from media.errors import MalformedError, MediaError, UnsupportedError
from media.matroska.sample_entries import codec_facts
from media.matroska.tracks import VIDEO, MatroskaTrack
from media.mp4.boxes import box
from media.mp4.fragments import Fragment, InitSegment
from media.mp4.sample_entry import parse_sample_entry, without_parameter_sets
from media.mp4.track_fragmenter import FragmentTrack, begin_track
from media.stream_reader import CLOCK_RATE
from media.ts.annex_b import VIDEO_CODINGS, VideoCoding, as_sample, configuration, look_at
from media.ts.elementary_streams import LAYOUTS, PacketBlock, Unit, UnitReader
from media.ts.sound_frames import MP3, SOUND_CODINGS, FrameFacts, SoundCoding, sound_track
from media.ts.tables import (
    PACKET,
    PAT_PID,
    ProgramMap,
    read_program_association,
    read_program_map,
    section_of,
)
from media.ts.timestamps import LiveClock, difference

_LIVE_SOUND_CODINGS = {kind: coding for kind, coding in SOUND_CODINGS.items() if coding is not MP3}

PICTURE_ID, SOUND_ID = 1, 2
"""Track IDs."""

_HEADER_BYTES = 9
"""Bytes that always hold the header of an audio frame."""


BROKEN_UNITS = 100
"""Most consecutive pictures that can't be read."""

SKIPPED_BYTES = 64 << 10
"""Most bytes of audio that are no frames, beyond the bytes of frames."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveTransportLimits:
    """Limits of a transport stream that is rewritten.

    Attributes:
        unit_bytes: largest picture, or PES packet of sound.
        span_bytes: most bytes of the stream between the ends of a picture or PES packet.
        table_search_bytes: bytes from the beginning that are searched for the program tables.
    """

    unit_bytes: int = 8 << 20
    span_bytes: int = 32 << 20
    table_search_bytes: int = 4 << 20


DEFAULT_LIMITS = LiveTransportLimits()


class _PictureTrack:
    """The video stream and its track.

    Attributes:
        track: None before the first key frame with its parameter sets.
        frame_rate: pictures per second by the parameter sets; None if they don't say.
    """

    def __init__(self, coding: VideoCoding, clock: LiveClock, limits: LiveTransportLimits) -> None:
        self._coding, self._clock = coding, clock
        self.reader = UnitReader(limits.unit_bytes, limits.span_bytes)
        self._sets: tuple[bytes, ...] = ()
        self._broken = 0
        self.track: FragmentTrack | None = None
        self.frame_rate: Fraction | None = None

    def push(self, unit: Unit) -> InitSegment | None:
        """Push a unit; return the init segment with the first picture.

        Raises:
            MediaError: too many can't be read, or their times are impossible.
        """
        try:
            looked = look_at(unit.data, self._coding)
        except MediaError:
            # Packets were lost: later pictures can be shown nevertheless.
            self._broken += 1
            if self._broken > BROKEN_UNITS:
                raise
            return None
        self._broken = 0
        if not looked.has_slices:
            return None
        init = None
        if self.track is None:
            if not (looked.can_begin and looked.parameter_sets):
                return None
            init = self._begin(tuple(dict.fromkeys(looked.parameter_sets)))
        if self.track is not None:
            time = self._clock.time(unit.dts)
            shown = time + difference(unit.pts, unit.dts)
            # Samples of avc1 and hvc1 mustn't repeat the sample entry's parameter sets.
            data = as_sample(unit.data, self._sets)
            self.track.add_picture(time, shown, data, is_sync=looked.can_begin)
        return init

    def _begin(self, sets: tuple[bytes, ...]) -> InitSegment:
        written, told = configuration(self._coding, sets)
        self._sets, self.frame_rate = sets, told.frame_rate
        (width, height), (across, down) = told.size, told.pixel_aspect
        facts = MatroskaTrack(
            PICTURE_ID,
            VIDEO,
            self._coding.codec,
            written,
            pixels=told.size,
            display=(width * across, height * down),
        )
        shown = Fraction(width * across, down), Fraction(height)
        entry = codec_facts(facts, b"", 0.0).sample_entry
        complete = without_parameter_sets(parse_sample_entry(entry))
        if complete is not None:
            entry = box(complete.kind, complete.fixed, *complete.boxes)
        self.track = begin_track(PICTURE_ID, b"vide", CLOCK_RATE, entry, shown)
        return self.track.init


class _SoundTrack:
    """The audio stream and its track.

    Attributes:
        track: None before the first frame.
    """

    def __init__(self, coding: SoundCoding, clock: LiveClock, limits: LiveTransportLimits) -> None:
        self._coding, self._clock = coding, clock
        self.reader = UnitReader(limits.unit_bytes, limits.span_bytes)
        self._pending = b""
        self._time: int | None = None
        self._skipped = 0
        self._facts: FrameFacts | None = None
        self.track: FragmentTrack | None = None

    def push(self, unit: Unit) -> InitSegment | None:
        """Push a unit; return the init segment with the first frame.

        Raises:
            MediaError: the unit has no frames of this coding, or their format changes.
        """
        begun = self.track
        # §2.4.3.7: the time is that of the first frame that begins in the packet.
        own, data = len(self._pending), self._pending + unit.data
        told: int | None = self._clock.time(unit.pts)
        at = 0
        while at + _HEADER_BYTES <= len(data):
            facts = self._frame(data, at)
            if facts is None:
                at = self._skip(data, at)
                continue
            if at + facts.size > len(data):
                break
            # The search goes on where it ended: starting again for each frame costs more than the frames.
            self._skipped = max(self._skipped - facts.size, 0)
            if at >= own and told is not None:
                self._time, told = told, None
            self._push_frame(facts, data[at + facts.header : at + facts.size])
            at += facts.size
        self._pending = data[at:]
        return None if begun is self.track or self.track is None else self.track.init

    def _frame(self, data: bytes, at: int) -> FrameFacts | None:
        """Read the header of a frame; None where there is none."""
        try:
            facts = self._coding.parse(data[at : at + _HEADER_BYTES])
            end = at + facts.size
            if self._facts is None and end + _HEADER_BYTES <= len(data):
                # A header must be confirmed by the next one.
                self._coding.parse(data[end : end + _HEADER_BYTES])
        except MediaError as error:
            if isinstance(error, UnsupportedError) and self._facts is None:
                raise
            return None  # after a lost packet, any bytes may follow a header
        if facts.continues:
            raise UnsupportedError(f"{self._coding.name} of several substreams")
        return facts

    def _skip(self, data: bytes, at: int) -> int:
        """Skip garbage; return the offset at which the next frame may begin."""
        following = self._coding.next_sync(data, at + 1)
        self._skipped += following - at
        if self._skipped > SKIPPED_BYTES:
            raise UnsupportedError(f"no frames of {self._coding.name} in the audio")
        return following

    def _push_frame(self, facts: FrameFacts, data: bytes) -> None:
        if self._facts is None:
            self._facts = facts
            self.track = self._begin(facts, data)
        if facts.kind != self._facts.kind:
            raise UnsupportedError(f"its {self._coding.name} changes its rate or its channels")
        if self.track is not None and self._time is not None:
            self.track.add_sound(self._time * facts.rate // CLOCK_RATE, facts.samples, data)
            # The clock's ticks are coarser; the next packet has its own time.
            self._time += facts.samples * CLOCK_RATE // facts.rate

    def _begin(self, facts: FrameFacts, frame: bytes) -> FragmentTrack:
        entry = codec_facts(sound_track(SOUND_ID, self._coding, facts), frame, 0.0).sample_entry
        return begin_track(SOUND_ID, b"soun", facts.rate, entry)


class TransportToFragments:
    """Rewrites one live transport stream as fragmented MP4, without I/O."""

    def __init__(self, limits: LiveTransportLimits = DEFAULT_LIMITS) -> None:
        self._limits = limits
        self._buffer = b""
        self._position = 0
        self._map_pid: int | None = None
        self._streams: dict[int, _PictureTrack | _SoundTrack] = {}

    @property
    def told_frame_rate(self) -> Fraction | None:
        """Pictures per second by the parameter sets; None if they don't say."""
        pictures = (one for one in self._streams.values() if isinstance(one, _PictureTrack))
        return next((one.frame_rate for one in pictures), None)

    def receive_data(self, data: bytes) -> list[InitSegment | Fragment]:
        """Parse the next bytes.

        Returns:
            What they complete: init segments, and a fragment for each track that has new samples. Times are
            those of the stream, without the wrap, and may be below 0.

        Raises:
            MalformedError: its times go back, or its configurations say something impossible.
            UnsupportedError: it has other codecs, no picture or no sound, or is encrypted.
        """
        data = self._buffer + data
        whole = len(data) - len(data) % PACKET
        self._buffer = data[whole:]
        if not whole:
            return []
        block = PacketBlock(data[:whole], LAYOUTS[0], self._position)
        self._position += whole
        if not self._streams and (behind := self._look_for_tables(block)):
            # Media before the tables are dropped, whether they come with the tables or earlier.
            block = PacketBlock(data[behind * PACKET : whole], LAYOUTS[0], block.place(behind))
        pieces = [(piece, one) for pid, one in self._streams.items() for piece in block.pieces(pid)]
        # The streams share a clock: the output mustn't depend on how many packets come at once.
        pieces.sort(key=lambda one: one[0].begin)
        begun: list[InitSegment] = []
        for piece, stream in pieces:
            unit = stream.reader.push(piece)
            init = None if unit is None else stream.push(unit)
            if init is not None:
                begun.append(init)
        tracks = (stream.track for stream in self._streams.values() if stream.track is not None)
        fragments = (track.pull() for track in tracks)
        return [*begun, *(one for one in fragments if one is not None)]

    def _look_for_tables(self, block: PacketBlock) -> int:
        """Read the program map, if it is in the block; return the number of the packet behind it, or 0."""
        for number, pid in enumerate(block.pids.tolist()):
            if pid == PAT_PID:
                self._map_pid = read_program_association(section_of(block.packet(number))) or self._map_pid
            elif pid == self._map_pid:
                program = read_program_map(section_of(block.packet(number)))
                if program is not None:
                    self._streams = self._streams_of(program)
                    return number + 1
        if self._position > self._limits.table_search_bytes:
            raise MalformedError("a transport stream without a program map")
        return 0

    def _streams_of(self, program: ProgramMap) -> dict[int, _PictureTrack | _SoundTrack]:
        clock = LiveClock()
        video = next((one for one in program.streams if one.kind in VIDEO_CODINGS), None)
        sound = next((one for one in program.streams if one.kind in _LIVE_SOUND_CODINGS), None)
        if video is None or sound is None:
            raise UnsupportedError("no video or no audio of a supported codec")
        return {
            video.pid: _PictureTrack(VIDEO_CODINGS[video.kind], clock, self._limits),
            sound.pid: _SoundTrack(_LIVE_SOUND_CODINGS[sound.kind], clock, self._limits),
        }
