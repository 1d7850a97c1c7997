"""How long a DVR waits for its disk, and what it holds in memory for it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class DvrLimits:
    """What the DVR of one channel may hold back, and how long it waits for its disk.

    Attributes:
        waiting_bytes: Most bytes of segments that wait in memory for a disk that is slow, behind the live
            edge.
        drain_seconds: How long the channel's end waits for what is finished to be on disk.
        settle_seconds: How long the end of an event waits for the same.
        retry_seconds: How long the disk is left alone once it has failed.
        attempts: How often a segment is written where removing the oldest ones may make room for it.
        calm_writes: So many segments stored without trouble end it.
        former_folders: Most folders of one rendition that are set aside: of earlier generations what isn't
            ours stays.
        compact_slack_lines: Lines of removed segments beyond which the index is written anew, if they are
            most of it, too.
    """

    waiting_bytes: int = 64 << 20
    drain_seconds: float = 2.0
    settle_seconds: float = 30.0
    retry_seconds: float = 1.0
    attempts: int = 3
    calm_writes: int = 20
    former_folders: int = 16
    compact_slack_lines: int = 4096


DEFAULT_LIMITS = DvrLimits()
