"""Converts the ``moov`` and all fragments of a file to a movie (ISO/IEC 14496-12 §8.8).

The result is like the ``moov`` of a file without fragments: tracks with their sample tables.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from media.errors import MalformedError, TooLargeError
from media.mp4.boxes import Box, walk
from media.mp4.fragments.moof import (
    DATA_OFFSET,
    FIRST_SAMPLE_FLAGS,
    NON_SYNC,
    PER_SAMPLE,
    Defaults,
    parse_tfdt,
    parse_tfhd,
    parse_trex,
)
from media.mp4.movie.box_arrays import Int64, stretches
from media.mp4.movie.movie import Edit, Movie, Track
from media.mp4.movie.sample_table import SampleTable
from media.mp4.movie.sample_table_writer import (
    Reserve,
    SampleColumns,
    SampleTableWriter,
    TableRoom,
    TrackStart,
    edit_lists,
    reserve_nothing,
)

_FARTHEST = 1 << 62
"""Bound of places in a file and of times, so that sums with sizes stay inside 64 bits."""


@dataclass(frozen=True, slots=True)
class FragmentedLimits:
    """Limits of a fragmented file that is read.

    Attributes:
        fragments: most fragments: 24 hours of film and sound in parts of two seconds have 86,400.
        boxes: most boxes beside and in all fragments; one with video and audio has a dozen.
        samples: most samples of all tracks together.
        table_bytes: memory for the sample tables of all tracks.
    """

    fragments: int = 1 << 17
    boxes: int = 1 << 21
    samples: int = 1 << 23
    table_bytes: int = 96 << 20


class FragmentedMovie:
    """Joins the fragments of a file to whole sample tables.

    Args:
        size: the file's length in bytes; samples that reach beyond it were never written.
        reserve: called before memory is allocated for the tables.

    Attributes:
        cut_short: whether samples are missing at the file's end.
    """

    def __init__(
        self,
        movie: Movie,
        moov: bytes,
        size: int,
        limits: FragmentedLimits,
        reserve: Reserve = reserve_nothing,
    ) -> None:
        given = parse_trex(moov)
        self._movie, self._size, self._limits = movie, size, limits
        self._defaults = {track.track_id: given.get(track.track_id, Defaults()) for track in movie.tracks}
        if movie.unread:  # fragments of a track that can't be read are passed over, as by ffmpeg
            self._defaults = {**given, **self._defaults}
        room = TableRoom(limits.table_bytes, reserve)
        self._tracks = {track.track_id: _FragmentedTrack(track, room) for track in movie.tracks}
        self._fragments = self._boxes = self._samples = 0
        self.cut_short = False
        for track in self._tracks.values():
            for samples, end in track.of_moov(limits.samples):
                self._add(track, samples, end)

    def count_box(self) -> None:
        """Count a box of the file; raise TooLargeError if there are too many."""
        self._boxes += 1
        if self._boxes > self._limits.boxes:
            raise TooLargeError(f"more than {self._limits.boxes} boxes in and beside its fragments")

    def push(self, moof: bytes, position: int) -> None:
        """Push the next fragment.

        Args:
            position: offset of the fragment in the file.

        Raises:
            MalformedError: the fragment is cut off, contradicts itself or goes back in time.
            TooLargeError: a limit is exceeded.
        """
        self._fragments += 1
        if self._fragments > self._limits.fragments:
            raise TooLargeError(f"more than {self._limits.fragments} fragments")
        end = position
        (outer,) = self._walk(moof, 0, len(moof))
        for traf in self._walk(moof, outer.payload, outer.end):
            if traf.kind == b"traf":
                children = list(self._walk(moof, traf.payload, traf.end))
                end = self._track_fragment(moof, children, position, end)

    def _walk(self, data: bytes, start: int, end: int) -> Iterator[Box]:
        for found in walk(data, start, end):
            self.count_box()
            yield found

    def _track_fragment(self, moof: bytes, children: list[Box], position: int, previous: int) -> int:
        """Add a ``traf``; return the offset behind its data in the file."""
        heads = [child for child in children if child.kind == b"tfhd"]
        if len(heads) != 1:  # §8.8.7.1: exactly one
            raise MalformedError(f"traf with {len(heads)} tfhd")
        track_id, defaults, base = parse_tfhd(moof, heads[0], position, previous, self._defaults)
        if track_id not in self._tracks:
            return previous
        track = self._tracks[track_id]
        track.use_description(defaults.description)
        if base > _FARTHEST:
            raise MalformedError(f"a fragment at {position} whose data are beyond all files")
        for child in children:
            if child.kind == b"tfdt":
                track.next_time = parse_tfdt(moof, child)
        end = base
        for child in children:
            if child.kind == b"trun":
                end = self._run(track, _FragmentRun(moof, child, base, end, defaults), end)
        return end

    def _run(self, track: _FragmentedTrack, run: _FragmentRun, end: int) -> int:
        """Add a ``trun``; return the offset behind its data in the file, if it has any samples."""
        place = run.place
        for begin, stop in stretches(0, run.count):
            if track.ended:
                break  # the rest is beyond the file's end, too, and may be billions
            if track.next_time > _FARTHEST or place < 0:  # before sums could leave 64 bits
                raise MalformedError("a fragment with impossible times or places")
            durations, sizes, flags, offsets = run.columns(begin, stop)
            ends = np.cumsum(sizes) + place
            places = ends - sizes
            times = np.append(0, np.cumsum(durations)) + track.next_time
            if int(times[-1]) > _FARTHEST or int(ends[-1]) > _FARTHEST:
                raise MalformedError("a fragment with impossible times or places")
            samples = SampleColumns(times[:-1], places, sizes, offsets, flags & NON_SYNC == 0)
            self._add(track, samples, int(times[-1]))
            place = int(ends[-1])
        if track.ended:
            place = min(run.place + run.size, _FARTHEST)
        return place if run.count else end

    def _add(self, track: _FragmentedTrack, samples: SampleColumns, end: int) -> None:
        """Add samples of a track up to the first one that is cut off."""
        if track.ended:
            return
        whole = samples.offset + samples.size <= self._size
        count = len(whole) if whole.all() else int(whole.argmin())
        self._samples += count
        if self._samples > self._limits.samples:
            raise TooLargeError(f"more than {self._limits.samples} samples")
        if count < len(whole):
            self.cut_short = track.ended = True
            end = int(samples.decode_time[count])
            samples = samples.part(0, count)
        track.add(samples, end)

    def movie(self) -> Movie:
        """Return the movie of all fragments so far."""
        tables = self._tracks.values()
        filled = [track for track in tables if track.has_samples]
        timescale, edits = edit_lists([track.start(self._movie.timescale) for track in filled])
        lists = dict(zip(filled, edits, strict=True))
        whole = [track.whole(lists.get(track, ())) for track in tables]
        return replace(self._movie, timescale=timescale, tracks=tuple(whole), fragmented=False)


class _FragmentedTrack:
    """The sample tables of one track, as far as they were read.

    Attributes:
        next_time: decode time of the next run, and of a fragment without ``tfdt`` (§8.8.12).
        ended: whether the file ended within its samples.
    """

    def __init__(self, track: Track, room: TableRoom) -> None:
        self._track = track
        self._boxes = SampleTableWriter(room)
        self._descriptions: list[tuple[int, int]] = []
        self._first: tuple[int, int] | None = None
        self.next_time = 0
        self.ended = False

    @property
    def has_samples(self) -> bool:
        """Whether the track has samples."""
        return self._first is not None

    def of_moov(self, limit: int) -> Iterator[tuple[SampleColumns, int]]:
        """Yield the samples of the ``moov`` itself, in which some writers put the first ones."""
        tables: Mapping[bytes, memoryview] = self._track.tables
        stated = tables.get(b"stsz") or tables.get(b"stz2") or b""
        if not any(stated[8:12]):
            return
        table = SampleTable(tables, len(self._track.sample_entries), limit)
        self.use_description(table.description + 1)
        for start, stop in stretches(0, len(table)):
            found = table.samples(start, stop)
            times = found.decode_time
            rest = found.offset, found.size, found.composition_offset, found.is_sync
            yield SampleColumns(times[:-1], *rest), int(times[-1])

    def use_description(self, number: int) -> None:
        """Note which sample entry the following samples use, numbered from 1."""
        if not 1 <= number <= len(self._track.sample_entries):
            raise MalformedError(f"a fragment with sample description {number}, which isn't there")
        if not self._descriptions or self._descriptions[-1][1] != number:
            self._descriptions.append((self._boxes.count, number))

    def add(self, samples: SampleColumns, end: int) -> None:
        """Add samples; ``end`` is the decode time at which the last one ends if nothing follows."""
        self.next_time = end
        if not len(samples.size):
            return
        if self._first is None:
            self._first = int(samples.decode_time[0]), int(samples.composition_offset[0])
        self._boxes.add(samples, end)

    def start(self, movie_timescale: int) -> TrackStart:
        """Return the start of the track: its first decode time, shifted by its edit list."""
        time, offset = self._first or (0, 0)
        # An edit's duration was written before it was known, and is 0 or that of the first fragment.
        zero = time + self._track.start_shift(movie_timescale)
        return TrackStart(self._track.timescale, zero, zero + offset)

    def whole(self, edits: tuple[Edit, ...]) -> Track:
        """Return the track with all its samples and an edit list."""
        cuts = [edit for edit in self._track.edits if edit.media_time != -1][1:]
        used, tables = {number for _, number in self._descriptions} or {1}, self._boxes.render()
        entries = self._track.sample_entries
        if len(used) == 1:
            entries = entries[min(used) - 1 : min(used)]
        else:
            tables[b"stsc"] = memoryview(self._described_chunks(tables))
        return replace(self._track, sample_entries=entries, edits=(*edits, *cuts), tables=tables)

    def _described_chunks(self, tables: Mapping[bytes, memoryview]) -> bytes:
        """Write a ``stsc`` (§8.7.4) that says which sample entry the samples of each chunk use.

        Between two fragments is a ``moof``, so that none shares a chunk with another one.
        """
        table = SampleTable(tables, 1)
        _, firsts = table.chunks()
        begins, numbers = (np.array(column, np.int64) for column in zip(*self._descriptions, strict=True))
        rows = np.empty((len(firsts), 3), ">u4")
        rows[:, 0] = np.arange(1, len(firsts) + 1)
        rows[:, 1] = np.diff(firsts, append=len(table))
        rows[:, 2] = numbers[begins.searchsorted(firsts, "right") - 1]
        changes = np.append(True, (rows[1:, 1:] != rows[:-1, 1:]).any(axis=1))
        written: bytes = rows[changes].tobytes()
        return struct.pack(">4xI", int(changes.sum())) + written


class _FragmentRun:
    """A run of samples (``trun``, §8.8.8), expanded one stretch at a time.

    Args:
        trun: the run's box in ``data``.
        base: offset from which the run's data offset counts.
        follows: offset of the data of a run without a data offset.

    Attributes:
        place: offset of the first sample in the file.
    """

    def __init__(self, data: bytes, trun: Box, base: int, follows: int, defaults: Defaults) -> None:
        fixed = data[trun.payload : min(trun.payload + 16, trun.end)]
        if len(fixed) < 8:
            raise MalformedError("trun is cut off")
        word, self.count = struct.unpack_from(">II", fixed)
        given, start = word & 0xFF_FFFF, 8
        self.place, first_flags = follows, None
        if given & DATA_OFFSET:
            self.place = base + int.from_bytes(fixed[start : start + 4], "big", signed=True)
            start += 4
        if given & FIRST_SAMPLE_FLAGS:
            first_flags = int.from_bytes(fixed[start : start + 4], "big")
            start += 4
        said = [bool(given & bit) for bit in PER_SAMPLE]
        width = sum(said)
        if trun.payload + start + 4 * width * self.count > trun.end:
            raise MalformedError(f"trun of {trun.size} bytes is too short for {self.count} samples")
        rows = np.frombuffer(data, ">u4", width * self.count, trun.payload + start)
        self._rows = rows.reshape(self.count if width else 0, width)
        self._said, self._first_flags = said, first_flags
        self._defaults = defaults.duration, defaults.size, defaults.flags, 0

    @property
    def size(self) -> int:
        """Bytes of all samples."""
        if not self._said[1]:
            return int(self.count) * self._defaults[1]
        return int(self._rows[:, sum(self._said[:1])].sum(dtype=np.int64))

    def columns(self, begin: int, stop: int) -> tuple[Int64, Int64, Int64, Int64]:
        """Return durations, sizes, flags and composition offsets of a range of the samples."""
        found: list[Int64] = []
        for said, default in zip(self._said, self._defaults, strict=True):
            if said:
                found.append(self._rows[begin:stop, sum(self._said[: len(found)])].astype(np.int64))
            else:
                found.append(np.full(stop - begin, default, np.int64))
        durations, sizes, flags, offsets = found
        if begin == 0 and self._first_flags is not None:
            flags[0] = self._first_flags
        # §8.8.8.2: signed from version 1 on, but writers of version 0 put negative offsets there, too
        return durations, sizes, flags, offsets.astype(np.int32).astype(np.int64)
