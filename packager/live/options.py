"""What a live channel is, as its configuration says it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from packager.data_folder import DataFolder
from packager.dvr.write_queue import MAX_WAITING_BYTES
from packager.live.captions import MAX_CAPTION_BYTES
from packager.recordings.collection import FOR_EVER, Retention
from packager.retry_policy import RetryPolicy
from packager.sources.retries import SOURCE_RETRY
from packager.sources.source import TEST_SOURCE
from packager.sources.udp import RECEIVE_BYTES
from packager.window.waiters import MAX_WAITERS

ENCODER_RETRY = RetryPolicy(first_seconds=0.2, longest_seconds=5.0, steady_seconds=10.0)
"""When another ffmpeg is started behind the end of one."""


@dataclass(frozen=True, slots=True)
class ChannelOptions:
    """What a channel is.

    Attributes:
        name: as in its addresses.
        source: ``testsrc``, the path of a file (played in a loop, but for an event), or a URL that is pulled.
        ladder: names of :data:`packager.window.cadence.RUNGS`.
        bitrates: of a channel that has only sound, and no ladder then: bits per second of its renditions.
        part_duration: wanted seconds of a part.
        segment_duration: wanted seconds of a segment.
        dvr_window: seconds that stay in the playlists beyond the live window.
        max_waiters: requests that may wait for one rendition at once.
        data: the channel's folder on disk, where its numbers and its DVR outlive the process; None for none.
            No link is followed beneath the path, nor beneath the root of a data folder.
        dvr_bytes: most bytes of the DVR on disk; 0: as many as its time asks for.
        dvr_waiting_bytes: most bytes of it that wait in memory for a disk that is slow.
        event: whether it ends with its file, which is played once.
        retention: for how long its events' recordings stay.
        captions: languages, as BCP 47 tags.
        caption_bytes: most bytes of one language's captions that aren't over.
        receive_bytes: how much the system may hold of a source in UDP until it is taken.
        source_retry: says when a source that isn't there is asked again.
        encoder_retry: says when another ffmpeg is started behind the end of one.
    """

    name: str
    source: str = field(default=TEST_SOURCE, repr=False)
    ladder: tuple[str, ...] = ("720p", "360p")
    bitrates: tuple[int, ...] = ()
    part_duration: float = 0.333
    segment_duration: float = 2.0
    dvr_window: float = 0.0
    max_waiters: int = MAX_WAITERS
    data: DataFolder | Path | None = None
    dvr_bytes: int = 0
    dvr_waiting_bytes: int = MAX_WAITING_BYTES
    event: bool = False
    retention: Retention = FOR_EVER
    captions: tuple[str, ...] = ()
    caption_bytes: int = MAX_CAPTION_BYTES
    receive_bytes: int = RECEIVE_BYTES
    source_retry: RetryPolicy = SOURCE_RETRY
    encoder_retry: RetryPolicy = ENCODER_RETRY
