"""The segments of a rendition in an S3 bucket that have left its playlist: found by the pieces of its index.

Any node may read them. The names of all pieces stay in memory, and a few pieces that were read lately. A
piece that others follow changes no more; the newest ones are looked for where a wanted segment isn't in those
that are known. All of it blocks.
"""

from __future__ import annotations

import contextlib
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import chain, islice
from operator import attrgetter
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from packager.blocking_calls import ThreadFlights, in_background, in_parallel
from packager.bounded_dict import BoundedDict
from packager.dvr import index, stored_cadence
from packager.dvr.bucket.index_pieces import (
    CLOCK_SECONDS,
    PieceBlock,
    PieceContent,
    PieceName,
    blocks_with,
    date_of,
    full_blocks,
    list_pieces,
    pieces_with,
    read_piece,
)
from packager.dvr.init_files import parse_init
from packager.dvr.limits import DEFAULT_LIMITS, DvrLimits
from packager.dvr.outline_cache import OutlineReader
from packager.dvr.own_files import MAX_INIT_BYTES
from packager.dvr.stored_outlines import OutlineStore
from packager.library.local_storage import NotFoundError
from packager.past.coded_outlines import NotedOutline
from packager.past.outlines import BLOCK_SEGMENTS, Outline, outlines_of
from packager.past.stepped_past import DatedBlock, SteppedPast, numbered, within
from packager.s3.client import UnavailableError
from packager.window.cadence import Cadence
from packager.window.model import LiveSegment, Timeline
from packager.window.rendition import extension_of, stored_name

if TYPE_CHECKING:
    from packager.s3.immutable_objects import BucketFiles

_number = attrgetter("number")

MAX_NAMES = 1 << 16
"""Most pieces of one rendition's index that are known, the newest: a year of segments of two seconds."""

NEWEST_SEGMENTS = 2 * BLOCK_SEGMENTS
"""In the newest pieces, of so many numbers, a process that stored before may be late with a line."""

LATE_SECONDS = 50.0
"""Behind the end of a span, after which the newest pieces are listed once more.

A process that was killed may have had a line under way to S3, which comes behind the pieces of the next one.
A minute behind its end what is said of a span never changes.
"""

MAX_TIMELINES = 256
"""Most init segments that stay in memory."""

MAX_DIGESTS = 4096
"""Most digests of blocks' pieces that stay in memory: those of six weeks of segments of two seconds."""

READS_AT_ONCE = 16
"""Most pieces that are read at once for the same span."""

MOST_UNREADABLE = 16
"""So many of the oldest pieces are tried in search of the oldest segment."""


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
        clock: seconds.

    Attributes:
        threads: the threads in which its methods are to be called.
    """

    def __init__(
        self,
        bucket: BucketFiles,
        key: str,
        cadence: Cadence,
        limits: DvrLimits = DEFAULT_LIMITS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.threads = bucket.threads
        self._client = bucket.client
        self._place = f"{bucket.address}/{key}"
        self._key = key
        self._index = f"{key}/index"
        self._cadence = cadence
        # Names outlines, wherever the bucket is.
        self._outlined = f"{key} {stored_cadence.encode(cadence).decode()}"
        channel, _, name = key.rpartition("/")
        self._outlines = OutlineReader[PieceBlock](
            OutlineStore.in_bucket(bucket.client, channel, bucket.address),
            name,
            f"{self._place} {self._outlined}",
            self._digest,
            self._made,
            READS_AT_ONCE,
        )
        self._digests: dict[int, tuple[Sequence[PieceName], int]] = {}
        self._extension = extension_of(name)
        self._limits = limits
        self._clock = clock
        self._lock = Lock()
        # In ascending order; replaced as a whole.
        self._pieces: Sequence[PieceName] | None = None
        # The first ones, before all are listed.
        self._oldest: Sequence[PieceName] = ()
        self._looked_for_new = self._looked_for_old = self._looked_for_oldest = -float("inf")
        # When the newest pieces were listed, in seconds since the epoch.
        self._listed_at = -float("inf")
        self._cache = BoundedDict[tuple[int, int], _ReadPiece](limits.pieces_read)
        self._dates: dict[PieceName, int | None] = {}
        self._stepped: tuple[Sequence[PieceName], SteppedPast | None] = (), None
        self._timelines = BoundedDict[tuple[int, int], Timeline | None](MAX_TIMELINES)
        self._looks = ThreadFlights[str, None]()
        self._fetches = ThreadFlights[PieceName, tuple[PieceContent | None, bytes]]()

    def place_of(self, segment: LiveSegment) -> str:
        """Return the address of a segment's object."""
        stored_by = 0 if segment.stored is None else segment.stored.stored_by
        return f"{self._place}/{stored_name(segment.number, stored_by, self._extension)}"

    def oldest(self) -> Fraction | None:
        """Return the date of the oldest segment in seconds since the epoch; None without any."""
        pieces = islice(self._oldest_pieces(), MOST_UNREADABLE)
        return next((one.program_date_time for one in chain.from_iterable(map(self._read, pieces))), None)

    def _oldest_pieces(self) -> Sequence[PieceName]:
        """Return the oldest pieces, for which not all have to be listed."""
        if self._pieces is None:
            self._looks.do("oldest", self._look_for_oldest)
        return self._oldest if self._pieces is None else self._known()

    def _look_for_oldest(self) -> None:
        now = self._clock()
        if now - self._looked_for_oldest >= self._limits.old_piece_seconds:
            self._oldest = sorted(next(list_pieces(self._client, self._index), []))
            self._looked_for_oldest = now

    def find(self, number: int) -> LiveSegment | None:
        """Return a segment or gap by its media sequence number; None where there is none."""
        pieces = self._known_until(number + 1)
        for piece in reversed(pieces_with(pieces, number, number, self._limits.piece_lines)):
            if (segment := numbered(self._read(piece), number)) is not None:
                return segment
        return None

    def discontinuities_before(self, number: int) -> int:
        """Return how many discontinuities there were before a segment; 0 where that isn't known."""
        pieces = self._known_until(number + 1)
        for piece in reversed(pieces_with(pieces, number, number, self._limits.piece_lines)):
            content, _ = read_piece(self._client, self._index, piece)
            lines = () if content is None else content.lines
            if (left := index.discontinuities_before(lines, number)) is not None:
                return left
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

    def outlines(self, start: Fraction, end: Fraction | None, before: int) -> Iterable[Outline]:
        """Begin to read the outlines of the blocks of a span; see `PastSegments`."""
        pieces = self._known_for(start, end, before)
        if (stepped := self._set_back(pieces)) is not None:
            return outlines_of(stepped.segments(start, end, before), self._extension)
        at = self._between(pieces, start, end, before)
        if not at:
            return ()
        first, last = pieces[at[0]].number, pieces[at[-1]].number
        if any(one.date < 0 for one in pieces_with(pieces, first, last, self._limits.piece_lines)):
            # Pieces of earlier versions have numbers of several blocks.
            return outlines_of(self.read(start, end, before), self._extension)
        return self._outlines.outlines(blocks_with(pieces, first, last), full_blocks(pieces))

    def _digest(self, block: PieceBlock) -> int:
        """Return of what the outline of a block is made."""
        known = self._digests.get(block.first)
        if known is not None and known[0] == block.pieces:
            return known[1]
        if len(self._digests) >= MAX_DIGESTS:
            self._digests.clear()
        digest = block.digest(self._outlined)
        self._digests[block.first] = block.pieces, digest
        return digest

    def _made(self, block: PieceBlock) -> Outline | None:
        """Make the outline of a block of its pieces as they are now; None where they have nothing."""
        contents = list(self._read_all(block.pieces))
        segments = _of_block(block, (one.segments for one in contents))
        if not segments:
            return None
        sizes = zip(block.pieces, contents, strict=True)
        grown = PieceBlock(block.first, tuple(replace(one, size=own.size) for one, own in sizes))
        return self._outlines.keep(grown, lambda: Outline.of(segments, self._extension))

    def full_blocks(self, newest: int) -> range:
        """Return the first numbers of the blocks that are complete; see `OutlinedIndex`."""
        pieces = self._known()
        if newest and not (pieces and pieces[-1].number >= newest):
            self._looks.do("new", self._look_for_new)
        return full_blocks(self._pieces or ())

    def outline_digest(self, first: int) -> int | None:
        """Return of what the outline of a block is made; see `OutlinedIndex`."""
        block = self._block(first)
        return None if block is None else self._digest(block)

    def noted_outline(self, first: int) -> NotedOutline | None:
        """Make the outline of a block; see `OutlinedIndex`."""
        block = self._block(first)
        found: list[Sequence[LiveSegment]] = []
        for piece in () if block is None else block.pieces:
            content, data = self._fetch(piece)
            if len(data) != piece.size:
                return None
            found.append(self._segments(piece, content))
        if block is None or not (segments := _of_block(block, found)):
            return None
        return NotedOutline(self._digest(block), Outline.of(segments, self._extension))

    def _block(self, first: int) -> PieceBlock | None:
        """Return a block with all of its pieces; None where an earlier version stored any of its numbers."""
        pieces = self._pieces or ()
        block = next(blocks_with(pieces, first, first), None)
        at = max(bisect_left(pieces, first, key=_number) - 1, 0)
        if block is None or any(one.date < 0 for one in (pieces[at], *block.pieces)):
            return None
        return block

    def read(
        self, start: Fraction, end: Fraction | None, before: int, like: Sequence[LiveSegment] = ()
    ) -> Sequence[LiveSegment]:
        """Read the segments of a span; see `PastSegments`."""
        del like
        pieces = self._known_for(start, end, before)
        if (stepped := self._set_back(pieces)) is not None:
            return stepped.segments(start, end, before)
        at = self._between(pieces, start, end, before)
        if not at:
            return ()
        number = pieces[at[0]].number
        touching = pieces_with(pieces[: at.stop], number, max(before, number), self._limits.piece_lines)
        found = _merged(one.segments for one in self._read_all(touching))
        return within(found, start, end, before)

    def _set_back(self, pieces: Sequence[PieceName]) -> SteppedPast | None:
        """Return where the clock was set; None where it was never set back."""
        known, found = self._stepped
        if found is None or known is not pieces or self._has_grown(pieces, found):
            # Of names of earlier versions, dates aren't known.
            dated = all(one.date >= 0 for one in pieces)
            blocks = [DatedBlock(one.number, one.date / 1000) for one in pieces] if dated else []

            def read(positions: Sequence[int]) -> Iterator[Sequence[LiveSegment]]:
                return (one.segments for one in self._read_all([pieces[at] for at in positions]))

            found = SteppedPast(blocks, read)
            self._stepped = pieces, found
        return found if found.stretches else None

    def _has_grown(self, pieces: Sequence[PieceName], stepped: SteppedPast) -> bool:
        """Return whether the newest piece has segments behind those that are known."""
        return any(
            one.number >= last.numbers.stop
            for last in stepped.stretches[-1:]
            for one in self._read(pieces[-1])[-1:]
        )

    def _known_for(self, start: Fraction, end: Fraction | None, before: int) -> Sequence[PieceName]:
        """Return the pieces that are known, all that may have anything of a span among them."""
        if self._pieces is None and end is not None and (around := self._listed_around(start, end)):
            return around
        pieces = self._known()
        if end is not None and self._listed_at < end + LATE_SECONDS <= time.time():
            self._looks.do("new", self._look_for_new)
            pieces = self._pieces or ()
        if end is None or not pieces or not int(1000 * end) <= pieces[-1].date <= 1000 * time.time():
            # Where the clock was set back, pieces may have come behind one whose date is still to come.
            return self._known_until(before)
        return pieces

    def _listed_around(self, start: Fraction, end: Fraction) -> Sequence[PieceName]:
        """List the pieces around a span, while others list all; none where some of theirs may be missing."""
        in_background(self._known)
        number = max(int((start - CLOCK_SECONDS) / self._cadence.segment_duration), 0)
        found = sorted(next(list_pieces(self._client, self._index, number), []))
        dates = [one.date for one in found]
        if not found or min(dates) < 0 or dates != sorted(dates):
            return ()
        first, last = bisect_left(dates, int(1000 * start)) - 1, bisect_right(dates, int(1000 * end)) - 1
        if first < 0:
            return ()
        begin = found[first].number - found[first].number % BLOCK_SEGMENTS
        behind = found[last].number - found[last].number % BLOCK_SEGMENTS + BLOCK_SEGMENTS
        return found if found[0].number < begin and found[-1].number >= behind else ()

    def _between(
        self, pieces: Sequence[PieceName], start: Fraction, end: Fraction | None, before: int
    ) -> range:
        """Return the positions of the pieces that begin within a span, and of the last one before that."""

        def date_of(at: int) -> int | None:
            return self._date(pieces[at])

        # In milliseconds, rounded down.
        first = max(index.count_begun(len(pieces), int(1000 * start) - 1, date_of) - 1, 0)
        behind = bisect_left(pieces, before, key=_number)
        if end is not None:
            behind = min(behind, index.count_begun(len(pieces), int(1000 * end), date_of))
        return range(first, behind)

    def _date(self, piece: PieceName) -> int | None:
        """Return the date of a piece in milliseconds since the epoch; None of one that can't be read."""
        if piece.date >= 0:
            return piece.date
        if piece not in self._dates:
            self._dates[piece] = date_of(self._client, self._index, piece)
        return self._dates[piece]

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
            listed_at = time.time()
            self._pieces = self._listed(0)
            self._listed_at = listed_at

    def _listed(self, number: int) -> Sequence[PieceName]:
        found = sorted(chain.from_iterable(list_pieces(self._client, self._index, number)))
        return found[-MAX_NAMES:]

    def _look_for_new(self) -> None:
        """List the newest pieces again, unless that was done just before."""
        now, known = self._clock(), self._pieces or ()
        if now - self._looked_for_new < self._limits.new_piece_seconds:
            return
        # The newest of those that are known may have grown.
        number, listed_at = max(known[-1].number - NEWEST_SEGMENTS, 0) if known else 0, time.time()
        found = self._listed(number)
        self._listed_at = listed_at
        self._pieces = [*known[: bisect_left(known, number, key=_number)], *found][-MAX_NAMES:]
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
        bound = bisect_left(known, last, key=_number)
        kept = [one for one in known[:bound] if (one.number, one.stored_by) in there]
        self._pieces = [*kept, *known[bound:]]

    def _read_all(self, pieces: Sequence[PieceName]) -> Iterator[_ReadPiece]:
        """Read pieces, several at once."""
        known = {one: self._find(one) for one in pieces}
        # All wait for S3 at once; one thread makes segments.
        coming = in_parallel(self._fetch, (one for one in pieces if known[one] is None), READS_AT_ONCE)
        for one in pieces:
            yield known[one] or self._keep(one, *next(coming))

    def _read(self, piece: PieceName) -> Sequence[LiveSegment]:
        """Read the segments of a piece; of one that is gone, or that can't be read, none."""
        return (self._find(piece) or self._keep(piece, *self._fetch(piece))).segments

    def _find(self, piece: PieceName) -> _ReadPiece | None:
        """Return a piece that is in memory as it is listed."""
        key = piece.number, piece.stored_by
        with self._lock:
            known = self._cache.use(key)
        return None if known is None or known.size < piece.size else known

    def _fetch(self, piece: PieceName) -> tuple[PieceContent | None, bytes]:
        """Read a piece, which one of those who want it asks for; it may have grown."""
        return self._fetches.do(piece, lambda: read_piece(self._client, self._index, piece))

    def _keep(self, piece: PieceName, content: PieceContent | None, data: bytes) -> _ReadPiece:
        read = _ReadPiece(len(data), self._segments(piece, content))
        with self._lock:
            self._cache[piece.number, piece.stored_by] = read
        return read

    def _segments(self, piece: PieceName, content: PieceContent | None) -> Sequence[LiveSegment]:
        """Make the segments of a piece; those without their init segment aren't there."""
        if content is None or not stored_cadence.lists_alike(content.cadence, self._cadence):
            return ()
        lines = index.possible(content.lines)
        return index.segments_of(lines, lambda number: self._timeline(number, piece.stored_by))

    def _timeline(self, number: int, stored_by: int) -> Timeline | None:
        with self._lock:
            if (number, stored_by) in self._timelines:
                return self._timelines.use((number, stored_by))
        key = f"{self._key}/init-{number}-{stored_by}.mp4"
        timeline = None
        with contextlib.suppress(NotFoundError):
            timeline = parse_init(number, self._client.read_first(key, MAX_INIT_BYTES)[1])
        with self._lock:
            self._timelines[number, stored_by] = timeline
        return timeline


def _merged(pieces: Iterable[Sequence[LiveSegment]]) -> list[LiveSegment]:
    """Return the segments of pieces; where two have stored the same numbers, the last one counts."""
    found: list[LiveSegment] = []
    for segments in pieces:
        if found and segments and segments[0].number <= found[-1].number:
            by_number = {one.number: one for one in (*found, *segments)}
            found = [by_number[number] for number in sorted(by_number)]
        else:
            found += segments
    return found


def _of_block(block: PieceBlock, pieces: Iterable[Sequence[LiveSegment]]) -> list[LiveSegment]:
    """Return the segments of pieces that belong to a block."""
    numbers = range(block.first, block.first + BLOCK_SEGMENTS)
    return [one for one in _merged(pieces) if one.number in numbers]
