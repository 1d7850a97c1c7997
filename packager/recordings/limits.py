"""Limits of maintaining a channel's recordings."""

from __future__ import annotations

from dataclasses import dataclass, field

from packager.retry_policy import RetryPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingsLimits:
    """How often a channel's recordings are looked at, and how much of each is read.

    Attributes:
        retention_look_seconds: How often it is looked whether recordings have become too old.
        metadata_bytes: Longest metadata of a recording that are read.
        rows_between_pauses: After so many segments of all renditions, writing the head of a recording's MP4
            pauses, since its thread holds up the parts that are due meanwhile.
        copy_look_seconds: How often it is looked for recordings that aren't copied to S3 yet.
        copy_retries: When copying is tried again.
        bucket_look_seconds: How often it is looked which recordings are in S3.
        bucket_recordings: Most recordings of a channel that are served from there, the newest.
        removed_folders: Most folders of one name that wait for somebody to look at what in them isn't ours.
    """

    retention_look_seconds: float = 30.0
    metadata_bytes: int = 64 << 10
    rows_between_pauses: int = 32
    row_pause_seconds: float = 0.002
    copy_look_seconds: float = 5.0
    copy_retries: RetryPolicy = field(default_factory=lambda: RetryPolicy(2.0, 60.0))
    bucket_look_seconds: float = 10.0
    bucket_recordings: int = 1000
    removed_folders: int = 16


DEFAULT_LIMITS = RecordingsLimits()
