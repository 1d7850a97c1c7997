"""A live channel that a test makes by hand, and what all its addresses have."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction

from media.hls.date_range import DateRange
from media.hls.precompressed_text import rendered
from media.mp4.boxes import box
from media.mp4.codecs.sample_entry import SampleEntry
from media.mp4.fragments.fragments import write_fragment
from media.mp4.fragments.init_segment import write_init_segment
from media.mp4.fragments.moof import Sample
from media.mp4.movie.track_box import TrackFacts
from packager.publish.live_stream import FoldedLog, LiveStream
from packager.window.aligned_windows import AlignedWindows
from packager.window.cadence import cadence
from packager.window.log import CadenceEntry, DateRangeEntry, Entry, Log, RenditionFormat
from packager.window.log_encoding import LogDecoder, encode
from packager.window.model import WEBVTT_ENTRY, LivePart, LiveSegment, StoredSegment
from packager.window.rendition_log_writer import RenditionWriter
from tests.origin.live.served_log import LOG_BYTES, NoCommands
from tests.packager.captioned_films import sei

NUMBER = 1_795_000_000
PARTS = 4
SCALE = 1000
CADENCE = cadence(Fraction(24), 1.0, 0.25)
ENTRIES = {
    "240p": SampleEntry(b"avc1", "avc1.42c01f", b"", (), width=426, height=240),
    "audio": SampleEntry(b"mp4a", "mp4a.40.2", b"", (), channels=2, sample_rate=48_000),
    "captions-en": WEBVTT_ENTRY,
}
INITS = [write_init_segment(TrackFacts(1, b"vide", SCALE, box(b"free", bytes(size)))) for size in range(2)]
CAPTIONS = sei([(0, 0x94, 0x20)])
ACTS = (
    "parts",
    "segment",
    "one part",
    "begin",
    "break",
    "gap",
    "range",
    "range ends",
    "stored",
    "full",
    "captions",
)


class Clock:
    """A clock that stands still between two acts."""

    now = 1000.0

    def __call__(self) -> float:
        """Tell the time."""
        return self.now


class Disk:
    """A store of segments that has room, or hasn't."""

    def __init__(self) -> None:
        self.has_room = True

    def put(self, segment: LiveSegment) -> None:
        """Take a segment."""

    def hold(self, size: int) -> bool:
        """Tell whether there is room."""
        del size
        return self.has_room

    def release(self, size: int) -> None:
        """Take back room."""

    def remove(self, number: int, size: int, timelines: Sequence[int]) -> None:
        """Remove a segment."""

    def path(self, number: int, _: StoredSegment) -> str:
        """Tell where a segment is."""
        raise NotImplementedError


class Maker:
    """What makes a channel, and who follows it from its beginning."""

    def __init__(self, *, dvr: bool) -> None:
        self.user_data = b""
        self.clock, self.disk = Clock(), Disk()
        folder = "/data" if dvr else None
        formats = tuple(
            RenditionFormat(name, name == "240p", 1000, "en" if name == "captions-en" else None, folder)
            for name in ENTRIES
        )
        entry = CadenceEntry(CADENCE, formats, NUMBER, 2, 30.0 if dvr else 0.0)
        stores = dict.fromkeys(ENTRIES, self.disk) if dvr else None
        self.folded = FoldedLog(entry, segment_stores=stores, clock=self.clock)
        self.log = Log(self.folded.fold, entry)
        windows = {name: one.window for name, one in self.folded.renditions.items()}
        self.writers = {
            name: RenditionWriter(
                self.log, name, window, (lambda one: b"text %d" % one.number) if "captions" in name else None
            )
            for name, window in windows.items()
        }
        self.aligned = AlignedWindows(list(self.writers.values()))
        self.followers = [self.follower()]
        self.log.follow(self._hand_on)
        self.begin(0)
        self.ranges = 0

    def follower(self) -> LiveStream:
        return LiveStream("test", NoCommands(), clock=self.clock)

    def _hand_on(self, entry: Entry) -> None:
        for follower in self.followers:
            follow(follower, entry)

    def begin(self, init: int) -> None:
        for name, writer in self.writers.items():
            writer.begin(INITS[init], ENTRIES[name])

    def part(self, writer: RenditionWriter) -> None:
        number, index = writer.window.next_part
        date = Fraction(number) + Fraction(index, PARTS)
        sample = number.to_bytes(4, "big") + self.user_data
        data = write_fragment(
            sequence_number=1,
            track_id=1,
            base_media_decode_time=round((date - NUMBER) * SCALE),
            samples=(Sample(SCALE // PARTS, len(sample), is_sync=not index),),
            data=sample,
        )
        ends = index == PARTS - 1
        writer.append(LivePart(data, Fraction(1, PARTS), independent=not index), date, ends_segment=ends)

    def act(self, name: str) -> None:
        """Do one of the things that happen to a channel."""
        self.clock.now += 0.25
        acts: dict[str, Callable[[], object]] = {
            "parts": self._parts,
            "segment": lambda: self._parts(PARTS),
            "one part": lambda: self.part(self.writers["240p"]),
            "begin": lambda: self._break_off(lambda: self.begin(1)),
            "break": lambda: self._break_off(self._begin_again),
            "gap": self._gap,
            "range": lambda: self._range(ends=False),
            "range ends": lambda: self._range(ends=True),
            "stored": self._store,
            "full": lambda: setattr(self.disk, "has_room", not self.disk.has_room),
            "retire": self.writers["240p"].retire,
            "forget": self.writers["audio"].forget,
            "captions": lambda: setattr(self, "user_data", CAPTIONS if not self.user_data else b""),
            "day": lambda: setattr(self.clock, "now", self.clock.now + 86_400),
            "end": self.aligned.end,
        }
        acts[name]()

    def _parts(self, count: int = 1) -> None:
        for _ in range(count):
            for writer in self.writers.values():
                self.part(writer)

    def _begin_again(self) -> None:
        for writer in self.writers.values():
            writer.break_off()

    def _break_off(self, begin: Callable[[], object]) -> None:
        if self.writers["240p"].window.listed:
            self.aligned.align()
        begin()

    def _gap(self) -> None:
        if all(one.window.listed for one in self.writers.values()):
            self.aligned.fill(Fraction(1))

    def _store(self) -> None:
        for writer in self.writers.values():
            for segment in [*writer.window.listed][:4] if self.disk_is_used else []:
                whole = writer.name.startswith("captions")
                sizes = [len(segment.data)] if whole else [len(one.data) for one in segment.parts]
                writer.confirm(segment.number, StoredSegment.of(sizes, (segment.number - NUMBER, 1)))

    @property
    def disk_is_used(self) -> bool:
        return self.folded.entry.renditions[0].folder is not None

    def _range(self, *, ends: bool) -> None:
        self.ranges += not ends
        start = Fraction(NUMBER + self.ranges)
        listed = {one.id: one for one in self.folded.presentation.date_ranges.tags()}
        known = listed.get(f"r{self.ranges}")
        if not ends:
            self.log.append(DateRangeEntry(DateRange(f"r{self.ranges}", start, planned_duration=Fraction(3))))
        elif known is not None and known.duration is None:
            self.log.append(DateRangeEntry(DateRange(known.id, start, duration=Fraction(2))))


def follow(stream: LiveStream, entry: Entry) -> None:
    """Fold an entry that has come as bytes."""
    reader = LogDecoder(LOG_BYTES)
    reader.receive_data(encode(entry))
    for one in reader.entries():
        stream.fold(one)


def begin_late(maker: Maker, stream: LiveStream | None = None) -> LiveStream:
    """Begin to follow a channel now."""
    stream = maker.follower() if stream is None else stream
    for entry in maker.folded.snapshot():
        follow(stream, entry)
    return stream


def answers(folded: FoldedLog | LiveStream) -> Iterator[object]:
    """Give what all addresses have."""
    presentation = folded.presentation
    moment = NUMBER + 10_000.0
    yield presentation.live_edge
    if all(one.window.has_segments() for one in folded.renditions.values()):
        yield presentation.multivariant()
        yield manifest(folded, moment)
    for name, rendition in folded.renditions.items():
        window = rendition.window
        for skip, ranges in ((False, False), (True, False), (True, True)):
            pieces = presentation.media_pieces(name, skip=skip, skip_date_ranges=ranges, suffix="?token=a")
            yield b"".join(rendered(pieces))
        yield window.next_part, window.last, window.ended, window.newest_discontinuity_sequence
        yield window.finished.retention, window.finished.may_retire, window.finished.may_forget
        for number in range(window.finished.oldest_number - 2, window.next_number + 2):
            stored = window.at(number)
            yield name, number, window.segment(number), window.init(number), stored and stored.stored
            yield [bytes(one or b"") for one in (window.part(number, index) for index in range(PARTS + 1))]
            yield [window.reached(number, index) for index in (None, *range(PARTS + 1))]
            yield presentation.media_time(number) if window.listed else None
            yield presentation.lost_segment(name, number, moment) if window.listed else None


def manifest(folded: FoldedLog | LiveStream, moment: float) -> bytes:
    return folded.presentation.manifest(moment)


def same(maker: Maker, other: LiveStream) -> None:
    for one, two, three in zip(
        answers(maker.folded), answers(maker.followers[0]), answers(other), strict=True
    ):
        assert one == two
        assert two == three
