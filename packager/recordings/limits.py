"""What looking after a channel's recordings may cost."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingsLimits:
    """How often a channel's recordings are looked at, and how much of each is read.

    Attributes:
        retention_look_seconds: How often it is looked whether recordings have become too old.
        note_bytes: Longest note of a recording that is read.
        removed_folders: Most folders of one name that wait for somebody to look at what in them isn't ours.
    """

    retention_look_seconds: float = 30.0
    note_bytes: int = 64 << 10
    removed_folders: int = 16


DEFAULT_LIMITS = RecordingsLimits()
