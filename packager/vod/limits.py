"""How much VOD of a library may cost in memory, in waiting and in what is written."""

from __future__ import annotations

from dataclasses import dataclass, field

from packager.library.file_listing import MAX_RENDITIONS
from packager.vod.clip_sequence import SequenceLimits
from packager.vod.index.index_cache import IndexCacheLimits
from packager.vod.text.sidecars import SidecarLimits


@dataclass(frozen=True, slots=True)
class TitleLimits(IndexCacheLimits):
    """The limits of VOD of a library: memory, waiting, and what is written.

    Attributes:
        threads: threads in which requests look files up and wait for indexes.
        renditions: most files of one title.
        folder_files: most names of one folder among which titles' renditions are looked for, and most that
            are kept of all folders.
        manifest_segments: most segments that one manifest names; each takes half a kilobyte to write.
        text_bytes: memory for playlists and manifests, which are written once for all requests.
        texts: most of them.
        i_frame_files: most films whose I-frames are remembered, and most clips; a megabyte each at most.
        quick_samples: most samples of a segment that is made on the event loop, in a millisecond.
    """

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
