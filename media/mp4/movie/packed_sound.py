"""Sample tables of uncompressed sound with larger samples, which an MP4 fragment can hold.

QuickTime counts each sampling instant as a sample of its own (ISO/IEC 14496-12 §8.7.4 has chunks of them).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from media.errors import TooLargeError, UnsupportedError
from media.mp4.codecs.decodable_entry import FixedPacking
from media.mp4.movie.sample_table import SampleTable
from media.mp4.movie.sample_table_writer import SampleColumns, SampleTableWriter, TableRoom

GROUPED_SAMPLES = 4096
"""Most sampling instants that become one sample."""

MAX_GROUPS = 1 << 19
"""Most samples of the result: twelve hours at 48 kHz."""

PACKED_BYTES = 16 << 20
"""Memory for the tables of a track of uncompressed sound."""

MAX_CHUNKS = 1 << 19
"""Most chunks of a track of uncompressed sound: five hours in chunks of 40 ms have 450,000."""

MAX_INSTANTS = 1 << 32
"""Most samples of a track whose samples have one size, which no table lists one by one."""


def packed_tables(table: SampleTable, packing: FixedPacking, room: TableRoom) -> Mapping[bytes, memoryview]:
    """Write the sample table of sound whose samples are grouped.

    Args:
        table: has a sample for each sampling instant.

    Raises:
        UnsupportedError: instants of different lengths.
        TooLargeError: there are more groups or chunks than the limits allow.
    """
    delta = table.constant_duration
    if not delta:
        raise UnsupportedError("uncompressed sound at a rate that varies")
    if table.chunk_count > MAX_CHUNKS:
        raise TooLargeError(f"{table.chunk_count} chunks of uncompressed sound: more than {MAX_CHUNKS}")
    each = max(GROUPED_SAMPLES // packing.samples, 1) * packing.samples
    places, firsts = table.chunks()
    lengths = np.diff(firsts, append=len(table))
    groups = -(-lengths // each)
    if int(groups.sum()) > MAX_GROUPS:
        raise TooLargeError(f"more than {MAX_GROUPS} samples of uncompressed sound")
    before = np.cumsum(groups) - groups
    within = (np.arange(int(groups.sum())) - np.repeat(before, groups)) * each
    instants = np.minimum(np.repeat(lengths, groups) - within, each)
    starts = np.repeat(firsts, groups) + within
    offsets = np.repeat(places, groups) + within // packing.samples * packing.nbytes
    sizes = -(-instants // packing.samples) * packing.nbytes
    nothing, always = np.zeros(len(sizes), np.int64), np.ones(len(sizes), bool)
    boxes = SampleTableWriter(room)
    boxes.add(SampleColumns(starts * delta, offsets, sizes, nothing, always), len(table) * delta)
    return boxes.render()
