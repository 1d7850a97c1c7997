"""Demuxes video and audio of a live transport stream (ISO/IEC 13818-1) into packets, without I/O or decoding.

The program's first stream of H.264 or HEVC, and its first of AAC, AC-3 or E-AC-3, become tracks, also one of
MPEG audio if it is to be encoded. The input is whole packets, as ``TransportReader`` emits them; frames with
lost packets are left out.
"""

from __future__ import annotations

from collections.abc import Sequence

from media.errors import MalformedError, MediaError, UnsupportedError
from media.matroska.tracks import FOUR_CCS
from media.packets import Packet, StreamEvent, StreamTrack, TrackKind
from media.stream_reader import CLOCK_RATE
from media.ts.access_units import AccessUnitReader, Field, FieldReader
from media.ts.annex_b import VIDEO_CODINGS, Picture, VideoCoding, as_sample, configuration, look_at
from media.ts.elementary_streams import LAYOUTS, PacketBlock, Unit, UnitReader
from media.ts.sections import ProgramTables
from media.ts.sound_frames import (
    ENCODED_SOUND_CODINGS,
    LATM,
    LIVE_SOUND_CODINGS,
    FrameFacts,
    SoundCoding,
    sound_track,
)
from media.ts.stream_events import StreamEventReader, is_splices
from media.ts.stream_reader import TransportReaderLimits
from media.ts.tables import PACKET, SOUND_TYPES, ProgramMap, StreamType
from media.ts.timestamps import LiveClock, difference

_HEADER_BYTES = 9
"""Bytes that always hold the header of an audio frame."""

_SOUND_TYPES = SOUND_TYPES - {StreamType.PRIVATE}
"""Types of streams that are sound."""

BROKEN_UNITS = 100
"""Most consecutive pictures that can't be read."""

SKIPPED_BYTES = 64 << 10
"""Most bytes of audio that are no frames, beyond the bytes of frames."""


DEFAULT_LIMITS = TransportReaderLimits()


class _Pictures:
    """The packets of the video stream, from the first key frame with its parameter sets on.

    Attributes:
        has_fields: whether pictures have come whose two fields were access units of their own.
        newest_packet: the newest packet of the stream, whole.
    """

    def __init__(self, coding: VideoCoding, clock: LiveClock, limits: TransportReaderLimits) -> None:
        self._coding, self._clock = coding, clock
        self.reader = UnitReader(limits.access_unit_bytes, limits.access_span_bytes)
        self._sets: tuple[bytes, ...] = ()
        self._broken = 0
        self._units = AccessUnitReader(coding, limits.access_unit_bytes)
        self._fields = FieldReader(coding)
        self._first_field: tuple[bytes, Field, tuple[tuple[int, int], Picture]] | None = None
        self._time: int | None = None
        self._track: StreamTrack | None = None
        self.has_fields = False
        self.newest_packet = b""

    def finish(self, found: list[Packet]) -> None:
        """Append the last picture at the end of the stream, unless it was cut off.

        Raises:
            MediaError: see `push`.
        """
        # §2.4.3.5: only the last packet of a PES packet is filled up by its adaptation field, but for clocks.
        unit = self.reader.finish()
        if unit is not None and self.newest_packet[3] & 0x20:
            self.push(unit, found)
        if self._first_field is not None:
            data, _, (times, looked) = self._first_field
            self._first_field = None
            self._append(data, looked, times, found)

    def push(self, unit: Unit, found: list[Packet]) -> None:
        """Push a unit, and append the packets of its pictures.

        Raises:
            MediaError: too many can't be read, or the parameter sets are impossible.
        """
        time, last = self._clock.time(unit.dts), self._time
        try:
            units = self._units.push(unit.data) + self._units.finish()
            pictures = [(one.data, look_at(one.data, self._coding)) for one in units]
            if not unit.data.lstrip(b"\0").startswith(b"\1"):
                raise UnsupportedError("pictures that don't begin where their PES packets do")
        except MediaError:
            # Packets were lost: later pictures can be shown nevertheless.
            self._broken += 1
            if self._broken > BROKEN_UNITS:
                raise
            return
        self._broken = 0
        shown = [(data, looked) for data, looked in pictures if looked.has_slices]
        # §2.4.3.7: the time is that of the first picture that begins in the packet
        step = 0 if last is None else max(time - last, 0) // max(len(shown), 1)
        self._time = time if shown else last
        for number, (data, looked) in enumerate(shown):
            self._push_picture(data, looked, (time + number * step, difference(unit.pts, unit.dts)), found)

    def _push_picture(
        self, data: bytes, looked: Picture, times: tuple[int, int], found: list[Packet]
    ) -> None:
        """Push a picture or one of its fields, decoded at a time, and presented some ticks later."""
        if self._track is None:
            if not (looked.can_begin and looked.parameter_sets):
                return
            self._sets = tuple(dict.fromkeys(looked.parameter_sets))
            written, _ = configuration(self._coding, self._sets)
            codec = "hvc1" if self._coding.is_hevc else "avc1"
            self._track = StreamTrack(TrackKind.VIDEO, codec, written)
        field = self._fields.field(data, looked.parameter_sets)
        first, self._first_field = self._first_field, None
        if first is not None:
            before, seen, told = first
            if field is not None and field.completes(seen):
                # ISO/IEC 14496-15 §5.2.2: both fields of a picture are one sample
                data, looked, times, field = before + data, told[1], told[0], None
                self.has_fields = True
            else:
                self._append(before, told[1], told[0], found)
        if field is not None:
            self._first_field = data, field, (times, looked)
        else:
            self._append(data, looked, times, found)

    def _append(self, data: bytes, looked: Picture, times: tuple[int, int], found: list[Packet]) -> None:
        if self._track is None:
            return
        # Samples of avc1 and hvc1 mustn't repeat the sample entry's parameter sets.
        sample = as_sample(data, self._coding, self._sets)
        found.append(Packet(self._track, times[0], sum(times), looked.can_begin, sample))


class _Sounds:
    """The packets of the audio stream, ``coding``."""

    def __init__(self, coding: SoundCoding, clock: LiveClock, limits: TransportReaderLimits) -> None:
        self.coding, self._clock = coding, clock
        self.reader = UnitReader(limits.access_unit_bytes, limits.access_span_bytes)
        self._pending = b""
        self._time: int | None = None
        self._skipped = 0
        self._facts: FrameFacts | None = None
        self._track: StreamTrack | None = None

    def finish(self, found: list[Packet]) -> None:
        """Append the last frames at the end of the stream; a frame that was cut off is none.

        Raises:
            MediaError: see `push`.
        """
        if (unit := self.reader.finish()) is not None:
            self.push(unit, found)

    def push(self, unit: Unit, found: list[Packet]) -> None:
        """Push a unit, and append the packets that it completes.

        Raises:
            MediaError: the unit has no frames of this coding, or their format changes.
        """
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
            self._push_frame(facts, facts.sample(data, at), found)
            at += facts.size
        self._pending = data[at:]

    def _frame(self, data: bytes, at: int) -> FrameFacts | None:
        """Read the header of a frame; None where there is none."""
        try:
            facts = self.coding.carried(data[at : at + self.coding.header_bytes])
            end = at + facts.size
            if self._facts is None and end + _HEADER_BYTES <= len(data):
                # A header must be confirmed by the next one.
                self.coding.carried(data[end : end + self.coding.header_bytes])
        except MediaError as error:
            if isinstance(error, UnsupportedError) and self._facts is None:
                raise
            return None  # after a lost packet, any bytes may follow a header
        if facts.continues:
            raise UnsupportedError(f"{self.coding.name} of several substreams")
        return facts

    def _skip(self, data: bytes, at: int) -> int:
        """Skip garbage; return the offset at which the next frame may begin."""
        following = self.coding.next_sync(data, at + 1)
        self._skipped += following - at
        if self._skipped > SKIPPED_BYTES:
            raise UnsupportedError(f"no frames of {self.coding.name} in the audio")
        return following

    def _push_frame(self, facts: FrameFacts, data: bytes, found: list[Packet]) -> None:
        if facts.is_alike and self._facts is not None:
            facts = self._facts
        if facts.is_alike:
            return  # its configuration comes with a later frame
        if self._facts is None or self._track is None:
            self._facts = facts
            described = sound_track(0, self.coding, facts)
            codec = FOUR_CCS.get(described.codec, described.codec)
            private, channels = described.private, described.channels
            self._track = StreamTrack(TrackKind.AUDIO, codec, private, channels=channels)
        if facts.kind != self._facts.kind:
            raise UnsupportedError(f"its {self.coding.name} changes its rate or its channels")
        if self._time is not None:
            found.append(Packet(self._track, self._time, self._time, is_key=True, data=data))
            # The clock's ticks are coarser; the next packet has its own time.
            self._time += facts.samples * CLOCK_RATE // facts.rate


class TransportDemuxer:
    """Demuxes one live transport stream, without I/O.

    Args:
        needs_sound: whether sound that is listed and can't be copied is an error.

    Attributes:
        has_other_sound: whether the stream has sound, but none that can be copied.
    """

    def __init__(self, limits: TransportReaderLimits = DEFAULT_LIMITS, *, needs_sound: bool = True) -> None:
        self._limits = limits
        self._needs_sound = needs_sound
        self._buffer = b""
        self._position = 0
        self._tables = ProgramTables()
        self._streams: dict[int, _Pictures | _Sounds] = {}
        self._events: StreamEventReader | None = None
        self.has_other_sound = False

    @property
    def has_other_samples(self) -> bool:
        """Whether samples of MP4 differ from its access units.

        AAC in LATM, and pictures of two fields, which are two access units and one sample.
        """
        return any(
            one.coding is LATM if isinstance(one, _Sounds) else one.has_fields
            for one in self._streams.values()
        )

    @property
    def has_sound(self) -> bool:
        """Whether the stream has said that it has sound."""
        return any(isinstance(one, _Sounds) for one in self._streams.values())

    @property
    def has_fields(self) -> bool:
        """Whether pictures have come whose two fields were access units of their own."""
        return any(isinstance(one, _Pictures) and one.has_fields for one in self._streams.values())

    @property
    def has_begun_picture(self) -> bool:
        """Whether a picture has begun to come."""
        return any(isinstance(one, _Pictures) and one.reader.has_begun for one in self._streams.values())

    def receive_data(self, data: bytes) -> list[Packet]:
        """Parse the next bytes.

        Returns:
            The packets that they complete. Times are those of the stream, without the wrap; some are below 0.

        Raises:
            MalformedError: the configurations say something impossible.
            UnsupportedError: it has other codecs, or no picture, or is encrypted.
        """
        data = self._buffer + data
        whole = len(data) - len(data) % PACKET
        self._buffer = data[whole:]
        found = list[Packet]()
        if not whole:
            return found
        block = PacketBlock(data[:whole], LAYOUTS[0], self._position)
        self._position += whole
        if not self._streams and (behind := self._look_for_tables(block)):
            # Media before the tables are dropped, whether they come with the tables or earlier.
            block = PacketBlock(data[behind * PACKET : whole], LAYOUTS[0], block.place(behind))
        pieces = [(piece, one) for pid, one in self._streams.items() for piece in block.pieces(pid)]
        # The streams share a clock: the output mustn't depend on how many packets come at once.
        pieces.sort(key=lambda one: one[0].begin)
        for piece, stream in pieces:
            unit = stream.reader.push(piece)
            if isinstance(stream, _Pictures):
                stream.newest_packet = block.packet((piece.end - block.place(0)) // PACKET - 1)
            if unit is not None:
                stream.push(unit, found)
        if self._events is not None:
            self._events.push(block)
        return found

    def take_events(self) -> Sequence[StreamEvent]:
        """Return the timed events that have come, once."""
        events = () if self._events is None else tuple(self._events.events)
        if self._events is not None:
            self._events.events.clear()
        return events

    def finish(self) -> list[Packet]:
        """Return the packets that the end of the stream completes.

        Raises:
            MediaError: see `receive_data`.
        """
        found = list[Packet]()
        for stream in self._streams.values():
            stream.finish(found)
        return found

    def _look_for_tables(self, block: PacketBlock) -> int:
        """Read the program map, if it is in the block; return the number of the packet behind it, or 0."""
        for number, pid in enumerate(block.pids.tolist()):
            if pid in self._tables.pids and self._tables.push(block.packet(number)):
                # The reader of the stream leaves only the streams of one program.
                chosen = self._tables.choose(range(1 << 13))
                if chosen is not None:
                    self._streams = self._streams_of(self._tables.maps[chosen])
                    return number + 1
        if self._position > self._limits.searched_table_bytes:
            raise MalformedError("a transport stream without a program map")
        return 0

    def _streams_of(self, program: ProgramMap) -> dict[int, _Pictures | _Sounds]:
        clock = LiveClock()
        video = next((one for one in program.streams if one.kind in VIDEO_CODINGS), None)
        sounds = [
            one for one in program.streams if one.sound_type in _SOUND_TYPES and not is_splices(one, program)
        ]
        self._events = StreamEventReader(program, clock)
        sound = next((one for one in sounds if one.sound_type in LIVE_SOUND_CODINGS), None)
        self.has_other_sound = sound is None and bool(sounds)
        if video is None or (self.has_other_sound and self._needs_sound):
            raise UnsupportedError("no video or no audio of a supported codec")
        streams: dict[int, _Pictures | _Sounds] = {}
        streams[video.pid] = _Pictures(VIDEO_CODINGS[video.kind], clock, self._limits)
        sound = sound or next((one for one in sounds if one.sound_type in ENCODED_SOUND_CODINGS), None)
        if sound is not None:
            kind = sound.sound_type
            coding = LIVE_SOUND_CODINGS.get(kind) or ENCODED_SOUND_CODINGS[kind]
            streams[sound.pid] = _Sounds(coding, clock, self._limits)
        return streams
