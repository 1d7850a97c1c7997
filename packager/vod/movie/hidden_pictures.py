"""Pictures that an edit list cuts off within a group of pictures (ISO/IEC 14496-12 §8.6.6).

The first picture that is shown needs those from the key frame before it. They are sent, and last a tick each,
as those before a clip do: players don't agree on edit lists, and all of them play such short pictures.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from media.mp4.movie.box_arrays import Int64
from media.mp4.movie.sample_table import SampleTable
from packager.vod.movie.decode_times import decode_times_in_turn
from packager.vod.movie.edit_list import Placement

MAX_HIDDEN = 1 << 14
"""Most samples of the group of pictures in which an edit begins; of a longer one all are shown."""


@dataclass(frozen=True, slots=True)
class HiddenPictures:
    """Sample tables in which the pictures before an edit last a tick each.

    Attributes:
        tables: the track's, with other ``stts`` and ``ctts``.
        placement: of the track by these tables.
        count: number of samples from the key frame up to the last one that is hidden.
    """

    tables: Mapping[bytes, memoryview]
    placement: Placement
    count: int


def hide_before_edit(
    tables: Mapping[bytes, memoryview], table: SampleTable, placement: Placement, first: int
) -> HiddenPictures | None:
    """Shorten the pictures from a key frame to an edit's begin; None where there are none, or too many.

    Args:
        table: the samples by these tables.
        first: the number of the key frame.
    """
    start = placement.media_start
    stop = _group_end(table, first)
    if stop is None:
        return None
    samples = table.samples(first, stop)
    times = samples.composition_time
    shown = times[times <= start]
    if not len(shown) or int(shown.min()) == int(shown.max()):
        return None
    early = times < int(shown.max())
    moved = times.copy()
    moved[times == int(shown.max())] = start
    moved[early] = start - int(early.sum()) + np.argsort(np.argsort(times[early], kind="stable"))
    end = int(samples.decode_time[-1])
    # The next group is decoded when it was, and the samples before it as long before as they are shown.
    behind = max(_shown_end(table, stop, times, end), int(moved.max()) + 1)
    decoded = decode_times_in_turn(moved, behind)
    decoded += end - int(decoded[-1])
    if first and int(decoded[0]) < int(table.decode_times(first, first)[0]):
        return None
    # Without samples before them the media's own clock begins with the key frame.
    back = 0 if first else int(decoded[0])
    durations = np.diff(decoded)
    total = len(table)
    stts = _spliced(tables[b"stts"], (first, stop), durations, total)
    if first:
        before = int(decoded[0]) - int(table.decode_times(first - 1, first - 1)[0])
        stts = _spliced(memoryview(stts), (first - 1, first), np.array([before], np.int64), total)
    offsets = moved - decoded[:-1]
    ctts = _spliced(tables.get(b"ctts"), (first, stop), offsets, total)
    media_end = placement.media_end
    return HiddenPictures(
        {**tables, b"stts": memoryview(stts), b"ctts": memoryview(ctts)},
        replace(
            placement, media_start=start - back, media_end=None if media_end is None else media_end - back
        ),
        int(np.flatnonzero(early)[-1]) + 1,
    )


def _group_end(table: SampleTable, first: int) -> int | None:
    """Return the number of the sync sample behind a key frame, or the number of samples; None if too far."""
    stop = min(first + 1 + MAX_HIDDEN, len(table))
    following = table.sync_samples(first + 1, stop)
    if len(following):
        return int(following[0])
    return stop if stop == len(table) else None


def _shown_end(table: SampleTable, stop: int, times: Int64, end: int) -> int:
    """Return when the last picture of a group ends: with the next group's first, or by its duration."""
    if stop < len(table):
        return int(table.composition_times(stop, stop + 1)[0])
    last = int(end - table.decode_times(stop - 1, stop - 1)[0])
    return int(times.max()) + last


def _spliced(table: memoryview | None, bounds: tuple[int, int], values: Int64, total: int) -> bytes:
    """Return ``stts`` or ``ctts`` (§8.6.1) with other values for some samples, a run for each of them."""
    if table is None:
        counts, old, head = np.array([total], np.int64), np.zeros(1, np.int64), bytes(4)
    else:
        entries = np.frombuffer(table, ">u4", offset=8)[: 2 * int.from_bytes(table[4:8], "big")]
        rows = entries.astype(np.int64).reshape(-1, 2)
        counts, old, head = rows[:, 0], rows[:, 1], bytes(table[:4])
    ends = np.cumsum(counts)
    pieces = []
    for low, high in ((0, bounds[0]), (bounds[1], total)):
        part = np.minimum(ends, high) - np.maximum(ends - counts, low)
        pieces.append(np.stack((part, old), axis=1)[part > 0])
    own = np.stack((np.ones(len(values), np.int64), values & 0xFFFF_FFFF), axis=1)
    written = np.concatenate((pieces[0], own, pieces[1])).astype(">u4")
    return head + struct.pack(">I", len(written)) + written.tobytes()
