"""How long a DVR waits for its disk, what it holds in memory for it, and how much it reads at a start."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketLimits:
    """Limits of a DVR in an S3 bucket; what it may cost in memory and time is as on a disk.

    Attributes:
        look_seconds: Between two looks whether there is something to store or to remove.
        load_seconds: How long a channel's start waits for what the bucket tells of earlier segments.
        piece_lines: Lines of a piece of an index, which is written anew with each segment until it is full.
        piece_bytes: Longest piece that is read.
        pieces: Most pieces of one rendition's index that are read, the newest.
        reads_at_once: How many of them are read at once.
        removals_at_once: Most segments of a rendition that are removed between two that are stored.
        removal_retry_seconds: When removing is tried again once S3 has refused it.
    """

    look_seconds: float = 0.25
    load_seconds: float = 15.0
    piece_lines: int = 256
    piece_bytes: int = 1 << 20
    pieces: int = 4096
    reads_at_once: int = 8
    removals_at_once: int = 8
    removal_retry_seconds: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DvrLimits:
    """Limits of a channel's DVR: what waits for the disk, what is read, and for how long.

    Attributes:
        waiting_bytes: Most bytes of segments that wait in memory for a disk that is slow, behind the live
            edge.
        drain_seconds: How long the channel's end waits for what is finished to be on disk.
        settle_seconds: How long the end of an event waits for the same.
        retry_seconds: How long the disk is left alone once it has failed.
        attempts: How often a segment is written where removing the oldest ones may make room for it.
        failed_removals: Most segments that wait for another attempt to remove them; what is more stays on
            disk until the next start.
        calm_writes: So many segments stored without trouble end it.
        former_folders: Most folders of one rendition that are set aside: of earlier generations what isn't
            ours stays.
        compact_slack_lines: Lines of removed segments beyond which the index is written anew, if they are
            most of it, too.
        index_bytes: Longest index that is read.
        index_line_bytes: Longest line of one that is read.
        unreadable_lines: Unreadable lines of one after which the rest is ignored.
        checked_segments: Of how many segments, the newest, the length is checked; of others only whether they
            exist: each was synchronised before its line was written, and later damage shows when it is read.
        rebuilt_segments: Most segments whose lines are rebuilt at one start, the newest.
        init_segments: Most init segments that are read, the newest.
        file_pause_seconds: Pause after some files that are read, so that the thread doesn't hold the GIL for
            long.
        files_between_pauses: After how many.
        bucket: Of one in an S3 bucket.
    """

    waiting_bytes: int = 64 << 20
    drain_seconds: float = 2.0
    settle_seconds: float = 30.0
    retry_seconds: float = 1.0
    attempts: int = 3
    failed_removals: int = 4096
    calm_writes: int = 20
    former_folders: int = 16
    compact_slack_lines: int = 4096
    index_bytes: int = 256 << 20
    index_line_bytes: int = 64 << 10
    unreadable_lines: int = 10_000
    checked_segments: int = 4096
    rebuilt_segments: int = 100_000
    init_segments: int = 4096
    file_pause_seconds: float = 0.001
    files_between_pauses: int = 32
    bucket: BucketLimits = field(default_factory=BucketLimits)


DEFAULT_LIMITS = DvrLimits()
