"""The facts about a representation (RFC 9110 §3.2) that decide the head of a reply."""

from __future__ import annotations

from typing import NamedTuple


class RepresentationMetadata(NamedTuple):
    """The size, the type and the validators of a representation (RFC 9110 §8).

    Attributes:
        size: length in bytes.
        etag: the entity-tag with its quotes.
        last_modified: seconds since the epoch.
    """

    size: int
    media_type: str
    etag: str | None = None
    last_modified: float | None = None
