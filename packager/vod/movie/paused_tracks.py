"""Sample tables of tracks whose edit lists have empty time in the middle (ISO/IEC 14496-12 §8.6.6).

The empty time becomes a part of the media: what was decoded before it lasts until it is over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from media.mp4.movie.box_arrays import stretches
from media.mp4.movie.movie import Edit
from media.mp4.movie.sample_table import SampleTable
from media.mp4.movie.sample_table_writer import SampleColumns, SampleTableWriter, TableRoom
from packager.vod.movie.edit_list import MAX_DELAY_SECONDS, presented_before


@dataclass(frozen=True, slots=True)
class PausedTrack:
    """A track's tables with the pauses in their times, and its edit list without them."""

    tables: Mapping[bytes, memoryview]
    edits: tuple[Edit, ...]


def with_pauses(
    table: SampleTable, edits: Sequence[Edit], movie_timescale: int, timescale: int, room: TableRoom
) -> PausedTrack | None:
    """Write the tables of a track whose edits pause where its media go on; return None without such pauses.

    Args:
        movie_timescale: ticks per second of the edits' durations.
        timescale: ticks per second of the track's media.
        room: the memory budget of the tables.

    Raises:
        UnsupportedError, TooLargeError: the tables can't be written.
    """
    merged, pauses = _split(edits, movie_timescale, timescale)
    if not pauses or sum(pauses.values()) > MAX_DELAY_SECONDS * timescale:
        return None
    begins, ticks = np.array(list(pauses)), np.cumsum([0, *pauses.values()])
    # Pictures that are decoded before others which are shown before the pause are only shown later.
    decoded = np.array([presented_before(table, time) for time in pauses])
    boxes = SampleTableWriter(room)
    for start, stop in stretches(0, len(table)):
        samples = table.samples(start, stop)
        later = ticks[decoded.searchsorted(np.arange(start, stop + 1), "right")]
        shown_later = ticks[begins.searchsorted(samples.composition_time, "right")]
        times = samples.decode_time + later
        offsets = samples.composition_offset + shown_later - later[:-1]
        columns = SampleColumns(times[:-1], samples.offset, samples.size, offsets, samples.is_sync)
        boxes.add(columns, int(times[-1]))
    return PausedTrack(boxes.render(), merged)


def _split(
    edits: Sequence[Edit], movie_timescale: int, timescale: int
) -> tuple[tuple[Edit, ...], dict[int, int]]:
    """Return an edit list whose empty edits in the middle are media, and the ticks of each pause.

    Returns:
        The pauses by the composition time of the media behind them; none if the media don't go on there.
    """
    tick, later, length = -(-timescale // movie_timescale), 0, 0
    merged, pauses, end = list[Edit](), dict[int, int](), None
    for edit in edits:
        if edit.media_time != -1:
            if length and end is not None:
                if abs(edit.media_time - end) > tick:
                    return (), {}
                ticks = length * timescale // movie_timescale
                merged.append(Edit(length, end + later))
                pauses[edit.media_time] = pauses.get(edit.media_time, 0) + ticks
                later, length = later + ticks, 0
            merged.append(replace(edit, media_time=edit.media_time + later))
            end = edit.media_time + edit.duration * timescale // movie_timescale
        elif end is None:
            merged.append(edit)
        else:
            length += edit.duration
    return tuple(merged), pauses
