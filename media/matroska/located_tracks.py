"""Tracks of files whose samples lie whole in them: AVI, FLV and ASF, described in the terms of Matroska."""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from media.errors import MediaError, TooLargeError
from media.matroska.decodable_entries import facts_or_obstacle
from media.matroska.timing import Times
from media.matroska.tracks import VIDEO, MatroskaTrack
from media.mp4.movie.box_arrays import Int64, stretches
from media.mp4.movie.movie import Movie, Track
from media.mp4.movie.sample_table_writer import (
    SampleColumns,
    SampleTableWriter,
    TableRoom,
    TrackStart,
    edit_lists,
)
from media.mp4.movie.track_box import IDENTITY


@dataclass(frozen=True, slots=True)
class LocatedTrack:
    """A track with its samples, or the reason why it has none.

    Attributes:
        language: three letters of ISO 639-2/T.
        first: the first sample, or its beginning.
        obstacle: why it has no samples; empty if it has.
        lacking: a line about the samples that are left out; empty if none are.
    """

    facts: MatroskaTrack
    offsets: Int64
    sizes: Int64
    keys: NDArray[np.bool_]
    times: Times | None
    first: bytes = b""
    obstacle: str = ""
    lacking: str = ""
    language: str = "und"


def located_movie(tracks: list[LocatedTrack], table_bytes: int) -> Movie:
    """Write the tables of tracks that begin together.

    Args:
        table_bytes: memory for the tables of all tracks.

    Raises:
        MalformedError: the times of a track are impossible.
        TooLargeError: a limit is exceeded.
    """
    room = TableRoom(table_bytes)
    made = [_with_samples(one, room) for one in tracks]
    timescale, edits = edit_lists([start for _, start in made if start is not None])
    lists = iter(edits)
    placed = [track if start is None else replace(track, edits=next(lists)) for track, start in made]
    return Movie(timescale, tuple(placed), fragmented=False)


def _with_samples(one: LocatedTrack, room: TableRoom) -> tuple[Track, TrackStart | None]:
    """Return a track with its samples and its codec's configuration, and its start."""
    facts, times = one.facts, one.times
    width, height = facts.shown_size
    track = Track(
        track_id=facts.number,
        handler=b"vide" if facts.kind == VIDEO else b"soun",
        enabled=True,
        timescale=1000,
        duration=0,
        language=one.language,
        matrix=IDENTITY,
        display_width=width,
        display_height=height,
        sample_entries=(),
        edits=(),
        tables={b"stsz": memoryview(struct.pack(">III", 0, 1, len(one.sizes)))},
        self_contained=True,
        name=facts.name,
        obstacle=one.obstacle,
        lacking=one.lacking,
    )
    if one.obstacle or times is None or not len(one.sizes):
        return replace(track, obstacle=one.obstacle or "it has no samples"), None
    seconds = int(times.decode[-1]) / times.timescale
    try:
        described, obstacle = facts_or_obstacle(facts, one.first, len(one.sizes) / seconds if seconds else 0)
        tables = sample_tables((one.offsets, one.sizes), times, one.keys, room)
    except TooLargeError:
        raise
    except MediaError as error:
        return replace(track, obstacle=str(error)), None
    track = replace(
        track,
        timescale=times.timescale,
        duration=int(times.decode[-1]),
        sample_entries=(described.sample_entry,),
        tables=tables,
        obstacle=obstacle,
    )
    return track, TrackStart(times.timescale, times.zero, times.zero + int(times.shown[0]))


def sample_tables(
    places: tuple[Int64, NDArray[np.integer]], times: Times, keys: NDArray[np.bool_], room: TableRoom
) -> dict[bytes, memoryview]:
    """Write the tables of samples.

    Args:
        places: offset in the file and bytes of each sample.
        keys: whether decoding can begin with each.
    """
    boxes = SampleTableWriter(room)
    offsets, sizes = places
    for begin, end in stretches(0, len(offsets)):
        part = slice(begin, end)
        samples = SampleColumns(
            times.decode[part], offsets[part], sizes[part].astype(np.int64), times.shown[part], keys[part]
        )
        boxes.add(samples, int(times.decode[end]))
    return boxes.render()
