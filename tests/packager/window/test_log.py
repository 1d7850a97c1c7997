"""packager.window.log, writer and log_encoding: what is appended comes elsewhere as it is here."""

from __future__ import annotations

import struct
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media.errors import MalformedError
from media.hls.date_range import DateRange
from media.mp4.codecs.sample_entry import SampleEntry
from packager.window.cadence import cadence
from packager.window.log import (
    CadenceEntry,
    DateRangeEntry,
    DiscontinuityEntry,
    EndEntry,
    Entry,
    ForgottenEntry,
    GapEntry,
    InitEntry,
    Log,
    LostEntry,
    PartEntry,
    RenditionFormat,
    RestoredEntry,
    RetiredEntry,
    SegmentDoneEntry,
    StoredEntry,
)
from packager.window.log_encoding import LogDecoder, encode
from packager.window.model import LivePart, LiveSegment, StoredSegment, Timeline
from packager.window.snapshot import SegmentMediaEntry
from tests.origin.live.served_log import LOG_BYTES

SAMPLE_ENTRY = SampleEntry(b"avc1", "avc1.42c01f", bytes(78), (b"box",), width=1280, height=720)
TIMELINE = Timeline(7, b"init", SAMPLE_ENTRY)
SECONDS = Fraction(60_000, 30_001)
RATIO = SECONDS.as_integer_ratio()
LONG = Fraction(10**30 + 1, 10**30)
"""What no 64 bits hold."""

SEGMENTS = (
    LiveSegment(6, None, RATIO, gap=True, duration=SECONDS),
    *(
        LiveSegment(number, TIMELINE, RATIO, duration=SECONDS, stored=StoredSegment.of((3, 4), (1, 2)))
        for number in (7, 8)
    ),
)
WITH_BYTES = LiveSegment(7, TIMELINE, RATIO, (LivePart(b"a", SECONDS, True),))
ENTRIES: list[Entry] = [
    CadenceEntry(
        replace(cadence(Fraction(30_000, 1001), 2.0, 0.333), longest=Fraction(5, 2)),
        (RenditionFormat("720p", True, 1000), RenditionFormat("captions-en", False, 0, "en", "/data")),
        1_795_000_000,
        3,
        86_400.0,
    ),
    RestoredEntry("720p", SEGMENTS, 9, 2),
    InitEntry("720p", b"\x00init", SAMPLE_ENTRY),
    DiscontinuityEntry("720p"),
    PartEntry("720p", LivePart(bytes(range(256)), SECONDS, True), LONG, False),
    SegmentDoneEntry("captions-en", b"WEBVTT"),
    GapEntry("720p", LONG, SECONDS, True),
    StoredEntry("720p", 9, StoredSegment.of([5, 6], (3, 4))),
    LostEntry("720p", 9),
    RetiredEntry("720p"),
    ForgottenEntry("720p"),
    DateRangeEntry(DateRange("a", LONG, None, SECONDS, None, {"X-A": 1.5, "X-B": "ü"})),
    EndEntry("720p"),
    SegmentMediaEntry("720p", 9, b"media"),
]


def read(*pieces: bytes) -> list[Entry]:
    reader, found = LogDecoder(LOG_BYTES), list[Entry]()
    for piece in pieces:
        reader.receive_data(piece)
        found += reader.entries()
    reader.receive_eof()
    return found


def kinds(entry: Entry) -> str:
    return type(entry).__name__


@pytest.mark.parametrize("entry", ENTRIES, ids=kinds)
def test_an_entry_comes_as_it_was(entry: Entry) -> None:
    assert read(encode(entry)) == [entry]


@settings(deadline=None)
@given(st.lists(st.integers(1, 400)))
def test_a_log_that_is_cut_anywhere_gives_the_same_entries(sizes: list[int]) -> None:
    data, pieces = b"".join(map(encode, ENTRIES)), []
    for size in sizes:
        pieces.append(data[:size])
        data = data[size:]
    assert read(*pieces, data) == ENTRIES


def test_segments_of_one_timeline_share_it_elsewhere_too() -> None:
    """Players are told of a timeline by its identity."""
    (entry,) = read(encode(RestoredEntry("720p", SEGMENTS, 9, 2)))
    assert isinstance(entry, RestoredEntry)
    _, first, second = entry.segments
    assert first.timeline is second.timeline
    assert first.duration is second.duration


def test_what_windows_hold_packed_and_in_views_can_be_told() -> None:
    stored = StoredEntry("720p", 9, StoredSegment.of([5, 6], (3, 4)))
    part = PartEntry("720p", LivePart(memoryview(b"part"), SECONDS, False), SECONDS, True)
    found = read(encode(stored), encode(part))
    assert found == [
        stored,
        PartEntry("720p", LivePart(b"part", SECONDS, False), SECONDS, True),
    ]


@pytest.mark.parametrize(
    "data",
    [
        struct.pack(">I", 0xFFFFFFFF),
        struct.pack(">I", 1) + b"\xc1",
        struct.pack(">I", 3) + b"\x92\xa0\xc0",
        encode(ENTRIES[0])[:-1],
        encode(ENTRIES[4]).replace(b"60000/30001", b"60000/00000"),
        encode(ENTRIES[4]).replace(b"60000/30001", b"sixty/30001"),
        # As a Fraction it would take hours, and all of the memory.
        encode(ENTRIES[4]).replace(b"60000/30001", b"1e999999999"),
        encode(RestoredEntry("720p", SEGMENTS, 9, 2)).replace(b"\x07\x07\xab", b"\x07\x09\xab"),
        encode(RestoredEntry("720p", SEGMENTS, 9, 2)).replace(b"\x07\x07\xab", b"\x07\xfe\xab"),
        encode(
            RestoredEntry("720p", (LiveSegment(7, TIMELINE, RATIO, (LivePart(b"a", SECONDS, True),)),), 9, 2)
        ),
    ],
    ids=[
        "too long",
        "no msgpack",
        "no kind",
        "cut off",
        "no number",
        "no digits",
        "an exponent",
        "a timeline that isn't there",
        "a timeline before the first",
        "restored segments with bytes",
    ],
)
def test_what_is_no_log_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedError):
        read(data)


def test_what_can_not_be_folded_is_not_in_the_log() -> None:
    def fold(entry: Entry) -> None:
        if isinstance(entry, LostEntry):
            raise ValueError("no room")

    found = list[Entry]()
    log = Log(fold)
    log.follow(found.append)
    with pytest.raises(ValueError, match="no room"):
        log.append(LostEntry("720p", 1))
    log.append(EndEntry("720p"))
    assert found == [EndEntry("720p")]


def test_what_folding_makes_known_stands_before_its_cause_and_who_follows_late_has_all() -> None:
    log: Log

    def fold(entry: Entry) -> None:
        if isinstance(entry, GapEntry):
            log.append(LostEntry("720p", 1))

    log, gap, found = Log(fold, ENTRIES[0]), GapEntry("720p", SECONDS, SECONDS, False), list[Entry]()
    log.append(gap)
    log.follow(found.append)
    log.append(gap)
    assert found == [ENTRIES[0], LostEntry("720p", 1), gap, LostEntry("720p", 1), gap]
