"""Checks that a file is a whole live segment, as ``media.mp4.fragments.fragments`` writes them.

A segment is a sequence of parts. A part is a ``moof`` of one run of one track and its ``mdat``, behind
optional ``emsg`` boxes. Segments of any other layout are refused.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Callable
from dataclasses import dataclass

from media.errors import MalformedError
from media.mp4.boxes import LARGEST_HEADER, header
from media.mp4.fragments.moof import LONGEST_TIME

MAX_PARTS = 1000
"""Most parts of a segment."""

MAX_BOXES = 4096
"""Most boxes of a segment."""

MAX_MOOF = 1 << 20
"""Longest ``moof`` that is read, in bytes."""

HEAD_BYTES = 4096
"""Bytes that are read at once; most ``moof`` boxes have a tenth of them."""

_FIXED = struct.Struct(">I4s I4sII I4s I4sIIII I4sIQ I4sIIi")
"""``moof``, ``mfhd``, ``traf``, ``tfhd``, ``tfdt``, and the beginning of ``trun`` (ISO/IEC 14496-12 §8.8)."""

_DATA_OFFSET = 0x01
_COLUMNS = (0x100, 0x200, 0x400, 0x800)
"""Bits of a run whose samples have their own duration, size, flags and composition offset."""

ReadAt = Callable[[int, int], bytes]
"""Reads (offset, length) of a file; fewer bytes only where it ends."""


@dataclass(frozen=True, slots=True)
class _SegmentRun:
    """The samples of a part: from and until which tick they last, and their bytes."""

    track_id: int
    begin: int
    end: int
    size: int


def check_live_segment(read: ReadAt, size: int) -> None:
    """Check a segment's structure, up to its last byte, without its samples.

    Args:
        size: of the file, in bytes.

    Raises:
        MalformedError: the file isn't a whole segment of this layout.
    """
    parts = offset = checked = 0
    before: _SegmentRun | None = None
    run: _SegmentRun | None = None
    for _ in range(MAX_BOXES):
        if offset == size:
            break
        data = read(offset, HEAD_BYTES)
        at = header(data, 0, size - offset)
        if at.kind == b"moof" and run is None:
            if at.size > MAX_MOOF:
                raise MalformedError(f"a moof of {at.size} bytes")
            run = _read_run(data if at.size <= len(data) else read(offset, at.size), at.size)
            if before is not None and (run.track_id, run.begin) != (before.track_id, before.end):
                raise MalformedError(f"a part at {offset} that doesn't begin where the one before it ends")
        elif at.kind == b"mdat" and run is not None and at.size - at.payload == run.size:
            parts, before, run = parts + 1, run, None
            checked = offset + at.size
        elif at.kind != b"emsg" or run is not None:
            raise MalformedError(f"{at.kind!r} at {offset}")
        offset += at.size
    if not 0 < parts <= MAX_PARTS or checked != size:
        raise MalformedError("no segment, or only a part of one")


def _read_run(data: bytes, size: int) -> _SegmentRun:
    """Read a ``moof`` that :func:`media.mp4.fragments.fragments.write_fragment_header` has written."""
    if len(data) < min(size, _FIXED.size) or size < _FIXED.size:
        raise MalformedError("a moof that is cut off")
    values = _FIXED.unpack_from(data)
    moof_size, track_id, default_duration, time = values[0], values[11], values[12], values[17]
    trun_size, flags, count, data_offset = values[18], values[20], values[21], values[22]
    columns = [bool(flags & bit) for bit in _COLUMNS]
    width = sum(columns)
    expected = (
        *(moof_size, b"moof", 16, b"mfhd", 0, values[5]),
        *(moof_size - 24, b"traf", 24, b"tfhd", 0x02_0028, track_id, default_duration, values[13]),
        *(20, b"tfdt", 0x0100_0000, time, trun_size, b"trun", flags, count, data_offset),
    )
    lengths = moof_size == size == _FIXED.size + 4 * count * width and trun_size == 20 + 4 * count * width
    known = not flags & ~(0x0100_0000 | _DATA_OFFSET | sum(_COLUMNS)) and columns[1] and data_offset > size
    if values != expected or not lengths or not known or not count or time >= LONGEST_TIME:
        raise MalformedError("a moof of another layout than live segments have")
    cells = array("I", data[_FIXED.size : size])
    if len(cells) != count * width:
        raise MalformedError("a moof that is cut off")
    if sys.byteorder == "little":
        cells.byteswap()
    duration = sum(cells[0::width]) if columns[0] else default_duration * count
    sizes = sum(cells[columns[0] :: width])
    if data_offset > size + LARGEST_HEADER or duration <= 0:
        raise MalformedError("a moof of another layout than live segments have")
    return _SegmentRun(track_id, time, time + duration, sizes)
