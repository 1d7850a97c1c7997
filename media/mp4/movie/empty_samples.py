"""Sample tables without samples of no bytes, which some recorders write where they drop a frame.

Players of fragments take such a sample for a damaged one, so the sample before it lasts for as long instead.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from media.mp4.movie.box_arrays import Payload, stretches
from media.mp4.movie.sample_table import SampleTable
from media.mp4.movie.sample_table_writer import SampleColumns, SampleTableWriter, TableRoom


def has_empty_samples(tables: Mapping[bytes, Payload]) -> bool:
    """Return whether ``stsz`` (ISO/IEC 14496-12 §8.7.3) lists a sample of no bytes."""
    sizes = tables.get(b"stsz", b"")
    if any(sizes[4:8]) or len(sizes) < 16:  # all samples have one size
        return False
    listed = np.frombuffer(sizes, np.uint32, min(int.from_bytes(sizes[8:12], "big"), len(sizes) // 4 - 3), 12)
    return not listed.all()


def without_empty_samples(table: SampleTable, room: TableRoom) -> Mapping[bytes, memoryview]:
    """Write the tables of the samples that have bytes; the first of them begins when the first of all does.

    Args:
        room: the memory budget of the tables.

    Raises:
        TooLargeError: the tables have no room.
    """
    boxes, is_first = SampleTableWriter(room), True
    for start, stop in stretches(0, len(table)):
        samples = table.samples(start, stop)
        kept = samples.size > 0
        if not kept.any():
            continue
        times = samples.decode_time[:-1][kept]
        offsets = samples.composition_offset[kept]
        if is_first:
            # The presentation time of the first one stays.
            offsets[0], times[0], is_first = offsets[0] + times[0], 0, False
        columns = SampleColumns(
            times, samples.offset[kept], samples.size[kept], offsets, samples.is_sync[kept]
        )
        boxes.add(columns, table.duration)
    return boxes.render()
