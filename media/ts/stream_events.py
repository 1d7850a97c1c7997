"""Timed events of a live transport stream: sections of SCTE 35, and ID3 tags as Apple's players take them."""

from __future__ import annotations

from collections import deque
from itertools import islice

import numpy as np

from media.errors import MediaError
from media.mp3.id3 import ID3V2_HEADER, id3v2_size
from media.packets import EVENT_BYTES, EVENTS_KEPT, EventKind, StreamEvent
from media.ts.elementary_streams import PacketBlock, Piece
from media.ts.sections import SectionReader
from media.ts.splice_info import read_splice
from media.ts.tables import ElementaryStream, ProgramMap, StreamType
from media.ts.timestamps import LiveClock

_CUES = b"CUEI"
"""Registration of programs with sections of SCTE 35 (ANSI/SCTE 35 §8.1)."""

_DISCS = (b"HDMV", b"DTS")
"""Beginnings of registrations by which the same type of stream is DTS."""

MOST_STREAMS = 4
"""Most streams of each kind that are read."""


def is_splices(stream: ElementaryStream, program: ProgramMap) -> bool:
    """Return whether a stream has sections of SCTE 35: on discs its type stands for DTS."""
    if stream.kind != StreamType.DTS_HD_MASTER:
        return False
    own = (stream.registered, ElementaryStream(0, 0, program.descriptors).registered)
    return _CUES in own or not any(one.startswith(_DISCS) for one in own)


class StreamEventReader:
    """Reads the events of a program, without I/O.

    Args:
        clock: of the program's pictures and sound.

    Attributes:
        events: the events that nobody has taken yet.
    """

    def __init__(self, program: ProgramMap, clock: LiveClock) -> None:
        self._clock = clock
        splices = (one.pid for one in program.streams if is_splices(one, program))
        tags = (one.pid for one in program.streams if one.kind == StreamType.METADATA)
        self._sections = {pid: SectionReader() for pid in islice(splices, MOST_STREAMS)}
        self._tags = {pid: _TimedTagReader() for pid in islice(tags, MOST_STREAMS)}
        self.events = deque[StreamEvent](maxlen=EVENTS_KEPT)

    def push(self, block: PacketBlock) -> None:
        """Read the next packets, of which damaged ones are left out."""
        for pid, reader in self._sections.items():
            for number in np.flatnonzero(block.pids == pid).tolist():
                for section in reader.push(block.packet(number)):
                    self._append_splice(section)
        for pid, tags in self._tags.items():
            for piece in block.pieces(pid):
                if (found := tags.push(piece)) is not None:
                    pts, data = found
                    self.events.append(StreamEvent(EventKind.ID3, self._clock.near(pts), data))

    def _append_splice(self, section: bytes) -> None:
        try:
            splice = read_splice(section)
        except MediaError:
            return
        if splice is not None:
            self.events.append(StreamEvent(EventKind.SPLICE, self._clock.near(splice.pts), section))


class _TimedTagReader:
    """Assembles the ID3 tags of a stream, each of which begins a PES packet."""

    def __init__(self) -> None:
        self._data = b""
        self._pts = 0

    def push(self, piece: Piece) -> tuple[int, bytes] | None:
        """Push a piece; return the tag that it completes, and when it is due."""
        if piece.starts:
            self._data, self._pts = b"", piece.pts or 0
            if piece.pts is None or piece.is_damaged:
                return None
        elif not self._data:
            return None
        self._data += piece.data
        size = id3v2_size(self._data) if len(self._data) >= ID3V2_HEADER else ID3V2_HEADER
        if size is None or size > EVENT_BYTES:
            self._data = b""
        elif ID3V2_HEADER < size <= len(self._data):
            data, self._data = self._data[:size], b""
            return self._pts, data
        return None
