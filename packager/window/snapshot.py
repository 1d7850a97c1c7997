"""Snapshot entries: the state of a live channel's windows for a process that begins to follow its log.

They stand between ``SnapshotBeginEntry``, which a cadence follows, and ``SnapshotEndEntry``. Long windows
come in pieces, so that neither writing nor reading them holds up the event loop.

A snapshot may leave out the bytes of its segments, and have only the size of each part. Its reader can list
the segments at once; their bytes follow in ``SegmentMediaEntry``, those of the newest segments first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated

from msgspec import Meta, Struct

from media.hls.date_range import DateRange
from packager.window.model import LivePart, LiveSegment, StoredSegment, Timeline, join_parts

PIECE_SEGMENTS = 128
"""Most segments of one entry, which take some milliseconds to read."""

PIECE_BYTES = 256 << 10
"""Bytes of media with which an entry is full; a segment of more has an entry of its own."""

PIECE_STRETCHES = 256
"""Most stretches of one entry."""


class HeldPart(Struct, frozen=True, gc=False, array_like=True):
    """A part that is in memory."""

    data: bytes
    duration: Fraction
    independent: bool


class HeldSegment(Struct, frozen=True, gc=False, array_like=True):
    """A segment of a window in a snapshot.

    Attributes:
        number: media sequence number.
        timeline: number of its timeline; -1 without one.
        program_date_time: seconds since the epoch of its first sample.
        discontinuity: whether it begins a timeline that isn't the first.
        gap: whether it stands for a segment that never came.
        duration: seconds.
        parts: the parts that are in memory.
        text: of captions, the whole segment, which isn't its parts in a row.
        stored: the facts of its bytes on disk.
        sizes: bytes of each of its first parts, whose data follow the snapshot.
    """

    number: int
    timeline: Annotated[int, Meta(ge=-1)]
    program_date_time: Fraction
    discontinuity: bool
    gap: bool
    duration: Fraction
    parts: tuple[HeldPart, ...]
    text: bytes
    stored: StoredSegment | None
    sizes: tuple[Annotated[int, Meta(gt=0)], ...] = ()

    def __post_init__(self) -> None:
        awaited, whole = self.parts[: len(self.sizes)], bool(self.text)
        if len(awaited) < len(self.sizes) or (awaited and whole) or any(part.data for part in awaited):
            raise ValueError("late bytes for parts that don't lack any")

    @classmethod
    def of(cls, segment: LiveSegment, *, text: bool, has_media: bool = True) -> HeldSegment:
        """Return the entry of a segment in a snapshot.

        Args:
            segment: finished, or open.
            text: whether it is one of captions.
            has_media: whether to include its bytes, as far as they are here; captions, which are short,
                always have them.
        """
        sizes = segment.awaited
        if not has_media and is_told_later(segment, text=text):
            sizes = tuple(len(part.data) for part in segment.parts)
        return cls(
            segment.number,
            -1 if segment.timeline is None else segment.timeline.number,
            segment.program_date_time,
            segment.discontinuity,
            segment.gap,
            segment.duration,
            tuple(
                HeldPart(b"" if index < len(sizes) else bytes(one.data), one.duration, one.independent)
                for index, one in enumerate(segment.parts)
            ),
            segment.data if text else b"",
            segment.stored,
            sizes,
        )

    def segment(self, timelines: Mapping[int, Timeline], *, finished: bool, text: bool) -> LiveSegment:
        """Return the segment that this entry describes.

        Args:
            timelines: by their numbers.
            finished: whether the segment is complete.
            text: whether it is one of captions.
        """
        found = LiveSegment(
            self.number,
            None if self.timeline < 0 else timelines[self.timeline],
            self.program_date_time.as_integer_ratio(),
            tuple(LivePart(one.data, one.duration, one.independent) for one in self.parts),
            self.discontinuity,
            self.text,
            self.gap,
            self.duration,
            self.stored,
            self.sizes,
        )
        return join_parts(found) if finished and found.parts and not text and not found.awaited else found


def is_told_later(segment: LiveSegment, *, text: bool) -> bool:
    """Return whether a segment's bytes follow a snapshot that is written without media.

    Args:
        segment: finished, or open.
        text: whether it is one of captions.
    """
    return not text and not segment.awaited and bool(segment.parts) and all(one.data for one in segment.parts)


@dataclass(frozen=True, slots=True)
class Unlisted:
    """When a segment left the playlist that is still fetchable.

    Attributes:
        published: seconds of media that had been published then.
        age: seconds that have passed since.
    """

    published: Fraction
    age: float


@dataclass(frozen=True, slots=True)
class SegmentsState:
    """Everything about the finished segments of a window but the segments.

    Attributes:
        next_number: media sequence number of the oldest segment that follows, or of the one to come.
        discontinuity_sequence: discontinuity sequence number of the first listed segment.
        timelines: all that are known, with their init segments.
        timeline: number of the one that is being published now, or was last; -1 before anything.
        published: seconds of media that have been published.
        peak_bandwidth: most bits per second of any segment that was ever listed.
        longest: most seconds that were ever listed at once.
        edge_number: where the live edge begins, whose bytes are in memory although there is a disk.
        leaving: segments behind it that are still in memory, each with the seconds for which they stay.
    """

    next_number: int
    discontinuity_sequence: int
    timelines: tuple[Timeline, ...]
    timeline: int
    published: Fraction
    peak_bandwidth: int
    longest: Fraction
    edge_number: int
    leaving: tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class SnapshotBeginEntry:
    """The state of a channel follows, in the place of everything before it; next comes its cadence."""


@dataclass(frozen=True, slots=True)
class WindowStateEntry:
    """The state of a rendition's window, but for its finished segments.

    Attributes:
        segments: the facts about all finished segments together.
        open: the segment that isn't finished.
        begins: whether the segment to come begins a timeline that isn't the first.
        ended: whether nothing comes any more.
        closed_captions: the captions in the picture that were in any part so far, by their INSTREAM-IDs.
    """

    rendition: str
    segments: SegmentsState
    open: HeldSegment | None
    begins: bool
    ended: bool
    closed_captions: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class HeldSegmentsEntry:
    """Some of a rendition's finished segments; the oldest come first.

    Attributes:
        segments: with numbers that have no holes, nor to those of the entry before.
        unlisted: of the first of them, which have left the playlist, when they did.
    """

    rendition: str
    segments: tuple[HeldSegment, ...]
    unlisted: tuple[Unlisted, ...] = ()


@dataclass(frozen=True, slots=True)
class SegmentMediaEntry:
    """The bytes of a segment whose sizes alone were in the snapshot.

    Attributes:
        number: media sequence number.
        data: the bytes of those parts, in a row.
    """

    rendition: str
    number: int
    data: bytes


@dataclass(frozen=True, slots=True)
class HeldStretch:
    """A stretch of segments without a break, of which a manifest's period is made.

    Attributes:
        number: media sequence number of the first one.
        start: its date in seconds since the epoch.
        media_time: when its first picture is shown, in seconds of media time.
        last: media sequence number of the last one that has come; None where none has.
    """

    number: int
    start: Fraction
    media_time: Fraction
    last: int | None


@dataclass(frozen=True, slots=True)
class PeriodsEntry:
    """Some of the stretches that a channel's manifest is made of; the oldest come first.

    Attributes:
        seen: media sequence number of the last segment that was examined.
        previous: of the one that a segment to come may follow without a break; -1 where there is none.
    """

    stretches: tuple[HeldStretch, ...]
    seen: int
    previous: int


@dataclass(frozen=True, slots=True)
class DateRangesEntry:
    """The date ranges of a channel.

    Attributes:
        listed: the tags, each with the seconds since it came.
        used: digests of the IDs that were used before.
        removed: IDs of the ranges that went lately, each with the seconds since.
    """

    listed: tuple[tuple[DateRange, float], ...]
    used: tuple[bytes, ...]
    removed: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class SnapshotEndEntry:
    """The state of the channel is complete; what follows are the entries behind it."""


SnapshotEntry = (
    SnapshotBeginEntry
    | WindowStateEntry
    | HeldSegmentsEntry
    | DateRangesEntry
    | PeriodsEntry
    | SnapshotEndEntry
)


def in_pieces(
    rendition: str,
    segments: Iterable[tuple[LiveSegment, Unlisted | None]],
    *,
    text: bool,
    has_media: bool = True,
) -> Iterator[HeldSegmentsEntry]:
    """Yield the entries of a rendition's finished segments, each of several segments.

    Args:
        segments: the oldest first, each with when it left the playlist; None of those that are listed.
        text: whether it is one of captions.
        has_media: whether with their bytes.
    """
    left: list[Unlisted] = []
    held: list[HeldSegment] = []
    size = 0
    for segment, when in segments:
        held.append(HeldSegment.of(segment, text=text, has_media=has_media))
        size += len(segment.data) if has_media or text else 0
        if when is not None:
            left.append(when)
        if len(held) >= PIECE_SEGMENTS or size >= PIECE_BYTES:
            yield HeldSegmentsEntry(rendition, tuple(held), tuple(left))
            held, left, size = [], [], 0
    if held:
        yield HeldSegmentsEntry(rendition, tuple(held), tuple(left))
