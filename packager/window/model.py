"""The data of a live window: timelines, parts, segments, and facts about segments that aren't in memory."""

from __future__ import annotations

import functools
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, Protocol

from msgspec import Meta, Struct
from msgspec.structs import replace

from media.mp4.codecs.sample_entry import SampleEntry
from media.mp4.fragments.emsg import has_brand
from media.mp4.fragments.fragments import FragmentReader, InitSegment

WEBVTT_ENTRY = SampleEntry(b"wvtt", "wvtt", b"", ())
"""The sample entry of WebVTT's timelines (ISO/IEC 14496-30)."""

SLATE_BRAND = b"slat"
"""The compatible brand of a slate's init segments, by which a slate is recognised wherever it is stored."""

MEDIA_EXTENSION, TEXT_EXTENSION = "m4s", "vtt"
"""How the names of segments and parts end."""

STORERS = 1 << 32
"""How many processes that store segments have different numbers."""

_SIZE_BYTES = array("I").itemsize


@dataclass(frozen=True, slots=True)
class WindowOptions:
    """The options of a rendition's window.

    Attributes:
        target_duration: seconds.
        first_number: the first media sequence number.
        dvr_window: seconds that stay listed beyond the live window.
        text: whether its segments are texts, which aren't their parts in a row.
        discontinuity_sequence: discontinuity sequence number of the first segment.
        has_past: whether segments that have left the playlist stay on disk, where they are found by time.
    """

    target_duration: int
    first_number: int
    dvr_window: float = 0
    text: bool = False
    discontinuity_sequence: int = 0
    has_past: bool = False


@dataclass(frozen=True, slots=True)
class Timeline:
    """The init segment that all segments between two discontinuities share.

    Attributes:
        number: media sequence number of its first segment, by which its init segment is named.
        entry: the facts of its sample entry.
        frame_rate: pictures per second, where they aren't those of the channel's cadence.
    """

    number: int
    init: bytes
    entry: SampleEntry
    frame_rate: Fraction | None = None

    @property
    def resolution(self) -> tuple[int, int]:
        """Width and height in pixels as the picture is seen."""
        size = self.entry.shown_pixels
        return (size[1], size[0]) if _is_turned_sideways(self.init) else size

    @property
    def is_slate(self) -> bool:
        """Whether its segments are the channel's slate, shown while nothing comes from its source."""
        return self.has_map and has_brand(self.init, SLATE_BRAND)

    @property
    def has_map(self) -> bool:
        """Whether players need the init segment: of WebVTT they don't."""
        return self.entry.kind != WEBVTT_ENTRY.kind


@functools.lru_cache(maxsize=64)
def _is_turned_sideways(init: bytes) -> bool:
    reader = FragmentReader()
    reader.receive_data(init)
    inits = (event for event in reader.events() if isinstance(event, InitSegment))
    return any(track.rotation in (90, 270) for one in inits for track in one.tracks)


class LivePart(Struct, frozen=True, gc=False):
    """A published part; its duration in seconds."""

    data: bytes | memoryview
    duration: Fraction
    independent: bool


class StoredSegment(Struct, frozen=True, gc=False):
    """A finished segment's bytes outside of memory.

    Attributes:
        packed_sizes: bytes of each of its parts, which are all of its bytes, as 32-bit numbers: a week of DVR
            has a million parts.
        shown_ratio: seconds of media time at which its first picture is shown, as numerator and denominator.
        stored_by: where several may store segments of the same numbers, the number of who stored it, which is
            in its name there; else 0.
        key_frame_end: the first so many of its bytes end with the key frame that it begins with; 0 where it
            begins with none, or that isn't known.
    """

    packed_sizes: bytes
    shown_ratio: tuple[int, int]
    stored_by: Annotated[int, Meta(ge=0, lt=STORERS)] = 0
    key_frame_end: Annotated[int, Meta(ge=0)] = 0

    def __post_init__(self) -> None:
        if len(self.packed_sizes) % _SIZE_BYTES:
            raise ValueError("the sizes of parts must be whole numbers")

    @classmethod
    def of(
        cls,
        part_sizes: Iterable[int],
        shown_ratio: tuple[int, int],
        stored_by: int = 0,
        key_frame_end: int = 0,
    ) -> StoredSegment:
        """Make one of the sizes of its parts."""
        return cls(array("I", part_sizes).tobytes(), shown_ratio, stored_by, key_frame_end)

    @property
    def part_sizes(self) -> Sequence[int]:
        """Bytes of each of its parts."""
        return memoryview(self.packed_sizes).cast("I").tolist()

    @property
    def part_count(self) -> int:
        """How many parts it has."""
        return len(self.packed_sizes) // _SIZE_BYTES

    @property
    def presentation_time(self) -> Fraction:
        """Seconds of media time at which its first picture is shown, or its first sound is heard."""
        return Fraction(*self.shown_ratio)

    @property
    def size(self) -> int:
        """All its bytes."""
        return sum(self.part_sizes)


class SegmentStore(Protocol):
    """Keeps a rendition's finished segments outside of memory."""

    def put(self, segment: LiveSegment) -> None:
        """Begin to store a segment, or note a gap; ``Window.confirm`` is called once it is stored."""

    def hold(self, size: int) -> bool:
        """Reserve memory for a segment's bytes behind the live edge; False where there is no room."""

    def release(self, size: int) -> None:
        """Free the memory that was reserved for so many bytes."""

    def remove(self, number: int, size: int, timelines: Sequence[int]) -> None:
        """Begin to remove a segment, or the note of a gap, and the init segments of these timelines.

        Args:
            size: its bytes on disk; 0 if it isn't stored.
            timelines: whose init segments are removed, too.
        """

    def path(self, number: int, stored: StoredSegment) -> str:
        """Return the place of a stored segment."""


class LiveSegment(Struct, frozen=True, gc=False):
    """A segment of the window, finished or the open one at its end; light, as a day has many.

    Attributes:
        number: media sequence number.
        timeline: where its init segment is; None for a gap before anything was published.
        date_ratio: seconds since the epoch of its first sample, as numerator and denominator: the garbage
            collector examines fractions, and a week's would hold up everything else for a tenth of a second.
        parts: in order; none for a gap.
        discontinuity: whether it begins a timeline that isn't the first.
        data: all its bytes once it is finished.
        gap: whether it stands for a segment that never came (RFC 8216bis §4.4.4.7).
        duration: seconds.
        stored: the facts of its bytes once they are on disk.
        awaited: bytes of each of its first parts, where these follow the snapshot that listed the segment;
            empty once they are here.
    """

    number: int
    timeline: Timeline | None
    date_ratio: tuple[int, int]
    parts: tuple[LivePart, ...] = ()
    discontinuity: bool = False
    data: bytes = b""
    gap: bool = False
    duration: Fraction = Fraction(0)
    stored: StoredSegment | None = None
    awaited: tuple[int, ...] = ()

    @property
    def program_date_time(self) -> Fraction:
        """Seconds since the epoch of its first sample."""
        return Fraction(*self.date_ratio)

    @property
    def part_count(self) -> int:
        """How many parts it has."""
        # Captions are stored whole, so their parts count only while they are in memory.
        return len(self.parts) or (self.stored.part_count if self.stored else 0)

    @property
    def presentation_time(self) -> Fraction:
        """The media time at which the first picture of a segment on disk is shown; 0 for other segments."""
        return Fraction(0) if self.stored is None else self.stored.presentation_time

    @property
    def size(self) -> int:
        """Bytes of a finished segment, wherever they are."""
        return self.stored.size if self.stored else self.memory_size

    @property
    def memory_size(self) -> int:
        """Bytes of a finished segment that are in memory, or soon will be."""
        if not self.awaited:
            return len(self.data)
        return sum(self.awaited) + sum(len(part.data) for part in self.parts)

    def filled(self, data: bytes) -> LiveSegment:
        """Return the segment with the bytes that it lacked; their length must be right.

        Args:
            data: the bytes of its first parts, in a row.
        """
        view, start, parts = memoryview(data), 0, []
        for part, size in zip(self.parts, self.awaited, strict=False):
            parts.append(LivePart(view[start : start + size], part.duration, part.independent))
            start += size
        parts += self.parts[len(self.awaited) :]
        return replace(self, parts=tuple(parts), awaited=())


def join_parts(segment: LiveSegment) -> LiveSegment:
    """Join the parts of a segment to its bytes; the parts become views of them."""
    data = b"".join(part.data for part in segment.parts)
    view, start, parts = memoryview(data), 0, []
    for part in segment.parts:
        parts.append(LivePart(view[start : start + len(part.data)], part.duration, part.independent))
        start += len(part.data)
    return replace(segment, data=data, parts=tuple(parts))
