"""The log of one live channel: its producer appends entries, and those that serve it fold them.

An entry holds bytes and plain values. In the process that makes the channel, they are the same objects in the
log and in the windows. Another process gets them as bytes, and folds them into the same windows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from msgspec import Struct

from media.hls.date_range import DateRange
from media.mp4.codecs.sample_entry import SampleEntry
from packager.window.cadence import Cadence
from packager.window.model import LivePart, LiveSegment, StoredSegment
from packager.window.snapshot import SegmentMediaEntry, SnapshotEntry


@dataclass(frozen=True, slots=True)
class RenditionFormat:
    """The description of one rendition in a cadence entry.

    Attributes:
        video: whether it is a variant's picture, or else sound or text.
        bitrate: nominal bits per second, said until the first segment has been measured.
        language: BCP 47 tag of captions; None of picture and sound.
        folder: where its segments are on disk once they have left memory; None where they stay in memory.
    """

    name: str
    video: bool
    bitrate: int
    language: str | None = None
    folder: str | None = None


@dataclass(frozen=True, slots=True)
class CadenceEntry:
    """The beginning of new windows, with their renditions and durations.

    Attributes:
        cadence: the durations that the renditions share.
        renditions: video from large to small, then the sound, then captions.
        first_number: media sequence number of the first segment.
        discontinuity_sequence: of the first segment.
        dvr_window: seconds that stay listed beyond the live window.
        has_past: whether segments stay in the renditions' folders that have left the playlists.
    """

    cadence: Cadence
    renditions: tuple[RenditionFormat, ...]
    first_number: int
    discontinuity_sequence: int = 0
    dvr_window: float = 0.0
    has_past: bool = False


@dataclass(frozen=True, slots=True)
class RestoredEntry:
    """A rendition takes up what an earlier process left on disk, before anything is published.

    Attributes:
        segments: with numbers that have no holes, stored ones or gaps.
        next_number: the number behind theirs.
        discontinuity_sequence: of a playlist that begins with the first one.
    """

    rendition: str
    segments: tuple[LiveSegment, ...]
    next_number: int
    discontinuity_sequence: int


@dataclass(frozen=True, slots=True)
class InitEntry:
    """A rendition begins a timeline: what follows is decoded with this init segment.

    Attributes:
        sample_entry: the facts of its sample entry.
        frame_rate: pictures per second, where they aren't those of the channel's cadence.
    """

    rendition: str
    init: bytes
    sample_entry: SampleEntry
    frame_rate: Fraction | None = None


@dataclass(frozen=True, slots=True)
class DiscontinuityEntry:
    """A rendition begins a timeline with the same init segment as before."""

    rendition: str


class PartEntry(Struct, frozen=True):
    """A rendition has another part; of captions, the part is a WebVTT text.

    Attributes:
        program_date_time: seconds since the epoch of its first sample.
        ends_segment: whether the next part begins a segment.
    """

    rendition: str
    part: LivePart
    program_date_time: Fraction
    ends_segment: bool


@dataclass(frozen=True, slots=True)
class SegmentDoneEntry:
    """A rendition's open segment is done with the parts that it has.

    Attributes:
        text: of captions, the whole segment, which isn't its parts in a row; empty of picture and sound.
    """

    rendition: str
    text: bytes = b""


@dataclass(frozen=True, slots=True)
class GapEntry:
    """A gap stands for the next segment of a rendition (RFC 8216bis §4.4.4.7).

    Attributes:
        program_date_time: seconds since the epoch.
        duration: seconds.
        discontinuity: whether it begins behind a break.
    """

    rendition: str
    program_date_time: Fraction
    duration: Fraction
    discontinuity: bool

    def segment(self, number: int) -> LiveSegment:
        """Return the listed segment of the entry, with a media sequence number."""
        return LiveSegment(
            number,
            None,
            self.program_date_time.as_integer_ratio(),
            discontinuity=self.discontinuity,
            gap=True,
            duration=self.duration,
        )


@dataclass(frozen=True, slots=True)
class StoredEntry:
    """A rendition's segment is on disk, so that its bytes may leave memory."""

    rendition: str
    number: int
    stored: StoredSegment


@dataclass(frozen=True, slots=True)
class LostEntry:
    """A rendition's segment has left memory and isn't on disk: a gap stands for it from now on."""

    rendition: str
    number: int


@dataclass(frozen=True, slots=True)
class RetiredEntry:
    """A rendition's oldest segment leaves the list before its time, for want of room on disk."""

    rendition: str


@dataclass(frozen=True, slots=True)
class ForgottenEntry:
    """A rendition's oldest segment isn't fetchable any more, for want of room on disk."""

    rendition: str


@dataclass(frozen=True, slots=True)
class DateRangeEntry:
    """A publisher says something of the channel's time, or that such a thing is over."""

    tag: DateRange


@dataclass(frozen=True, slots=True)
class EndEntry:
    """Nothing of a rendition comes any more (EXT-X-ENDLIST); its open segment is done."""

    rendition: str


RenditionEntry = (
    RestoredEntry
    | InitEntry
    | DiscontinuityEntry
    | PartEntry
    | SegmentDoneEntry
    | GapEntry
    | StoredEntry
    | LostEntry
    | RetiredEntry
    | ForgottenEntry
    | EndEntry
)
Entry = CadenceEntry | DateRangeEntry | SnapshotEntry | SegmentMediaEntry | RenditionEntry


class Log:
    """Passes the entries of one cadence to the windows of this process, and then to followers.

    Args:
        fold: applies an entry to the windows; an entry for which this raises isn't in the log.
        first: the entry that the windows were made from; None for none.
    """

    def __init__(self, fold: Callable[[Entry], None], first: Entry | None = None) -> None:
        self._fold = fold
        self._followers: list[Callable[[Entry], None]] | None = None
        # Until somebody follows, they are kept: windows of a day are made before they are served.
        self._coming: deque[Entry] = deque() if first is None else deque((first,))
        self._is_folding = False

    def follow(self, *followers: Callable[[Entry], None]) -> None:
        """Hand all entries to these functions, past ones first; called once."""
        self._followers = list(followers)
        self._hand_on()

    def add_follower(self, follower: Callable[[Entry], None]) -> None:
        """Hand all entries to come to one more function; behind ``follow``."""
        self._followers = [*([] if self._followers is None else self._followers), follower]

    def append(self, entry: Entry) -> None:
        """Publish an entry.

        Entries that folding it causes come before it, such as the loss of a segment that memory has no room
        for: followers must know before the segment leaves the part of the playlist that may change.
        """
        outermost, self._is_folding = not self._is_folding, True
        try:
            self._fold(entry)
        finally:
            self._is_folding = not outermost
        self._coming.append(entry)
        if outermost:
            self._hand_on()

    def _hand_on(self) -> None:
        if self._followers is None:
            return
        while self._coming:
            entry = self._coming.popleft()
            for follower in self._followers:
                follower(entry)
