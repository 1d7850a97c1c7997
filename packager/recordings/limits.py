"""Limits of maintaining a channel's recordings."""

from __future__ import annotations

from dataclasses import dataclass, field

from packager.retry_policy import RetryPolicy


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
    """

    metadata_bytes: int = 64 << 10
    reader_seconds: float = 3600.0
    reader_rate: int = 32 << 10
    reader_grace_seconds: float = 10.0
    copy_look_seconds: float = 5.0
    copy_retries: RetryPolicy = field(default_factory=lambda: RetryPolicy(2.0, 60.0))


DEFAULT_LIMITS = RecordingsLimits()
