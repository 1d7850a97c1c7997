"""The size that an MP4 declares, which a file that isn't there as a whole doesn't reach."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from media.errors import MalformedError
from media.mp4.boxes import header

BOXES = 4096
"""Most boxes that are looked at: a fragmented film of hours has two for each fragment."""

_HEADER_BYTES = 16
_NO_END = 1 << 63


@dataclass(frozen=True, slots=True)
class DeclaredSize:
    """The size of a whole file, by its boxes.

    Attributes:
        nbytes: up to the end of the last box whose header is there.
        is_least: whether more must follow, since no index has come yet.
    """

    nbytes: int
    is_least: bool


def declared_size(read: Callable[[int, int], bytes], size: int) -> DeclaredSize | None:
    """Return the size of a whole file by its boxes (ISO/IEC 14496-12 §4.2) where they go past its end.

    None of a file that is whole, or is no MP4.

    Args:
        read: reads bytes by position and length.
        size: of the file as it is.
    """
    at, has_index = 0, False
    for _ in range(BOXES):
        if at >= size:
            break
        try:
            found = header(read(at, _HEADER_BYTES), 0, _NO_END)
        except MalformedError:
            return None
        if not at and found.kind not in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"styp"):
            return None
        if found.size >= _NO_END:
            return None
        at += found.size
        has_index = has_index or found.kind == b"moov"
    return DeclaredSize(at, not has_index) if at > size else None
