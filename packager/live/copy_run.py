"""Brings a published stream into a channel's windows without any ffmpeg, until the stream ends.

The publisher's own frames and times go out, of each video track that it sends beside the main one, too. Where
the stream can't be cut any further, the run ends as an ffmpeg's does, and the next one begins with the next
key frame, behind a discontinuity.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from typing import NoReturn

from media.errors import MediaError
from media.flv.flv_to_fragments import FlvToFragments
from media.mp4.fragments import Fragment, InitSegment
from media.mp4.moof import total_duration
from media.stream_reader import StreamChunk
from packager.concurrency import LAST_LOOK_SECONDS, running_tasks
from packager.live.common_key_frame import SOUND, CommonKeyFrameGate, IndexedFragment
from packager.live.rendition_output import Feed
from packager.live.run import ChannelRun, SourceEndedError
from packager.segment.part_packer import CadenceError
from packager.sources.copy_probe import REWRITERS, FragmentRewriter
from packager.sources.further_video_tracks import FurtherVideoTracksError
from packager.sources.publication import TAGS_AT_ONCE
from packager.sources.published_source import PublishedSource
from packager.sources.pump import portion_bytes
from packager.step_budget import StepBudget
from packager.window.program_date_time import Instant, WallClock


class CopyRun(ChannelRun):
    """The copying of one stream; ``play`` is called once.

    The arguments are those of ``Run``; the first feed takes the main video track, the last one the sound, and
    those between them the further video tracks.
    """

    @property
    def further(self) -> tuple[int, ...]:
        """The numbers of the further video tracks."""
        return self._source.further

    async def play(self, published: PublishedSource, start: Fraction, clock: WallClock, oldest: float) -> str:
        """Copy the stream that is on air to its end, and leave all windows at the same number.

        Args:
            start: media time in seconds that the first picture gets.
            clock: tells the dates of the run's media times.
            oldest: nothing that came before this moment of the monotonic clock is played.

        Returns:
            The reason of its end in one line.
        """
        reason = "it ended"
        try:
            make = REWRITERS[published.received_container]
            taker = _Taker(self, published, lambda: make(self.limits.source), start, clock)
            await self._carry(published, taker, oldest)
        except FurtherVideoTracksError as error:
            reason = str(error)
            published.leave_further_video_tracks(reason)
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
        following = (
            self._follow(published, taker, index, track, oldest)
            for index, track in enumerate(self._source.further, 1)
        )
        async with running_tasks(published.feed(taker, oldest), *following) as (giving, *others):
            while not giving.done():
                left = taker.deadline - loop.time()
                # If this process stood still, what came meanwhile is still to be read.
                soon = min(left, limits.stall_seconds)
                going = [giving, *(one for one in others if not one.done())]
                await asyncio.wait(
                    going, timeout=max(soon, LAST_LOOK_SECONDS), return_when=asyncio.FIRST_COMPLETED
                )
                for one in others:
                    if one.done():
                        one.result()
                if left <= 0 and loop.time() >= taker.deadline and not giving.done():
                    taker.raise_silence()
        giving.result()
        self.supply_ended = True

    async def _follow(
        self, published: PublishedSource, taker: _Taker, index: int, track: int, oldest: float
    ) -> None:
        """Take a further video track to its end; what was left of another stream doesn't count."""
        while (further := published.further_video_tracks.get(track)) is not None:
            branch = further.branch(oldest)
            try:
                while data := await branch.read():
                    await taker.push_data(index, data)
            finally:
                branch.receive_eof()
            if taker.has_begun or branch.has_overflown:
                return
            taker.forget(index)


class _CopyOutput:
    """One track on its way to its rendition.

    Attributes:
        name: what it is, for whoever reads the reason of an end.
        track: as in ``IndexedFragment``.
        feed: brings it into its window.
        shift: ticks from the stream's times to those of the channel; None before it is known.
        timescale: ticks per second; 0 before its init segment.
        deadline: when more of it must have come, by the event loop's clock.
    """

    def __init__(self, name: str, track: int, feed: Feed, deadline: float) -> None:
        self.name = name
        self.track = track
        self.feed = feed
        self.deadline = deadline
        self.timescale = 0
        self.init = b""
        self.shift: int | None = None


class _Taker:
    """Takes a stream's bytes as ffmpeg would, and brings its tracks to their feeds.

    Args:
        published: is told when more is needed.
        make_rewriter: makes what reads the stream, or a further video track.
        start: media time in seconds that the first picture gets.
        clock: tells the dates of media times.
    """

    def __init__(
        self,
        run: CopyRun,
        published: PublishedSource,
        make_rewriter: Callable[[], FragmentRewriter],
        start: Fraction,
        clock: WallClock,
    ) -> None:
        self._run = run
        self._published = published
        self._start = start
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._make_rewriter = make_rewriter
        self._portion_bytes = portion_bytes(published.received_container)
        *video, sound = run.feeds
        self._rewriters = [make_rewriter() for _ in video]
        self._gate = CommonKeyFrameGate(len(video), run.limits.segment)
        deadline = self._loop.time() + run.limits.start_seconds
        names = ["picture", *(f"track {track}" for track in run.further)]
        self._video = [
            _CopyOutput(name, index, feed, deadline)
            for index, (name, feed) in enumerate(zip(names, video, strict=True))
        ]
        self._sound = _CopyOutput("sound", SOUND, sound, deadline)
        # By the track of a fragment: SOUND is the last one.
        self._outputs = [*self._video, self._sound]
        self._track_ids: dict[tuple[int, int], _CopyOutput] = {}
        self._turn = asyncio.Lock()

    @property
    def has_begun(self) -> bool:
        """Whether it is known where playing begins."""
        return self._gate.time is not None

    @property
    def deadline(self) -> float:
        """When more of every track must have come, by the event loop's clock."""
        return min(output.deadline for output in self._outputs)

    def raise_silence(self) -> NoReturn:
        """Say of which track nothing has come for longest.

        Raises:
            FurtherVideoTracksError: it is a further video track.
            SourceEndedError: it is another one.
        """
        output = min(self._outputs, key=lambda output: output.deadline)
        if output.track > 0:
            raise FurtherVideoTracksError(f"its {output.name} stopped")
        raise SourceEndedError(f"its {output.name} stopped")

    def close_stdin(self) -> None:
        """Take notice of the stream's end: what waits for the next frame goes with it."""

    async def write(self, data: bytes) -> None:
        """Take the next bytes of the main stream; see ``receive``."""
        await self.push_data(0, data)

    async def push(self, chunks: Sequence[StreamChunk]) -> None:
        """Take the next chunks of the main stream; see ``receive``."""
        for has_tags, some in itertools.groupby(chunks, lambda chunk: bool(chunk.tags)):
            rewriter = self._rewriters[0]
            if has_tags and isinstance(rewriter, FlvToFragments):
                tags = [tag for chunk in some for tag in chunk.tags]
                runs = (tags[begin : begin + TAGS_AT_ONCE] for begin in range(0, len(tags), TAGS_AT_ONCE))
                await self._publish(0, map(rewriter.receive_tags, runs))
            else:
                await self.push_data(0, b"".join([chunk.data for chunk in some]))

    def forget(self, video_track: int) -> None:
        """Forget what has come of a further video track, since another stream of it follows."""
        self._rewriters[video_track] = self._make_rewriter()
        self._gate.forget(video_track)

    async def push_data(self, video_track: int, data: bytes) -> None:
        """Take the next bytes of a video track, or of the main one with its sound.

        Raises:
            MediaError: they can't be read.
            CadenceError: the samples don't come as they should.
            FurtherVideoTracksError: either is so of a further video track.
        """
        rewriter, most = self._rewriters[video_track], self._portion_bytes
        portions = (data[begin : begin + most] for begin in range(0, len(data), most))
        await self._publish(video_track, map(rewriter.receive_data, portions))

    async def _publish(self, video_track: int, steps: Iterable[Sequence[InitSegment | Fragment]]) -> None:
        """Take what comes of reading a video track, step by step."""
        found: list[IndexedFragment] = []
        budget = StepBudget()
        # What one track's fragment releases of another one comes before that one's next.
        async with self._turn:
            try:
                for events in steps:
                    for event in events:
                        found += self._read(video_track, event)
                    await budget.spend()
            except MediaError as error:
                raise self._of(self._video[video_track], error) from error
            has_part = await self._bring(found, budget)
            if video_track == 0:
                self._schedule(has_part=has_part)

    def _schedule(self, *, has_part: bool) -> None:
        """Estimate when the next part of the main video track arrives, from the current part's arrival."""
        feed, due = self._video[0].feed, self._published.needed_at
        if due is not None and time.monotonic() >= due:
            feed.looked(whole=has_part)
        self._published.needed_at = feed.due

    def _read(self, video_track: int, event: InitSegment | Fragment) -> list[IndexedFragment]:
        """Take an event of a video track's stream; give what can be played then."""
        if isinstance(event, InitSegment):
            (track,) = event.tracks
            output = self._video[video_track] if track.handler == b"vide" else self._sound
            self._track_ids[video_track, track.track_id] = output
            output.timescale = track.timescale
            if output.init != event.data:
                output.init = event.data
                output.feed.begin(event)
            return []
        output = self._track_ids[video_track, event.track_id]
        return self._gate.push(IndexedFragment(output.track, output.timescale, event))

    async def _bring(self, found: Sequence[IndexedFragment], budget: StepBudget) -> bool:
        """Bring fragments to their feeds, from where all begin; tell whether the main one has a part."""
        zero = self._gate.time
        if zero is None:
            return False
        fragments = [(self._outputs[one.track], self._moved(one, zero)) for one in found]
        now, has_part = Instant.now(), False
        for output, fragment in fragments[-len(self._outputs) :]:
            # Of what comes at once, only the newest tells when it was made.
            self._clock.observe(_end(fragment) / output.timescale, now)
        for output, fragment in fragments:
            await budget.spend()
            output.deadline = self._loop.time() + self._run.limits.stall_seconds
            try:
                if output.feed.add(fragment, now):
                    self._run.flowing = True
                    has_part = has_part or output is self._video[0]
            except (MediaError, CadenceError) as error:
                raise self._of(output, error) from error
        return has_part

    def _of(self, output: _CopyOutput, error: Exception) -> Exception:
        """Say that an error is a further video track's, where it is: the others can go on without it."""
        return FurtherVideoTracksError(f"its {output.name}: {error}") if output.track > 0 else error

    def _moved(self, one: IndexedFragment, zero: Fraction) -> Fragment:
        """Move a fragment to the channel's times: ``zero`` seconds of the stream are its start."""
        output, fragment = self._outputs[one.track], one.fragment
        if output.shift is None:
            output.shift = round(self._start * output.timescale) - round(zero * output.timescale)
        time = fragment.base_media_decode_time + output.shift
        return Fragment(fragment.track_id, fragment.sequence_number, time, fragment.samples, fragment.data)


def _end(fragment: Fragment) -> int:
    return fragment.base_media_decode_time + total_duration(fragment.samples)
