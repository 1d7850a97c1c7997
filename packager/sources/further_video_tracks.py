"""Video tracks beside a publication's main one (multitrack video): the same scene in other sizes."""

from __future__ import annotations

import asyncio
import bisect
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

from media.errors import MediaError
from media.flv.stream_reader import PacketDivider
from media.mp4.codecs.sample_entry import parse_sample_entry
from media.mp4.fragments.fragments import Fragment, InitSegment
from media.muxers.fragment_muxer import FragmentMuxer
from media.packets import Packet
from media.stream_reader import CLOCK_RATE
from packager.ffmpeg.ladder import Rung
from packager.reader_guard import ReaderGuard
from packager.segment.keyframe_segmenter import NEAR
from packager.sources.gop_cache import GopCache
from packager.sources.limits import SourceLimits
from packager.sources.tee_branch import TeeBranch
from packager.step_budget import StepBudget

NEAR_TICKS = int(NEAR * CLOCK_RATE)
"""Ticks by which key frames differ at most that are the same moment's in two video tracks."""


class FurtherVideoTracksError(Exception):
    """The video tracks beside a publication's main one can't be a channel's renditions; the text says why."""


class FurtherVideoTrack:
    """One further video track; it goes to branches, and what is newest is kept for those to come.

    Args:
        kept_seconds: seconds that are kept for who takes it from its beginning, as far as possible.
    """

    def __init__(self, limits: SourceLimits, kept_seconds: float) -> None:
        self._divider = PacketDivider()
        self._gop_cache = GopCache(0.0, replace(limits, gop_bytes=limits.further_gop_bytes), kept_seconds)
        self._ahead_bytes = limits.further_track_bytes
        self._branches = set[TeeBranch]()

    @property
    def signature(self) -> bytes:
        """The decoder's configuration."""
        return self._divider.signature

    def push(self, packets: Sequence[Packet], now: float) -> None:
        """Take the next packets, which came at this moment of the monotonic clock."""
        self._branches = {branch for branch in self._branches if not branch.has_ended}
        for chunk in self._divider.push(packets):
            if chunk.changes:
                self.end()
            self._gop_cache.push(chunk, now)
            for branch in self._branches:
                branch.push(chunk)

    def branch(self, oldest: float) -> TeeBranch:
        """Add a reader of the track, from the first access point that came at ``oldest`` or later."""
        branch = TeeBranch(self._gop_cache.beginning(oldest), self._ahead_bytes)
        self._branches.add(branch)
        return branch

    def end(self) -> None:
        """End all branches: nothing more comes, or nothing that a decoder could go on with."""
        for branch in self._branches:
            branch.receive_eof()
        self._branches.clear()


async def find_renditions(
    tracks: Mapping[int, FurtherVideoTrack],
    rungs: Sequence[Rung],
    keys: Sequence[Fraction],
    limits: SourceLimits,
) -> tuple[int, ...]:
    """Find the video tracks that are a channel's renditions beside the source's own.

    Args:
        tracks: the publication's further video tracks, by number.
        keys: when key frames of the main video track were shown, in seconds of the stream.
        limits: how much of each further track is inspected, and for how long it is awaited.

    Returns:
        The numbers of their tracks, in the order of the renditions.

    Raises:
        FurtherVideoTracksError: one is missing, or has its key frames at other times than the main one.
    """
    if not rungs:
        return ()
    views = {track: SeenVideoTrack(limits.seen_keys) for track in tracks}
    try:
        with ReaderGuard("a further video track"):
            async with asyncio.timeout(limits.seen_grace_seconds):
                for track, further in tuple(tracks.items()):
                    await views[track].look(further, keys[-1])
    except TimeoutError:
        pass  # the frames that came in time decide
    except MediaError as error:
        raise FurtherVideoTracksError(str(error)) from error
    found, budget = list[int](), StepBudget()
    for rung in rungs:
        fitting = [track for track, view in views.items() if min(view.size) == rung.height]
        if not fitting:
            raise FurtherVideoTracksError(f"no track has a picture of {rung.height} lines, for {rung.name}")
        for track in fitting:
            await budget.spend()
            if views[track].has_all(keys):
                found.append(track)
                break
        else:
            at = f"track {fitting[0]} ({rung.name})"
            raise FurtherVideoTracksError(f"{at} has its key frames at other times than the first one")
    return tuple(found)


class SeenVideoTrack:
    """Observations of a further video track.

    Args:
        most_keys: how many of its key frames are looked at.

    Attributes:
        size: width and height in pixels; 0 before they are known.
    """

    def __init__(self, most_keys: int) -> None:
        self._most_keys = most_keys
        self.size = (0, 0)
        self._keys: list[int] = []
        self._newest = 0

    async def look(self, track: FurtherVideoTrack, until: Fraction) -> None:
        """Observe a track up to a time of the stream, or until it has had that many key frames.

        Raises:
            MediaError: the track can't be copied.
        """
        muxer, branch, budget = FragmentMuxer(), track.branch(-math.inf), StepBudget()
        try:
            while self._newest < until * CLOCK_RATE and (chunks := await branch.read()):
                for chunk in chunks:
                    await budget.spend()
                    for event in muxer.push(chunk.packets):
                        self.push(event)
                    if len(self._keys) >= self._most_keys:
                        return
        finally:
            branch.receive_eof()

    def push(self, event: InitSegment | Fragment) -> None:
        """Add the next event of the track."""
        if isinstance(event, InitSegment):
            entry = parse_sample_entry(event.tracks[0].sample_entries[0])
            self.size = entry.width, entry.height
            return
        time = event.base_media_decode_time
        for sample in event.samples:
            self._newest = time + sample.composition_offset
            if sample.is_sync:
                bisect.insort(self._keys, self._newest)
            time += sample.duration

    def has_all(self, keys: Sequence[Fraction]) -> bool:
        """Return whether the track has a key frame wherever the main one has, as far as both were seen."""
        if not self._keys:
            return False
        begin, end = self._keys[0] - NEAR_TICKS, self._newest + NEAR_TICKS
        both = [key for key in (round(key * CLOCK_RATE) for key in keys) if begin <= key <= end]
        return bool(both) and all(has_near(self._keys, key) for key in both)


def has_near(times: Sequence[int], time: int) -> bool:
    """Return whether one of the times, sorted ticks, is that of the same moment as another one."""
    index = bisect.bisect_left(times, time - NEAR_TICKS)
    return index < len(times) and times[index] <= time + NEAR_TICKS
