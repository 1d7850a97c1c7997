"""How long a DVR waits for its disk, what it holds in memory for it, and how much it reads at a start."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class DvrLimits:
    """Limits of a channel's DVR: what waits for the disk, what is read, and for how long.

    Attributes:
        waiting_bytes: Most bytes of segments that wait in memory for a disk that is slow, behind the live
            edge.
        leaving_segments: Most segments that have left the playlist and wait for a disk that fails, to be put
            into the past; as many may wait to be removed.
        drain_seconds: How long the channel's end waits until its finished segments are on disk.
        settle_seconds: How long the end of an event waits until its segments are on disk.
        retry_seconds: How long the disk is left alone once it has failed.
        calm_writes: So many segments stored without trouble end it.
        look_seconds: How often the disk is tried while it has failed and there is nothing to store.
        compact_slack_lines: Lines of removed segments beyond which the index is written anew, if they are
            most of it, too.
        index_bytes: Longest index that is read.
        blocks_read: Blocks of the past that stay in memory of each rendition, those that were read lately.
        blocks_dated: Blocks of the past of each rendition whose dates stay in memory.
        removed_blocks: Most blocks of the past that are removed at once.
        bucket_look_seconds: Between two checks whether there is something to store or to remove.
        piece_lines: Numbers of a piece of an index, which is replaced with each segment until it is full; it
            divides the number with which the next piece begins.
        removal_retry_seconds: Pause before the next removal once S3 has refused one.
        new_piece_seconds: Between two looks for the newest pieces of an index, at which a segment is looked
            for that isn't in those that are known.
        old_piece_seconds: Between two looks whether the oldest pieces are still there.
        removal_seconds: Between the removal of a piece from the index and that of its segments: longer than
            ``old_piece_seconds``, so that no node lists segments that are gone.
        pieces_read: Pieces of each rendition that stay in memory, those that were read lately.
        outline_seconds: Between two outlines that a channel's process writes of earlier segments.
    """

    waiting_bytes: int = 64 << 20
    leaving_segments: int = 50_000
    drain_seconds: float = 2.0
    settle_seconds: float = 30.0
    retry_seconds: float = 1.0
    calm_writes: int = 20
    look_seconds: float = 30.0
    compact_slack_lines: int = 4096
    index_bytes: int = 256 << 20
    blocks_read: int = 8
    blocks_dated: int = 4096
    removed_blocks: int = 4
    bucket_look_seconds: float = 0.25
    piece_lines: int = 256
    removal_retry_seconds: float = 30.0
    new_piece_seconds: float = 1.0
    old_piece_seconds: float = 60.0
    removal_seconds: float = 120.0
    pieces_read: int = 16
    outline_seconds: float = 1.0


DEFAULT_LIMITS = DvrLimits()
