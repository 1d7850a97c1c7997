"""Subtitles of a transport stream file that are pictures: PGS, as in files of Blu-ray discs.

It has a PES packet for each segment of a display set, or one for all of them.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from media.errors import MediaError, UnsupportedError
from media.matroska.text_blocks import MAX_DISPLAY_SET_BYTES
from media.mp4.movie.assembled_samples import Read
from media.mp4.movie.sample_table import Int64
from media.stream_reader import CLOCK_RATE
from media.subtitles.pgs import PRESENTATION, DisplaySet, DisplaySets, read_display_set
from media.ts.elementary_streams import Unit, UnitReader
from media.ts.limits import TransportLimits
from media.ts.movie_streams import StreamBlock, Units
from media.ts.tables import ElementaryStream
from media.ts.timestamps import FollowingClock

MAX_SETS = 1 << 16
"""Most display sets of a stream; a film has some two thousand."""


class SubtitleStream:
    """A stream of subtitles while its file is read: the places of its display sets, and their times."""

    def __init__(self, stream: ElementaryStream, limits: TransportLimits) -> None:
        self._pid = stream.pid
        self._reader = UnitReader(MAX_DISPLAY_SET_BYTES, limits.span_bytes)
        self._times, self._begins, self._ends, self._sizes = array("q"), array("q"), array("q"), array("I")
        self._is_timed = False
        self._time: int | None = None
        self.units = 0

    def push(self, block: StreamBlock, clock: FollowingClock) -> None:
        """Push the stream's packets of a block; raise UnsupportedError where there are too many."""
        for piece in block.pieces(self._pid):
            self._push_unit(self._reader.push(piece))
            if piece.pts is not None:
                # Here the other streams are near; where the next unit begins, minutes may have passed.
                self._time = clock.time(piece.pts)

    def finish(self) -> None:
        """Complete the last display set at the file's end."""
        self._push_unit(self._reader.finish())

    def _push_unit(self, unit: Unit | None) -> None:
        if unit is None:
            return
        self.units += 1
        size = len(unit.data)
        if unit.data[:1] == bytes((PRESENTATION,)):
            time = self._time
            # Without a time its segments can't be shown, and no others can be with them.
            self._is_timed = time is not None
            if time is None or not size:
                return
            if len(self._times) >= MAX_SETS:
                raise UnsupportedError(f"more than {MAX_SETS} subtitles")
            self._times.append(time)
            self._begins.append(unit.begin)
            self._ends.append(unit.end)
            self._sizes.append(size)
        elif self._is_timed and self._sizes:
            if self._sizes[-1] + size > MAX_DISPLAY_SET_BYTES:
                self._is_timed = False  # a damaged set ends here
                return
            self._ends[-1] = unit.end
            self._sizes[-1] += size

    def found(self, units: Units) -> FoundSubtitles | None:
        """Return the stream's display sets, after the whole file has been read; None if it has none."""
        if not self._times:
            return None
        ends = np.cumsum(np.asarray(self._sizes, np.int64))
        places = np.asarray(self._begins, np.int64), np.asarray(self._ends, np.int64)
        samples = _SetSamples((units, self._pid), places, ends)
        return FoundSubtitles(np.asarray(self._times, np.int64), samples)


@dataclass(frozen=True, slots=True, eq=False)
class FoundSubtitles:
    """The display sets of a stream.

    Attributes:
        times: when each is shown, in ticks since the beginning of the file's clock.
    """

    times: Int64
    samples: _SetSamples

    def display_sets(self, begin: int, origin: Fraction) -> DisplaySets:
        """Return the display sets, which aren't read yet.

        Args:
            begin: offset behind the file at which its assembled samples begin.
            origin: seconds of the file's clock at which its presentation begins.
        """
        order = np.argsort(self.times, kind="stable")
        sizes = np.diff(self.samples.ends, prepend=0)
        starts = (self.times - round(origin * CLOCK_RATE)) * 1000 // CLOCK_RATE
        offsets = begin + self.samples.ends - sizes
        return DisplaySets(starts[order], offsets[order], sizes[order], _pgs_sets)


def _pgs_sets(data: bytes) -> list[tuple[int, DisplaySet]]:
    return [(0, read_display_set(data))]


class _SetSamples:
    """The display sets of a stream, assembled from the file.

    Args:
        stream: reads units of the file, and the stream's ID.
        places: where each set begins and ends in the file.
        ends: bytes of all sets up to the end of each.
    """

    def __init__(self, stream: tuple[Units, int], places: tuple[Int64, Int64], ends: Int64) -> None:
        (self._units, self._pid), self.ends = stream, ends
        self._begins, self._stops = places

    @property
    def size(self) -> int:
        return int(self.ends[-1])

    @property
    def nbytes(self) -> int:
        return sum(one.nbytes for one in (self._begins, self._stops, self.ends))

    def read(self, read: Read, start: int, stop: int) -> bytes:
        parts = list[bytes]()
        number = int(self.ends.searchsorted(start, "right"))
        while number < len(self.ends) and (begin := int(self.ends[number - 1]) if number else 0) < stop:
            size = int(self.ends[number]) - begin
            units = self._units(read, self._pid, int(self._begins[number]), int(self._stops[number]))
            try:
                data = b"".join([unit.data for unit in units])
            except MediaError:  # the file has changed since it was indexed
                break
            if len(data) != size:
                break
            parts.append(data[max(start - begin, 0) : stop - begin])
            number += 1
        return b"".join(parts)
