"""The outlines of a DVR in S3: the same as made of the pieces, whatever happened, and removed with these."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import groupby

import obstore
import pytest
from msgspec.structs import replace as replaced

from packager.dvr import stored_cadence
from packager.dvr.bucket.index_pieces import PieceName
from packager.dvr.bucket.piece_expiry import PieceExpiry
from packager.dvr.index import IndexLine, encode
from packager.dvr.limits import DvrLimits
from packager.dvr.stored_outlines import GROUP_BLOCKS, OutlineStore, OutlineWriter, by_file
from packager.past.outlines import BLOCK_SEGMENTS, outlines_of
from packager.s3.client import UnavailableError
from packager.window.cadence import cadence
from packager.window.model import Timeline
from tests.conformance.handfed import Track
from tests.packager.dvr.outline_contents import contents
from tests.packager.dvr.rendition_in_bucket import KEY, S3, TIMES, MortalClient, RenditionInBucket
from tests.packager.stored_segments import timeline_of
from tests.s3_server import S3Proxy

pytestmark = pytest.mark.timeout(300)

LIMITS = DvrLimits(new_piece_seconds=0.0, old_piece_seconds=0.0, removal_seconds=0.0)
FIRST = 3 * BLOCK_SEGMENTS - 100
BREAK = 4 * BLOCK_SEGMENTS + 7
BEHIND = 6 * BLOCK_SEGMENTS + 20
FULL = (3, 4, 5)
"""The blocks that have an outline: neither the oldest nor the newest one."""

CHANNEL, RENDITION = "live/one/dvr", "240p"
OUTLINES = f"{CHANNEL}/outlines"

OTHERS = cadence(Fraction(30), 2.0, 0.25)
ALWAYS = 10**12


@pytest.fixture
def timelines(material: dict[str, Track]) -> Sequence[Timeline]:
    return [timeline_of(material["240p"], number) for number in (FIRST, BREAK)]


def line(number: int, stored_by: int = 1, size: int = 100) -> IndexLine:
    """Give the line of a segment of two seconds; some are gaps."""
    init, gap = BREAK if number >= BREAK else FIRST, number % 97 == 0
    return IndexLine(
        number,
        (2 * number, 1),
        (2, 1),
        init=init,
        discontinuity=number == BREAK,
        parts=() if gap else (size, number % 13 + 1),
        presentation_time=(2 * number, 1),
        stored_by=0 if gap else stored_by,
        key_frame_end=number % 50,
    )


def put(rendition: RenditionInBucket, lines: Iterable[IndexLine], stored_by: int = 1) -> list[str]:
    """Store pieces as a process does that stored these lines; give their names."""
    names, before = [], 0
    for _, group in groupby(lines, lambda one: one.number // LIMITS.piece_lines):
        own = list(group)
        names.append(str(PieceName.of(own[0], stored_by, before)))
        before += sum(one.size for one in own)
        data = b"".join((stored_cadence.encode(TIMES), b"\n", *map(encode, own)))
        obstore.put(rendition.store, f"{KEY}/index/{names[-1]}", data)
    return names


def put_all(
    rendition: RenditionInBucket,
    timelines: Sequence[Timeline],
    numbers: Iterable[int] = range(FIRST, BEHIND),
    stored_by: int = 1,
) -> list[str]:
    """Store pieces and init segments; the segments of each process have other lengths."""
    for one in timelines:
        obstore.put(rendition.store, f"{KEY}/init-{one.number}-{stored_by}.mp4", one.init)
    return put(rendition, (line(number, stored_by, 100 * stored_by) for number in numbers), stored_by)


def writer(rendition: RenditionInBucket) -> OutlineWriter:
    """Begin as a process does that stores from now on."""
    store = OutlineStore.in_bucket(rendition.bucket.storing, CHANNEL)
    return OutlineWriter(store, {RENDITION: rendition.past()})


def write_all(rendition: RenditionInBucket) -> list[str]:
    """Write all outlines that are lacking; give the names in their order."""
    one, found, before = writer(rendition), list[str](), rendition.names("outlines/", CHANNEL)
    while one.write_next(0):
        now = rendition.names("outlines/", CHANNEL)
        found += set(now).difference(before)
        before = now
    return found


def read(
    rendition: RenditionInBucket, begin: int = 2 * FIRST, end: int = 2 * BEHIND
) -> tuple[list[object], list[object]]:
    """Give the outlines of a span as another process reads them, and as they are made of segments."""
    past = rendition.past()
    found = contents(past.outlines(Fraction(begin), Fraction(end), ALWAYS))
    return found, contents(outlines_of(past.read(Fraction(0), None, ALWAYS), "m4s"))


def outlined(name: str) -> int:
    return int(name.partition("-")[0]) // BLOCK_SEGMENTS


def test_full_blocks_have_outlines_the_newest_first_and_readers_read_these_alone(
    rendition: RenditionInBucket, timelines: Sequence[Timeline], s3_proxy: S3Proxy
) -> None:
    names = put_all(rendition, timelines)
    assert [outlined(name) for name in write_all(rendition)] == [*reversed(FULL)]
    assert write_all(rendition) == [], "the next process finds them"
    s3_proxy.requests.clear()
    past = rendition.past()
    begin, end = 3 * BLOCK_SEGMENTS, 6 * BLOCK_SEGMENTS
    found = contents(past.outlines(Fraction(2 * begin + 1), Fraction(2 * end), end))
    assert len(s3_proxy.asked("GET", "/outlines/")) == len(FULL)
    assert s3_proxy.asked("GET", f"/index/{names[3]}") == []
    assert s3_proxy.asked("PUT") == [], "whoever reads writes nothing"
    assert found == read(rendition)[1][1:4]
    assert contents(past.outlines(Fraction(2 * begin + 1), Fraction(2 * end), end)) == found
    assert len(s3_proxy.asked("GET", "/outlines/")) == len(FULL), "they stay in memory"


def test_a_process_that_was_killed_before_an_outline_leaves_that_to_the_next_one(
    rendition: RenditionInBucket, timelines: Sequence[Timeline]
) -> None:
    put_all(rendition, timelines)
    client = MortalClient(rendition.bucket.address, S3)
    client.changes = 1
    dying = OutlineWriter(OutlineStore.in_bucket(client, CHANNEL), {RENDITION: rendition.past()})
    assert dying.write_next(0)
    with pytest.raises(UnavailableError):
        dying.write_next(0)
    assert [outlined(name) for name in rendition.names("outlines/", CHANNEL)] == [5]
    found, expected = read(rendition)
    assert found == expected
    assert [outlined(name) for name in write_all(rendition)] == [4, 3]


def test_a_block_gets_its_outline_once_it_is_full(
    rendition: RenditionInBucket, timelines: Sequence[Timeline]
) -> None:
    one = writer(rendition)
    end = 5 * BLOCK_SEGMENTS
    put_all(rendition, timelines, range(FIRST, end - 1))
    while one.write_next(0):
        pass
    assert [outlined(name) for name in rendition.names("outlines/", CHANNEL)] == [3]
    put_all(rendition, timelines, range(FIRST, end + 1))
    assert not one.write_next(0), "as far as is known, there is nothing behind it"
    assert one.write_next(end)
    assert not one.write_next(end)
    assert [outlined(name) for name in rendition.names("outlines/", CHANNEL)] == [3, 4]
    found, expected = read(rendition)
    assert found == expected


@pytest.mark.parametrize("damage", ["torn", "empty", "changed", "foreign", "of another block"])
def test_what_isnt_the_outline_of_these_pieces_is_passed_over(
    rendition: RenditionInBucket, timelines: Sequence[Timeline], damage: str
) -> None:
    put_all(rendition, timelines)
    write_all(rendition)
    other, name, _ = (f"{OUTLINES}/{one}" for one in rendition.names("outlines/", CHANNEL))
    data = bytes(obstore.get(rendition.store, name).bytes())
    changed = bytearray(data)
    changed[random.Random(1).randrange(len(data))] ^= 1
    damaged = {
        "torn": data[: len(data) // 2],
        "empty": b"",
        "changed": bytes(changed),
        "foreign": b"not ours" * 100,
        "of another block": bytes(obstore.get(rendition.store, other).bytes()),
    }
    obstore.put(rendition.store, name, damaged[damage])
    found, expected = read(rendition)
    assert found == expected


def test_of_two_who_stored_the_same_numbers_the_last_one_counts_whoever_was_late(
    rendition: RenditionInBucket, timelines: Sequence[Timeline]
) -> None:
    taken = 4 * BLOCK_SEGMENTS + 300
    put_all(rendition, timelines, range(FIRST, taken + 3), stored_by=2)
    one = writer(rendition)
    put_all(rendition, timelines[1:], range(taken, BEHIND), stored_by=1)
    for _ in range(4):
        one.write_next(BEHIND - BEHIND % LIMITS.piece_lines)
    before = read(rendition)
    assert before[0] == before[1]
    # Who stored before it writes one more line, though others have stored that number, and all behind it.
    put_all(rendition, timelines, range(FIRST, taken + 4), stored_by=2)
    assert read(rendition) == before
    (name,) = (one for one in rendition.names("outlines/", CHANNEL) if outlined(one) == 4)
    former = bytes(obstore.get(rendition.store, f"{OUTLINES}/{name}").bytes())
    assert write_all(rendition) == []
    assert bytes(obstore.get(rendition.store, f"{OUTLINES}/{name}").bytes()) != former, "of more lines"
    assert read(rendition) == before
    (block,) = rendition.past().outlines(Fraction(2 * taken), Fraction(2 * taken + 2), ALWAYS)
    sizes = block.records["size"].tolist()[299:304]
    assert sizes == [line(taken - 1, 2, 200).size, *(line(taken + at).size for at in range(4))]


def test_pieces_of_another_cadence_and_of_an_earlier_version_have_no_outline(
    rendition: RenditionInBucket, timelines: Sequence[Timeline], s3_proxy: S3Proxy
) -> None:
    names = put_all(rendition, timelines)
    write_all(rendition)
    past = rendition.open(rendition.bucket.address).past(f"{rendition.bucket.address}/{KEY}", OTHERS)
    assert past is not None
    assert list(past.outlines(Fraction(2 * FIRST), Fraction(2 * BEHIND), ALWAYS)) == []
    early = names[4]
    data = bytes(obstore.get(rendition.store, f"{KEY}/index/{early}").bytes())
    obstore.delete(rendition.store, f"{KEY}/index/{early}")
    obstore.put(rendition.store, f"{KEY}/index/{'-'.join(early.split('-')[:2])}", data)
    s3_proxy.requests.clear()
    assert write_all(rendition) == []
    found, expected = read(rendition)
    assert found == expected
    found, expected = read(rendition, 2 * BEHIND - 20)
    assert found == expected[-1:]


def expire(rendition: RenditionInBucket, changes: int, before: int) -> bool:
    """Remove pieces whose end is before a number, as a process that dies behind some changes."""
    client = MortalClient(rendition.bucket.address, S3)
    client.changes = changes
    expiry = PieceExpiry(client, KEY, LIMITS)
    try:
        while True:
            end = expiry.end_of_oldest()
            if end is not None and end <= 2000 * before:
                expiry.expire()
            elif not expiry.remove_expired():
                return False
    except UnavailableError:
        return True


@pytest.mark.parametrize("changes", [3, 1000])
def test_outlines_are_removed_with_their_pieces_and_what_isnt_ours_stays(
    rendition: RenditionInBucket, timelines: Sequence[Timeline], changes: int
) -> None:
    put_all(rendition, timelines)
    write_all(rendition)
    first, second, third = rendition.names("outlines/", CHANNEL)
    foreign = (f"{7:015d}-1", "holiday.jpg", f"{first}0")
    for name in foreign:
        obstore.put(rendition.store, f"{OUTLINES}/{name}", b"not ours")
    obstore.put(rendition.store, f"{OUTLINES}/{second}", b"somebody put something else there")
    while expire(rendition, changes, 4 * BLOCK_SEGMENTS + LIMITS.piece_lines):
        found, expected = read(rendition)
        assert found == expected
    assert set(rendition.names("outlines/", CHANNEL)) == {*foreign, second, third}
    found, expected = read(rendition)
    assert found == expected
    assert write_all(rendition) == [], "not of the oldest block, of which pieces are removed"


def test_eight_full_blocks_have_one_object_and_have_their_own_until_then(
    rendition: RenditionInBucket, timelines: Sequence[Timeline], s3_proxy: S3Proxy
) -> None:
    end = 8 * BLOCK_SEGMENTS
    put_all(rendition, timelines, range(FIRST, end))
    singles = [f"{block * BLOCK_SEGMENTS:015d}-1" for block in range(3, 8)]
    assert write_all(rendition) == singles[-2::-1], "the newest block isn't full"
    before = read(rendition, end=2 * end)
    put_all(rendition, timelines, range(FIRST, end + 1))
    assert read(rendition, end=2 * end)[0][:6] == before[0], "as long as it isn't there"
    assert write_all(rendition) == [f"{0:015d}-8"]
    s3_proxy.requests.clear()
    found, expected = read(rendition, end=2 * end)
    assert found == expected
    assert len(s3_proxy.asked("GET", "/outlines/")) == 1
    assert write_all(rendition) == []


def test_while_s3_is_away_outlines_in_memory_are_still_found(
    rendition: RenditionInBucket, timelines: Sequence[Timeline], s3_proxy: S3Proxy
) -> None:
    put_all(rendition, timelines)
    write_all(rendition)
    past = rendition.past()
    span = Fraction(8 * BLOCK_SEGMENTS), Fraction(8 * BLOCK_SEGMENTS + 100), ALWAYS
    before = contents(past.outlines(*span))
    with s3_proxy.refusing():
        assert contents(past.outlines(*span)) == before
        with pytest.raises(OSError, match="S3"):
            list(past.outlines(Fraction(2 * FIRST), Fraction(2 * BEHIND), ALWAYS))


def test_lines_behind_the_end_of_their_piece_are_in_no_other_block(
    rendition: RenditionInBucket, timelines: Sequence[Timeline]
) -> None:
    put_all(rendition, timelines)
    (name,) = rendition.names(f"index/{4 * BLOCK_SEGMENTS:015d}")
    key = f"{KEY}/index/{4 * BLOCK_SEGMENTS:015d}{name}"
    data = bytes(obstore.get(rendition.store, key).bytes())
    crafted = encode(replaced(line(6 * BLOCK_SEGMENTS + 1), parts=(7,)))
    obstore.put(rendition.store, key, data + crafted)
    write_all(rendition)
    past = rendition.past()
    found = past.outlines(Fraction(2 * FIRST), Fraction(2 * BEHIND), ALWAYS)
    assert [one.first // BLOCK_SEGMENTS for one in found] == [2, 3, 4, 5, 6]


@dataclass(frozen=True)
class Block:
    first: int


@pytest.mark.parametrize(("oldest", "named"), [(GROUP_BLOCKS - 2, True), (GROUP_BLOCKS - 1, False)])
def test_no_file_is_asked_for_of_which_no_block_is_full(oldest: int, *, named: bool) -> None:
    full = range((oldest + 1) * BLOCK_SEGMENTS, 2 * GROUP_BLOCKS * BLOCK_SEGMENTS, BLOCK_SEGMENTS)
    ((name, found),) = by_file([Block(oldest * BLOCK_SEGMENTS)], full)
    assert (name is not None) == named
    assert [one.first for one in found] == [oldest * BLOCK_SEGMENTS]
