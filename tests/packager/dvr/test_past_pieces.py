"""The past of a DVR in S3: what was stored is found by number and by time, whoever stored it, and removed."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from fractions import Fraction

import obstore
import pytest
from msgspec.structs import replace as replaced

from packager.dvr.bucket.bucket_rendition import BucketFolder, NewestNumbers
from packager.dvr.bucket.past_pieces import LATE_SECONDS
from packager.dvr.bucket.piece_expiry import PieceExpiry
from packager.dvr.index import IndexLine, segment_of
from packager.dvr.limits import DvrLimits
from packager.s3.client import UnavailableError
from packager.window.cadence import cadence
from packager.window.model import LiveSegment
from tests.conformance.handfed import Track
from tests.packager.dvr.rendition_in_bucket import KEY, S3, TIMES, MortalClient, RenditionInBucket
from tests.packager.stored_segments import make_segments
from tests.s3_server import S3Proxy
from tests.waiting import wait_for

LINES = 8
LIMITS = DvrLimits(
    piece_lines=LINES, new_piece_seconds=0.0, old_piece_seconds=0.0, removal_seconds=0.0, pieces_read=4
)
FIRST = 1001
BREAK = FIRST + 20
COUNT = 45
LEFT = 1024
"""The first number of a piece, behind those that are removed."""
ALWAYS = 10**12


@pytest.fixture
def segments(material: dict[str, Track]) -> list[LiveSegment]:
    return make_segments(material["240p"], COUNT, first=FIRST, breaks=(BREAK,))


def store(folder: BucketFolder, segments: Sequence[LiveSegment]) -> list[LiveSegment]:
    """Store segments; give them as whoever lists them has them behind the live edge."""
    lines = [folder.store(one, int(one.number > BREAK)) for one in segments]
    return [segment_of(line, one.timeline) for line, one in zip(lines, segments, strict=True)]


def numbers(found: Iterable[LiveSegment | IndexLine]) -> list[int]:
    return [one.number for one in found]


def gap(like: LiveSegment) -> LiveSegment:
    return replaced(like, gap=True, parts=(), data=b"", timeline=None)


def test_what_has_left_the_playlist_is_found_by_its_time_and_number(
    rendition: RenditionInBucket, segments: list[LiveSegment]
) -> None:
    segments[12:33] = map(gap, segments[12:33])  # two whole pieces among them
    stored = store(rendition.writer(), segments[:12])
    stored += store(rendition.writer(), segments[12:])
    past = rendition.past()
    assert past.read(Fraction(0), None, ALWAYS) == stored
    assert past.oldest() == segments[0].program_date_time
    for one in stored:
        assert past.find(one.number) == one
        if one.stored is not None:
            with rendition.bucket.open_segment(past.place_of(one)) as file:
                assert file.pread(0, file.size) == segments[one.number - FIRST].data
    for start in range(0, COUNT, 3):
        for end in range(start + 1, COUNT):
            date, until = segments[start].program_date_time, segments[end].program_date_time
            assert past.read(date, until, ALWAYS) == stored[start:end]
            assert past.read(date + Fraction(1, 3), until, ALWAYS) == stored[start:end]
            assert past.read(date, None, segments[end].number) == stored[start:end]
    assert past.find(FIRST - 1) is past.find(FIRST + COUNT) is None
    timeline = segments[0].timeline
    assert timeline is not None
    assert past.init(FIRST) == timeline.init
    assert past.init(FIRST + 1) is None


def test_a_reader_sees_what_is_stored_later_and_asks_for_no_more_than_that(
    rendition: RenditionInBucket, segments: list[LiveSegment], s3_proxy: S3Proxy
) -> None:
    writer, past = rendition.writer(), rendition.past(replace(LIMITS, old_piece_seconds=600.0))
    assert past.oldest() is None
    stored = []
    for one in segments:
        stored += store(writer, [one])
        assert past.find(one.number) == stored[-1]
        assert past.read(Fraction(0), None, one.number + 1)[-1] == stored[-1]
    date = segments[2].program_date_time
    past.read(date, date + 10, ALWAYS)
    asked = len(s3_proxy.requests)
    assert past.read(date, date + 10, ALWAYS) == stored[2:12]
    assert past.read(date, None, FIRST + 12) == stored[2:12]
    assert past.find(FIRST + 3) == stored[3]
    assert len(s3_proxy.requests) == asked


def test_what_a_killed_process_had_under_way_is_seen_before_a_span_stays_as_it_is(
    rendition: RenditionInBucket, segments: list[LiveSegment]
) -> None:
    """A span never changes half a minute behind its end, although pieces of the next process came before."""
    end = Fraction(time.time() - LATE_SECONDS + 3)
    dates = [end + (number - 5) * segments[0].duration for number in range(12)]
    dated = zip(segments, dates, strict=False)
    moved = [replaced(one, date_ratio=date.as_integer_ratio()) for one, date in dated]
    killed, following = rendition.writer(), rendition.writer()
    stored = store(killed, moved[:4])
    store(following, moved[5:])
    past = rendition.past()
    assert past.read(dates[0], end, ALWAYS) == stored
    stored += store(killed, moved[4:5])
    wait_for(lambda: time.time() >= end + LATE_SECONDS, "the moment from which on it stays")
    assert past.read(dates[0], end, ALWAYS) == stored


def test_pieces_without_a_date_that_cannot_be_read_hide_none_before_them(
    rendition: RenditionInBucket, segments: list[LiveSegment]
) -> None:
    stored = store(rendition.writer(), segments)
    # An earlier version didn't name dates.
    for number in range(FIRST + COUNT, FIRST + COUNT + 3 * LINES, LINES):
        rendition.store.put(f"{KEY}/index/{number:015d}-7", b"?")
    past = rendition.past()
    assert past.read(Fraction(0), None, ALWAYS) == stored
    date = segments[4].program_date_time
    assert past.read(date, date + 10, ALWAYS) == stored[4:14]


def test_those_who_store_one_after_the_other_are_read_as_one(
    rendition: RenditionInBucket, segments: list[LiveSegment]
) -> None:
    late = rendition.writer()
    stored = store(late, segments[:3])
    owner = rendition.writer()
    # The next owner stores again what the former one hasn't reported, and the former one is late.
    stored[1:] = store(owner, segments[1:12])
    store(late, segments[3:5])
    assert rendition.past().read(Fraction(0), None, ALWAYS) == stored
    assert numbers(rendition.writer().load(TIMES).lines.values()) == numbers(stored)


def test_names_of_an_earlier_version_are_read_too(
    rendition: RenditionInBucket, segments: list[LiveSegment]
) -> None:
    stored = store(rendition.writer(), segments)
    for name in rendition.names("index/"):
        data = obstore.get(rendition.store, f"{KEY}/index/{name}").bytes()
        obstore.delete(rendition.store, f"{KEY}/index/{name}")
        obstore.put(rendition.store, f"{KEY}/index/{'-'.join(name.split('-')[:2])}", bytes(data))
    writer, past = rendition.writer(), rendition.past()
    more = make_more(segments)
    stored += store(writer, more)
    assert past.read(Fraction(0), None, ALWAYS) == stored
    date = segments[20].program_date_time
    assert past.read(date, date + 20, ALWAYS) == stored[20:40]
    assert past.oldest() == segments[0].program_date_time


def make_more(segments: Sequence[LiveSegment]) -> list[LiveSegment]:
    """Give the same segments behind them."""
    return [
        replaced(
            one, number=one.number + COUNT, date_ratio=(one.program_date_time + COUNT).as_integer_ratio()
        )
        for one in segments
    ]


def test_segments_of_another_cadence_and_foreign_pieces_are_passed_over(
    rendition: RenditionInBucket, segments: list[LiveSegment]
) -> None:
    other = BucketFolder(rendition.bucket.storing, KEY, 99, LIMITS)
    other.load(cadence(Fraction(30), 2.0, 0.25), NewestNumbers(0, LINES))
    store(other, segments[:9])
    stored = store(rendition.writer(), segments[9:])
    names = rendition.names("index/")
    crafted = {
        f"{FIRST + 20:015d}-7": b"not ours",
        f"{FIRST + 21:015d}-7-1000-5": b"\xff" * 100,
        f"{FIRST + 22:015d}-0": b"{}",
        names[-1].replace("-1-", "-8-"): obstore.get(rendition.store, f"{KEY}/index/{names[-1]}").bytes(),
    }
    for name, data in crafted.items():
        obstore.put(rendition.store, f"{KEY}/index/{name}", bytes(data))
    past = rendition.past()
    assert past.read(Fraction(0), None, ALWAYS) == stored
    assert past.oldest() == segments[9].program_date_time
    assert past.find(FIRST + 2) is None


def test_while_s3_is_away_what_is_in_memory_is_still_found(
    rendition: RenditionInBucket, segments: list[LiveSegment], s3_proxy: S3Proxy
) -> None:
    stored, past = store(rendition.writer(), segments), rendition.past()
    date = segments[17].program_date_time
    assert past.read(date, date + 3, ALWAYS) == stored[17:20]
    with s3_proxy.refusing():
        assert past.read(date, date + 3, ALWAYS) == stored[17:20]
        with pytest.raises(OSError, match="S3"):
            past.find(FIRST)
        with pytest.raises(OSError, match="S3"):
            rendition.past().oldest()


def test_a_start_reads_the_newest_segments_alone(
    rendition: RenditionInBucket, segments: list[LiveSegment], s3_proxy: S3Proxy
) -> None:
    store(rendition.writer(), segments)
    s3_proxy.requests.clear()
    folder = BucketFolder(rendition.bucket.storing, KEY, 9, LIMITS)
    for first in (FIRST + 20, FIRST + 10**6):
        found = folder.load(TIMES, NewestNumbers(first, 5))
        read = numbers(found.lines.values())
        assert read[-5:] == numbers(segments[-5:])
        assert len(read) < 4 * LINES
    assert len(s3_proxy.asked("GET", "/index/")) < 10
    assert folder.stored_bytes == sum(len(one.data) for one in segments)


def test_a_start_finds_the_newest_media_behind_any_number_of_gaps(
    rendition: RenditionInBucket, segments: list[LiveSegment]
) -> None:
    store(rendition.writer(), [*segments[:9], *map(gap, segments[9:])])
    folder = BucketFolder(rendition.bucket.storing, KEY, 9, LIMITS)
    found = folder.load(TIMES, NewestNumbers(FIRST + 30, 5))
    read = numbers(found.lines.values())
    assert len(read) <= 3 * LINES
    assert read[-1] > FIRST + 30
    assert [one.number for one in found.lines.values() if one.parts][-1] == FIRST + 8
    assert [one.number for one in found.timelines.values()] == [FIRST]


def expire(rendition: RenditionInBucket, changes: int, before: int) -> bool:
    """Remove pieces whose end is before a date, as a process that dies behind some changes."""
    client = MortalClient(rendition.bucket.address, S3)
    client.changes = changes
    expiry = PieceExpiry(client, KEY, LIMITS)
    try:
        while (
            (end := expiry.end_of_oldest()) is not None and end <= 1000 * before
        ) or expiry.remove_expired():
            if end is not None and end <= 1000 * before:
                expiry.expire()
    except UnavailableError:
        return True
    return False


@pytest.mark.parametrize("changes", [*range(8), 11, 20])
def test_what_is_over_is_removed_whenever_it_is_interrupted_and_nothing_else(
    rendition: RenditionInBucket, segments: list[LiveSegment], changes: int
) -> None:
    foreign = ("index/holiday.jpg", f"index/{5:015d}-7", "5.m4s", "5-7.m4s", "init-5-7.mp4")
    for name in foreign:
        obstore.put(rendition.store, f"{KEY}/{name}", b"not ours")
    stored = store(rendition.writer(), segments)
    (changed,) = (name for name in rendition.names() if name.startswith(f"{FIRST + 1}-"))
    obstore.put(rendition.store, f"{KEY}/{changed}", b"somebody put something else there")
    every = rendition.names()
    before, kills = LEFT + 1, 0
    while expire(rendition, changes or 1, before):
        kills += 1
        left = rendition.past().read(Fraction(0), None, ALWAYS)
        assert left == stored[-len(left) :]
        there = set(rendition.names())
        for one in left:
            assert {f"{one.number}-1.m4s", f"init-{FIRST if one.number < BREAK else BREAK}-1.mp4"} <= there
    assert kills > 20 // (changes + 1)
    left = rendition.past().read(Fraction(0), None, ALWAYS)
    assert numbers(left) == list(range(LEFT, FIRST + COUNT))
    gone = {f"{one.number}-1.m4s" for one in segments if one.number < LEFT} - {changed}
    gone |= {one for one in every if "index/" in one and "-1-" in one and _first(one) < left[0].number}
    gone.add(f"init-{FIRST}-1.mp4")
    assert set(rendition.names()) == set(every) - gone


def _first(name: str) -> int:
    return int(name.removeprefix("index/").partition("-")[0])
