"""The past of a DVR whose clock was set: what dates find of it, and what is too old."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import pytest
from msgspec.structs import replace

from packager.dvr.block_writer import BlockWriter
from packager.dvr.index import IndexLine
from packager.dvr.limits import DvrLimits
from packager.dvr.own_files import erase_in
from packager.dvr.past_blocks import PastBlocks
from packager.dvr.segment_removal import BELIEVED_SECONDS, NewestDate
from packager.dvr.stored_blocks import PAST
from packager.past.outlines import BLOCK_SEGMENTS
from packager.past.past_segments import PastSegments
from packager.safe_files import DataFolder
from packager.window.model import LiveSegment
from tests.conformance.handfed import Track
from tests.packager.dvr.rendition_in_bucket import RenditionInBucket
from tests.packager.stored_segments import make_segments

LIMITS = DvrLimits(piece_lines=8, new_piece_seconds=0.0, old_piece_seconds=0.0, pieces_read=4)
SECONDS = 2
HOUR = 3600
BEGIN = 1_795_000_000 - 1_795_000_000 % HOUR


def lines(*runs: tuple[int, int]) -> list[IndexLine]:
    """Make lines: of each run, the date of the first one, and the seconds of all."""
    dates = [begin + at for begin, seconds in runs for at in range(0, seconds, SECONDS)]
    return [
        IndexLine(number, (date, 1), (SECONDS, 1), init=0, parts=(10,))
        for number, date in enumerate(dates, 3 * BLOCK_SEGMENTS)
    ]


def put(path: Path, some: Sequence[IndexLine], segment: LiveSegment) -> None:
    """Put segments into the past, as the process does in whose folder they are."""
    assert segment.timeline is not None
    path.mkdir(exist_ok=True)
    (path / "init-0.mp4").write_bytes(segment.timeline.init)
    for one in some:
        (path / f"{one.number}.m4s").write_bytes(bytes(10))
    with DataFolder.at(path).open() as folder:
        BlockWriter(PastBlocks(path).blocks).put(folder, some)


def found(past: PastSegments, start: Fraction | int, end: Fraction | int) -> list[int]:
    """Return the numbers of a span, whose dates rise, and of which the columns say the same."""
    bounds = Fraction(start), Fraction(end)
    segments = [one for one in past.read(*bounds, 10**12) if one.program_date_time >= start]
    dates = [one.program_date_time for one in segments]
    assert dates == sorted(set(dates))
    there = [one.first + int(at) for one in past.outlines(*bounds, 10**12) for at in one.there]
    numbers = [one.number for one in segments]
    assert set(numbers) <= set(there)
    # What isn't found is missing from the columns as well.
    assert [one for one in there if numbers and numbers[0] <= one <= numbers[-1]] == numbers
    return numbers


@pytest.fixture
def segment(material: dict[str, Track]) -> LiveSegment:
    return make_segments(material["240p"], 1)[0]


@pytest.mark.parametrize("is_earlier", [False, True], ids=["noted", "of an earlier version"])
def test_where_the_clock_was_set_back_each_moment_is_found_at_its_date(
    tmp_path: Path, segment: LiveSegment, *, is_earlier: bool
) -> None:
    path = tmp_path / "240p"
    # Set back an hour within a block.
    some = lines((BEGIN, 2 * HOUR), (BEGIN + HOUR, 2 * HOUR))
    put(path, some[:-1], segment)
    if is_earlier:
        (path / PAST / "set-back").unlink()
    put(path, some[-1:], segment)
    past, number = PastBlocks(path), some[0].number
    for at in range(0, 3 * HOUR - 600, 700):
        begun = [one for one in some if BEGIN + at <= one.date[0] < BEGIN + at + 600]
        newer = {one.date: one.number for one in begun}
        assert found(past, BEGIN + at, BEGIN + at + 600) == [newer[one] for one in sorted(newer)]
    assert found(past, BEGIN, BEGIN + 2 * HOUR) == [
        *range(number, number + HOUR // SECONDS),
        *range(number + 2 * HOUR // SECONDS, number + 3 * HOUR // SECONDS),
    ]
    assert past.oldest() == BEGIN
    # Those that dates don't find are still there for who has their addresses.
    assert past.find(number + HOUR // SECONDS + 10) is not None
    with DataFolder.at(path).open() as folder:
        assert erase_in(folder, PAST), "all of it is ours"


def test_what_a_clock_ahead_or_behind_for_a_moment_dated_is_found_and_hides_nothing(
    tmp_path: Path, segment: LiveSegment
) -> None:
    path, year, minute = tmp_path / "240p", 365 * 86_400, 60
    runs = (
        (BEGIN, HOUR),
        (BEGIN + year, minute),
        (BEGIN + HOUR + minute, HOUR),
        (BEGIN + HOUR // 2, minute),
        (BEGIN + 2 * HOUR + 2 * minute, HOUR),
    )
    some = lines(*runs)
    put(path, some, segment)
    past, number = PastBlocks(path), some[0].number
    edges = list(itertools.accumulate((seconds // SECONDS for _, seconds in runs), initial=number))
    right = [range(edges[at], edges[at + 1]) for at in (0, 2, 4)]
    assert found(past, BEGIN, BEGIN + 4 * HOUR) == list(itertools.chain(*right))
    for at, (begin, seconds) in enumerate(runs):
        assert found(past, begin, begin + seconds) == list(range(edges[at], edges[at + 1]))
    assert past.oldest() == BEGIN


def test_dates_that_rise_are_found_without_a_note(tmp_path: Path, segment: LiveSegment) -> None:
    path = tmp_path / "240p"
    put(path, lines((BEGIN, HOUR), (BEGIN + 2 * HOUR, HOUR)), segment)
    assert not (path / PAST / "set-back").exists()
    # The segments that a start finds are put there once more: it was looked through, and isn't again.
    put(path, lines((BEGIN, HOUR), (BEGIN + 2 * HOUR, HOUR))[-20:], segment)
    assert (path / PAST / "set-back").read_text() == "the clock was never set back\n"
    noted = (path / PAST / "set-back").stat().st_mtime_ns
    put(path, lines((BEGIN, HOUR), (BEGIN + 2 * HOUR, HOUR))[-10:], segment)
    assert (path / PAST / "set-back").stat().st_mtime_ns == noted
    with DataFolder.at(path).open() as folder:
        assert erase_in(folder, PAST), "all of it is ours"


def test_a_clock_that_is_set_back_behind_dates_that_rise_is_noted(
    tmp_path: Path, segment: LiveSegment
) -> None:
    path = tmp_path / "240p"
    some = lines((BEGIN, 2 * HOUR), (BEGIN + HOUR, HOUR))
    rising = 2 * HOUR // SECONDS
    put(path, some[: rising - 20], segment)
    # Two starts, of which the first one looks through what is there.
    put(path, some[rising - 20 : rising], segment)
    put(path, some[rising:], segment)
    past, number = PastBlocks(path), some[0].number
    assert found(past, BEGIN, BEGIN + 2 * HOUR) == [
        *range(number, number + HOUR // SECONDS),
        *range(number + 2 * HOUR // SECONDS, number + 3 * HOUR // SECONDS),
    ]


def test_nothing_is_too_old_by_a_clock_that_was_just_set_forward() -> None:
    newest, year = NewestDate(), 365 * 86_400
    some = lines((BEGIN, HOUR), (BEGIN + year, 600), (BEGIN + HOUR + 600, 600))
    newest.note(some[: HOUR // SECONDS])
    assert newest.before(HOUR) == BEGIN - SECONDS
    newest.note(some[HOUR // SECONDS : HOUR // SECONDS + 300])
    assert BEGIN - SECONDS <= newest.before(HOUR) <= BEGIN + 600
    newest.note(some[HOUR // SECONDS + 300 :])
    assert newest.before(HOUR) == BEGIN + 1200 - SECONDS
    # A clock that goes on for long is right.
    later = lines((BEGIN + year, BELIEVED_SECONDS + 10))
    newest.note(replace(one, number=one.number + 10_000) for one in later)
    assert newest.before(HOUR) > BEGIN + year


def test_a_clock_that_was_far_ahead_keeps_nothing_that_is_too_old(
    tmp_path: Path, segment: LiveSegment
) -> None:
    path, block = tmp_path / "240p", BLOCK_SEGMENTS * SECONDS
    put(path, lines((BEGIN, block), (BEGIN + 365 * 86_400, block), (BEGIN + 2 * block, 2 * block)), segment)
    past = BlockWriter(blocks := PastBlocks(path).blocks)
    assert not past.remove_before(Fraction(BEGIN + 2 * block - 1))
    assert past.remove_before(Fraction(BEGIN + 2 * block))
    assert past.remove_before(Fraction(BEGIN + 2 * block))
    assert not past.remove_before(Fraction(BEGIN + 2 * block))
    assert blocks.numbers() == [5, 6]


def store(rendition: RenditionInBucket, track: Track, *runs: tuple[int, int]) -> tuple[list[int], Fraction]:
    """Store segments of a second: of each run, when the first one begins, and the seconds of all.

    Returns:
        When each begins, and the date from which these seconds count.
    """
    dates = [begin + at for begin, seconds in runs for at in range(seconds)]
    edges = list(itertools.accumulate((seconds for _, seconds in runs), initial=1001))[1:-1]
    made = make_segments(track, len(dates), first=1001, breaks=edges)
    begin, writer = made[0].program_date_time, rendition.writer()
    for one, date in zip(made, dates, strict=True):
        dated = replace(one, date_ratio=(begin + date).as_integer_ratio())
        writer.store(dated, sum(one.number > edge for edge in edges))
    return dates, begin


def test_in_s3_too_each_moment_is_found_at_its_date(
    rendition: RenditionInBucket, material: dict[str, Track]
) -> None:
    # Ahead for a while, right again, and set back.
    runs = ((0, 20), (600, 15), (35, 20), (43, 30))
    dates, begin = store(rendition, material["240p"], *runs)
    for past in (rendition.past(), rendition.past()):
        for start in (*range(0, 69, 3), *range(600, 613, 4)):
            for end in (start + 1, start + 3):
                newer = {date: number for number, date in enumerate(dates, 1001) if start <= date < end}
                wanted = [newer[date] for date in sorted(newer)]
                assert found(past, begin + start, begin + end) == wanted, (start, end)
        assert found(past, begin, begin + 73) == [
            *range(1001, 1021),
            *range(1036, 1044),
            *range(1056, 1086),
        ]
        assert past.find(1050) is not None


def test_in_s3_too_a_clock_that_was_far_ahead_keeps_nothing_that_is_too_old(
    rendition: RenditionInBucket, material: dict[str, Track]
) -> None:
    _, begin = store(rendition, material["240p"], (0, 3), (365 * 86_400, 2), (5, 3))
    assert rendition.writer().expiry.end_of_oldest() == 1000 * (begin + 5)
