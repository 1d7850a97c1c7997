"""Brings a published stream into a channel's windows without any ffmpeg, until the stream ends.

The publisher's own frames and times go out. Where the stream can't be cut any further, the run ends as an
ffmpeg's does, and the next one begins with the next key frame, behind a discontinuity.
"""

from __future__ import annotations

import asyncio
from fractions import Fraction

from media.errors import MediaError
from media.mp4.fragments import Fragment, InitSegment
from packager.concurrency import LAST_LOOK_SECONDS
from packager.live.feed import Feed
from packager.live.run import Run, SourceEndedError
from packager.segment.part_packer import CadenceError
from packager.sources.copied import REWRITERS, FragmentRewriter
from packager.sources.published import PublishedSource
from packager.step_budget import StepBudget
from packager.window.wall_clock import Instant, WallClock


class CopyRun(Run):
    """The copying of one stream; ``play`` is called once.

    The arguments are those of ``Run``; the first feed takes the picture, the second one the sound.
    """

    async def play(self, published: PublishedSource, start: Fraction, clock: WallClock, oldest: float) -> str:
        """Copy the stream that is on air to its end, and leave all windows at the same number.

        Args:
            published: the channel's publications.
            start: media time in seconds that the first picture gets.
            clock: tells the dates of the run's media times.
            oldest: nothing that came before this moment of the monotonic clock is played.

        Returns:
            The reason of its end in one line.
        """
        reason = "it ended"
        try:
            rewriter = REWRITERS[published.container](self.limits.source)
            await self._carry(published, _Taker(self, published, rewriter, start, clock), oldest)
        except (SourceEndedError, MediaError, CadenceError) as error:
            reason = str(error)
        finally:
            published.needed_at = None
            self._stop()
            self._aligned.align()
        if published.has_stream and published.stream != self._source.stream:
            return "another stream follows"
        return reason

    async def _carry(self, published: PublishedSource, taker: _Taker, oldest: float) -> None:
        """Take the stream to its end, or until nothing of a track comes any more."""
        loop, limits = asyncio.get_running_loop(), self.limits
        giving = asyncio.ensure_future(published.give(taker, oldest))
        try:
            while not giving.done():
                left = taker.deadline - loop.time()
                # If this process stood still, what came meanwhile is still to be read.
                soon = min(left, limits.stall_seconds)
                await asyncio.wait((giving,), timeout=max(soon, LAST_LOOK_SECONDS))
                if left <= 0 and loop.time() >= taker.deadline and not giving.done():
                    raise SourceEndedError(f"its {taker.silent} stopped")
        finally:
            giving.cancel()
            await asyncio.wait((giving,))
        giving.result()
        self.supply_ended = True


class _Output:
    """One track on its way to its rendition.

    Attributes:
        name: what it is, for whoever reads the reason of an end.
        feed: brings it into its window.
        shift: ticks from the stream's times to those of the channel; None before it is known.
        timescale: ticks per second; 0 before its init segment.
        deadline: when more of it must have come, by the event loop's clock.
    """

    def __init__(self, name: str, feed: Feed, deadline: float) -> None:
        self.name = name
        self.feed = feed
        self.deadline = deadline
        self.timescale = 0
        self.shift: int | None = None


class _Taker:
    """Takes a stream's bytes as ffmpeg would, and brings its tracks to their feeds.

    Args:
        run: whose feeds these are.
        published: is told when more is needed.
        rewriter: reads the stream.
        start: media time in seconds that the first picture gets.
        clock: tells the dates of media times.
    """

    def __init__(
        self,
        run: CopyRun,
        published: PublishedSource,
        rewriter: FragmentRewriter,
        start: Fraction,
        clock: WallClock,
    ) -> None:
        self._run = run
        self._published = published
        self._picture = run.feeds[0]
        self._rewriter = rewriter
        self._start = start
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._zero: Fraction | None = None
        deadline = self._loop.time() + run.limits.start_seconds
        picture, sound = run.feeds
        self._outputs = {
            b"vide": _Output("picture", picture, deadline),
            b"soun": _Output("sound", sound, deadline),
        }
        self._by_track: dict[int, _Output] = {}

    @property
    def deadline(self) -> float:
        """When more of every track must have come, by the event loop's clock."""
        return min(output.deadline for output in self._outputs.values())

    @property
    def silent(self) -> str:
        """The track that nothing has come of for longest."""
        return min(self._outputs.values(), key=lambda output: output.deadline).name

    def close_stdin(self) -> None:
        """Take notice of the stream's end: what waits for the next frame goes with it."""

    async def write(self, data: bytes) -> None:
        """Take the next bytes.

        Raises:
            MediaError: they can't be read.
            CadenceError: the samples don't come as they should.
        """
        events: list[InitSegment | Fragment] = []
        budget = StepBudget()
        async for portion in budget.portions(data):
            events += self._rewriter.receive_data(portion)
        for event in events:
            if isinstance(event, InitSegment):
                self._begin(event)
            elif self._zero is None:
                self._zero = _first_key(event, self._by_track[event.track_id])
        if self._zero is None:
            return
        moved = (self._moved(event, self._zero) for event in events if isinstance(event, Fragment))
        fragments = [(self._by_track[fragment.track_id], fragment) for fragment in moved]
        now = Instant.now()
        for output, fragment in fragments[-len(self._outputs) :]:
            # Of what comes at once, only the newest tells when it was made.
            self._clock.observe(_end(fragment) / output.timescale, now)
        for output, fragment in fragments:
            await budget.spend()
            output.deadline = self._loop.time() + self._run.limits.stall_seconds
            if output.feed.add(fragment, now):
                self._run.flowing = True
        self._published.needed_at = self._picture.awaited

    def _begin(self, init: InitSegment) -> None:
        (track,) = init.tracks
        output = self._by_track[track.track_id] = self._outputs[track.handler]
        output.timescale = track.timescale
        output.feed.begin(init)

    def _moved(self, fragment: Fragment, zero: Fraction) -> Fragment:
        """Move a fragment to the channel's times: ``zero`` seconds of the stream are its start."""
        output = self._by_track[fragment.track_id]
        if output.shift is None:
            output.shift = round(self._start * output.timescale) - round(zero * output.timescale)
        time = fragment.base_media_decode_time + output.shift
        return Fragment(fragment.track_id, fragment.sequence_number, time, fragment.samples, fragment.data)


def _first_key(fragment: Fragment, output: _Output) -> Fraction | None:
    """Give the time in seconds at which the first key frame of a picture is shown; None where none is."""
    if output.name != "picture":
        return None
    time = fragment.base_media_decode_time
    for sample in fragment.samples:
        if sample.is_sync:
            return Fraction(time + sample.composition_offset, output.timescale)
        time += sample.duration
    return None


def _end(fragment: Fragment) -> int:
    return fragment.base_media_decode_time + sum(sample.duration for sample in fragment.samples)
