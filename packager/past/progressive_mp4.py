"""Makes one MP4 of segments without copying media: a head with the sample tables, then the segments' files.

The segments follow the head unchanged, with ``moof`` boxes that no table refers to (a few bytes in a
thousand). Periods follow each other without the pauses between them, audio and video in sync. Where the codec
parameters change, the segments are split into stretches, each of which can be an MP4 by itself. An edit list
cuts the movie to whole pictures between two dates.
"""

from __future__ import annotations

import time
from array import array
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import accumulate
from typing import NamedTuple

from media.errors import MalformedError, UnsupportedError
from media.mp4.files.progressive_writer import MovieTrack, TrackTables, write_head
from packager.blocking_calls import in_parallel
from packager.past.segment_samples import (
    TOLERANCE,
    Read,
    SampleRun,
    TrackInit,
    locate_samples,
    shown_times,
)
from packager.window.model import LiveSegment, Timeline

Listed = Mapping[str, Sequence[LiveSegment]]
"""By rendition, video first: finished segments or gaps of the same numbers."""

OpenSegment = Callable[[str, LiveSegment], AbstractContextManager[Read]]
"""Opens a segment of a rendition for reading."""

ROWS_BETWEEN_PAUSES = 32
"""Segments of all renditions after which writing the head of an MP4 pauses, since its thread holds up the
parts that are due meanwhile.
"""

ROW_PAUSE_SECONDS = 0.002
"""Seconds of such a pause."""

MAX_STRETCHES = 100
"""Most stretches that have an MP4 of their own, the first ones."""


@dataclass(frozen=True, slots=True)
class ShownSpan:
    """The dates between which the pictures of a movie are shown, in seconds since the epoch."""

    start: Fraction
    end: Fraction


@dataclass(frozen=True, slots=True)
class UniformStretch:
    """A stretch of segments in which the codec parameters of each rendition stay the same.

    Attributes:
        listed: its segments, without renditions that have none in it.
        change: the difference to the stretch before; empty for the first.
    """

    listed: Listed
    change: str = ""

    @property
    def start(self) -> Fraction:
        """The date of its first segment, in seconds since the epoch."""
        return next(iter(self.listed.values()))[0].program_date_time

    @property
    def end(self) -> Fraction:
        """The date of the end of its last segment, in seconds since the epoch."""
        last = next(iter(self.listed.values()))[-1]
        return last.program_date_time + last.duration

    @property
    def duration(self) -> float:
        """Seconds of playback, without missed segments."""
        rows = zip(*self.listed.values(), strict=True)
        return float(sum(row[0].duration for row in rows if not all(one.gap for one in row)))


def split(listed: Listed, whole: str = "the recording") -> list[UniformStretch]:
    """Split segments where the codec parameters change: an MP4 has one set of them for each track.

    Args:
        whole: a name of the whole, for the words that describe a change.

    Raises:
        UnsupportedError: there is no media.
        MalformedError: an init segment is damaged.
    """
    known: dict[bytes, TrackInit] = {}
    current: dict[str, TrackInit] = {}
    found: list[UniformStretch] = []
    begin, change = 0, ""
    for index, row in enumerate(zip(*listed.values(), strict=True)):
        for name, segment in zip(listed, row, strict=True):
            if segment.gap or segment.timeline is None:
                continue
            init = segment.timeline.init
            facts = known.get(init) or known.setdefault(init, TrackInit.read(init))
            before = current.setdefault(name, facts)
            if before != facts:
                found.append(UniformStretch(_with_media(listed, begin, index), change))
                if len(found) == MAX_STRETCHES:
                    return found
                begin, change = index, before.change_to(facts, whole)
                current.clear()
                current[name] = facts
    if not current:
        raise UnsupportedError("it has neither picture nor sound")
    return [*found, UniformStretch(_with_media(listed, begin, None), change)]


def _with_media(listed: Listed, begin: int, end: int | None) -> Listed:
    """Cut the renditions, without those of which nothing but gaps is left."""
    cut = {name: segments[begin:end] for name, segments in listed.items()}
    return {name: segments for name, segments in cut.items() if not all(one.gap for one in segments)}


class MoviePiece(NamedTuple):
    """A segment's file in the data of a movie.

    Attributes:
        number: media sequence number.
        begin: offset of its first byte in the data.
        end: offset behind its last byte.
    """

    rendition: str
    number: int
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class MovieLayout:
    """Places segment files in an MP4 in a row: of each number the video, then the audio.

    Attributes:
        which: of each file, the index of its rendition.
        numbers: of each file, its media sequence number.
        ends: of each file, where it ends in the data.
    """

    names: Sequence[str]
    which: array[int] = field(default_factory=lambda: array("B"))
    numbers: array[int] = field(default_factory=lambda: array("Q"))
    ends: array[int] = field(default_factory=lambda: array("Q"))

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return self.ends[-1] if self.ends else 0

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return sum(one.itemsize * len(one) for one in (self.which, self.numbers, self.ends))

    def at(self, offset: int) -> MoviePiece:
        """Find the file at an offset in the data."""
        index = bisect_right(self.ends, offset)
        begin = self.ends[index - 1] if index else 0
        return MoviePiece(self.names[self.which[index]], self.numbers[index], begin, self.ends[index])


def lay_out(listed: Listed) -> MovieLayout:
    """Arrange the segment files."""
    layout = MovieLayout(tuple(listed))
    end = 0
    for row in zip(*listed.values(), strict=True):
        for index, segment in enumerate(row):
            if not segment.gap:
                end += segment.size
                layout.which.append(index)
                layout.numbers.append(segment.number)
                layout.ends.append(end)
    return layout


def make_head(
    listed: Listed, open_segment: OpenSegment, span: ShownSpan | None = None, at_once: int = 1
) -> bytes:
    """Make the head of the MP4 of a stretch. Blocks for a while.

    Args:
        at_once: how many numbers' segments are read at the same time.
        span: the dates between which pictures are shown; None: all are.

    Raises:
        UnsupportedError: nothing is shown.
        MalformedError: a file is damaged.
        OSError: a file can't be read.
    """
    muxer = _Muxer([_first_timeline(segments) for segments in listed.values()], span)
    ids = [track.source_id for track in muxer.tracks]

    def runs_of(row: Sequence[LiveSegment], position: int) -> list[list[SampleRun]]:
        found: list[list[SampleRun]] = []
        for name, segment, track_id in zip(listed, row, ids, strict=True):
            if segment.gap:
                found.append([])
                continue
            with open_segment(name, segment) as read:
                found.append(locate_samples(read, segment, track_id, position))
            position += segment.size
        return found

    rows = list(zip(*listed.values(), strict=True))
    positions = [0, *accumulate(sum(one.size for one in row if not one.gap) for row in rows)]
    found = in_parallel(lambda row: runs_of(*row), zip(rows, positions, strict=False), at_once)
    for count, (row, runs) in enumerate(zip(rows, found, strict=True), 1):
        muxer.add(row, runs)
        if count % ROWS_BETWEEN_PAUSES == 0:
            time.sleep(ROW_PAUSE_SECONDS)
    return write_head(muxer.finish(), positions[-1])


def _first_timeline(segments: Sequence[LiveSegment]) -> Timeline | None:
    return next((one.timeline for one in segments if not one.gap), None)


class _TrackAssembly:
    """A track that is being assembled.

    Args:
        track_id: its ID in the movie.
        timeline: of its first segment.
    """

    def __init__(self, track_id: int, timeline: Timeline) -> None:
        found = TrackInit.read(timeline.init)
        self.source_id = found.source_id
        self.facts = replace(found.track, track_id=track_id)
        self.tables = TrackTables()
        self.shift = 0
        self.first = 0

    @property
    def end(self) -> Fraction:
        """End of its samples so far, in seconds of the movie's time."""
        return Fraction(self.first + self.tables.duration, self.facts.timescale)

    def seconds(self, ticks: int) -> Fraction:
        """Convert ticks to seconds."""
        return Fraction(ticks, self.facts.timescale)

    def add(self, run: SampleRun) -> None:
        """Add consecutive samples."""
        decode_time, samples, position = run
        at = decode_time + self.shift
        if not self.tables.count:
            self.first = at
        try:
            self.tables.add(at - self.first, samples, position)
        except ValueError as error:
            raise MalformedError(str(error)) from error


class _SpanFinder:
    """Finds the times of a movie at which the pictures of a span begin and end.

    Sound without a picture is cut at its very samples.

    Attributes:
        begin: ticks of the movie's time in the leading track; None before anything is shown.
        end: ticks of that time; None where all behind the beginning is shown.
    """

    def __init__(self, span: ShownSpan) -> None:
        self.begin: int | None = None
        self.end: int | None = None
        self._span = span

    def add(self, segment: LiveSegment, track: _TrackAssembly, runs: Sequence[SampleRun]) -> None:
        """Add a segment of the leading track, which is in the movie's time already."""
        date = segment.program_date_time
        if self.begin is not None and date + segment.duration < self._span.end:
            return
        times = sorted(shown_times(runs, track.shift))
        # The date of a segment is that of its first sample in decoding order, its key frame.
        first = runs[0][0] + runs[0][1][0].composition_offset + track.shift
        end = times[-1] + runs[-1][1][-1].duration
        exactly = track.facts.handler != b"vide"

        def behind(moment: Fraction) -> int | None:
            """Return when the first picture at or behind a date is shown; None where this has none."""
            passed = moment - date if exactly else moment - date - TOLERANCE
            bound = first + passed * track.facts.timescale
            if exactly:
                return max(round(bound), times[0]) if bound < end else None
            index = bisect_right(times, bound)
            return times[index] if index < len(times) else None

        if self.begin is None:
            self.begin = behind(self._span.start)
        if self.end is None:
            self.end = behind(self._span.end)


class _Muxer:
    """Maps video and audio to the movie's time.

    Args:
        timelines: of each rendition's first segment; None for one without segments.
        span: the dates between which pictures are shown; None: all are.
    """

    def __init__(self, timelines: Sequence[Timeline | None], span: ShownSpan | None = None) -> None:
        if None in timelines:
            raise UnsupportedError("a rendition without media")
        self.tracks = [
            _TrackAssembly(index, timeline)
            for index, timeline in enumerate(timelines, 1)
            if timeline is not None
        ]
        self._begun = False
        self._span = None if span is None else _SpanFinder(span)

    def add(self, row: Sequence[LiveSegment], found: Sequence[Sequence[SampleRun]]) -> None:
        """Add the segments that the renditions have of one number, and their samples."""
        having = [(track, runs) for track, runs in zip(self.tracks, found, strict=True) if runs]
        if having and (not self._begun or any(segment.discontinuity for segment in row)):
            origin = having[0][0].seconds(having[0][1][0][0])
            # Behind all earlier media: the sound's first sample may begin before the picture's.
            starts = [track.end - track.seconds(runs[0][0]) + origin for track, runs in having]
            delay = max(starts) if self._begun else Fraction(0)
            for track in self.tracks:
                track.shift = round((delay - origin) * track.facts.timescale)
            self._begun = True
        for track, runs in having:
            for run in runs:
                track.add(run)
        if self._span is not None and found[0]:
            self._span.add(row[0], self.tracks[0], found[0])

    def finish(self) -> list[MovieTrack]:
        """Return the tracks; the movie begins with the first picture, or the first one that is shown.

        Raises:
            UnsupportedError: nothing is shown.
        """
        leading, begin, until = self.tracks[0], None, None
        if self._span is not None:
            begin = self._span.begin
            if begin is None or begin == self._span.end:
                raise UnsupportedError("nothing is shown within this time")
        starts = [track.seconds(track.first + track.tables.first_offset) for track in self.tracks]
        origin = starts[0] if begin is None else leading.seconds(begin)
        if self._span is not None and self._span.end is not None:
            until = leading.seconds(self._span.end) - origin
        tracks = [
            MovieTrack(track.facts, start - origin, track.tables, until)
            for track, start in zip(self.tracks, starts, strict=True)
        ]
        return [track for track in tracks if track.is_shown]
