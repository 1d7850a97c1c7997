"""How much VOD of a library may cost in memory, in waiting and in what is written."""

from __future__ import annotations

from dataclasses import dataclass, field

from packager.library.file_listing import MAX_RENDITIONS
from packager.vod.clip_sequence import SequenceLimits
from packager.vod.index_builder import LIMITS, IndexLimits
from packager.vod.index_memory_budget import IndexMemoryLimits
from packager.vod.sidecars import SidecarLimits


@dataclass(frozen=True, slots=True)
class TitleLimits:
    """The limits of VOD of a library: memory, waiting, and what is written.

    Attributes:
        index_bytes: memory for all indexes together; that of a film of two hours takes 8 MB.
        index_memory: how they share it.
        indexes: most of them.
        index: what the index of one file may be made of.
        made_at_once: how many indexes are made at the same time; each reads a whole ``moov`` into memory.
        wait_seconds: how long a request waits while others make an index, or what else it wants.
        threads: in which requests look things up and wait; whoever waits there keeps no other file waiting.
        renditions: most files of one title.
        folder_files: how many names of a folder are looked at for titles' renditions, and how many of these
            are kept of all folders.
        manifest_segments: most segments that one manifest names; each takes half a kilobyte to write.
        text_bytes: memory for playlists and manifests, which are written once for all who ask.
        texts: most of them.
        i_frame_files: most films whose I-frames are remembered, and most clips; a megabyte each at most.
        sidecars: what subtitle files beside the films may cost.
        sequences: what a playlist of several clips may be.
        quick_samples: most samples of a segment that is made where others wait, in a millisecond.
    """

    index_bytes: int = 256 << 20
    index_memory: IndexMemoryLimits = field(default_factory=IndexMemoryLimits)
    indexes: int = 1024
    index: IndexLimits = LIMITS
    made_at_once: int = 2
    wait_seconds: float = 60.0
    threads: int = 32
    renditions: int = MAX_RENDITIONS
    folder_files: int = 200_000
    manifest_segments: int = 120_000
    text_bytes: int = 16 << 20
    texts: int = 1024
    i_frame_files: int = 32
    sidecars: SidecarLimits = field(default_factory=SidecarLimits)
    sequences: SequenceLimits = field(default_factory=SequenceLimits)
    quick_samples: int = 1 << 12


DEFAULT_LIMITS = TitleLimits()
