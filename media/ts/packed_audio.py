"""Converts packed audio of HLS, AAC and MP3 (RFC 8216bis §3.1.4), to transport stream packets.

Each segment begins with an ID3 tag with the timestamp of its first frame.
"""

from __future__ import annotations

import re
import struct
from fractions import Fraction

from media.errors import MalformedError
from media.mp3.id3 import id3v2_size
from media.mp3.reader import Frame, MpegAudioReader
from media.stream_reader import CLOCK_RATE
from media.ts.tables import PACKET, SYNC, StreamType
from media.ts.timestamps import CLOCK_WRAP, difference

STREAM_TYPES = {"aac": StreamType.AAC, "mp3": StreamType.MPEG1_AUDIO}
"""By codec."""

NEAR = CLOCK_RATE // 2
"""Largest difference in ticks between a segment's timestamp and the time counted by frames; else it restarts.
"""

_TIME = re.compile(rb"com\.apple\.streaming\.transportStreamTimestamp\0(.{8})", re.DOTALL)
_LARGEST = PACKET - 4


class PackedAudio:
    """Writes audio frames as transport stream packets, without I/O.

    Attributes:
        kind: stream type; None before the first frame.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._reader = MpegAudioReader()
        self._counter = 0
        self._time: Fraction | None = None
        self.kind: int | None = None

    def receive_data(self, data: bytes) -> list[tuple[int, bytes]]:
        """Parse the next bytes.

        Args:
            data: must begin where a segment begins.

        Returns:
            Packets with the times of their frames, in ticks.

        Raises:
            MediaError: the bytes aren't AAC or MP3 frames, or no tag has their time.
        """
        found: list[tuple[int, bytes]] = []
        told = _TIME.search(data[: id3v2_size(data) or 0])
        if told is not None:
            # The reader is one frame behind: it waits for the next frame's header.
            self._meet(int.from_bytes(told[1], "big") % CLOCK_WRAP)
        self._reader.receive_data(data)
        for event in self._reader.events():
            if not isinstance(event, Frame):
                continue
            if self._time is None:
                raise MalformedError("packed audio without a timestamp tag")
            self.kind = STREAM_TYPES[event.header.codec]
            time = int(self._time) % CLOCK_WRAP
            found += [(time, packet) for packet in self._packets(time, event.data)]
            self._time += Fraction(event.header.samples * CLOCK_RATE, event.header.sample_rate)
        return found

    def _meet(self, told: int) -> None:
        """Set the time to a segment's timestamp, unless it is close to the counted one."""
        if self._time is None or abs(difference(told, int(self._time))) > NEAR:
            self._time = Fraction(told)

    def _packets(self, time: int, frame: bytes) -> list[bytes]:
        """Write a frame as a PES packet (ISO/IEC 13818-1 §2.4.3.6)."""
        stamp = struct.pack(
            ">BHH", 0x21 | (time >> 30 & 7) << 1, (time >> 14 & 0xFFFE) | 1, (time << 1 & 0xFFFE) | 1
        )
        # Audio stream 0, aligned data, and a PTS without a DTS.
        rest = struct.pack(">4sHBBB", b"\0\0\1\xc0", len(frame) + 8, 0x84, 0x80, 5) + stamp + frame
        found, starts = [], 0x4000
        while rest:
            part, rest = rest[:_LARGEST], rest[_LARGEST:]
            stuffing = _LARGEST - len(part)
            field = b"" if not stuffing else bytes((stuffing - 1,)) + (b"\0" if stuffing > 1 else b"")
            head = struct.pack(">BHB", SYNC, starts | self._pid, (0x30 if stuffing else 0x10) | self._counter)
            found.append(head + field.ljust(stuffing, b"\xff") + part)
            self._counter, starts = (self._counter + 1) % 16, 0
        return found
