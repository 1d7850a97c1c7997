"""The limits of a library in S3: requests, waiting, memory and disk."""

from __future__ import annotations

from dataclasses import dataclass, field

from packager.retry_policy import RetryPolicy

MAX_IN_FLIGHT = 16
"""Most requests at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Limits:
    """The limits of a library in S3.

    Attributes:
        encoded_bytes: most bytes of all encoded segments; the oldest are removed.
        encoded_objects: most encoded segments.
        find_seconds: how long a segment is looked for before it is encoded.
        waiting_segments: most segments that wait to be stored; further ones aren't stored.
        waiting_segment_bytes: most bytes of these segments, and of the largest one that is read.
        trim_seconds: time from the storing of a segment to the listing of all.
        stale_seconds: age of an object from which it is stored anew when it is read.
        connect_seconds: how long a connection may take.
        silent_seconds: how long S3 may send nothing within a request.
        request_seconds: how long a whole request may take; it has at most ``request_bytes``.
        request_bytes: most bytes of one range.
        listed_keys: most keys of a listing.
        listing_seconds: how long the listing of a folder's folders may take, or a page of another listing.
        listing_total_seconds: how long all pages of a listing may take, with what is done about each.
        retries: how often a failed request is repeated at once.
        retry_seconds: age of a request from which it isn't repeated.
        failures: requests that fail in a row until S3 counts as unreachable; all further ones then fail at
            once, but for one that tries again after each pause.
        known_seconds: how long these facts are used: the longest time for which a replaced object goes
            unnoticed.
        disk_bytes: most bytes on disk, in one file that nobody else can open.
        memory_bytes: most bytes in memory, of blocks that the disk doesn't take.
        block_bytes: of a block, which is what is fetched and kept.
    """

    connect_seconds: float = 2.0
    silent_seconds: float = 4.0
    request_seconds: float = 20.0
    request_bytes: int = 16 << 20
    listed_keys: int = 4_000_000
    listing_seconds: float = 20.0
    listing_total_seconds: float = 1800.0
    retries: int = 1
    retry_seconds: float = 3.0
    failures: int = 3
    pauses: RetryPolicy = field(default_factory=lambda: RetryPolicy(first_seconds=1.0, longest_seconds=4.0))
    disk_bytes: int = 10**9
    memory_bytes: int = 16 << 20
    block_bytes: int = 1 << 20
    encoded_pauses: RetryPolicy = field(
        default_factory=lambda: RetryPolicy(first_seconds=5.0, longest_seconds=60.0)
    )
    encoded_bytes: int = 10 << 30
    encoded_objects: int = 100_000
    find_seconds: float = 2.0
    waiting_segments: int = 256
    waiting_segment_bytes: int = 32 << 20
    trim_seconds: float = 600.0
    stale_seconds: float = 86_400.0
    known_seconds: float = 2.0
    names: int = 1000
