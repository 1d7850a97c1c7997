"""The DVR of one rendition in an S3 bucket: an object for each segment, and an index in pieces. Blocks.

Each process that stores has a number of its own, which is in the names of all its objects. So a late write by
a process that has been replaced overwrites nothing. Only objects that the index names are ever removed, by
name and length; all others stay, and are never read.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import structlog

from packager.dvr import index, stored_cadence
from packager.dvr.index import IndexLine, line_of
from packager.dvr.init_files import parse_init
from packager.dvr.limits import BucketLimits
from packager.dvr.own_files import MAX_INIT_BYTES
from packager.dvr.restore_plan import StoredRendition
from packager.library.local_storage import NotFoundError
from packager.s3.client import S3Client
from packager.window.cadence import Cadence
from packager.window.model import TEXT_EXTENSION, LiveSegment, Timeline
from packager.window.rendition import extension_of, stored_name

log = structlog.get_logger()

_PIECE = re.compile(r"([0-9]{15})-([1-9][0-9]{0,9})")
_TYPES = {"m4s": "video/mp4", TEXT_EXTENSION: "text/vtt"}
_INDEX_TYPE = "application/x-ndjson"

MAX_PIECE_BYTES = 1 << 20
"""Longest piece of an index that is read."""

MAX_PIECES = 4096
"""Most pieces of one rendition's index that are read, the newest."""

READS_AT_ONCE = 8
"""Most pieces of an index that are read at once."""

REMOVALS_AT_ONCE = 8
"""Most segments of a rendition that are removed between two that are stored."""


@dataclass(slots=True)
class _StoredPiece:
    """A piece of an index, and the segments that it names; light, as a week has a thousand pieces.

    Attributes:
        size: its length in bytes.
        stored_by: the number of the process that wrote the piece.
        numbers: the numbers of the named segments, in order.
        sizes: bytes of each segment; 0 for a gap.
        end: the end of the last segment, in seconds since the epoch.
        gone: how many of the first segments were removed.
        lines: the index lines of the segments that are left, while more may be added.
    """

    key: str
    size: int
    stored_by: int
    numbers: array[int] = field(default_factory=lambda: array("Q"))
    sizes: array[int] = field(default_factory=lambda: array("Q"))
    end: float = 0.0
    inits: set[int] = field(default_factory=set)
    gone: int = 0
    lines: dict[int, bytes] = field(default_factory=dict)

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
    """

    def __init__(self, client: S3Client, key: str, stored_by: int, limits: BucketLimits) -> None:
        self._client = client
        self._key = key
        self._stored_by = stored_by
        self._limits = limits
        self._extension = extension_of(key.rpartition("/")[2])
        self._header = b""
        # Oldest first; only the last piece may get more lines.
        self._pieces: list[_StoredPiece] = []
        self._is_last_ours = False
        self._inits: dict[tuple[int, int], int] = {}

    def load(self, cadence: Cadence) -> StoredRendition:
        """Read the index.

        Args:
            cadence: that of the next segments; stored segments that can't share a playlist with them are
                ignored.

        Raises:
            OSError: S3 can't be reached now, or refuses.
        """
        self._header = stored_cadence.encode(cadence) + b"\n"
        named = self._named()
        with ThreadPoolExecutor(READS_AT_ONCE) as threads:
            texts = list(threads.map(self._read, named))
        lines: dict[int, IndexLine] = {}
        pieces = []
        strange = 0
        for piece, data in zip(named, texts, strict=True):
            noted, _, rest = data.partition(b"\n")
            times = stored_cadence.decode(noted)
            if times is None or not stored_cadence.lists_alike(times, cadence):
                strange += 1
                continue
            for line in index.decode(rest)[0].values():
                if line.stored_by == piece.stored_by or not line.parts:
                    piece.note(line)
                    lines[line.number] = line
            pieces.append(piece)
        self._pieces, self._is_last_ours = pieces, False
        if strange:
            place = f"s3://{self._client.bucket}/{self._key}/index"
            log.warning(
                "pieces of a DVR's index in S3 have another cadence or can't be read, and are ignored",
                place=place,
                count=strange,
            )
        return self._whole(dict(sorted(lines.items())))

    def _named(self) -> list[_StoredPiece]:
        """Find the pieces of the index, the oldest first."""
        place, found = f"{self._key}/index", []
        for page in self._client.objects(place):
            for one in page:
                name = _PIECE.fullmatch(one.key.removeprefix(f"{place}/"))
                if name is not None and 0 < one.size <= MAX_PIECE_BYTES:
                    found.append(_StoredPiece(one.key, one.size, int(name[2])))
        return sorted(found, key=lambda one: one.key)[-MAX_PIECES:]

    def _read(self, piece: _StoredPiece) -> bytes:
        try:
            return self._client.read_first(piece.key, piece.size)[1]
        except NotFoundError:
            return b""

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
            self._append(line)
            return line
        if (timeline.number, self._stored_by) not in self._inits:
            self._client.put(self._init_key(timeline.number, self._stored_by), timeline.init, "video/mp4")
            self._inits[timeline.number, self._stored_by] = len(timeline.init)
        line = line_of(segment, left, self._stored_by)
        name = stored_name(segment.number, self._stored_by, self._extension)
        self._client.put(f"{self._key}/{name}", bytes(segment.data), _TYPES[self._extension])
        piece = self._piece_for(line)
        data = b"".join((self._header, *piece.lines.values(), index.encode(line)))
        self._client.put(piece.key, data, _INDEX_TYPE)
        piece.size = len(data)
        self._append(line)
        return line

    def _append(self, line: IndexLine) -> None:
        piece = self._piece_for(line)
        piece.note(line)
        piece.lines[line.number] = index.encode(line)

    def _piece_for(self, line: IndexLine) -> _StoredPiece:
        """Find the piece that isn't full yet, or begin one with a line."""
        if not self._is_last_ours or len(self._pieces[-1].numbers) >= self._limits.piece_lines:
            if self._is_last_ours:
                self._pieces[-1].lines.clear()
            key = f"{self._key}/index/{line.number:015d}-{self._stored_by}"
            self._pieces.append(_StoredPiece(key, 0, self._stored_by))
            self._is_last_ours = True
        return self._pieces[-1]

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
                name = stored_name(number, piece.stored_by, self._extension)
                self._remove(f"{self._key}/{name}", size)
            piece.forget_first()
        return True

    def _remove_piece(self, piece: _StoredPiece) -> None:
        """Remove the oldest piece, whose segments are gone, and the init segments that no other one needs."""
        others = [one for one in self._pieces if one is not piece and one.stored_by == piece.stored_by]
        for number in piece.inits.difference(*(one.inits for one in others)):
            if (size := self._inits.get((number, piece.stored_by))) is not None:
                self._remove(self._init_key(number, piece.stored_by), size)
                del self._inits[number, piece.stored_by]
        if piece.size:
            self._remove(piece.key, piece.size)
        self._pieces.remove(piece)

    def _remove(self, key: str, size: int) -> None:
        """Remove an object if it has the length that was written."""
        try:
            found = self._client.describe(key).size
        except NotFoundError:
            return
        if found != size:
            log.warning(
                "an object in S3 isn't what was stored, and isn't removed", key=key, size=found, expected=size
            )
            return
        self._client.delete(key)
