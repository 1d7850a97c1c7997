"""The pieces of a rendition's index in an S3 bucket: what their names say, and what they say of segments.

The name of a piece has its first number, who stored it, the date of its first line, and how many bytes of
segments were stored before. So a list of names is enough to find the pieces of a span, and to know the size
of a DVR. Names of an earlier version lack the date and the bytes.
"""

from __future__ import annotations

import functools
import hashlib
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

from msgspec import Struct

from packager.dvr import index, stored_cadence
from packager.dvr.index import IndexLine
from packager.library.local_storage import NotFoundError
from packager.past.outlines import BLOCK_SEGMENTS

if TYPE_CHECKING:
    from packager.s3.client import S3Client
    from packager.window.cadence import Cadence

INDEX_TYPE = "application/x-ndjson"
"""Media type of a piece."""

MAX_PIECE_BYTES = 1 << 20
"""Longest piece of an index that is read."""

CLOCK_SECONDS = 86_400
"""By how much the numbers of segments may be behind the clock where a date's pieces are looked for first."""

HEAD_BYTES = 4096
"""How much of a piece of an earlier version is read for its date."""

_NAME = re.compile(r"([0-9]{15})-([1-9][0-9]{0,9})(?:-([0-9]{1,13})-([0-9]{1,18}))?")

_number = attrgetter("number")

_cadence = functools.lru_cache(maxsize=64)(stored_cadence.decode)
"""Pieces share their cadences."""


class PieceName(Struct, frozen=True, gc=False, order=True):
    """The name of a piece of an index.

    Attributes:
        number: the first media sequence number that it may have.
        stored_by: the number of the process that wrote it.
        date: of its first line, in milliseconds since the epoch, rounded down; -1 where the name has none.
        before: bytes of all segments of the rendition that were stored in earlier pieces, whose names have
            a date.
        size: bytes of the piece; 0 where that isn't known.
    """

    number: int
    stored_by: int
    date: int = -1
    before: int = 0
    size: int = 0

    def __str__(self) -> str:
        """Return the last part of its key."""
        name = f"{self.number:015d}-{self.stored_by}"
        return name if self.date < 0 else f"{name}-{self.date}-{self.before}"

    @classmethod
    def of(cls, line: IndexLine, stored_by: int, before: int) -> PieceName:
        """Name the piece that begins with a line."""
        date, per_second = line.date
        return cls(line.number, stored_by, 1000 * date // per_second, before)

    @classmethod
    def read(cls, name: str, size: int) -> PieceName | None:
        """Read a name; None where it isn't that of a piece."""
        found = _NAME.fullmatch(name)
        if found is None or not 0 < size <= MAX_PIECE_BYTES:
            return None
        date = -1 if found[3] is None else int(found[3])
        return cls(int(found[1]), int(found[2]), date, int(found[4] or 0), size)


def list_pieces(client: S3Client, folder: str, number: int = 0) -> Iterator[list[PieceName]]:
    """List the names of pieces page by page, from a number on. Blocks.

    Raises:
        OSError: S3 can't be reached now, or refuses.
    """
    for page in client.objects(folder, f"{folder}/{number:015d}"):
        names = (PieceName.read(one.key.removeprefix(f"{folder}/"), one.size) for one in page)
        yield [name for name in names if name is not None]


def newest_with_media(pieces: Sequence[PieceName]) -> PieceName | None:
    """Return the newest piece with more than gaps, by the names of those behind it; None without any."""
    return next((one for one in reversed(pieces) if one.before < pieces[-1].before), None)


def pieces_with(pieces: Sequence[PieceName], first: int, last: int, reach: int) -> Sequence[PieceName]:
    """Return the pieces that may have any of some consecutive numbers.

    Args:
        pieces: in ascending order.
        first: the first of the numbers.
        last: the last one.
        reach: how many numbers a piece has at most.
    """
    behind = bisect_right(pieces, last, key=_number)
    begin = bisect_left(pieces, first - reach + 1, key=_number)
    # Pieces of earlier versions have holes, and may reach further.
    return pieces[min(begin, max(bisect_right(pieces, first, key=_number) - 1, 0)) : behind]


class PieceContent(NamedTuple):
    """The content of a piece.

    Attributes:
        cadence: that of the process that wrote the piece.
        lines: in ascending order.
    """

    cadence: Cadence
    lines: Sequence[IndexLine]


def read_content(piece: PieceName, data: bytes) -> PieceContent | None:
    """Read a piece, but for lines that aren't its own; None where it can't be one."""
    noted, _, rest = data.partition(b"\n")
    times = _cadence(noted)
    if times is None:
        return None
    found = index.decode(rest)[0].values()
    return PieceContent(
        times, [line for line in found if line.stored_by == piece.stored_by or not line.parts]
    )


def read_piece(client: S3Client, folder: str, piece: PieceName) -> tuple[PieceContent | None, bytes]:
    """Read a piece as it is now, and its bytes; none where it is gone. Blocks.

    Raises:
        OSError: S3 can't be reached now, or refuses.
    """
    try:
        _, data = client.read_first(f"{folder}/{piece}", MAX_PIECE_BYTES)
    except NotFoundError:
        return None, b""
    return read_content(piece, data), data


def date_of(client: S3Client, folder: str, piece: PieceName) -> int | None:
    """Return the date of a piece in milliseconds since the epoch; None where it can't be read. Blocks.

    Raises:
        OSError: S3 can't be reached now, or refuses.
    """
    if piece.date >= 0:
        return piece.date
    try:
        _, data = client.read_first(f"{folder}/{piece}", HEAD_BYTES)
    except NotFoundError:
        return None
    found = read_content(piece, data[: data.rfind(b"\n") + 1])
    if found is None or not found.lines:
        return None
    date, per_second = found.lines[0].date
    return 1000 * date // per_second


class PieceBlock(NamedTuple):
    """A block of numbers that some pieces have.

    Attributes:
        first: its first number.
        pieces: all that have any of its numbers, in ascending order.
    """

    first: int
    pieces: tuple[PieceName, ...]

    def digest(self, rendition: str) -> int:
        """Return what says of which pieces its outline is made.

        Args:
            rendition: names the rendition and its cadence.
        """
        parts = (rendition, str(self.first), *(f"{one} {one.size}" for one in self.pieces))
        return int.from_bytes(hashlib.blake2b("\n".join(parts).encode(), digest_size=8).digest())


def blocks_with(pieces: Sequence[PieceName], first: int, last: int) -> Iterator[PieceBlock]:
    """Yield the blocks of pieces that begin between two numbers, with all of their pieces.

    Args:
        pieces: in ascending order, each within one block.
    """
    begin = bisect_left(pieces, first - first % BLOCK_SEGMENTS, key=_number)
    behind = bisect_left(pieces, last - last % BLOCK_SEGMENTS + BLOCK_SEGMENTS, key=_number)
    for block, own in groupby(pieces[begin:behind], lambda one: one.number // BLOCK_SEGMENTS):
        yield PieceBlock(block * BLOCK_SEGMENTS, tuple(own))


def full_blocks(pieces: Sequence[PieceName]) -> range:
    """Return the first numbers of the blocks that are complete.

    That is neither the newest block, nor the oldest one, of which pieces are removed.
    """
    if not pieces:
        return range(0)
    oldest, newest = (one.number - one.number % BLOCK_SEGMENTS for one in (pieces[0], pieces[-1]))
    return range(oldest + BLOCK_SEGMENTS, newest, BLOCK_SEGMENTS)
