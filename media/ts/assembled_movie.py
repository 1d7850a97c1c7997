"""A movie of streams whose samples lie in pieces among packets, and are assembled when they are read."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from media.errors import MediaError, UnsupportedError
from media.mp4.movie.assembled_samples import AssembledSamples
from media.mp4.movie.box_arrays import stretches
from media.mp4.movie.movie import Movie, Track
from media.mp4.movie.sample_table_writer import (
    SampleColumns,
    SampleTableWriter,
    TableRoom,
    TrackStart,
    edit_lists,
)
from media.mp4.movie.track_box import IDENTITY
from media.stream_reader import CLOCK_RATE
from media.ts.movie_streams import MediaStream, StreamSamples, Units
from media.ts.subtitle_streams import FoundSubtitles


@dataclass(frozen=True, slots=True)
class AssembledMovie:
    """The movie of a file of packets, and the samples that are assembled for it.

    Attributes:
        lacking: a line for each kind of media that the file lacks.
    """

    movie: Movie
    assembled: AssembledSamples
    lacking: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FoundStream:
    """A stream after its file has been read.

    Attributes:
        number: its ID in the file.
        handler: ``b"vide"``, ``b"soun"`` or ``b"subt"``, for its track.
        language: three letters of ISO 639-2.
        content: parser of its packets; or the reason why there is none.
        subtitles: its subtitles that are pictures; or None.
        roles: DASH roles (ISO/IEC 23009-1 §5.8.5.5).
        failure: why the parser gave up; empty if it didn't.
    """

    number: int
    handler: bytes
    language: str
    content: MediaStream | str
    failure: str = ""
    subtitles: FoundSubtitles | None = None
    roles: tuple[str, ...] = ()

    def samples(self, units: Units) -> StreamSamples | str:
        """Return its samples, or the reason why it has none."""
        if isinstance(self.content, str) or self.failure:
            return self.failure or str(self.content)
        try:
            return self.content.samples(units)
        except MediaError as error:
            return str(error)


def assembled_movie(
    container: str, streams: Sequence[FoundStream], size: int, units: Units, table_bytes: int
) -> AssembledMovie:
    """Join streams to a movie.

    Args:
        container: the name of the file's format in messages.
        size: length of the file in bytes.
        units: reads a stream's packets again.
        table_bytes: memory for the tables of all tracks.

    Raises:
        UnsupportedError: no stream has samples; the text says why.
        TooLargeError: a limit is exceeded.
    """
    room = TableRoom(table_bytes)
    made = [(stream, stream.samples(units)) for stream in streams]
    carried = [samples for _, samples in made if isinstance(samples, StreamSamples)]
    origin = min((_first(one) for one in carried), default=Fraction(0))
    timescale, edits = edit_lists([_start(one, origin) for one in carried])
    begins = np.cumsum([size, *(one.samples.size for one in carried)]).tolist()
    lists, places = iter(edits), iter(begins)
    tracks = [
        replace(_track(stream), obstacle=samples)
        if isinstance(samples, str)
        else replace(
            _track(stream),
            timescale=samples.times.timescale,
            duration=int(samples.times.decode[-1]),
            sample_entries=(samples.entry,),
            display_width=samples.facts.shown_size[0],
            display_height=samples.facts.shown_size[1],
            obstacle=samples.obstacle,
            lacking=samples.lacking,
            tables=_tables(samples, next(places), room),
            edits=next(lists),
        )
        for stream, samples in made
    ]
    if not carried:
        reasons = "; ".join(f"stream {one.track_id}: {one.obstacle}" for one in tracks)
        raise UnsupportedError(
            f"{container} of which nothing can be packaged: {reasons or 'it has no media'}"
        )
    pictures = (
        one.entry for stream, one in made if isinstance(one, StreamSamples) and stream.handler == b"vide"
    )
    canvas: tuple[int, int] = next((_VISUAL_SIZE.unpack_from(entry) for entry in pictures), (0, 0))
    shown, further = _subtitled(streams, tracks, begins[-1], origin, canvas)
    assembled = AssembledSamples(
        [*begins[:-1], *(begin for begin, _ in further)],
        [*(one.samples for one in carried), *(one.samples for _, one in further)],
    )
    return AssembledMovie(Movie(timescale, tuple(shown), fragmented=False), assembled)


def _subtitled(
    streams: Sequence[FoundStream],
    tracks: Sequence[Track],
    begin: int,
    origin: Fraction,
    canvas: tuple[int, int],
) -> tuple[list[Track], list[tuple[int, FoundSubtitles]]]:
    """Return the tracks with those of subtitles, and where the subtitles of each stream begin.

    Args:
        begin: offset behind the samples of the other tracks.
        origin: seconds of the file's clock at which its presentation begins.
        canvas: width and height in pixels of the file's pictures; 0 without any.
    """
    made, further = list[Track](), list[tuple[int, FoundSubtitles]]()
    for stream, track in zip(streams, tracks, strict=True):
        found = stream.subtitles
        if found is None:
            made.append(track)
            continue
        further.append((begin, found))
        for number, (page, sets) in enumerate(found.tracks(begin, origin, canvas)):
            language = track.language if page.language == "und" else page.language
            made.append(
                replace(
                    track,
                    track_id=track.track_id | number << _PAGE_SHIFT,
                    enabled=False,
                    language=language,
                    roles=("caption",) if page.is_caption else (),
                    display_sets=sets,
                )
            )
        begin += found.samples.size
    return made, further


def _first(one: StreamSamples) -> Fraction:
    return Fraction(one.times.zero + int(one.times.shown[0]), one.times.timescale)


def _start(one: StreamSamples, origin: Fraction) -> TrackStart:
    zero = one.times.zero - round(origin * one.times.timescale)
    return TrackStart(one.times.timescale, zero, zero + int(one.times.shown[0]))


def _tables(one: StreamSamples, begin: int, room: TableRoom) -> dict[bytes, memoryview]:
    boxes = SampleTableWriter(room)
    offsets = np.cumsum(one.sizes) - one.sizes + begin
    for start, stop in stretches(0, len(one.sizes)):
        part = slice(start, stop)
        columns = SampleColumns(
            one.times.decode[part],
            offsets[part],
            one.sizes[part],
            one.times.shown[part],
            one.is_sync[part] != 0,
        )
        boxes.add(columns, int(one.times.decode[stop]))
    return boxes.render()


_VISUAL_SIZE = struct.Struct(">32xHH")
"""A sample entry of pictures up to their width and height (ISO/IEC 14496-12 §12.1.3.2)."""

_PAGE_SHIFT = 24
"""Bits of a stream's number in that of a track, above which is the number of one of the stream's pages."""

_SEVERAL_SAMPLES = struct.pack(">III", 0, 1, 2)
"""A ``stsz`` (ISO/IEC 14496-12 §8.7.3.2) of two samples: a track of a single picture is taken for a cover."""


def _track(stream: FoundStream) -> Track:
    """Describe the track of a stream, before its samples are known."""
    return Track(
        track_id=stream.number,
        handler=stream.handler,
        enabled=True,
        timescale=CLOCK_RATE,
        duration=0,
        language=stream.language,
        matrix=IDENTITY,
        display_width=Fraction(0),
        display_height=Fraction(0),
        sample_entries=(),
        edits=(),
        tables={b"stsz": memoryview(_SEVERAL_SAMPLES)},
        self_contained=True,
        roles=stream.roles,
    )
