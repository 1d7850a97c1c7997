"""Subtitles that are pictures in transport and program streams: PGS, DVB subtitles and VobSub.

PGS has a PES packet for each segment of a display set, or one for all of them. DVB has PES packets with a
head of two bytes (ETSI EN 300 743 §7.1), and those of one display set have the same time. VobSub, of program
streams, has a sub-picture unit behind each time.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial

import numpy as np

from media.errors import MediaError, UnsupportedError
from media.matroska.text_blocks import MAX_DISPLAY_SET_BYTES, as_dvb_blocks
from media.mp4.movie.assembled_samples import Read
from media.mp4.movie.box_arrays import Int64
from media.stream_reader import CLOCK_RATE
from media.subtitles.dvb import packet_segments, read_page_of
from media.subtitles.pgs import PRESENTATION, Decode, DisplaySet, DisplaySets, read_display_set
from media.subtitles.vobsub import VobSubIndex, read_subpicture, unknown_colours
from media.ts.elementary_streams import Unit, UnitReader
from media.ts.limits import TransportLimits
from media.ts.movie_streams import StreamBlock, Units
from media.ts.tables import ElementaryStream
from media.ts.timestamps import FollowingClock

MAX_SETS = 1 << 16
"""Most display sets of a stream; a film has some two thousand."""

DVB_SUBTITLES = 0x59
"""Tag of the descriptor of DVB subtitles (ETSI EN 300 468 §6.2.41)."""

MAX_PAGES = 8
"""Most subtitles of a stream of DVB, each with a page and a language of its own."""

_HARD_OF_HEARING = range(0x20, 0x27)
"""Types of subtitles for who doesn't hear (ETSI EN 300 468 table 26)."""

_PAGE_BYTES = 8


@dataclass(frozen=True, slots=True)
class SubtitlePage:
    """The subtitles of one language in a stream.

    Attributes:
        language: three letters of ISO 639-2; ``und`` where it is unknown.
        is_caption: whether they are for who doesn't hear.
        private: numbers of the page and of the one that it shares with others, and the type, as Matroska has
            them; empty of PGS.
    """

    language: str = "und"
    is_caption: bool = False
    private: bytes = b""


def dvb_pages(stream: ElementaryStream) -> list[SubtitlePage]:
    """Return the subtitles of a stream of DVB by its descriptor."""
    told = stream.described().get(DVB_SUBTITLES, b"")
    entries = (told[at : at + _PAGE_BYTES] for at in range(0, len(told) - _PAGE_BYTES + 1, _PAGE_BYTES))
    pages = []
    for entry in list(entries)[:MAX_PAGES]:
        language = entry[:3].decode("latin-1").lower()
        is_known = language.isascii() and language.isalpha()
        pages.append(
            SubtitlePage(
                language if is_known else "und", entry[3] in _HARD_OF_HEARING, entry[4:8] + entry[3:4]
            )
        )
    return pages


class SubtitleStream:
    """A stream of subtitles while its file is read: the places of its display sets, and their times.

    Where there are too many it has none: a film is worth seeing without them.
    """

    def __init__(
        self,
        number: int,
        limits: TransportLimits,
        pages: list[SubtitlePage] | None = None,
        *,
        is_vobsub: bool = False,
    ) -> None:
        """Begin a stream.

        Args:
            number: of the stream, by which a file's blocks have its packets.
            pages: the subtitles of a stream of DVB; None of PGS and VobSub.
        """
        self._pid, self._pages, self._is_vobsub = number, pages, is_vobsub
        self._reader = UnitReader(MAX_DISPLAY_SET_BYTES, limits.span_bytes)
        self._times, self._begins, self._ends, self._sizes = array("q"), array("q"), array("q"), array("I")
        self._told: int | None = None
        self._time: int | None = None
        self._has_failed = False
        self.units = 0

    def push(self, block: StreamBlock, clock: FollowingClock) -> None:
        """Push the stream's packets of a block."""
        if self._has_failed:
            return
        try:
            for piece in block.pieces(self._pid):
                self._push_unit(self._reader.push(piece))
                if piece.pts is not None:
                    # Here the other streams are near; where the next unit begins, minutes may have passed.
                    self._time = clock.time(piece.pts)
        except UnsupportedError:
            self._fail()

    def finish(self) -> None:
        """Complete the last display set at the file's end."""
        if self._has_failed:
            return
        try:
            self._push_unit(self._reader.finish())
        except UnsupportedError:
            self._fail()

    def _fail(self) -> None:
        """Forget all subtitles, and take no more."""
        self._has_failed, self.units = True, 0
        for column in (self._times, self._begins, self._ends, self._sizes):
            del column[:]

    def _push_unit(self, unit: Unit | None) -> None:
        if unit is None:
            return
        self.units += 1
        size = len(self._segments(unit.data))
        if self._begins_set(unit):
            time = self._time
            # Without a time its segments can't be shown, and no others can be with them.
            self._told = None if time is None else unit.pts
            if time is None or not size:
                return
            if len(self._times) >= MAX_SETS:
                raise UnsupportedError(f"more than {MAX_SETS} subtitles")
            self._times.append(time)
            self._begins.append(unit.begin)
            self._ends.append(unit.end)
            self._sizes.append(size)
        elif self._told is not None and self._sizes:
            if self._sizes[-1] + size > MAX_DISPLAY_SET_BYTES:
                self._told = None  # a damaged set ends here
                return
            self._ends[-1] = unit.end
            self._sizes[-1] += size

    def _begins_set(self, unit: Unit) -> bool:
        if self._is_vobsub:
            return True
        if self._pages is None:
            return unit.data[:1] == bytes((PRESENTATION,))
        return unit.pts != self._told

    def _segments(self, data: bytes) -> bytes:
        return data if self._pages is None else packet_segments(data)

    def found(self, units: Units) -> FoundSubtitles | None:
        """Return the stream's display sets, after the whole file has been read; None if it has none."""
        if not self._times:
            return None
        ends = np.cumsum(np.asarray(self._sizes, np.int64))
        places = np.asarray(self._begins, np.int64), np.asarray(self._ends, np.int64)
        samples = _SetSamples((units, self._pid), places, ends, self._segments)
        return FoundSubtitles(np.asarray(self._times, np.int64), samples, self._pages, self._is_vobsub)


@dataclass(frozen=True, slots=True, eq=False)
class FoundSubtitles:
    """The display sets of a stream.

    Attributes:
        times: when each is shown, in ticks since the beginning of the file's clock.
        pages: the subtitles of a stream of DVB; None of PGS and VobSub.
    """

    times: Int64
    samples: _SetSamples
    pages: list[SubtitlePage] | None
    is_vobsub: bool

    def tracks(
        self, begin: int, origin: Fraction, canvas: tuple[int, int]
    ) -> Iterator[tuple[SubtitlePage, DisplaySets]]:
        """Return each of the stream's subtitles, with their display sets.

        Args:
            begin: offset behind the file at which its assembled samples begin.
            origin: seconds of the file's clock at which its presentation begins.
            canvas: width and height in pixels of the file's pictures, on which VobSub is composed.
        """
        order = np.argsort(self.times, kind="stable")
        sizes = np.diff(self.samples.ends, prepend=0)
        starts = (self.times - round(origin * CLOCK_RATE)) * 1000 // CLOCK_RATE
        offsets = begin + self.samples.ends - sizes
        sets = DisplaySets(starts[order], offsets[order], sizes[order], _pgs_sets)
        if self.is_vobsub:
            if (index := unknown_colours(*canvas)) is not None:
                decode, with_palette = partial(read_subpicture, index=index), partial(_in_colours, index)
                yield SubtitlePage(), replace(sets, decode=decode, with_palette=with_palette)
            return
        if self.pages is None:
            yield SubtitlePage(), sets
            return
        for page in self.pages:
            numbers = {int.from_bytes(page.private[at : at + 2], "big") for at in (0, 2)}
            decode = partial(read_page_of, pages=frozenset(numbers))
            yield page, as_dvb_blocks(replace(sets, decode=decode), page.private)


def _in_colours(index: VobSubIndex, palette: tuple[bytes, ...]) -> Decode:
    return partial(read_subpicture, index=replace(index, palette=palette))


def _pgs_sets(data: bytes) -> list[tuple[int, DisplaySet]]:
    return [(0, read_display_set(data))]


class _SetSamples:
    """The display sets of a stream, assembled from the file.

    Args:
        stream: reads units of the file, and the stream's ID.
        places: where each set begins and ends in the file.
        ends: bytes of all sets up to the end of each.
        segments: returns the segments in a unit.
    """

    def __init__(
        self,
        stream: tuple[Units, int],
        places: tuple[Int64, Int64],
        ends: Int64,
        segments: Callable[[bytes], bytes],
    ) -> None:
        (self._units, self._pid), self.ends = stream, ends
        self._begins, self._stops = places
        self._segments = segments

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
                data = b"".join([self._segments(unit.data) for unit in units])
            except MediaError:  # the file has changed since it was indexed
                break
            if len(data) != size:
                break
            parts.append(data[max(start - begin, 0) : stop - begin])
            number += 1
        return b"".join(parts)
