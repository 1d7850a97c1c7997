"""Removes the oldest pieces of a rendition's index in an S3 bucket, and the segments that they name. Blocks.

A piece is first moved from the index to the expired ones, where no node looks for segments; these are removed
a while later, and the expired piece last of all. So the next process finds what a crash has left undone. Only
objects that a piece names are removed, each if it has the length that was written, and outlines that say
themselves what they were made of.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import NamedTuple

import structlog

from packager.blocking_calls import in_parallel
from packager.dvr.bucket.index_pieces import (
    INDEX_TYPE,
    PieceContent,
    PieceName,
    date_of,
    list_pieces,
    read_piece,
)
from packager.dvr.init_files import parse_init
from packager.dvr.limits import DvrLimits
from packager.dvr.own_files import MAX_INIT_BYTES
from packager.dvr.stored_outlines import OutlineStore
from packager.library.local_storage import NotFoundError
from packager.s3.client import PAGE_KEYS, S3Client
from packager.window.rendition import extension_of, stored_name

log = structlog.get_logger()

REMOVALS_AT_ONCE = 8
"""Most objects that are removed at once."""


class _Expired(NamedTuple):
    """A piece that was moved from the index, and when its segments may be removed, by the clock."""

    removal: float
    piece: PieceName


class PieceExpiry:
    """Removes what is over of one rendition.

    Args:
        key: the rendition's, without a slash at its end.
        clock: seconds.
    """

    def __init__(
        self, client: S3Client, key: str, limits: DvrLimits, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._client = client
        self._key = key
        self._index, self._expired = f"{key}/index", f"{key}/expired"
        channel, _, rendition = key.rpartition("/")
        self._outlines = OutlineStore.in_bucket(client, channel)
        self._extension = extension_of(rendition)
        self._limits = limits
        self._clock = clock
        self._oldest: deque[PieceName] = deque()
        self._is_cut = False
        self._end: int | None = None
        self._looked = -float("inf")
        self._moved: deque[_Expired] | None = None
        # Pieces that somebody else wrote, or that can't be read.
        self._left: set[PieceName] = set()

    def oldest(self) -> Sequence[PieceName]:
        """Return some of the oldest pieces; the last one of all isn't over, whatever its date.

        Raises:
            OSError: S3 can't be reached now, or refuses.
        """
        now = self._clock()
        if len(self._oldest) < 2 and now - self._looked >= self._limits.old_piece_seconds:
            self._looked = now
            page = next(list_pieces(self._client, self._index), [])
            self._is_cut = len(page) >= PAGE_KEYS // 2
            self._oldest = deque(one for one in sorted(page) if one not in self._left)
        return self._oldest

    def end_of_oldest(self) -> int | None:
        """Return the date at which the oldest piece was over in milliseconds; None where there is no other.

        Raises:
            OSError: S3 can't be reached now, or refuses.
        """
        if self._end is None and (oldest := self.oldest()):
            later = list(islice(oldest, 1, None))
            # The clock may have been far ahead in the next one.
            dates = [one.date for one in later if one.date >= oldest[0].date >= 0]
            read = (date_of(self._client, self._index, one) for one in later)
            self._end = min(dates, default=None) or next((date for date in read if date is not None), None)
        return self._end

    def expire(self) -> None:
        """Move the oldest piece to the expired ones.

        Raises:
            OSError: S3 can't be reached now, or refuses.
        """
        piece, self._end = self._oldest[0], None
        content, data = read_piece(self._client, self._index, piece)
        if content is None or not content.lines:
            if data:
                self._left.add(piece)
                log.warning(
                    "a piece of a DVR's index isn't ours, and isn't removed", key=f"{self._index}/{piece}"
                )
            self._oldest.popleft()
            return
        waiting = self._waiting()
        # A crash may have come in between.
        if all(str(one.piece) != str(piece) for one in waiting):
            self._client.put(f"{self._expired}/{piece}", data, INDEX_TYPE)
            waiting.append(_Expired(self._clock() + self._limits.removal_seconds, piece))
        self._remove(f"{self._index}/{piece}", len(data))
        self._oldest.popleft()

    def remove_expired(self) -> bool:
        """Remove the segments of an expired piece whose time has come; return whether there was one.

        Raises:
            OSError: S3 can't be reached now, or refuses.
        """
        waiting = self._waiting()
        if not waiting or waiting[0].removal > self._clock():
            return False
        piece = waiting[0].piece
        content, data = read_piece(self._client, self._expired, piece)
        if content is not None:
            # A crash may have come before this.
            self._remove(f"{self._index}/{piece}", len(data))
            self._remove_all(
                (f"{self._key}/{stored_name(one.number, one.stored_by, self._extension)}", one.size)
                for one in content.lines
                if one.parts
            )
            for number in self._unneeded(piece, content):
                self._remove_init(number, piece.stored_by)
            self.remove_outlines(piece.number)
            self._remove(f"{self._expired}/{piece}", len(data))
        waiting.popleft()
        return True

    def remove_outlines(self, number: int) -> None:
        """Remove the outlines of blocks of which all pieces are gone, up to that with a number.

        Raises:
            OSError: S3 can't be reached now, or refuses.
        """
        self._outlines.remove_before(number + self._limits.piece_lines)

    def _waiting(self) -> deque[_Expired]:
        """Return the pieces that were moved, those that another process moved first."""
        if self._moved is None:
            removal = self._clock() + self._limits.removal_seconds
            pages = list_pieces(self._client, self._expired)
            self._moved = deque(_Expired(removal, one) for page in pages for one in sorted(page))
        return self._moved

    def _unneeded(self, piece: PieceName, content: PieceContent) -> set[int]:
        """Return the init segments that no later piece of the same process needs."""
        own = {line.init for line in content.lines if line.parts and line.init is not None}
        moved = [(self._expired, one.piece) for one in self._waiting()]
        for folder, one in (*moved, *((self._index, one) for one in self.oldest())):
            if one.stored_by == piece.stored_by and one.number > piece.number:
                later, _ = read_piece(self._client, folder, one)
                used = {line.init for line in later.lines if line.parts} if later is not None else set()
                if used:
                    return own - used
        return set() if self._is_cut else own

    def _remove_init(self, number: int, stored_by: int) -> None:
        key = f"{self._key}/init-{number}-{stored_by}.mp4"
        try:
            version, data = self._client.read_first(key, MAX_INIT_BYTES)
        except NotFoundError:
            return
        if version.size == len(data) and parse_init(number, data) is not None:
            self._remove(key, len(data))

    def _remove_all(self, objects: Iterable[tuple[str, int]]) -> None:
        for _ in in_parallel(lambda one: self._remove(*one), objects, REMOVALS_AT_ONCE):
            pass

    def _remove(self, key: str, size: int) -> None:
        self._client.delete_written(key, size)
