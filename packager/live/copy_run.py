"""Brings a published stream into a channel's windows without any ffmpeg, until the stream ends.

The publisher's own frames and times go out, of each video track that it sends beside the main one, too. Where
the stream can't be cut any further, the run ends as an ffmpeg's does, and the next one begins with the next
key frame, behind a discontinuity.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import NoReturn

from media.errors import MediaError
from media.mp4.fragments.fragments import Fragment, InitSegment
from media.mp4.fragments.moof import total_duration
from media.packets import Packet
from media.stream_reader import CLOCK_RATE, StreamChunk
from packager.concurrency import LAST_LOOK_SECONDS, running_tasks, wait_within
from packager.live.common_key_frame import SOUND, CommonKeyFrameGate, IndexedFragment
from packager.live.rendition_output import Feed
from packager.live.run import ChannelRun, SourceEndedError
from packager.reader_guard import ReaderGuard
from packager.segment.part_packer import CadenceError
from packager.sources.bursts import PacketPacer, release_held
from packager.sources.copy_probe import Copier, copier_of
from packager.sources.demuxing import BURSTS_AWAITED
from packager.sources.further_video_tracks import FurtherVideoTracksError
from packager.sources.publication import PACKETS_AT_ONCE
from packager.sources.published_source import PublishedSource
from packager.step_budget import StepBudget
from packager.window.program_date_time import Instant, WallClock


class CopyRun(ChannelRun):
    """The copying of one stream; ``play`` is called once.

    The arguments are those of ``Run``; the first feed takes the main video track, the last one the sound, and
    those between them the further video tracks.
    """

    @property
    def stall_seconds(self) -> float:
        """How long a track may pause: two pictures at least where these stand still for seconds."""
        seen, stall_seconds = self._source.seen, self.limits.stall_seconds
        return stall_seconds if seen is None else max(stall_seconds, 2 * float(seen.picture_frame))

    @property
    def is_still_alone(self) -> bool:
        """Whether the stream is nothing but pictures that stand still."""
        return not self._source.has_audio

    @property
    def further(self) -> tuple[int, ...]:
        """The numbers of the further video tracks."""
        return self._source.further

    async def play(
        self,
        published: PublishedSource,
        start: Fraction,
        clock: WallClock,
        oldest: float,
        part_target: Fraction,
    ) -> str:
        """Copy the stream that is on air to its end, and leave all windows at the same number.

        Args:
            start: media time in seconds that the first picture gets.
            clock: maps the run's media times to dates.
            oldest: monotonic time; earlier data isn't played.
            part_target: seconds; media of two parts may come at once, and more is published evenly.

        Returns:
            The reason of its end in one line.
        """
        reason = "it ended"
        try:
            with ReaderGuard(published.channel):
                copier = copier_of(published.received_container, self.limits.source) or Copier()
                taker = _Taker(self, published, copier, (start, float(2 * part_target)), clock)
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
        """Copy the stream to its end, or until a track stops."""
        loop, limits = asyncio.get_running_loop(), self.limits
        following = (
            self._follow(published, taker, index, track, oldest)
            for index, track in enumerate(self._source.further, 1)
        )
        async with running_tasks(published.feed_chunks(taker, oldest), taker.pace(), *following) as (
            giving,
            *others,
        ):
            while not giving.done():
                left = taker.deadline - loop.time()
                # If this process stood still, data that came meanwhile is still to be read.
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
            await taker.finish()
        self.supply_ended = True

    async def _follow(
        self, published: PublishedSource, taker: _Taker, index: int, track: int, oldest: float
    ) -> None:
        """Copy a further video track to its end, without the rest of a former stream."""
        while (further := published.further_video_tracks.get(track)) is not None:
            branch = further.branch(oldest)
            try:
                while chunks := await branch.read():
                    await taker.push_track(index, chunks)
            finally:
                branch.receive_eof()
            if taker.has_begun or branch.has_overflown:
                return
            taker.forget(index)


class _CopyOutput:
    """One track on its way to its rendition.

    Attributes:
        name: describes the track in the reason of an end, such as ``sound``.
        track: as in ``IndexedFragment``.
        feed: publishes the track in its window.
        shift: ticks from the stream's times to those of the channel; None before it is known.
        timescale: ticks per second; 0 before its init segment.
        deadline: when more of the track must have come, by the event loop's clock.
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
    """Reads a stream in place of ffmpeg, and passes its tracks to their feeds.

    Args:
        published: asked for more data when needed.
        copier: writes the main stream as fragments.
        times: media time in seconds that the first picture gets, and seconds of media that may come at once.
        clock: maps media times to dates.
    """

    def __init__(
        self,
        run: CopyRun,
        published: PublishedSource,
        copier: Copier,
        times: tuple[Fraction, float],
        clock: WallClock,
    ) -> None:
        self._run = run
        self._published = published
        self._start, self._most_at_once = times
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        *video, sound = run.feeds
        self._copiers = [copier, *(Copier() for _ in video[1:])]
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
        self._fault = ""
        # Seconds of media that come at once, as was known when the newest came.
        self._burst = 0.0
        self._pacer = PacketPacer()
        self._paced = asyncio.Event()

    @property
    def has_begun(self) -> bool:
        """Whether the key frame is known at which playing begins."""
        return self._gate.time is not None

    @property
    def deadline(self) -> float:
        """When more of every track must have come, by the event loop's clock."""
        return min(map(self._deadline_of, self._outputs))

    def _deadline_of(self, output: _CopyOutput) -> float:
        """Return when more of a track must have come, or of any one if something can stand in for it."""
        if not self._run.can_miss(output.feed):
            return output.deadline
        return max(one.deadline for one in self._outputs)

    def raise_silence(self) -> NoReturn:
        """Raise an error with the track that has been silent for longest.

        Raises:
            FurtherVideoTracksError: it is a further video track.
            SourceEndedError: it is another one.
        """
        output = min(self._outputs, key=self._deadline_of)
        if output.track > 0:
            raise FurtherVideoTracksError(f"its {output.name} stopped")
        raise SourceEndedError(f"its {output.name} stopped")

    def close_stdin(self) -> None:
        """Do nothing: `finish` publishes the samples that wait for the next frame."""

    async def push(self, chunks: Sequence[StreamChunk]) -> None:
        """Take the next chunks of the main video track with its sound; see ``push_track``."""
        self._burst = burst = self._published.burst_seconds or 0.0
        # Pictures of several tracks come together, and go on together; single pictures are no bursts.
        if burst <= self._most_at_once or len(self._video) > 1 or self._run.is_still_alone:
            burst = 0.0
        if not burst and not self._pacer.is_holding:
            await self.push_track(0, chunks)
            return
        budget = StepBudget()
        with self._reading(0):
            for packets in self._copiers[0].packets(chunks):
                self._pacer.push(packets, time.monotonic(), burst)
                await budget.spend()
        # Parts come later than their data, so that they don't show when more data is needed.
        self._published.needed_at = None
        await self._release()
        while self._pacer.held_bytes > self._run.limits.source.ahead_bytes:
            self._paced.clear()
            await self._paced.wait()

    async def pace(self) -> None:
        """Publish the packets that are held back, each when it is due."""
        while True:
            self._paced.clear()
            # Data that comes meanwhile may bring the release forward.
            await wait_within(self._pacer.wait(time.monotonic()), self._paced.wait())
            await self._release()

    async def finish(self) -> None:
        """Publish all packets that are held back, as nothing follows, each when it is due."""
        with self._reading(0):
            last = self._copiers[0].last_packets()
        if self._pacer.is_holding:
            self._pacer.push(last, time.monotonic(), self._burst)
            last = ()
        await release_held(self._pacer.wait, self._release, lambda: self._published.hurries)
        async with self._turn:
            await self._copy([*self._pacer.flush(), *last])
            for number, copier in enumerate(self._copiers):
                with self._reading(number):
                    found = [one for event in copier.finish() for one in self._read(number, event)]
                await self._bring(found, StepBudget())

    @contextlib.contextmanager
    def _reading(self, video_track: int) -> Iterator[None]:
        """Mark errors of a video track's stream with the track."""
        try:
            with ReaderGuard(self._published.channel):
                yield
        except MediaError as error:
            raise self._of(self._video[video_track], error) from error

    async def _release(self) -> None:
        async with self._turn:
            await self._copy(self._pacer.due(time.monotonic()))
        self._paced.set()

    async def _copy(self, packets: Sequence[Packet]) -> None:
        """Publish packets of the main video track and the sound; see ``push_track``."""
        budget, copier = StepBudget(), self._copiers[0]
        for begin in range(0, len(packets), PACKETS_AT_ONCE):
            found: list[IndexedFragment] = []
            self._note_fault()
            with self._reading(0):
                for event in copier.push(packets[begin : begin + PACKETS_AT_ONCE]):
                    found += self._read(0, event)
            await self._bring(found, budget)

    def forget(self, video_track: int) -> None:
        """Forget what has come of a further video track, since another stream of it follows."""
        self._copiers[video_track] = Copier()
        self._gate.forget(video_track)

    async def push_track(self, video_track: int, chunks: Sequence[StreamChunk]) -> None:
        """Take the next chunks of a video track.

        Raises:
            MediaError: they can't be copied.
            CadenceError: the samples don't come as they should.
            FurtherVideoTracksError: either is so of a further video track.
        """
        found: list[IndexedFragment] = []
        budget = StepBudget()
        # Fragments of another track that this one releases are published before that track's next one.
        async with self._turn:
            with self._reading(video_track):
                for events in self._copiers[video_track].steps(chunks):
                    for event in events:
                        found += self._read(video_track, event)
                    await budget.spend()
            has_part = await self._bring(found, budget)
            if video_track == 0:
                self._note_fault()
                self._schedule(has_part=has_part)

    def _note_fault(self) -> None:
        """Note an error of the times of a stream that is demuxed here."""
        if (fault := self._copiers[0].fault) and fault != self._fault:
            self._fault = fault
            self._published.warn(fault)

    def _schedule(self, *, has_part: bool) -> None:
        """Estimate when the next part of the main video track arrives, from the current part's arrival."""
        feed, due = self._video[0].feed, self._published.needed_at
        if due is not None and time.monotonic() >= due:
            feed.looked(whole=has_part)
        self._published.needed_at = feed.due

    def _read(self, video_track: int, event: InitSegment | Fragment) -> list[IndexedFragment]:
        """Read an event of a video track's stream; return the fragments that can be played then."""
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
        """Pass fragments to their feeds; return whether the main track has published a part."""
        zero = self._gate.time
        if zero is None:
            return False
        for event in self._copiers[0].take_events():
            self._published.on_event(event, Fraction(event.time, CLOCK_RATE) - zero)
        fragments = [(self._outputs[one.track], self._moved(one, zero)) for one in found]
        now, has_part = Instant.now(), False
        for output, fragment in fragments[-len(self._outputs) :]:
            # Of fragments that arrive together, only the newest shows when it was made.
            self._clock.observe(_end(fragment) / output.timescale, now)
        patience = max(self._run.stall_seconds, BURSTS_AWAITED * self._burst)
        for output, fragment in fragments:
            await budget.spend()
            output.deadline = self._loop.time() + patience
            try:
                with ReaderGuard(self._published.channel):
                    if output.feed.add(fragment, now):
                        self._run.flowing = True
                        has_part = has_part or output is self._video[0]
            except (MediaError, CadenceError) as error:
                raise self._of(output, error) from error
        self._run.stand_in(now)
        return has_part

    def _of(self, output: _CopyOutput, error: Exception) -> Exception:
        """Return the error, marked if it is of a further video track, without which the others can go on."""
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
