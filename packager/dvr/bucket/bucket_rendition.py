"""The DVR of one rendition in an S3 bucket: an object for each segment, and an index in pieces. Blocks.

Each process that stores has a number of its own, which is in the names of all its objects. So a late write by
a process that has been replaced overwrites nothing. Only objects that the index names are ever removed, by
name and length; all others stay, and are never read.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

import structlog

from packager.blocking_calls import in_parallel
from packager.dvr import index, stored_cadence
from packager.dvr.bucket.index_pieces import (
    INDEX_TYPE,
    PieceContent,
    PieceName,
    list_pieces,
    newest_with_media,
    read_piece,
)
from packager.dvr.bucket.piece_expiry import PieceExpiry
from packager.dvr.index import IndexLine, line_of
from packager.dvr.init_files import parse_init
from packager.dvr.limits import DvrLimits
from packager.dvr.own_files import MAX_INIT_BYTES
from packager.dvr.restore_plan import StoredRendition
from packager.library.local_storage import NotFoundError
from packager.s3.client import S3Client
from packager.window.cadence import Cadence
from packager.window.clock_steps import is_step
from packager.window.model import TEXT_EXTENSION, LiveSegment, Timeline
from packager.window.rendition import extension_of, stored_name

log = structlog.get_logger()

_TYPES = {"m4s": "video/mp4", TEXT_EXTENSION: "text/vtt"}

MAX_PIECES = 4096
"""Most pieces of one rendition's index that are read, the newest."""

READS_AT_ONCE = 8
"""Most pieces of an index that are read at once."""

REMOVALS_AT_ONCE = 8
"""Most segments of a rendition that are removed between two that are stored."""


@dataclass(frozen=True, slots=True)
class NewestNumbers:
    """The newest segments, where earlier ones are read only when somebody asks for them.

    Attributes:
        first: from which number on they are looked for first.
        count: how many numbers these segments have at most.
    """

    first: int
    count: int


@dataclass(slots=True)
class _StoredPiece:
    """A piece of an index, and the segments that it names; light, as a week has a thousand pieces.

    Attributes:
        size: its length in bytes.
        numbers: the numbers of the named segments, in order.
        sizes: bytes of each segment; 0 for a gap.
        end: the end of the last segment, in seconds since the epoch.
        gone: how many of the first segments were removed.
        lines: the index lines of the segments that are left, while more may be added.
        is_whole: whether all its lines are stored.
    """

    name: PieceName
    size: int
    numbers: array[int] = field(default_factory=lambda: array("Q"))
    sizes: array[int] = field(default_factory=lambda: array("Q"))
    end: float = 0.0
    inits: set[int] = field(default_factory=set)
    gone: int = 0
    lines: dict[int, bytes] = field(default_factory=dict)
    is_whole: bool = True

    def note(self, line: IndexLine) -> None:
        """Note a line that the piece has."""
        self.numbers.append(line.number)
        self.sizes.append(line.size)
        self.end = max(self.end, index.seconds(line.date) + index.seconds(line.duration))
        if line.init is not None and line.parts:
            self.inits.add(line.init)

    def forget_first(self) -> None:
        """Note that the first remaining segment was removed."""
        self.lines.pop(self.numbers[self.gone], None)
        self.gone += 1


class BucketFolder:
    """The objects of one rendition's DVR.

    Args:
        client: asks S3.
        key: the prefix of their keys, without a slash at its end; its last part is the rendition's name.
        stored_by: the number of who stores here now, unlike all others'.
        limits: how much is read, and in which pieces the index is written.

    Attributes:
        expiry: removes what is over, of a DVR whose older segments are in no playlist.
        stored_bytes: bytes of all segments that were ever stored, as far as the names of pieces say so.
        newest_piece: the first number of the newest piece that was stored here; 0 before there is one.
    """

    def __init__(self, client: S3Client, key: str, stored_by: int, limits: DvrLimits) -> None:
        self._client = client
        self._key = key
        self._stored_by = stored_by
        self._limits = limits
        self._index = f"{key}/index"
        self._extension = extension_of(key.rpartition("/")[2])
        self.expiry = PieceExpiry(client, key, limits)
        self.stored_bytes = 0
        self.newest_piece = 0
        self._header = b""
        # Oldest first; only the last piece may get more lines.
        self._pieces: list[_StoredPiece] = []
        self._is_last_ours = False
        self._has_past = False
        # The line that was added last; None before any.
        self._last: IndexLine | None = None
        self._inits: dict[tuple[int, int], int] = {}

    def load(self, cadence: Cadence, newest: NewestNumbers | None = None) -> StoredRendition:
        """Read the index.

        Args:
            cadence: that of the next segments; stored segments that can't share a playlist with them are
                ignored.
            newest: the segments that are listed, of which alone is read; None: all are.

        Raises:
            OSError: S3 can't be reached now, or refuses.
        """
        self._header, self._has_past = stored_cadence.encode(cadence) + b"\n", newest is not None
        named = self._named(newest)
        contents = list(in_parallel(self._read, named, READS_AT_ONCE))
        lines: dict[int, IndexLine] = {}
        pieces = []
        strange = 0
        for name, (found, data) in zip(named, contents, strict=True):
            if found is None or not stored_cadence.lists_alike(found.cadence, cadence):
                strange += 1
                continue
            piece = _StoredPiece(name, len(data))
            for line in found.lines:
                piece.note(line)
                lines[line.number] = line
            self.stored_bytes = max(self.stored_bytes, name.before + sum(piece.sizes))
            if newest is None:
                pieces.append(piece)
        self._pieces, self._is_last_ours = pieces, False
        if strange:
            place = f"s3://{self._client.bucket}/{self._index}"
            log.warning(
                "pieces of a DVR's index in S3 have another cadence or can't be read, and are ignored",
                place=place,
                count=strange,
            )
        return self._whole(dict(sorted(lines.items())))

    def _named(self, newest: NewestNumbers | None) -> Sequence[PieceName]:
        """Find the pieces of the index, or the newest of them; the oldest come first."""
        if newest is None:
            return self._listed()[-MAX_PIECES:]
        found = self._listed(newest.first)
        if newest_with_media(found) is None:
            # The channel was away for longer, or its numbers are behind the clock.
            found = self._listed()
        if not found:
            return ()
        number = found[-1].number - newest.count - self._limits.piece_lines
        recent = found[bisect_left(found, number, key=lambda one: one.number) :][-MAX_PIECES:]
        played = newest_with_media(found)
        # Behind gaps alone a channel would seem never to have had any media.
        return recent if played is None or played in recent else [played, *recent]

    def _listed(self, number: int = 0) -> list[PieceName]:
        return sorted(chain.from_iterable(list_pieces(self._client, self._index, number)))

    def _read(self, name: PieceName) -> tuple[PieceContent | None, bytes]:
        return read_piece(self._client, self._index, name)

    def _whole(self, lines: Mapping[int, IndexLine]) -> StoredRendition:
        """Leave out what contradicts the rest, and segments whose init segments aren't there."""
        wrong = index.impossible(lines)
        stored = (line for line in lines.values() if line.init is not None and line.parts)
        needed = {(line.init or 0, line.stored_by) for line in stored}
        timelines: dict[int, Timeline] = {}
        there = set()
        for number, stored_by in sorted(needed, key=lambda one: one[0]):
            timeline = self._read_init(number, stored_by)
            # Two processes that stored one after the other may each have stored the same init segment.
            if timeline is not None and timelines.setdefault(number, timeline) == timeline:
                there.add((number, stored_by))
        kept = {
            number: line
            for number, line in lines.items()
            if number not in wrong and (not line.parts or (line.init, line.stored_by) in there)
        }
        return StoredRendition(kept, timelines)

    def _read_init(self, number: int, stored_by: int) -> Timeline | None:
        try:
            version, data = self._client.read_first(self._init_key(number, stored_by), MAX_INIT_BYTES)
        except NotFoundError:
            return None
        if version.size != len(data):
            return None
        self._inits[number, stored_by] = len(data)
        return parse_init(number, data)

    def _init_key(self, timeline: int, stored_by: int) -> str:
        return f"{self._key}/init-{timeline}-{stored_by}.mp4"

    def store(self, segment: LiveSegment, left: int) -> IndexLine:
        """Store a segment, and then its line of the index; the line of a gap goes with the next segment's.

        Args:
            segment: finished, in memory; or a gap.
            left: discontinuities before it.

        Raises:
            OSError: S3 can't take it now.
        """
        timeline = segment.timeline
        if segment.gap or timeline is None:
            line = line_of(segment, left)
            self._append(self._piece_for(line), line)
            return line
        if (timeline.number, self._stored_by) not in self._inits:
            if self._has_past:
                self._inits.clear()
            self._client.put(self._init_key(timeline.number, self._stored_by), timeline.init, "video/mp4")
            self._inits[timeline.number, self._stored_by] = len(timeline.init)
        line = line_of(segment, left, self._stored_by)
        name = stored_name(segment.number, self._stored_by, self._extension)
        self._client.put(f"{self._key}/{name}", bytes(segment.data), _TYPES[self._extension])
        piece = self._piece_for(line)
        self._put(piece, index.encode(line))
        self._append(piece, line)
        piece.is_whole = True
        return line

    def _put(self, piece: _StoredPiece, line: bytes = b"") -> None:
        """Store a piece with all its lines, and one more."""
        data = b"".join((self._header, *piece.lines.values(), line))
        self._client.put(f"{self._index}/{piece.name}", data, INDEX_TYPE)
        piece.size, piece.is_whole = len(data), True
        self.newest_piece = piece.name.number

    def _append(self, piece: _StoredPiece, line: IndexLine) -> None:
        piece.note(line)
        self._last = line
        piece.lines[line.number] = index.encode(line)
        piece.is_whole = False
        self.stored_bytes += line.size

    def _piece_for(self, line: IndexLine) -> _StoredPiece:
        """Find the piece that isn't full yet, or begin one with a line, once the last one is stored."""
        last, count = self._pieces[-1] if self._is_last_ours else None, self._limits.piece_lines
        # Pieces of all renditions, and of all who store, begin with the same numbers.
        # One that was begun with this line may have to be stored again.
        is_first = last is not None and last.name.number == line.number
        is_full = last is None or line.number // count != last.name.number // count
        if last is not None and (is_first or not (is_full or self._steps_to(line))):
            return last
        if last is not None:
            if last.lines and not last.is_whole:
                # The lines of gaps at its end.
                self._put(last)
            last.lines.clear()
        if self._has_past:
            self._pieces.clear()
        self._pieces.append(_StoredPiece(PieceName.of(line, self._stored_by, self.stored_bytes), 0))
        self._is_last_ours = True
        return self._pieces[-1]

    def _steps_to(self, line: IndexLine) -> bool:
        """Return whether the clock was set before a line: the names of pieces show that."""
        if self._last is None:
            return False
        return is_step(index.segment_of(self._last, None), index.segment_of(line, None))

    @property
    def kept_bytes(self) -> int:
        """Bytes of all segments that are there, as far as the names of pieces say so. Blocks.

        Raises:
            OSError: S3 can't be reached now.
        """
        return self.stored_bytes - next((one.before for one in self.expiry.oldest()), 0)

    def remove(self, before: int, first: int, end: float) -> bool:
        """Remove some of the oldest segments.

        Args:
            before: the number of the oldest segment that stays.
            first: the number of the oldest segment that this process ever listed; for earlier ones ``end``
                decides.
            end: seconds since the epoch, before which a removed segment must have ended.

        Returns:
            Whether there may be more segments to remove.

        Raises:
            OSError: S3 can't be reached now.
        """
        for _ in range(REMOVALS_AT_ONCE):
            while len(self._pieces) > 1 and self._pieces[0].gone == len(self._pieces[0].numbers):
                self._remove_piece(self._pieces[0])
            piece = next(iter(self._pieces), None)
            if piece is None or piece.gone == len(piece.numbers):
                return False
            number, size = piece.numbers[piece.gone], piece.sizes[piece.gone]
            if number >= before or (number < first and piece.end >= end):
                return False
            if size:
                name = stored_name(number, piece.name.stored_by, self._extension)
                self._remove(f"{self._key}/{name}", size)
            piece.forget_first()
        return True

    def _remove_piece(self, piece: _StoredPiece) -> None:
        """Remove the oldest piece, whose segments are gone, and the init segments that no other one needs."""
        by = piece.name.stored_by
        others = [one for one in self._pieces if one is not piece and one.name.stored_by == by]
        for number in piece.inits.difference(*(one.inits for one in others)):
            if (size := self._inits.get((number, by))) is not None:
                self._remove(self._init_key(number, by), size)
                del self._inits[number, by]
        # From when less was listed than kept.
        self.expiry.remove_outlines(piece.name.number)
        if piece.size:
            self._remove(f"{self._index}/{piece.name}", piece.size)
        self._pieces.remove(piece)

    def _remove(self, key: str, size: int) -> None:
        self._client.delete_written(key, size)
