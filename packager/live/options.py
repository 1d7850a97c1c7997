"""The options of a live channel, from its configuration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from packager.live.limits import DEFAULT_LIMITS, LiveLimits
from packager.recordings.disk_recordings import FOR_EVER, Retention
from packager.safe_files import DataFolder
from packager.sources.published_source import AfterEnd, Takeover
from packager.sources.source import TEST_SOURCE

if TYPE_CHECKING:
    from packager.dvr.bucket.dvr_bucket import DvrBucket
    from packager.recordings.publications import PublisherWatch


@dataclass(frozen=True, slots=True)
class ChannelOptions:
    """The options of a live channel.

    Attributes:
        source: ``testsrc``, the path of a file (played in a loop, but for an event), a URL that is pulled, or
            ``publish``.
        ladder: names of :data:`packager.ffmpeg.ladder.RUNGS`.
        bitrates: of a channel that has only sound, and no ladder then: bits per second of its renditions.
        part_duration: wanted seconds of a part.
        segment_duration: wanted seconds of a segment.
        lead_seconds: seconds of the source that are there when the channel begins; see `Source.began`.
        dvr_window: seconds that stay in the playlists beyond the live window.
        past_seconds: seconds for which segments stay on disk, where that is longer; else 0.
        data: the channel's folder on disk, where its numbers and its DVR outlive the process; None for none.
            No link is followed beneath the path, nor beneath the root of a data folder.
        dvr_bytes: most bytes of the DVR on disk; 0: as many as its time asks for.
        dvr_bucket: where the DVR is, if that is in S3; then spans are recorded, but no events.
        dvr_area: in which area of that, ``live`` or ``radio``.
        event: whether it ends with its file, which is played once.
        retention: for how long its events' recordings stay.
        record: the rule by which spans become recordings, a name of ``RULES``.
        vod_seconds: for how long behind its end an event is served as VOD at the channel's own addresses; 0:
            until the next one begins.
        captions: languages, as BCP 47 tags.
        takeover: the effect of a second publisher, where the source is ``publish``.
        after_end: the effect of a publisher there once the event has ended.
        slate: the path of the file that is shown while nobody publishes, or a pulled source is gone; empty:
            gaps.
        forward: RTMP and SRT addresses to which what is published to it is pushed on.
        limits: further limits of the channel.
    """

    name: str
    source: str = field(default=TEST_SOURCE, repr=False)
    ladder: tuple[str, ...] = ("720p", "360p")
    bitrates: tuple[int, ...] = ()
    part_duration: float = 0.333
    segment_duration: float = 2.0
    lead_seconds: float = 0.0
    dvr_window: float = 0.0
    past_seconds: float = 0.0
    data: DataFolder | Path | None = None
    dvr_bytes: int = 0
    dvr_bucket: DvrBucket | None = None
    dvr_area: str = "live"
    event: bool = False
    retention: Retention = FOR_EVER
    record: str = "none"
    vod_seconds: float = 0.0
    captions: tuple[str, ...] = ()
    takeover: Takeover = Takeover.REPLACE
    after_end: AfterEnd = AfterEnd.REFUSE
    slate: str = ""
    forward: tuple[str, ...] = field(default=(), repr=False)
    limits: LiveLimits = DEFAULT_LIMITS


@dataclass(frozen=True, slots=True)
class ChannelHooks:
    """Functions by which a channel reports to its server, and asks whether it may begin.

    Attributes:
        on_part: called for each part with the seconds from its last frame's end to its being published.
        on_viewer: called at each request for a playlist.
        is_postponed: returns whether the channel doesn't begin now although it has viewers, whose requests
            then don't wait.
        publishers: returns the source clients of its station; None where it takes none.
    """

    on_part: Callable[[float], None] = lambda _: None
    on_viewer: Callable[[], None] = lambda: None
    is_postponed: Callable[[], bool] = lambda: False
    publishers: Callable[[], PublisherWatch | None] = lambda: None


NO_HOOKS = ChannelHooks()
