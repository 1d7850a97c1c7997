"""Finds the first key frame that all video tracks of a published stream have: they begin there together."""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator
from fractions import Fraction

from msgspec import Struct
from msgspec.structs import replace

from media.mp4.fragments.fragments import Fragment
from media.stream_reader import CLOCK_RATE
from packager.segment.limits import SegmentLimits
from packager.segment.part_packer import CadenceError
from packager.sources.further_video_tracks import NEAR_TICKS, FurtherVideoTracksError, has_near

SOUND = -1
"""The index that stands for the sound, in place of a video track's index."""


class IndexedFragment(Struct, frozen=True):
    """A fragment of one track.

    Attributes:
        track: index of the video track, 0 for the main one, or ``SOUND``.
        timescale: ticks per second of its times.
    """

    track: int
    timescale: int
    fragment: Fragment


class CommonKeyFrameGate:
    """Holds back a stream's fragments until all video tracks have had a key frame at the same time.

    Args:
        limits: how many samples and bytes of a track may be held back.

    Attributes:
        time: when that key frame is shown, in seconds of the stream; None before it is known.
    """

    def __init__(self, video_tracks: int, limits: SegmentLimits) -> None:
        self._matches = _KeyFrameMatches(video_tracks - 1)
        self._most_bytes, self._most_samples = limits.held_bytes, limits.held_samples * video_tracks
        self._held: list[IndexedFragment] = []
        self._bytes = self._samples = 0
        self.time: Fraction | None = None
        self._failure = CadenceError if video_tracks == 1 else FurtherVideoTracksError

    def push(self, one: IndexedFragment) -> list[IndexedFragment]:
        """Add a fragment; return those that can be played, of the main video track from that key frame on.

        Raises:
            CadenceError: more than the limits came before such a key frame.
            FurtherVideoTracksError: the same, of a stream with several video tracks.
        """
        if self.time is not None:
            return [one]
        self._held.append(one)
        self._bytes += len(one.fragment.data)
        self._samples += len(one.fragment.samples)
        if one.track != SOUND:
            found = [time for _, key in _keys(one) for time in self._matches.add(one.track, key)]
            self.time = Fraction(min(found), CLOCK_RATE) if found else None
        if self.time is None:
            if self._bytes > self._most_bytes or self._samples > self._most_samples:
                raise self._failure("no key frame came with which all video tracks can begin")
            return []
        held, self._held = self._held, []
        return list(_from_start(held, self.time))

    def forget(self, track: int) -> None:
        """Forget the held fragments of a further video track, since a new stream of that track follows."""
        self._matches.forget(track)
        self._held = [item for item in self._held if item.track != track]
        self._bytes = sum(len(item.fragment.data) for item in self._held)
        self._samples = sum(len(item.fragment.samples) for item in self._held)


class _KeyFrameMatches:
    """Finds the key frames of the main video track that all further video tracks have, too.

    Each key frame is looked up in sorted times once, and each of the main one is found once for each further
    track: what comes may be nothing but key frames, and none of them near another one.

    Args:
        further: how many further video tracks there are.
    """

    def __init__(self, further: int) -> None:
        self._missing: dict[int, int] = {}
        self._keys: list[list[int]] = [[] for _ in range(further)]
        self._unmatched: list[list[int]] = [[] for _ in range(further)]

    def add(self, track: int, key: int) -> list[int]:
        """Add a video track's key frame; return the main track's key frames that all tracks have then."""
        return self._add_main(key) if track == 0 else self._add_further(track - 1, key)

    def _add_main(self, key: int) -> list[int]:
        if key not in self._missing:
            unmatched = [
                times
                for times, own in zip(self._unmatched, self._keys, strict=True)
                if not has_near(own, key)
            ]
            for times in unmatched:
                bisect.insort(times, key)
            self._missing[key] = len(unmatched)
        return [] if self._missing[key] else [key]

    def _add_further(self, index: int, key: int) -> list[int]:
        bisect.insort(self._keys[index], key)
        unmatched = self._unmatched[index]
        begin = bisect.bisect_left(unmatched, key - NEAR_TICKS)
        end = bisect.bisect_right(unmatched, key + NEAR_TICKS)
        matched = unmatched[begin:end]
        del unmatched[begin:end]
        for time in matched:
            self._missing[time] -= 1
        return [time for time in matched if not self._missing[time]]

    def forget(self, track: int) -> None:
        """Forget the key frames of a further video track."""
        unmatched = set(self._unmatched[track - 1])
        for time in self._missing:
            self._missing[time] += time not in unmatched
        self._keys[track - 1] = []
        self._unmatched[track - 1] = sorted(self._missing)


def _from_start(held: Iterable[IndexedFragment], start: Fraction) -> Iterator[IndexedFragment]:
    """Leave out what the main video track has before its start; the others are cut where it is cut."""
    has_begun = False
    for item in held:
        if item.track != 0 or has_begun:
            yield item
        elif (index := _index_of_key(item, start)) is not None:
            has_begun = True
            yield replace(item, fragment=_behind(item.fragment, index))


def _index_of_key(item: IndexedFragment, start: Fraction) -> int | None:
    found = (index for index, shown in _keys(item) if shown >= start * CLOCK_RATE)
    return next(found, None)


def _behind(fragment: Fragment, index: int) -> Fragment:
    """Leave out the first samples of a fragment."""
    left_out = fragment.samples[:index]
    return fragment._replace(
        base_media_decode_time=fragment.base_media_decode_time + sum(one.duration for one in left_out),
        samples=fragment.samples[index:],
        data=fragment.data[sum(one.size for one in left_out) :],
    )


def _keys(item: IndexedFragment) -> Iterator[tuple[int, int]]:
    """Yield the index of each key frame in a fragment, and when it is shown, in ticks of ``CLOCK_RATE``."""
    time = item.fragment.base_media_decode_time
    for index, sample in enumerate(item.fragment.samples):
        if sample.is_sync:
            # Without rounding: the pictures of all copied streams have times of this clock.
            yield index, (time + sample.composition_offset) * CLOCK_RATE // item.timescale
        time += sample.duration
