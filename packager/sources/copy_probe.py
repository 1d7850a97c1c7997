"""Looks at the first seconds of a published stream whose picture and sound can go out without any ffmpeg.

A channel copies by itself where its ladder is nothing but the source's own picture, or where the publisher
sends each rendition of it, and where a reader here gives the samples of the stream's container and codecs.
Anything else is inspected and played by ffmpeg.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Protocol

from media.errors import MediaError
from media.flv.flv_to_fragments import FlvToFragments
from media.mp4.fragments import Fragment, InitSegment
from media.mp4.sample_entry import SampleEntry, parse_sample_entry
from media.ts.ts_to_fragments import TransportToFragments
from packager.ffmpeg.ladder import SOURCE_RUNG, Rung
from packager.segment.keyframe_cadence import KeyframePattern
from packager.sources.further_video_tracks import FurtherVideoTracksError, find_renditions
from packager.sources.limits import DEFAULT_LIMITS, SourceLimits
from packager.sources.published_source import PublishedSource
from packager.sources.source import Source, usual_frame_rate
from packager.step_budget import StepBudget


class FragmentRewriter(Protocol):
    """Rewrites a stream as fragmented MP4, without I/O."""

    @property
    def told_frame_rate(self) -> Fraction | None:
        """Pictures per second, as the stream tells it; None where it doesn't."""

    def receive_data(self, data: bytes) -> list[InitSegment | Fragment]:
        """Take the next bytes; give the init segment of each track, and fragments of single tracks."""


REWRITERS: Mapping[str, Callable[[SourceLimits], FragmentRewriter]] = {
    "flv": lambda limits: FlvToFragments(limits.pump.readers.flv),
    "mpegts": lambda limits: TransportToFragments(limits.transport),
}
"""The function that rewrites a container, by ffmpeg's name of the container."""

CODEC_NAMES = {
    b"avc1": "h264",
    b"hvc1": "hevc",
    b"av01": "av1",
    b"vp09": "vp9",
    b"mp4a": "aac",
    b"Opus": "opus",
    b"fLaC": "flac",
    b"ac-3": "ac3",
    b"ec-3": "eac3",
}
"""ffmpeg's names of codecs, by the type of their sample entries."""

SEEN_KEY_FRAMES = 3
"""Key frames from which it is known how often they come: two groups of pictures, or a view of seconds."""

FIRST_KEY_FRAMES = 2
"""Key frames that are enough where nothing speaks against all groups being like the first one."""

SHORTEST_FIRST_GROUP = Fraction(1, 2)
"""Seconds of a first group of pictures that may stand for all."""

RATE_ERROR = Fraction(1, 1000)
"""Seconds by which the first group's length is known, where a container has times in milliseconds."""

_GROUP_OF_ENCODER = re.compile(rb"\bkeyint=([0-9]{1,6})\b")
"""The setting in the first picture by x264 and x265: the most frames from key frame to key frame."""

_NOTE_BYTES = 4096
"""How much of that picture is searched for it."""


async def inspect_copied(
    published: PublishedSource, ladder: Sequence[Rung] = (SOURCE_RUNG,), limits: SourceLimits = DEFAULT_LIMITS
) -> Source | None:
    """Look at the stream on air until it is known how it can be cut.

    Args:
        published: the channel's publications; one of them is on air.
        ladder: the channel's video renditions, the source's own picture first.
        limits: how much of it is looked at, and how long that is waited for.

    Returns:
        None where ffmpeg must play it: it has no picture or no sound, or others than can be copied here.
    """
    if len(ladder) > 1 and not published.further_video_tracks:
        return None
    source = await _inspect_main(published, limits)
    if source is None:
        return None
    try:
        keys = () if source.seen is None else source.seen.keys
        further = await find_renditions(published.further_video_tracks, ladder[1:], keys, limits)
    except FurtherVideoTracksError as error:
        published.leave_further_video_tracks(str(error))
        return None
    return replace(source, further=further)


async def _inspect_main(published: PublishedSource, limits: SourceLimits) -> Source | None:
    """Look at the main picture and the sound."""
    make, live = REWRITERS.get(published.received_container), published.live
    branch = published.branch(limits.pump.ahead_bytes, -math.inf)
    if make is None or live is None or branch is None:
        return None
    reader, budget = make(limits), StepBudget()
    seen = SeenStream(reader)
    try:
        async with asyncio.timeout(limits.seen_seconds + limits.seen_grace_seconds):
            while not seen.is_enough(limits):
                if not (data := await branch.read()):
                    return None
                async for portion in budget.portions(data):
                    for event in reader.receive_data(portion):
                        seen.push(event)
    except TimeoutError:
        # Key frames may be so rare, or the stream so slow.
        pass
    except MediaError:
        # What it is instead, and whether it can be played, is found out by ffprobe.
        return None
    finally:
        branch.receive_eof()
    source, began = seen.source(), live.playable_since
    return None if source is None else replace(source, pump=published, copied=published, began=began)


class SeenStream:
    """Observations of a stream: its tracks, its frame rate and its key frames."""

    def __init__(self, reader: FragmentRewriter) -> None:
        self._reader = reader
        self._group_frames = 0
        self._told_group: int | None = None
        self._entries: dict[int, SampleEntry] = {}
        self._timescales: dict[int, int] = {}
        self._keys: list[Fraction] = []
        self._counts: dict[int, int] = {}
        self._ticks: dict[int, int] = {}
        self._picture_ticks: Counter[int] = Counter()

    def push(self, event: InitSegment | Fragment) -> None:
        """Take what comes next."""
        if isinstance(event, InitSegment):
            (track,) = event.tracks
            self._entries[track.track_id] = parse_sample_entry(track.sample_entries[0])
            self._timescales[track.track_id] = track.timescale
            return
        track_id, time = event.track_id, event.base_media_decode_time
        timescale, has_picture = self._timescales[track_id], bool(self._entries[track_id].width)
        for index, sample in enumerate(event.samples):
            if has_picture and sample.is_sync:
                self._see_key(event, index, Fraction(time + sample.composition_offset, timescale))
            time += sample.duration
        if has_picture:
            self._picture_ticks.update(sample.duration for sample in event.samples)
        self._counts[track_id] = self._counts.get(track_id, 0) + len(event.samples)
        self._ticks[track_id] = self._ticks.get(track_id, 0) + time - event.base_media_decode_time

    def _see_key(self, event: Fragment, index: int, shown: Fraction) -> None:
        """Note a key frame: a fragment's sample with this index, shown at a time."""
        if not self._keys:
            begin = sum(sample.size for sample in event.samples[:index])
            noted = _GROUP_OF_ENCODER.search(event.data, begin, begin + _NOTE_BYTES)
            self._told_group = None if noted is None else int(noted[1])
            self._group_frames = -index - self._counts.get(event.track_id, 0)
        elif len(self._keys) == 1:
            self._group_frames += index + self._counts.get(event.track_id, 0)
        self._keys.append(shown)

    def _is_like_first(self) -> bool:
        """Return whether all groups of pictures may be taken to be like the first one, and of its frame rate.

        Encoders that write of their settings may have begun a group because the scene changed: then it is
        shorter than told. And a second is too short to tell 30 frames from 29.97, unless the rate is told.
        """
        if len(self._keys) < FIRST_KEY_FRAMES or self._told_group not in (None, self._group_frames):
            return False
        told, group = self._reader.told_frame_rate, self._keys[1] - self._keys[0]
        return (
            told is not None
            and group >= SHORTEST_FIRST_GROUP
            and usual_frame_rate(told) == told
            and abs(self._group_frames / told - group) <= RATE_ERROR
        )

    def is_enough(self, limits: SourceLimits) -> bool:
        """Return whether all is known that is to be known of a stream, or as much was seen as may be."""
        if len(self._keys) >= limits.seen_keys:
            return True
        seconds = max((self._ticks[one] / self._timescales[one] for one in self._ticks), default=0.0)
        if self._track(has_picture=True) is None or self._track(has_picture=False) is None:
            return seconds >= limits.seen_apart_seconds
        enough = len(self._keys) >= SEEN_KEY_FRAMES or self._is_like_first()
        return enough or seconds >= limits.seen_seconds

    def _track(self, *, has_picture: bool) -> int | None:
        """Find the picture, or the sound, of which there are samples."""
        found = (one for one, entry in self._entries.items() if bool(entry.width) == has_picture)
        return next((one for one in found if self._counts.get(one)), None)

    def source(self) -> Source | None:
        """Say what kind of source it is; None where a picture or sound is missing, or of another codec."""
        picture, sound = self._track(has_picture=True), self._track(has_picture=False)
        if picture is None or sound is None or not self._keys:
            return None
        entry, heard = self._entries[picture], self._entries[sound]
        if entry.kind not in CODEC_NAMES or heard.kind not in CODEC_NAMES:
            return None
        scale = self._timescales[picture]
        rate = Fraction(self._counts[picture] * scale, self._ticks[picture])
        if self._is_like_first():
            rate = self._reader.told_frame_rate or rate
        frame = Fraction(self._ticks[sound], self._counts[sound] * self._timescales[sound])
        return Source(
            frame_rate=usual_frame_rate(rate),
            video_codec=CODEC_NAMES[entry.kind],
            audio_codec=CODEC_NAMES[heard.kind],
            size=(entry.width, entry.height),
            seen=KeyframePattern(
                tuple(sorted(self._keys)), frame, picture_frame=Fraction(self._longest_usual(), scale)
            ),
        )

    def _longest_usual(self) -> int:
        """Return the ticks that nine of ten pictures don't exceed."""
        left = sum(self._picture_ticks.values()) // 10
        for ticks in sorted(self._picture_ticks, reverse=True):
            left -= self._picture_ticks[ticks]
            if left < 0:
                return ticks
        return 0
