"""The segments of a rendition in an S3 bucket that have left its playlist: found by the pieces of its index.

Any node may read them. The names of all pieces stay in memory, and a few pieces that were read lately. A
piece that others follow changes no more; the newest ones are looked for where a wanted segment isn't in those
that are known. All of it blocks.
"""

from __future__ import annotations

import contextlib
import time
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from itertools import chain, islice
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

from packager.dvr import index
from packager.dvr.index import IndexLine, segment_of
from packager.dvr.index_pieces import (
    PieceContent,
    PieceName,
    date_of,
    list_pieces,
    pieces_with,
    read_piece,
)
from packager.dvr.init_files import parse_init
from packager.dvr.limits import DEFAULT_LIMITS, DvrLimits
from packager.dvr.own_files import MAX_INIT_BYTES
from packager.dvr.stored_cadence import lists_alike
from packager.library.local_storage import NotFoundError
from packager.past.outlines import Outline, outlines_of
from packager.s3.client import UnavailableError
from packager.s3.thread_flights import ThreadFlights
from packager.window.cadence import Cadence
from packager.window.model import LiveSegment, Timeline
from packager.window.rendition import extension_of, stored_name

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from packager.s3.immutable_objects import BucketFiles

MAX_NAMES = 1 << 16
"""Most pieces of one rendition's index that are known, the newest: a year of segments of two seconds."""

MAX_TIMELINES = 256
"""Most init segments that stay in memory."""

MOST_UNREADABLE = 16
"""So many of the oldest pieces are tried in search of the oldest segment."""

WAIT_SECONDS = 30.0
"""For how long a thread waits while another one reads the same."""


class _ReadPiece(NamedTuple):
    """A piece that was read.

    Attributes:
        size: its bytes, which grow until it is full.
        segments: in ascending order of their numbers; none where they can't be in the channel's playlists.
    """

    size: int
    segments: Sequence[LiveSegment]


class PastPieces:
    """Finds segments of one rendition; see `PastSegments`. Several threads may call its methods.

    Args:
        key: the rendition's, without a slash at its end.
        cadence: of the channel; segments of another cadence can't share its playlists.
        reads: where pieces are read, many at once.
        clock: seconds.

    Attributes:
        threads: the threads in which its methods are to be called.
    """

    def __init__(
        self,
        bucket: BucketFiles,
        key: str,
        cadence: Cadence,
        reads: Executor,
        limits: DvrLimits = DEFAULT_LIMITS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.threads = bucket.threads
        self._reads = reads
        self._client = bucket.client
        self._place = f"{bucket.address}/{key}"
        self._key = key
        self._index = f"{key}/index"
        self._extension = extension_of(key.rpartition("/")[2])
        self._cadence = cadence
        self._limits = limits.bucket
        self._clock = clock
        self._lock = Lock()
        # In ascending order; replaced as a whole.
        self._pieces: Sequence[PieceName] | None = None
        self._looked_for_new = self._looked_for_old = -float("inf")
        self._cache: OrderedDict[tuple[int, int], _ReadPiece] = OrderedDict()
        self._dates: dict[PieceName, int | None] = {}
        self._timelines: OrderedDict[tuple[int, int], Timeline | None] = OrderedDict()
        self._looks = ThreadFlights[str, None](WAIT_SECONDS)
        self._fetches = ThreadFlights[PieceName, tuple[PieceContent | None, bytes]](WAIT_SECONDS)

    def place_of(self, segment: LiveSegment) -> str:
        """Return the address of a segment's object."""
        stored_by = 0 if segment.stored is None else segment.stored.stored_by
        return f"{self._place}/{stored_name(segment.number, stored_by, self._extension)}"

    def oldest(self) -> Fraction | None:
        """Return the date of the oldest segment in seconds since the epoch; None without any."""
        pieces = islice(self._known(), MOST_UNREADABLE)
        return next((one.program_date_time for one in chain.from_iterable(map(self._read, pieces))), None)

    def find(self, number: int) -> LiveSegment | None:
        """Return a segment or gap by its media sequence number; None where there is none."""
        pieces = self._known_until(number + 1)
        for piece in reversed(pieces_with(pieces, number, number, self._limits.piece_lines)):
            segments = self._read(piece)
            at = bisect_left(segments, number, key=_number)
            if at < len(segments) and segments[at].number == number:
                return segments[at]
        return None

    def discontinuities_before(self, number: int) -> int:
        """Return how many discontinuities there were before a segment; 0 where that isn't known."""
        pieces = self._known_until(number + 1)
        for piece in reversed(pieces_with(pieces, number, number, self._limits.piece_lines)):
            content, _ = read_piece(self._client, self._index, piece)
            lines = () if content is None else content.lines
            # Of a number that isn't there, that of the one before says it.
            line = next((one for one in reversed(lines) if one.number <= number), None)
            if line is not None:
                return line.left + (line.discontinuity and line.number < number)
        return 0

    def init(self, number: int) -> bytes | None:
        """Return an init segment, by the number of its timeline."""
        pieces, reach = self._known_until(number + 1), self._limits.piece_lines
        # The first segments of the timeline may have been removed meanwhile.
        for piece in (*pieces_with(pieces, number, number + reach, reach), *pieces[:1]):
            for one in self._read(piece):
                if one.timeline is not None and one.timeline.number == number:
                    return one.timeline.init
        return None

    def outlines(self, start: Fraction, end: Fraction | None, before: int) -> list[Outline]:
        """Make the outlines of the segments of a span; see `PastSegments`."""
        return list(outlines_of(self.read(start, end, before), self._extension))

    def read(
        self, start: Fraction, end: Fraction | None, before: int, like: Sequence[LiveSegment] = ()
    ) -> Sequence[LiveSegment]:
        """Read the segments of a span; see `PastSegments`."""
        del like
        last = None if end is None else int(1000 * end)
        pieces = self._known()
        if last is None or not pieces or pieces[-1].date < last:
            pieces = self._known_until(before)
        found: list[LiveSegment] = []
        for segments in self._read_all(self._touching(pieces, int(1000 * start), last, before)):
            if found and segments and segments[0].number <= found[-1].number:
                # Where two have stored the same numbers, the last one counts.
                by_number = {one.number: one for one in (*found, *segments)}
                found = sorted(by_number.values(), key=_number)
            else:
                found += segments
        first = max(bisect_right(found, start, key=_date) - 1, 0)
        behind = bisect_left(found, before, key=_number)
        if end is not None:
            behind = min(behind, bisect_left(found, end, key=_date))
        return found[first:behind]

    def _touching(
        self, pieces: Sequence[PieceName], start: int, end: int | None, before: int
    ) -> Sequence[PieceName]:
        """Return the pieces that may have segments of a span, by dates in milliseconds, rounded down."""
        # Dates rise with numbers.
        first = max(bisect_right(pieces, start - 1, key=self._date) - 1, 0)
        behind = bisect_left(pieces, before, key=_number_of)
        if end is not None:
            behind = min(behind, bisect_right(pieces, end, key=self._date))
        if first >= behind:
            return ()
        number = pieces[first].number
        return pieces_with(pieces[:behind], number, max(before, number), self._limits.piece_lines)

    def _date(self, piece: PieceName) -> int:
        """Return the date of a piece in milliseconds since the epoch; 0 of one that can't be read."""
        if piece.date >= 0:
            return piece.date
        if piece not in self._dates:
            self._dates[piece] = date_of(self._client, self._index, piece)
        return self._dates[piece] or 0

    def _known(self) -> Sequence[PieceName]:
        """Return the pieces that are known, without those that were removed a while ago."""
        if self._pieces is None:
            self._looks.do("all", self._list)
        elif self._clock() - self._looked_for_old >= self._limits.old_piece_seconds:
            # While S3 is away, what is in memory is still good.
            with contextlib.suppress(UnavailableError, TimeoutError):
                self._looks.do("old", self._forget_removed)
        return self._pieces or ()

    def _known_until(self, number: int) -> Sequence[PieceName]:
        """Return the pieces that are known, all that may have any number before this one among them."""
        pieces = self._known()
        if not (pieces and self._has_until(pieces[-1], number)):
            self._looks.do("new", self._look_for_new)
        return self._pieces or ()

    def _has_until(self, newest: PieceName, number: int) -> bool:
        """Return whether a piece, the newest that is known, or those before it have all earlier numbers."""
        if number <= newest.number:
            return True
        segments = self._read(newest)
        return bool(segments) and segments[-1].number + 1 >= number

    def _list(self) -> None:
        if self._pieces is None:
            self._looked_for_new = self._looked_for_old = self._clock()
            self._pieces = self._listed(0)

    def _listed(self, number: int) -> Sequence[PieceName]:
        found = sorted(chain.from_iterable(list_pieces(self._client, self._index, number)))
        return found[-MAX_NAMES:]

    def _look_for_new(self) -> None:
        """List the newest pieces again, unless that was done just before."""
        now, known = self._clock(), self._pieces or ()
        if now - self._looked_for_new < self._limits.new_piece_seconds:
            return
        # The newest of those that are known may have grown.
        number = max(known[-1].number - self._limits.piece_lines, 0) if known else 0
        found = self._listed(number)
        self._pieces = [*known[: bisect_left(known, number, key=_number_of)], *found][-MAX_NAMES:]
        self._looked_for_new = now

    def _forget_removed(self) -> None:
        """Forget those of the oldest pieces that aren't listed any more."""
        now, known = self._clock(), self._pieces or ()
        if now - self._looked_for_old < self._limits.old_piece_seconds:
            return
        self._looked_for_old = now
        page = next(list_pieces(self._client, self._index), [])
        last = max((one.number for one in page), default=0)
        there = {(one.number, one.stored_by) for one in page}
        bound = bisect_left(known, last, key=_number_of)
        kept = [one for one in known[:bound] if (one.number, one.stored_by) in there]
        self._pieces = [*kept, *known[bound:]]

    def _read_all(self, pieces: Sequence[PieceName]) -> Iterator[Sequence[LiveSegment]]:
        """Read pieces, several at once."""
        known = {one: self._find(one) for one in pieces}
        # All wait for S3 at once; one thread makes segments.
        coming = {one: self._reads.submit(self._fetch, one) for one in pieces if known[one] is None}
        for one in pieces:
            segments = known[one]
            yield self._keep(one, *coming[one].result()) if segments is None else segments

    def _read(self, piece: PieceName) -> Sequence[LiveSegment]:
        """Read the segments of a piece; of one that is gone, or that can't be read, none."""
        segments = self._find(piece)
        return self._keep(piece, *self._fetch(piece)) if segments is None else segments

    def _find(self, piece: PieceName) -> Sequence[LiveSegment] | None:
        """Return the segments of a piece that is in memory as it is listed."""
        key = piece.number, piece.stored_by
        with self._lock:
            known = self._cache.get(key)
            if known is None or known.size < piece.size:
                return None
            self._cache.move_to_end(key)
            return known.segments

    def _fetch(self, piece: PieceName) -> tuple[PieceContent | None, bytes]:
        """Read a piece, which one of those who want it asks for; it may have grown."""
        return self._fetches.do(piece, lambda: read_piece(self._client, self._index, piece))

    def _keep(self, piece: PieceName, content: PieceContent | None, data: bytes) -> Sequence[LiveSegment]:
        segments: Sequence[LiveSegment] = ()
        if content is not None and lists_alike(content.cadence, self._cadence):
            segments = self._segments(piece, content.lines)
        with self._lock:
            self._cache[piece.number, piece.stored_by] = _ReadPiece(len(data), segments)
            while len(self._cache) > self._limits.pieces_read:
                self._cache.popitem(last=False)
        return segments

    def _segments(self, piece: PieceName, lines: Sequence[IndexLine]) -> Sequence[LiveSegment]:
        """Make the segments of lines; those without their init segment aren't there."""
        if not index.is_orderly(lines):
            wrong = index.impossible({line.number: line for line in lines})
            lines = [line for line in lines if line.number not in wrong]
        found: list[LiveSegment] = []
        for line in lines:
            timeline = None if line.init is None else self._timeline(line.init, piece.stored_by)
            if timeline is not None or not line.parts:
                found.append(segment_of(line, timeline))
        return found

    def _timeline(self, number: int, stored_by: int) -> Timeline | None:
        with self._lock:
            if (number, stored_by) in self._timelines:
                self._timelines.move_to_end((number, stored_by))
                return self._timelines[number, stored_by]
        key = f"{self._key}/init-{number}-{stored_by}.mp4"
        timeline = None
        with contextlib.suppress(NotFoundError):
            timeline = parse_init(number, self._client.read_first(key, MAX_INIT_BYTES)[1])
        with self._lock:
            self._timelines[number, stored_by] = timeline
            while len(self._timelines) > MAX_TIMELINES:
                self._timelines.popitem(last=False)
        return timeline


def _number(segment: LiveSegment) -> int:
    return segment.number


def _number_of(piece: PieceName) -> int:
    return piece.number


def _date(segment: LiveSegment) -> Fraction:
    return segment.program_date_time
