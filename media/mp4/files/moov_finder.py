"""Finds a file's ``moov``, which may be anywhere (ISO/IEC 14496-12 §6.2.3), and refuses too large a one."""

from __future__ import annotations

from media.errors import MalformedError, TooLargeError, UnsupportedError
from media.mp4.boxes import LARGEST_HEADER, MAX_BOXES, Box, header
from media.mp4.movie.movie import DEFAULT_LIMITS

FIRST_BOXES = frozenset(
    (
        *(b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"styp", b"uuid", b"moof", b"sidx"),
        *(b"pdin", b"meta", b"udta", b"emsg", b"prft", b"junk", b"PICT", b"pict"),
    )
)


class MoovFinder:
    """Finds the ``moov`` of a file by the headers of its boxes, which the caller reads.

    Args:
        size: length of the file in bytes.
        max_moov: largest acceptable ``moov`` in bytes.

    Attributes:
        position: offset of the next header to read; ``LARGEST_HEADER`` bytes suffice.
        data_first: whether media precede the ``moov``.
    """

    def __init__(self, size: int, max_moov: int = DEFAULT_LIMITS.moov_bytes) -> None:
        self._size = size
        self._max_moov = max_moov
        self._boxes = 0
        self.position = 0
        self.data_first = False

    def push(self, head: bytes) -> Box | None:
        """Push the bytes at ``position``; return the ``moov`` if they are its header.

        Args:
            head: ``LARGEST_HEADER`` bytes; fewer at the file's end.

        Returns:
            The position of the ``moov``; None if another header is needed.

        Raises:
            MalformedError: a box is impossible, or the file has no ``moov``.
            UnsupportedError: the file is no MP4.
            TooLargeError: the ``moov`` is too large.
        """
        left = self._size - self.position
        if left < 8 or self._boxes >= MAX_BOXES:
            raise MalformedError("there is no moov")
        if self.position == 0 and head[4:8] not in FIRST_BOXES:
            raise UnsupportedError(
                "not an MP4, QuickTime, Matroska, MPEG-TS, MPEG-PS, AVI, ASF, FLV or Ogg file"
            )
        found = header(head[: min(left, LARGEST_HEADER)], 0, left)
        if found.kind == b"moof":  # §8.8.1: of fragments it stands in front
            raise MalformedError("there is no moov")
        if found.kind == b"moov":
            if found.size > self._max_moov:
                raise TooLargeError(f"moov of {found.size} bytes: more than {self._max_moov}")
            return Box(found.kind, self.position, self.position + found.payload, self.position + found.end)
        self.data_first = self.data_first or found.kind == b"mdat"
        self._boxes += 1
        self.position += found.size
        return None
