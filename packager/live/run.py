"""One run of a live channel's source, from its start to its end: what every kind of run has in common."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence

import structlog

from media.errors import MediaError
from packager.live.limits import DEFAULT_LIMITS, LiveLimits
from packager.live.picture_output import PictureFeed
from packager.live.rendition_output import Feed, RunStart
from packager.live.sound_output import SoundFeed
from packager.segment.part_packer import CadenceError
from packager.sources.source import Source
from packager.window.aligned_windows import AlignedWindows
from packager.window.program_date_time import Instant

log = structlog.get_logger()


class SourceEndedError(Exception):
    """A rendition's media has ended, or nothing of it comes any more; the text says which."""


class ChannelRun:
    """One run of a source, from its beginning to its end, into the windows of a channel.

    Args:
        start: decides which segments of the run the feeds publish.
        aligned: the windows that the feeds publish in.
        over: set once a source that is played once came to its end; where it is set at the end of the run,
            from wherever that comes, the feeds' last frames are published, as where the stream ended.
        limits: how long a rendition may pause.

    Attributes:
        pid: process ID of its ffmpeg while one runs.
        supply_ended: whether the supplier ended the input, and not a failure of the run.
    """

    def __init__(
        self,
        source: Source,
        feeds: Sequence[Feed],
        start: RunStart,
        aligned: AlignedWindows,
        over: asyncio.Event,
        limits: LiveLimits = DEFAULT_LIMITS,
    ) -> None:
        self.pid: int | None = None
        self.flowing = False
        self.supply_ended = False
        self._source = source
        self.feeds = feeds
        last = feeds[-1] if feeds else None
        # The sound of a picture, which may be silence.
        self._sound = last if isinstance(last, SoundFeed) else None
        # The pictures for which their key frames can stand while the sound goes on.
        self._pictures = [feed for feed in feeds if isinstance(feed, PictureFeed)]
        # When media of any rendition came last, by the event loop's clock.
        self._newest = 0.0
        self._start = start
        self._aligned = aligned
        self._over = over
        self.limits = limits

    def suspend(self) -> None:
        """Publish nothing of the segments that were begun: gaps stand for them. Parts go on with the next."""
        self.flowing = False
        self._start.segment = max((feed.segment for feed in self.feeds), default=-1) + 1
        for feed in self.feeds:
            feed.suspend()

    def stand_in(self, now: Instant) -> None:
        """Publish silence where the sound doesn't come, as far as the picture has come, and the reverse."""
        sound = self._sound
        if sound is None:
            return
        if (picture := self.feeds[0].span) is not None:
            sound.stand_in(picture, now)
        if (heard := sound.span) is not None:
            for feed in self._pictures:
                feed.stand_in(heard[1], now)

    def can_miss(self, feed: Feed) -> bool:
        """Return whether something can stand in for a rendition while the others go on."""
        if isinstance(feed, SoundFeed):
            return feed.can_be_silent
        return isinstance(feed, PictureFeed) and feed.can_be_still

    def _stop(self) -> None:
        """Publish no more, but the last frames where the event is over, or the stream has ended in order."""
        self.flowing = False
        self.pid = None
        if self._over.is_set() or self.supply_ended:
            self._finish()

    def _finish(self) -> None:
        """Publish the last frames of all renditions, up to the last segment that the source itself has begun.

        Silence, or a picture, that is made here ends with the source's own.
        """
        source, now = self._source, Instant.now()
        first = 0 if source.has_video else len(self.feeds) - 1
        own = self.feeds[first].span if self.feeds and not (source.has_video and source.has_audio) else None
        until = math.inf if own is None else own[1]
        for feed in [*self.feeds[first:], *self.feeds[:first]]:
            # The newest segment of the first one may be in its first part, which nobody has yet.
            last = self._aligned.last_number + (feed is self.feeds[first])
            try:
                feed.finish(last, now, until)
            except (MediaError, CadenceError) as error:
                # These frames are lost with their run, not the channel.
                log.warning("the last frames of a stream can't be cut", reason=str(error))
