"""The limits of the indexes of a library's files: their memory, their number, and what they may contain."""

from __future__ import annotations

from dataclasses import dataclass, field

from media.mp4.movie.movie import MovieLimits
from media.mp4.movie.sample_table import MAX_SAMPLES
from packager.vod.index.segment_boundaries import MAX_SEGMENTS
from packager.vod.movie.movie_reader import ContainerLimits
from packager.vod.text.cues import TEXT_LIMITS, TextLimits


@dataclass(frozen=True, slots=True)
class IndexCacheLimits:
    """The limits of the indexes of a library: memory, number, and the making of new ones.

    Attributes:
        index_bytes: memory for all indexes together; the index of a film of two hours takes 8 MB.
        small_read: bytes of a reading that isn't counted: a table has more.
        memory_patience_seconds: how long a reading waits for the room of indexes in use, which it may be
            using itself.
        memory_wait_seconds: how long a reading waits for other readings.
        memory_look_seconds: between two checks whether indexes that were in use are gone.
        indexes: most indexes that are kept.
        movie: limits of a ``moov``, which is read as a whole.
        samples: most samples of all offered tracks together: 24 hours of film have 6 million.
        sync_samples: most pictures from which decoding can begin: ten hours of nothing else have a million.
        runs: most entries of all offered tracks' ``stts`` and ``ctts`` together: 24 hours that were recorded
            by a clock of milliseconds, so that no two frames in a row are as long, have 6 million.
        segments: most segments of all offered tracks together; each is a line of a playlist.
        sound_tracks: most sound tracks that are offered.
        containers: limits of files that have no whole ``moov``.
        text: limits of text tracks and their samples.
        made_at_once: indexes that are made at the same time, for one client as long as no other waits; each
            reads a whole ``moov`` into memory.
        awaited: most films that wait for their index.
        wait_seconds: longest wait of a request for an index, or for anything else that another request makes.
    """

    index_bytes: int = 256 << 20
    small_read: int = 64 << 10
    memory_patience_seconds: float = 0.5
    memory_wait_seconds: float = 60.0
    memory_look_seconds: float = 0.02
    indexes: int = 1024
    movie: MovieLimits = field(default_factory=MovieLimits)
    samples: int = 2 * MAX_SAMPLES
    sync_samples: int = 9 << 17
    runs: int = 6 << 20
    segments: int = 2 * MAX_SEGMENTS
    sound_tracks: int = 8
    containers: ContainerLimits = field(default_factory=ContainerLimits)
    text: TextLimits = TEXT_LIMITS
    made_at_once: int = 2
    awaited: int = 1024
    wait_seconds: float = 60.0
