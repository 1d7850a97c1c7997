"""Segments for a DVR that no encoder had to make, and what a folder holds before and after something."""

from __future__ import annotations

import os
import random
import stat
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

from media.mp4.codecs.sample_entry import parse_sample_entry
from media.mp4.fragments.fragments import write_fragment
from media.mp4.fragments.moof import Sample
from packager.dvr.disk_rendition import DvrFolder
from packager.window.model import LivePart, LiveSegment, Timeline, join_parts
from tests.conformance.handfed import NUMBER, Track

PARTS = 3
SAMPLES = 4
"""Of a part; a segment is a second."""


def timeline_of(track: Track, number: int) -> Timeline:
    """Give a timeline that begins with a number, with an encoder's own init segment."""
    entry = parse_sample_entry(track.init.tracks[0].sample_entries[0])
    return Timeline(number, track.init.data, entry)


def make_segments(
    track: Track, count: int, *, first: int = NUMBER, breaks: Sequence[int] = ()
) -> list[LiveSegment]:
    """Make segments of a second each, of different lengths in bytes.

    Args:
        track: whose init segment they have.
        count: how many.
        first: number of the first one, whose date it is, too.
        breaks: numbers with which another timeline begins.
    """
    (described,) = track.init.tracks
    ticks = described.timescale // (PARTS * SAMPLES)
    timeline, zero, found = timeline_of(track, first), first, list[LiveSegment]()
    for number in range(first, first + count):
        if number in breaks:
            timeline, zero = timeline_of(track, number), number
        parts, time = [], (number - zero) * ticks * PARTS * SAMPLES
        for index in range(PARTS):
            size = 20 + (number - first) + index
            samples = [Sample(ticks, size, is_sync=not at) for at in range(SAMPLES)]
            data = write_fragment(
                sequence_number=number - first + 1,
                track_id=described.track_id,
                base_media_decode_time=time,
                samples=samples,
                data=random.Random(f"{number}.{index}").randbytes(size * SAMPLES),
            )
            time += ticks * SAMPLES
            parts.append(LivePart(data, Fraction(1, PARTS), independent=not index))
        segment = LiveSegment(
            number,
            timeline,
            (8 * number + 1, 8),
            tuple(parts),
            discontinuity=number in breaks,
            duration=Fraction(ticks * PARTS * SAMPLES, described.timescale),
        )
        found.append(join_parts(segment))
    return found


def store(path: Path, segments: Sequence[LiveSegment]) -> None:
    """Let a channel's process store them, and end."""
    folder, left = DvrFolder(path), 0
    folder.load()
    for segment in segments:
        folder.store(segment, left)
        left += segment.discontinuity


def contents(path: Path) -> dict[str, tuple[str, bytes]]:
    """Give what each thing in a folder is, and what is in it, without following links."""
    found = {}
    for place in sorted(path.rglob("*")):
        mode, name = place.lstat().st_mode, str(place.relative_to(path))
        if stat.S_ISREG(mode):
            found[name] = ("file", place.read_bytes())
        elif stat.S_ISLNK(mode):
            found[name] = ("link", os.readlink(place).encode())
        else:
            found[name] = (stat.filemode(mode)[0], b"")
    return found
