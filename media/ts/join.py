"""Joins separate video and audio streams of HLS into one transport stream (ISO/IEC 13818-1), by time.

HLS may list the audio of a variant in a playlist of its own; whole segments of each arrive in turn.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from media.errors import MalformedError, UnsupportedError
from media.mp3.id3 import id3v2_size
from media.stream_reader import StreamChunk
from media.ts.packed_audio import PackedAudio
from media.ts.sections import ProgramTables
from media.ts.stream_reader import NULL_PID, VIDEO_TYPES, TransportReader
from media.ts.tables import PACKET, SYNC, ElementaryStream, ProgramMap, write_tables
from media.ts.timestamps import difference, timestamp

MAP_PID, CLOCK_PID, FIRST_PID = 0x20, 0x1FE, 0x100
"""PIDs of the joint stream; the inputs' streams have consecutive PIDs from ``FIRST_PID``."""


class TransportJoiner:
    """Joins the video of one stream and the audio of another, without I/O.

    Either may be MPEG-TS; audio may also be AAC or MP3 with timestamps in ID3 tags (RFC 8216bis §3.1.4).

    Args:
        held_bytes: how much of one stream is held at most while the other one has nothing for the same time.
    """

    muxed_container = ""

    def __init__(self, held_bytes: int) -> None:
        self._held_bytes = held_bytes
        self._inputs = [
            _TransportInput(FIRST_PID, picture=True),
            _TransportInput(FIRST_PID + 1, picture=False),
        ]
        self._reader = TransportReader()
        self._program: ProgramMap | None = None

    @property
    def signature(self) -> bytes:
        """The configuration for decoders of the joint stream."""
        return self._reader.signature

    def receive_data(self, index: int, data: bytes) -> list[StreamChunk]:
        """Parse the next bytes of an input.

        Args:
            index: 0 for video, 1 for audio.

        Returns:
            Chunks of the joint stream, as far as their order is known.

        Raises:
            MalformedError: it isn't such a stream.
            UnsupportedError: it has no video or no audio, one is much too far ahead of the other, or their
                descriptors don't fit into one table.
        """
        self._inputs[index].receive_data(data)
        if any(one.held > self._held_bytes for one in self._inputs):
            raise UnsupportedError("video and audio aren't of the same time")
        return self._reader.receive_data(b"".join(self._packets()))

    def receive_eof(self) -> list[StreamChunk]:
        """Return the rest at the end of both inputs."""
        for one in self._inputs:
            one.ended = True
        return self._reader.receive_data(b"".join(self._packets()))

    def _packets(self) -> Iterator[bytes]:
        picture, sound = self._inputs
        while picture.stream is not None and sound.stream is not None:
            if any(not one.packets and not one.ended for one in self._inputs):
                return
            if not picture.packets and not sound.packets:
                return
            program = ProgramMap(picture.clock_pid, (picture.stream, sound.stream))
            if program != self._program:
                yield write_tables(program, MAP_PID)
                self._program = program
            yield (picture if not sound.packets or _precedes(picture, sound) else sound).pop()


def _precedes(one: _TransportInput, other: _TransportInput) -> bool:
    """Return whether the next packet of one input is due before the other's; timestamps wrap."""
    if not one.packets:
        return False
    return difference(one.packets[0][0], other.packets[0][0]) <= 0


class _TransportInput:
    """The wanted packets of one input, renumbered, with their timestamps.

    Args:
        pid: new PID of its stream.
        picture: whether its video is wanted, else its audio.

    Attributes:
        stream: its entry in the joint program map; None before the input's own map has been read.
        clock_pid: PID of the joint stream's packets with its clock.
        packets: waiting packets with their timestamps.
    """

    def __init__(self, pid: int, *, picture: bool) -> None:
        self._pid = pid
        self._picture = picture
        self._packed: PackedAudio | None = None
        self._buffer = bytearray()
        self._tables = ProgramTables()
        self._clock_source = self._source = -1
        self._latest: int | None = None
        self.stream: ElementaryStream | None = None
        self.clock_pid = pid
        self.packets: deque[tuple[int, bytes]] = deque()
        self.ended = False

    @property
    def held(self) -> int:
        """Bytes of the waiting packets."""
        return len(self.packets) * PACKET

    def pop(self) -> bytes:
        """Remove and return the next packet."""
        return self.packets.popleft()[1]

    def receive_data(self, data: bytes) -> None:
        """Parse the next bytes; the first ones determine the format."""
        if (tag := id3v2_size(data)) and data[tag : tag + 1] == bytes((SYNC,)):
            data = data[tag:]
        if self._packed is None and not self._buffer and not self._tables.programs and data[0] != SYNC:
            if self._picture:
                raise UnsupportedError("video that isn't MPEG-TS, with audio in a playlist of its own")
            self._packed = PackedAudio(self._pid)
        if self._packed is not None:
            self.packets += self._packed.receive_data(data)
            if self._packed.kind is not None:
                self.stream = ElementaryStream(self._packed.kind, self._pid)
            return
        self._buffer += data
        whole = len(self._buffer) - len(self._buffer) % PACKET
        for start in range(0, whole, PACKET):
            if self._buffer[start] != SYNC:
                raise MalformedError("no transport stream packets")
            self._push_packet(bytes(self._buffer[start : start + PACKET]))
        del self._buffer[:whole]

    def _push_packet(self, packet: bytes) -> None:
        pid = (packet[1] & 0x1F) << 8 | packet[2]
        if pid in self._tables.pids:
            number = self._tables.choose(range(NULL_PID)) if self._tables.push(packet) else None
            if number is not None:
                self._choose(self._tables.maps[number])
        elif pid in (self._source, self._clock_source):
            told = timestamp(packet) if pid == self._source else None
            self._latest = self._latest if told is None else told
            if self._latest is not None:
                number = self._pid if pid == self._source else CLOCK_PID
                header = bytes((packet[0], packet[1] & 0xE0 | number >> 8, number & 0xFF))
                self.packets.append((self._latest, header + packet[3:]))

    def _choose(self, program: ProgramMap) -> None:
        wanted = [one for one in program.streams if (one.kind in VIDEO_TYPES) == self._picture]
        if not wanted:
            raise UnsupportedError(f"a playlist without {'a picture' if self._picture else 'sound'}")
        self._source, self._clock_source = wanted[0].pid, program.clock_pid if self._picture else -1
        self.clock_pid = self._pid if self._clock_source == self._source else CLOCK_PID
        self.stream = ElementaryStream(wanted[0].kind, self._pid, wanted[0].descriptors)
