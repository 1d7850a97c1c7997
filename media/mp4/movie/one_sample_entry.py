"""Sample tables of tracks with several sample entries, without the samples of all entries but one.

A published track has one codec and format. Where a recording changes its format and comes back to it, the
entry of most samples is the track; the rest becomes a pause.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from media.errors import MalformedError
from media.mp4.movie.box_arrays import Int64, Payload, stretches
from media.mp4.movie.chunk_table import chunk_entries
from media.mp4.movie.sample_table import SampleTable
from media.mp4.movie.sample_table_writer import SampleColumns, SampleTableWriter, TableRoom


@dataclass(frozen=True, slots=True)
class SamplesOfOneEntry:
    """The tables of a track's samples that use one sample entry.

    Attributes:
        entry: its index, from 0.
        begin: decode time of the first of them in the file's track, which is 0 in these tables.
        dropped: seconds that the other samples last.
    """

    tables: Mapping[bytes, memoryview]
    entry: int
    begin: int
    dropped: Fraction


def samples_of_one_entry(
    tables: Mapping[bytes, Payload], entries: Sequence[bytes], timescale: int, limit: int, room: TableRoom
) -> SamplesOfOneEntry:
    """Write the tables of the samples that use the sample entry of most of them.

    Samples behind others are only kept from the next sync sample on.

    Args:
        timescale: ticks per second of the track.
        limit: most samples.
        room: the memory budget of the tables.

    Raises:
        MalformedError: a table is malformed.
        TooLargeError: the tables have no room.
    """
    rows = chunk_entries(tables)
    alike = rows.copy()
    alike[:, 2] = 1
    stsc = struct.pack(">4xI", len(rows)) + alike.tobytes()
    table = SampleTable({**tables, b"stsc": stsc}, 1, limit)
    if not len(table):
        raise MalformedError("it has no samples")
    _, firsts = table.chunks()
    counts = np.diff(firsts, append=len(table))
    numbers = _entry_of_chunks(rows, entries, len(firsts))
    counted = np.bincount(numbers, counts, len(entries) + 1)
    if not counted[: len(entries)].any():
        raise MalformedError("stsc: a sample description that isn't there")
    main = int(counted[: len(entries)].argmax())
    boxes, is_cut, dropped = SampleTableWriter(room), False, 0
    begin: int | None = None
    for start, stop in stretches(0, len(table)):
        samples = table.samples(start, stop)
        chunks = firsts.searchsorted(np.arange(start, stop), "right") - 1
        kept = kept_samples(numbers[chunks] == main, samples.is_sync, is_cut=is_cut)
        is_cut = not kept[-1]
        dropped += int(np.diff(samples.decode_time)[~kept].sum())
        if not kept.any():
            continue
        times = samples.decode_time[:-1][kept]
        begin = int(times[0]) if begin is None else begin
        columns = SampleColumns(
            times - begin,
            samples.offset[kept],
            samples.size[kept],
            samples.composition_offset[kept],
            samples.is_sync[kept],
        )
        boxes.add(columns, table.duration - begin)
    return SamplesOfOneEntry(boxes.render(), main, begin or 0, Fraction(dropped, timescale))


def _entry_of_chunks(rows: NDArray[np.unsignedinteger], entries: Sequence[bytes], count: int) -> Int64:
    """Return the index of each chunk's sample entry: of equal ones the first, their number for none."""
    known: dict[bytes, int] = {}
    alike = np.array([known.setdefault(entry, number) for number, entry in enumerate(entries)], np.int64)
    row = rows[:, 0].astype(np.int64).searchsorted(np.arange(1, count + 1), "right") - 1
    numbers = np.minimum(rows[:, 2].astype(np.int64), len(entries) + 1)
    found: Int64 = np.append(alike, len(entries))[numbers[row] - 1]
    return found


def use_several_entries(tables: Mapping[bytes, Payload], entries: Sequence[bytes]) -> bool:
    """Return whether samples may use sample entries that differ, or that aren't there.

    Raises:
        MalformedError: ``stsc`` is malformed.
    """
    if not any(tables.get(b"stsc", b"")[4:8]):  # no samples, or none that can be found
        return False
    return len(set(entries)) > 1 or bool((chunk_entries(tables)[:, 2] > len(entries)).any())


def kept_samples(
    is_main: NDArray[np.bool_], is_sync: NDArray[np.bool_], *, is_cut: bool
) -> NDArray[np.bool_]:
    """Return which samples of a stretch are kept: of one format, behind others from a sync sample on.

    Args:
        is_main: whether each has the track's sample entry.
        is_cut: whether the sample before the stretch isn't kept.
    """
    numbers = np.arange(len(is_main))
    # The place behind the last sample of another entry, and the last sync sample
    behind = np.maximum.accumulate(np.where(is_main, 0 if is_cut else -1, numbers + 1))
    sync = np.maximum.accumulate(np.where(is_sync & is_main, numbers, -1))
    return np.asarray(is_main & (behind <= sync))
