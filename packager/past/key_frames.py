"""Key frames of a channel's past, each as a movie of one picture. Media are read by the caller."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

from media.errors import TooLargeError, UnsupportedError
from media.mp4.fragments.fragments import write_fragment
from media.mp4.fragments.moof import Sample
from packager.past.segment_samples import TOLERANCE, Read, TrackInit, locate_samples
from packager.window.model import LiveSegment

MAX_KEY_FRAME_BYTES = 8 << 20
"""Largest key frame that is decoded for a picture of the past."""

MOST_GAPS = 1000
"""Most segments without media that are passed over, from a moment back to the picture before."""


class KeyFrame(NamedTuple):
    """A key frame of a segment.

    Attributes:
        place: position among the key frames of the segment, from 0 on.
        date: seconds since the epoch at which it is shown.
        movie: an MP4 of this picture alone.
    """

    place: int
    date: Fraction
    movie: bytes


def segment_before(listed: Sequence[LiveSegment], behind: int) -> LiveSegment | None:
    """Return the last segment with media before a position in a list; None where there is none nearby."""
    for index in range(behind - 1, max(behind - MOST_GAPS, 0) - 1, -1):
        if not listed[index].gap:
            return listed[index]
    return None


def read_key_frame(read: Read, segment: LiveSegment, moment: Fraction) -> KeyFrame:
    """Read the last key frame of a segment that is shown at a moment or before, else its first one.

    Args:
        moment: seconds since the epoch.

    Raises:
        UnsupportedError: the segment has no key frame.
        MalformedError: the segment is damaged.
        TooLargeError: the key frame is too large.
        OSError: the segment can't be read.
    """
    if segment.timeline is None:
        raise UnsupportedError("a segment without media")
    track = TrackInit.read(segment.timeline.init)
    timescale = track.track.timescale
    first: int | None = None
    found: list[tuple[Fraction, int, Sample, int]] = []
    for time, samples, position in locate_samples(read, segment, track.source_id, 0):
        for sample in samples:
            shown = time + sample.composition_offset
            first = shown if first is None else first
            date = segment.program_date_time + Fraction(shown - first, timescale)
            if sample.is_sync and (not found or date - TOLERANCE < moment):
                found.append((date, time, sample, position))
            time += sample.duration
            position += sample.size
    if not found:
        raise UnsupportedError("a segment without a key frame")
    date, time, sample, position = found[-1]
    if sample.size > MAX_KEY_FRAME_BYTES:
        raise TooLargeError(f"a key frame of {sample.size} bytes: more than {MAX_KEY_FRAME_BYTES}")
    fragment = write_fragment(
        sequence_number=1,
        track_id=track.source_id,
        base_media_decode_time=time,
        samples=(sample,),
        data=read(position, sample.size),
    )
    return KeyFrame(len(found) - 1, date, segment.timeline.init + fragment)
