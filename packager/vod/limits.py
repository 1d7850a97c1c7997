"""How much VOD of a library may cost in memory, in waiting and in what is written."""

from __future__ import annotations

from dataclasses import dataclass, field

from packager.library.file_listing import MAX_RENDITIONS
from packager.threads import ThreadLimits
from packager.vod.index.limits import IndexCacheLimits
from packager.vod.text.sidecars import SidecarLimits


@dataclass(frozen=True, slots=True)
class TitleLimits(IndexCacheLimits):
    """The limits of VOD of a library: memory, waiting, and what is written.

    Attributes:
        threads: threads in which requests look films up and have texts written.
        renditions: most files of one title.
        manifest_segments: most segments that one manifest names; each takes half a kilobyte to write.
        text_bytes: memory for playlists and manifests, which are written once for all requests.
        texts: most texts that are kept.
        clips: threads in which texts of clips are written: each thread that computes delays the event loop.
        i_frame_files: most films whose I-frames are remembered, and most clips; a megabyte each at most.
        sequence_files: most different films, the index of each of which may have to be made.
        sequence_segments: most segments of all clips together, each a line of a playlist.
    """

    threads: ThreadLimits = field(
        default_factory=lambda: ThreadLimits(threads=32, client_threads=24, waiting=4096)
    )
    renditions: int = MAX_RENDITIONS
    manifest_segments: int = 120_000
    text_bytes: int = 16 << 20
    texts: int = 1024
    clips: ThreadLimits = field(
        default_factory=lambda: ThreadLimits(threads=2, client_threads=1, waiting=64, rest=1.0)
    )
    i_frame_files: int = 32
    sidecars: SidecarLimits = field(default_factory=SidecarLimits)
    sequence_files: int = 64
    sequence_segments: int = 40_000


DEFAULT_LIMITS = TitleLimits()
