"""Limits of maintaining a channel's recordings."""

from __future__ import annotations

from dataclasses import dataclass, field

from packager.retry_policy import RetryPolicy

MAX_BUCKET_RECORDINGS = 1000
"""Most recordings of a channel that are served from S3, the newest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingsLimits:
    """How often a channel's recordings are checked, and how much of each is read.

    Attributes:
        metadata_bytes: Longest metadata of a recording that are read.
        reader_seconds: Longest time for which a request may keep files of a recording that is to be removed.
        reader_rate: Bytes per second that it must take on average to keep them.
        reader_grace_seconds: Time from its beginning for which it may take less.
        copy_look_seconds: How often it is looked for recordings that aren't copied to S3 yet.
        copy_retries: When copying is tried again.
        span_look_seconds: How often it is looked for segments of spans that are to be kept.
        waiting_spans: Most spans that wait to be recordings, without those of programmes.
        programmes_at_once: Most programmes that are kept by rule at the same time.
        keep_seconds: How long who asks for a span waits for its recording.
        collected_segments: Most segments of a rendition that are collected at once.
        awaited_segments: A segment that isn't on disk when so many have come behind it is lost.
        late_seconds: How long the last segments of a span may be late.
        followed_seconds: How long a process that records nothing keeps segments of a programme that is over.
        waiting_seconds: How long those of them may be late that are in memory, and wait to be stored.
        publication_look_seconds: How often it is looked whether somebody publishes.
        publication_pause_seconds: How long a publisher may be away before its publication is over.
        disk_look_seconds: How often it is looked whether the disk has room.
        free_share: Share of the disk that is to be free.
        free_bytes: Bytes that are enough, whatever their share is.
    """

    metadata_bytes: int = 64 << 10
    reader_seconds: float = 3600.0
    reader_rate: int = 32 << 10
    reader_grace_seconds: float = 10.0
    copy_look_seconds: float = 5.0
    copy_retries: RetryPolicy = field(default_factory=lambda: RetryPolicy(2.0, 60.0))
    span_look_seconds: float = 2.0
    waiting_spans: int = 1000
    programmes_at_once: int = 200
    keep_seconds: float = 10.0
    collected_segments: int = 5000
    awaited_segments: int = 30
    late_seconds: float = 15.0
    followed_seconds: float = 3600.0
    waiting_seconds: float = 600.0
    publication_look_seconds: float = 1.0
    publication_pause_seconds: float = 10.0
    disk_look_seconds: float = 30.0
    free_share: float = 0.05
    free_bytes: int = 5 << 30


DEFAULT_LIMITS = RecordingsLimits()
