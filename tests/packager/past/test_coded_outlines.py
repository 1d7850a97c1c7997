"""Columns in few bytes are the same again, and of another hand none that nobody could count with is read."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from packager.past.coded_outlines import (
    MOST_BLOCKS,
    MOST_TIMELINES,
    CodedColumns,
    NotedOutline,
    OutlineGroup,
    encoded,
)
from packager.past.outlines import (
    BLOCK_SEGMENTS,
    RECORD,
    Columns,
    Outline,
    checked,
    outlines_of,
    with_checksum,
)
from packager.window.model import Timeline
from tests.conformance.handfed import Track
from tests.packager.past.span_runs import FIRST, segments_of
from tests.packager.stored_segments import timeline_of

LARGEST = (1 << 63) - 1
MAGIC = b"outlines 2\n"
HEAD = struct.Struct("<BBHqq")
BEGIN = FIRST - FIRST % BLOCK_SEGMENTS
DIGEST = 7

KINDS: dict[str, Callable[[random.Random, int], list[int]]] = {
    "one number": lambda chosen, most: [chosen.randint(0, most)] * BLOCK_SEGMENTS,
    "rising evenly": lambda chosen, most: [*range(most // 3, most // 3 + 7 * BLOCK_SEGMENTS, 7)],
    "few runs": lambda chosen, most: [chosen.randint(0, most)] * 500 + [chosen.randint(0, most)] * 12,
    "any small": lambda chosen, most: [chosen.randint(0, 200) for _ in range(BLOCK_SEGMENTS)],
    "any": lambda chosen, most: [chosen.randint(0, most) for _ in range(BLOCK_SEGMENTS)],
}


def records_of(chosen: random.Random, kinds: list[str]) -> Columns:
    """Make the records of a block in which each field is of some kind."""
    records = np.zeros(BLOCK_SEGMENTS, RECORD)
    for field, kind in zip(RECORD.names or (), kinds, strict=True):
        if records[field].ndim == 2:
            records[field][:, 0] = KINDS[kind](chosen, 1 << 45)
            records[field][:, 1] = chosen.choice((1, 25, 90_000))
        else:
            records[field] = KINDS["any small" if field == "flags" else kind](chosen, 1 << 31)
    return records


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(),
    blocks=st.lists(st.lists(st.sampled_from(sorted(KINDS)), min_size=7, max_size=7), min_size=1, max_size=4),
    begin=st.integers(0, 511),
    behind=st.integers(512, 2048),
)
def test_columns_are_the_same_again_as_a_whole_and_in_part(
    seed: int, blocks: list[list[str]], begin: int, behind: int
) -> None:
    chosen = random.Random(seed)
    records = [records_of(chosen, kinds) for kinds in blocks]
    count = len(records) * BLOCK_SEGMENTS
    columns = CodedColumns(encoded(records), count)
    for field in RECORD.names or ():
        expected = np.concatenate([one[field] for one in records])
        for first, last in ((0, count), (begin, min(behind, count))):
            found = np.zeros(last - first, RECORD[field])
            columns.copy_to(field, first, found)
            rows, others = found.tolist(), expected[first:last].tolist()
            if found.ndim == 2:
                assert [Fraction(*one) for one in rows] == [Fraction(*one) for one in others]
                assert Fraction(*columns.seconds(field, first)) == Fraction(*others[0])
            else:
                assert rows == others


@pytest.mark.parametrize("ratios", [[(LARGEST, 1), (-LARGEST, 1)], [(1, 2**61 - 1), (LARGEST, 3)]])
def test_seconds_of_any_size_are_the_same_again(ratios: list[tuple[int, int]]) -> None:
    records = np.ones(BLOCK_SEGMENTS, RECORD)
    records["date"] = np.array(ratios * (BLOCK_SEGMENTS // 2))
    columns, found = (
        CodedColumns(encoded([records]), BLOCK_SEGMENTS),
        np.zeros(BLOCK_SEGMENTS, RECORD["date"]),
    )
    columns.copy_to("date", 0, found)
    assert found.tolist() == records["date"].tolist()


def test_whole_months_of_even_segments_take_bytes_for_their_sizes_alone() -> None:
    chosen, records = random.Random(1), np.zeros(BLOCK_SEGMENTS, RECORD)
    for at, row in enumerate(records):
        date = Fraction(1_795_000_000) + at * Fraction(48, 25)
        row["date"] = date.as_integer_ratio()
        row["shown"] = (at * Fraction(48, 25)).as_integer_ratio()
    records["duration"], records["size"] = (48, 25), [chosen.randrange(1 << 24) for _ in records]
    assert len(encoded([records])) < 3 * BLOCK_SEGMENTS + 250


@pytest.fixture(scope="module")
def timeline(material: dict[str, Track]) -> Timeline:
    return timeline_of(material["240p"], 1)


@pytest.fixture
def file(timeline: Timeline) -> list[Any]:
    """The content of a file with two renditions of three blocks."""
    segments = segments_of([(["."] * 4, 700), (["D"] * 4, 300)], timeline)
    outlines = {
        name: [NotedOutline(DIGEST, one) for one in outlines_of(segments[name], "m4s")]
        for name in ("720p", "480p")
    }
    content = checked(MAGIC, OutlineGroup.encode(BEGIN, outlines))
    assert content is not None
    found: list[Any] = msgspec.msgpack.decode(content)
    return found


def read(file: list[Any], timeline: Timeline, rendition: str = "720p") -> list[Outline | None]:
    """Return the outlines of a rendition; none where nothing of the file can be read."""
    data = with_checksum(MAGIC, msgspec.msgpack.encode(file))
    group = OutlineGroup.decode(
        data, BEGIN, lambda number, init: Timeline(number, init, timeline.entry) if init else None
    )
    firsts = range(BEGIN, BEGIN + 3 * BLOCK_SEGMENTS, BLOCK_SEGMENTS)
    return [] if group is None else [group.outline(rendition, first, DIGEST) for first in firsts]


def with_head(blocks: list[Any], column: int, at: int, number: int) -> None:
    """Put a number into the head of a column of a rendition's blocks."""
    data = bytearray(blocks[2])
    head = list(HEAD.unpack_from(data, column * HEAD.size))
    head[at] = number
    HEAD.pack_into(data, column * HEAD.size, *head)
    blocks[2] = bytes(data)


def set_item(place: int, value: Callable[[Any], Any]) -> Callable[[list[Any]], None]:
    def change(blocks: list[Any]) -> None:
        blocks[place] = value(blocks[place])

    return change


def test_as_many_have_begun_at_any_date_as_of_segments(timeline: Timeline) -> None:
    chosen = random.Random(2)
    even = segments_of([(["."] * 4, 1400)], timeline)["720p"]
    even = [replace(one, date_ratio=(2 * one.number, 1), duration=Fraction(2)) for one in even]
    # Whole blocks.
    even = even[-FIRST % BLOCK_SEGMENTS :][: 2 * BLOCK_SEGMENTS]
    for segments in (
        even,
        segments_of([(["."] * 4, 700), (["-"] * 4, 5), (["."] * 4, 700)], timeline)["720p"],
    ):
        made = list(outlines_of(segments, "m4s"))
        data = OutlineGroup.encode(BEGIN, {"720p": [NotedOutline(DIGEST, one) for one in made]})
        group = OutlineGroup.decode(data, BEGIN, lambda number, init: Timeline(number, init, timeline.entry))
        assert group is not None
        for one in made:
            again = group.outline("720p", one.first, DIGEST)
            assert again is not None
            dates = [segment.program_date_time for segment in chosen.sample(segments, 50)]
            for date in (
                date + later for date in dates for later in (0, Fraction(-1, 999), Fraction(1, 999))
            ):
                for before in (False, True):
                    assert again.begun(date, before=before) == one.begun(date, before=before)


def set_head(column: int, head: tuple[int, ...]) -> Callable[[list[Any]], None]:
    """Replace a column by one of which nothing but its head is stored."""

    def change(blocks: list[Any]) -> None:
        count = len(blocks[1]) * BLOCK_SEGMENTS
        heads = list(HEAD.iter_unpack(blocks[2][: 10 * HEAD.size]))
        sizes = [12 * runs if runs else width * count for _, width, runs, _, _ in heads]
        begin = 10 * HEAD.size + sum(sizes[:column])
        data = blocks[2][10 * HEAD.size : begin] + blocks[2][begin + sizes[column] :]
        heads[column] = head
        blocks[2] = b"".join(HEAD.pack(*one) for one in heads) + data

    return change


WIDTH, RUNS, SMALLEST = 1, 2, 3
CHANGES: dict[str, Callable[[list[Any]], None]] = {
    "a date without a denominator": lambda blocks: with_head(blocks, 1, SMALLEST, 0),
    "a negative denominator": lambda blocks: with_head(blocks, 3, SMALLEST, -1),
    "no number of bytes": lambda blocks: with_head(blocks, 7, WIDTH, 9),
    "more bytes": lambda blocks: with_head(blocks, 7, WIDTH, 5),
    "runs that aren't there": lambda blocks: with_head(blocks, 7, RUNS, 3),
    "negative sizes": lambda blocks: with_head(blocks, 8, SMALLEST, -1),
    "sizes beyond all": lambda blocks: with_head(blocks, 8, SMALLEST, 1 << 32),
    "flags beyond all": lambda blocks: with_head(blocks, 9, SMALLEST, 256),
    "cut columns": set_item(2, lambda data: data[:-1]),
    "no columns": set_item(2, lambda data: data[:9]),
    "lines of another file": set_item(3, lambda lines: [99, *lines[1:]]),
    "too few lines": set_item(3, lambda lines: lines[1:]),
    "init segments of another file": set_item(4, lambda inits: dict.fromkeys(inits, 99)),
    "too few init segments": set_item(4, lambda inits: dict(list(inits.items())[1:])),
    "too many timelines": set_item(4, lambda inits: {**inits, 5: 0}),
    "segments that take no time": set_head(2, (0, 0, 0, 0, 0)),
    "dates that rise beyond all": set_head(0, (1, 0, 0, LARGEST, 0)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_of_another_hand_none_is_read_that_nobody_could_count_with(
    file: list[Any], timeline: Timeline, change: str
) -> None:
    assert None not in read(file, timeline)
    CHANGES[change](file[3]["720p"][0])
    assert read(file, timeline) == [None] * 3
    others = read(file, timeline, "480p")
    assert len(others) == 3
    assert None not in others, "they don't depend on each other"


def test_damaged_files_and_lines_that_are_too_long_are_no_outlines(
    file: list[Any], timeline: Timeline
) -> None:
    data, chosen = with_checksum(MAGIC, msgspec.msgpack.encode(file)), random.Random(1)

    def is_read(data: bytes) -> bool:
        return OutlineGroup.decode(data, BEGIN, lambda number, init: None) is not None

    assert is_read(data)
    for damaged in (data[:-1], data + b"x", b""):
        assert not is_read(damaged)
    for _ in range(200):
        changed = bytearray(data)
        changed[chosen.randrange(len(data))] ^= 1 << chosen.randrange(8)
        assert not is_read(bytes(changed))
    file[1] = [[[each[0][0], each[0][1], 1 << 30], each[1]] for each in file[1]]
    assert read(file, timeline) == [None] * 3


def test_init_segments_that_arent_any_and_too_many_blocks_are_refused(
    file: list[Any], timeline: Timeline
) -> None:
    blocks = file[3]["720p"][0]
    blocks[1] = [DIGEST] * (MOST_BLOCKS + 1)
    assert read(file, timeline) == []
    blocks[1] = [DIGEST] * 3
    inits = blocks[4]
    blocks[4] = dict.fromkeys(range(MOST_TIMELINES + 1), 0)
    assert read(file, timeline) == [], "none of them is read"
    blocks[4] = inits
    file[2] = [b"" for _ in file[2]]
    assert read(file, timeline) == [None] * 3
    file[0] += BLOCK_SEGMENTS
    assert read(file, timeline) == [], "it has other numbers than its name says"


ROWS = st.tuples(
    st.sampled_from([0, 1, 255]),
    st.sampled_from([0, 0, 0, 1, 8, 9]),
    st.sampled_from([0, 0, 0, 1, 3]),
    st.sampled_from([0, 1, -1, 90_000, 1 << 31, 1 << 62, LARGEST, -LARGEST - 1]),
    st.sampled_from([0, 1, -1, 1 << 62, LARGEST, -LARGEST - 1]),
)


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    heads=st.lists(st.tuples(st.integers(0, 9), ROWS), max_size=3), cut=st.integers(-2, 2), data=st.binary()
)
def test_whatever_columns_are_read_can_be_counted_with(
    file: list[Any], timeline: Timeline, heads: list[tuple[int, tuple[int, ...]]], cut: int, data: bytes
) -> None:
    blocks = file[3]["720p"][0]
    whole = blocks[2]
    for column, head in heads:
        set_head(column, head)(blocks)
    wanted = 10 * HEAD.size + sum(
        12 * head[RUNS] if head[RUNS] else head[WIDTH] * 3 * BLOCK_SEGMENTS
        for head in HEAD.iter_unpack(blocks[2][: 10 * HEAD.size])
    )
    filled = blocks[2] + (data or b"\1") * wanted
    blocks[2] = filled[: wanted + cut]
    try:
        for one in filter(None, read(file, timeline)):
            for field in RECORD.names or ():
                assert len(one.records[field]) == BLOCK_SEGMENTS
            assert one.begun(Fraction(1_795_000_000)) <= len(one.there)
            for at in one.there.tolist()[::100]:
                assert one.seconds("duration", at)[0] > 0
                assert one.date(at) == Fraction(*one.records["date"][at].tolist())
    finally:
        blocks[2] = whole
