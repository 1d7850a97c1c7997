"""Writes the segment index (``sidx``, ISO/IEC 14496-12 §8.16.3): subsegments of a file in bytes and time."""

from __future__ import annotations

import struct

import numpy as np

from media.mp4.boxes import full_box
from media.mp4.movie.box_arrays import Int64

STARTS_WITH_SAP = 0x8000_0000
"""Flag of a subsegment that starts with a stream access point, whose type is three bits below."""

FIXED_BYTES = 40
ENTRY_BYTES = 12

MAX_ENTRIES = 0xFFFF
"""Most subsegments: their number has 16 bits."""


def sidx_bytes(entries: int) -> int:
    """Return the bytes of an index with a number of subsegments."""
    return FIXED_BYTES + entries * ENTRY_BYTES


def write_sidx(
    *,
    track_id: int,
    timescale: int,
    earliest: int,
    first_offset: int,
    sizes: Int64,
    durations: Int64,
    access_point: int = 1,
) -> bytes:
    """Write the index of subsegments that follow one another, each of which can be decoded by itself.

    Args:
        track_id: of the track whose times the index has.
        timescale: ticks per second.
        earliest: start of the first subsegment's presentation, in ticks.
        first_offset: bytes between the box and the first subsegment.
        sizes: bytes of each, at most ``MAX_ENTRIES``.
        durations: ticks of each.
        access_point: type of stream access point that all begin with; 0 where some don't.
    """
    begins = STARTS_WITH_SAP | access_point << 28 if access_point else 0
    cells = np.empty((len(sizes), 3), ">u4")
    cells[:, 0], cells[:, 1], cells[:, 2] = sizes, durations, begins
    fixed = struct.pack(">IIQQHH", track_id, timescale, earliest, first_offset, 0, len(sizes))
    return full_box(b"sidx", 1, 0, fixed, cells.tobytes())
