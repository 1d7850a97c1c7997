"""The limits of a library in S3: requests, waiting, memory and disk."""

from __future__ import annotations

from dataclasses import dataclass, field

from packager.retry_policy import RetryPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class S3RequestLimits:
    """The limits of requests to S3.

    Attributes:
        connect_seconds: how long a connection may take.
        silent_seconds: how long S3 may send nothing within a request.
        request_seconds: how long a whole request may take; it has at most ``request_bytes``.
        request_bytes: most bytes of one range.
        retries: how often one that failed is tried again at once.
        retry_seconds: age of a request from which it isn't.
        in_flight: requests at once.
        turn_seconds: how long one waits until there are fewer.
        failures: requests that fail in a row until S3 counts as unreachable; all further ones then fail at
            once, but for one that tries again after each pause.
        page_keys: keys of a page of a listing, as S3 gives them.
        unlistable_keys: keys that no address can have, of which a listing goes past so many.
    """

    connect_seconds: float = 2.0
    silent_seconds: float = 4.0
    request_seconds: float = 20.0
    request_bytes: int = 16 << 20
    retries: int = 1
    retry_seconds: float = 3.0
    in_flight: int = 16
    turn_seconds: float = 10.0
    failures: int = 3
    pauses: RetryPolicy = field(default_factory=lambda: RetryPolicy(first_seconds=1.0, longest_seconds=4.0))
    page_keys: int = 1000
    unlistable_keys: int = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockCacheLimits:
    """The limits of the cache of objects.

    Attributes:
        disk_bytes: most bytes on disk, in one file that nobody else can open.
        memory_bytes: most bytes in memory, of blocks that the disk doesn't take.
        block_bytes: of a block, which is what is fetched and kept.
        disk_seconds: how long a disk that is full isn't tried again.
    """

    disk_bytes: int = 10**9
    memory_bytes: int = 16 << 20
    block_bytes: int = 1 << 20
    disk_seconds: float = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Limits:
    """The limits of a library in S3.

    Attributes:
        requests: of S3.
        threads: in which files are opened and read.
        wait_seconds: how long a read waits for others that fetch the same.
        known: objects whose sizes and entity-tags are remembered, and those that aren't there.
        known_seconds: how long these hold: the longest time for which a replaced object goes unnoticed.
        stale_seconds: how long they hold while S3 is unreachable.
        stems: films and titles of which the names of files beside them are remembered.
        walk_seconds: how long listing everything may take; what comes behind isn't listed.
        probe_head_bytes: how much of a file's beginning is copied for ffprobe.
        probe_tail_bytes: how much of its end.
        probe_moov_bytes: largest ``moov`` that is copied.
    """

    requests: S3RequestLimits = field(default_factory=S3RequestLimits)
    cache: BlockCacheLimits = field(default_factory=BlockCacheLimits)
    threads: int = 32
    wait_seconds: float = 30.0
    known: int = 1 << 14
    known_seconds: float = 2.0
    stale_seconds: float = 3600.0
    stems: int = 1 << 12
    names: int = 1000
    names_seconds: float = 10.0
    walk_seconds: float = 300.0
    probe_head_bytes: int = 2 << 20
    probe_tail_bytes: int = 1 << 20
    probe_moov_bytes: int = 48 << 20
