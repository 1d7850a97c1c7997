"""The samples of a stored live segment, located by the headers of its parts; media are read by the caller."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from media.errors import MalformedError, MediaError
from media.mp4.boxes import header
from media.mp4.fragments.fragments import FragmentReader, InitSegment, read_track
from media.mp4.fragments.moof import Defaults, Sample, parse_moof
from media.mp4.movie.track_box import TrackFacts
from packager.reader_guard import ReaderGuard
from packager.window.model import LiveSegment

Read = Callable[[int, int], bytes]
"""Returns bytes of a segment, by position and length; it may block."""

SampleRun = tuple[int, tuple[Sample, ...], int]
"""Decode time of the first sample, the samples, and where in the file their bytes begin."""

HEAD_BYTES = 4096
"""How much of a part is read for its ``moof``; a longer one takes another read."""

MAX_MOOF = 1 << 20
"""Longest ``moof`` that is read."""

TOLERANCE = Fraction(1, 1000)
"""Seconds by which a picture may be before the time that names it: addresses round up to milliseconds."""


@dataclass(frozen=True, slots=True)
class TrackInit:
    """The facts of an init segment that all segments of an MP4's track share.

    Attributes:
        source_id: its track's ID in the segments.
    """

    track: TrackFacts
    source_id: int

    @classmethod
    def read(cls, init: bytes) -> TrackInit:
        """Read an init segment; raises MalformedError."""
        reader = FragmentReader()
        reader.receive_data(init)
        (found,) = (event for event in reader.events() if isinstance(event, InitSegment))
        (track,) = found.tracks
        return cls(
            TrackFacts(
                1,
                track.handler,
                track.timescale,
                track.sample_entries[0],
                track.language,
                track.matrix,
                (track.display_width, track.display_height),
            ),
            track.track_id,
        )

    def change_to(self, other: TrackInit, whole: str) -> str:
        """Describe the difference to the facts of later segments."""
        before, after = ("{}x{}".format(*map(round, one.track.display_size)) for one in (self, other))
        if before != after:
            return f"the picture's size changes within {whole}, from {before} to {after}"
        return f"the codec's parameters change within {whole}"


def shown_times(runs: Sequence[SampleRun], shift: int) -> Iterator[int]:
    """Yield the times at which samples are shown."""
    for time_, samples, _ in runs:
        at = time_ + shift
        for sample in samples:
            yield at + sample.composition_offset
            at += sample.duration


def locate_samples(read: Read, segment: LiveSegment, track_id: int, position: int) -> list[SampleRun]:
    """Locate a segment's samples; ``position`` is the offset of its file in the movie's data."""
    runs, offset = [], 0
    for size in _part_sizes(segment):
        time_, samples, at = _part(read, offset, size, track_id)
        runs.append((time_, samples, position + at))
        offset += size
    return runs


@dataclass(frozen=True, slots=True)
class FirstSample:
    """The facts of a segment's first sample.

    Attributes:
        shown: seconds of media time at which it is shown or heard.
        key_frame_end: how many bytes of the segment end with it; 0 where it isn't a key frame.
    """

    shown: Fraction = Fraction(0)
    key_frame_end: int = 0


def first_sample(segment: LiveSegment) -> FirstSample:
    """Read the first sample of a segment in memory; captions and gaps have none.

    Raises:
        MalformedError: the segment is damaged.
    """
    timeline, parts = segment.timeline, segment.parts
    if segment.gap or timeline is None or not timeline.has_map or not parts:
        return FirstSample()
    track, part = read_track(timeline.init), memoryview(parts[0].data)
    time_, samples, position = _part(
        lambda start, size: bytes(part[start : start + size]), 0, len(part), track.track_id
    )
    first = samples[0]
    shown = Fraction(time_ + first.composition_offset, track.timescale)
    is_key_frame = timeline.entry.width and first.is_sync
    return FirstSample(shown, position + first.size if is_key_frame else 0)


def known_first_sample(segment: LiveSegment) -> FirstSample | None:
    """Return the facts of a segment's first sample, as they were noted where it is stored; None: unknown."""
    if segment.stored is not None:
        return FirstSample(segment.stored.presentation_time, segment.stored.key_frame_end)
    try:
        with ReaderGuard("a segment"):
            return None if segment.awaited else first_sample(segment)
    except MediaError:
        return None


def _part_sizes(segment: LiveSegment) -> Sequence[int]:
    if segment.stored is not None:
        return segment.stored.part_sizes
    return [len(part.data) for part in segment.parts]


def _part(read: Read, start: int, size: int, track_id: int) -> SampleRun:
    """Read the ``moof`` of a part; other boxes may precede it."""
    data = read(start, min(size, HEAD_BYTES))
    at = 0
    while True:
        found = header(data, at, size)
        if found.kind == b"moof":
            break
        at = found.end
        if at + 16 > len(data):
            start, size, at = start + at, size - at, 0
            data = read(start, min(size, HEAD_BYTES))
    if found.size > MAX_MOOF:
        raise MalformedError(f"a moof of {found.size} bytes: more than {MAX_MOOF}")
    if found.end > len(data):
        data = read(start, found.end)
    _, fragments = parse_moof(data[found.start : found.end], start + found.start, {track_id: Defaults()})
    if len(fragments) != 1 or len(fragments[0].spans) != 1 or fragments[0].base_media_decode_time is None:
        raise MalformedError("a part that isn't one run of one track")
    (fragment,) = fragments
    return fragment.base_media_decode_time or 0, fragment.samples, fragment.spans[0][0]
