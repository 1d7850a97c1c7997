"""Finds the first key frame that all video tracks of a published stream have: they begin there together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction

from msgspec import Struct
from msgspec.structs import replace

from media.mp4.fragments import Fragment
from packager.segment.keyframe_segmenter import NEAR
from packager.segment.limits import SegmentLimits
from packager.segment.part_packer import CadenceError
from packager.sources.further_video_tracks import FurtherVideoTracksError

SOUND = -1
"""What is given in place of a video track's index for the sound."""


class TrackFragment(Struct, frozen=True):
    """A fragment of one track.

    Attributes:
        track: index of the video track, 0 for the main one, or ``SOUND``.
        timescale: ticks per second of its times.
        fragment: the samples.
    """

    track: int
    timescale: int
    fragment: Fragment


class CommonKeyFrameGate:
    """Holds back what comes of a stream until all video tracks have had a key frame at the same time.

    Args:
        video_tracks: how many there are.
        limits: what may be held back of each.

    Attributes:
        time: when that key frame is shown, in seconds of the stream; None before it is known.
    """

    def __init__(self, video_tracks: int, limits: SegmentLimits) -> None:
        self._keys: list[list[Fraction]] = [[] for _ in range(video_tracks)]
        self._most_bytes, self._most_samples = limits.held_bytes, limits.held_samples * video_tracks
        self._held: list[TrackFragment] = []
        self._bytes = self._samples = 0
        self.time: Fraction | None = None
        self._failure = CadenceError if video_tracks == 1 else FurtherVideoTracksError

    def receive(self, one: TrackFragment) -> list[TrackFragment]:
        """Take the next fragment; give what can be played, the main video track from that key frame on.

        Raises:
            CadenceError: too much comes before the video can begin.
            FurtherVideoTracksError: the same, of more than one.
        """
        if self.time is not None:
            return [one]
        self._held.append(one)
        self._bytes += len(one.fragment.data)
        self._samples += len(one.fragment.samples)
        if one.track != SOUND:
            self._keys[one.track] += [shown for _, shown in _keys(one)]
            self.time = self._find()
        if self.time is None:
            if self._bytes > self._most_bytes or self._samples > self._most_samples:
                raise self._failure("no key frame came with which all video tracks can begin")
            return []
        held, self._held = self._held, []
        return list(_from_start(held, self.time))

    def forget(self, track: int) -> None:
        """Forget what has come of a video track, since another stream of it follows."""
        self._keys[track].clear()
        self._held = [item for item in self._held if item.track != track]

    def _find(self) -> Fraction | None:
        for key in self._keys[0]:
            if all(any(abs(key - own) <= NEAR for own in keys) for keys in self._keys[1:]):
                return key
        return None


def _from_start(held: Iterable[TrackFragment], start: Fraction) -> Iterator[TrackFragment]:
    """Leave out what the main video track has before its start; the others are cut where it is cut."""
    has_begun = False
    for item in held:
        if item.track != 0 or has_begun:
            yield item
        elif (index := _index_of_key(item, start)) is not None:
            has_begun = True
            yield replace(item, fragment=_behind(item.fragment, index))


def _index_of_key(item: TrackFragment, start: Fraction) -> int | None:
    found = (index for index, shown in _keys(item) if shown >= start)
    return next(found, None)


def _behind(fragment: Fragment, index: int) -> Fragment:
    """Leave out the first samples of a fragment."""
    left_out = fragment.samples[:index]
    return fragment._replace(
        base_media_decode_time=fragment.base_media_decode_time + sum(one.duration for one in left_out),
        samples=fragment.samples[index:],
        data=fragment.data[sum(one.size for one in left_out) :],
    )


def _keys(item: TrackFragment) -> Iterator[tuple[int, Fraction]]:
    """Yield the index of each key frame in a fragment, and the time in seconds at which it is shown."""
    time = item.fragment.base_media_decode_time
    for index, sample in enumerate(item.fragment.samples):
        if sample.is_sync:
            yield index, Fraction(time + sample.composition_offset, item.timescale)
        time += sample.duration
