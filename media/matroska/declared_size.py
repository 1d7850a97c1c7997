"""The size that a Matroska file declares, which a file that isn't there as a whole doesn't reach."""

from __future__ import annotations

from media.errors import MalformedError
from media.matroska.ebml import UNKNOWN_SIZE, header
from media.matroska.element_ids import SEGMENT

HEAD_BYTES = 4096
"""Bytes of a file's beginning that have the header of its segment."""

ELEMENTS = 8
"""Most elements before the segment: the EBML header, and what fills a gap."""


def declared_bytes(head: bytes) -> int | None:
    """Return the size of a whole file by the header of its segment (RFC 9559 §5.1).

    None where the file doesn't say it, such as a live recording, or is no Matroska.
    """
    at = 0
    try:
        for _ in range(ELEMENTS):
            element = header(head, at)
            if element.size == UNKNOWN_SIZE:
                return None
            if element.kind == SEGMENT:
                return element.end
            at = element.end
    except MalformedError:
        return None
    return None
