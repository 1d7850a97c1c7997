"""Sample tables by ISO/IEC 14496-12 §8.6 and §8.7, and what hostile files say in them."""

from __future__ import annotations

import struct
import tracemalloc
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate, pairwise
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from media.errors import MalformedError, MediaError, TooLargeError, UnsupportedError
from media.mp4.movie.box_arrays import STRETCH_LENGTH
from media.mp4.movie.sample_table import MAX_SAMPLES, Samples, SampleTable

LARGE = (65_534, 65_535, 65_536, 1 << 30)
"""Sizes of samples at the end of what two bytes say, and beyond."""


def counted(*rows: Sequence[int], layout: str = "I") -> bytes:
    """Version 0, flags 0, a count and that many rows."""
    return struct.pack(">II", 0, len(rows)) + b"".join(
        struct.pack(f">{len(row)}{layout}", *row) for row in rows
    )


def sizes(*values: int) -> bytes:
    return struct.pack(f">III{len(values)}I", 0, 0, len(values), *values)


def tables(**changes: bytes | None) -> dict[bytes, bytes]:
    """Five samples of 10 to 50 bytes: two in the chunk at 100, two in the one at 200, one at 300."""
    boxes: dict[str, bytes | None] = {
        "stts": counted((4, 512), (1, 100)),
        "stsc": counted((1, 2, 1), (3, 1, 1)),
        "stsz": sizes(10, 20, 30, 40, 50),
        "stco": counted((100,), (200,), (300,)),
        **changes,
    }
    return {kind.encode(): payload for kind, payload in boxes.items() if payload is not None}


def parse_samples(boxes: dict[bytes, bytes], descriptions: int = 1) -> Samples:
    table = SampleTable(boxes, descriptions)
    return table.samples(0, len(table))


def sync_samples(**changes: bytes | None) -> list[int]:
    table = SampleTable(tables(**changes), 1)
    return [int(number) for number in table.sync_samples(0, len(table))]


def test_samples_follow_each_other_in_their_chunks() -> None:
    table = parse_samples(tables(), 1)
    assert table.offset.tolist() == [100, 110, 200, 230, 300]
    assert table.size.tolist() == [10, 20, 30, 40, 50]
    assert table.decode_time.tolist() == [0, 512, 1024, 1536, 2048, 2148]
    assert len(table) == 5


def test_without_stss_every_sample_is_a_sync_sample() -> None:
    assert sync_samples() == [0, 1, 2, 3, 4]


def test_stss_numbers_sync_samples_from_one() -> None:
    assert sync_samples(stss=counted((1,), (4,))) == [0, 3]
    assert sync_samples(stss=counted()) == []


def test_composition_offsets_are_signed_in_version_one() -> None:
    ctts = b"\x01" + counted((1, 1024), (2, -512), (2, 0), layout="i")[1:]
    table = parse_samples(tables(ctts=ctts), 1)
    assert table.composition_offset.tolist() == [1024, -512, -512, 0, 0]
    assert table.composition_time.tolist() == [1024, 0, 512, 1536, 2048]


def test_negative_composition_offsets_of_version_zero_are_taken_as_they_were_meant() -> None:
    ctts = counted((5, -1), layout="i")
    assert parse_samples(tables(ctts=ctts), 1).composition_offset.tolist() == [-1] * 5


def test_all_samples_may_have_one_size() -> None:
    table = parse_samples(tables(stsz=struct.pack(">III", 0, 7, 5)), 1)
    assert table.size.tolist() == [7] * 5
    assert table.offset.tolist() == [100, 107, 200, 207, 300]


@pytest.mark.parametrize(
    ("field_size", "packed"),
    [(4, bytes([0x12, 0x34, 0x50])), (8, bytes([1, 2, 3, 4, 5])), (16, struct.pack(">5H", 1, 2, 3, 4, 5))],
)
def test_compact_sizes_have_4_8_or_16_bits(field_size: int, packed: bytes) -> None:
    stz2 = struct.pack(">IIBI", 0, 0, 0, 0)[:7] + struct.pack(">BI", field_size, 5) + packed
    assert parse_samples(tables(stsz=None, stz2=stz2), 1).size.tolist() == [1, 2, 3, 4, 5]


def test_64_bit_chunk_offsets_reach_beyond_4_gib() -> None:
    co64 = counted((1 << 35,), (1 << 36,), (1 << 40,), layout="Q")
    table = parse_samples(tables(stco=None, co64=co64), 1)
    assert table.offset.tolist() == [1 << 35, (1 << 35) + 10, 1 << 36, (1 << 36) + 30, 1 << 40]


def test_a_track_may_have_no_samples() -> None:
    empty = tables(stts=counted(), stsc=counted(), stsz=struct.pack(">III", 0, 0, 0), stco=counted())
    assert len(parse_samples(empty, 1)) == 0


HUGE = struct.pack(">II", 0, 0xFFFFFFFF) + bytes(12)


@pytest.mark.clause("CWE-789")
@pytest.mark.parametrize("kind", ["stts", "stsc", "stco", "stss", "ctts"])
def test_a_count_larger_than_its_box_is_malformed_before_anything_is_allocated(kind: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(MalformedError):
            parse_samples(tables(**{kind: HUGE}), 1)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.clause("CWE-789")
def test_a_count_of_sizes_larger_than_its_box_is_malformed() -> None:
    with pytest.raises(MalformedError):
        parse_samples(tables(stsz=struct.pack(">III", 0, 0, 1 << 20) + bytes(16)), 1)


@pytest.mark.clause("ISO/IEC 14496-12 §8.6.1.2", "CWE-369")
def test_billions_of_samples_of_one_size_are_refused_before_anything_is_allocated() -> None:
    with pytest.raises(TooLargeError):
        parse_samples(tables(stsz=struct.pack(">III", 0, 1, 0xFFFFFFFF)), 1)
    with pytest.raises(TooLargeError):
        parse_samples(tables(stsz=struct.pack(">III", 0, 1, MAX_SAMPLES + 1)), 1)


@pytest.mark.clause("ISO/IEC 14496-12 §8.6.1.2", "CWE-369")
def test_a_run_of_billions_is_cut_at_the_last_sample() -> None:
    table = parse_samples(tables(stts=counted((0xFFFFFFFF, 1), (0xFFFFFFFF, 1))), 1)
    assert table.decode_time.tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.clause("ISO/IEC 14496-12 §8.7.4")
@pytest.mark.parametrize(
    "change",
    [
        {"stts": counted()},
        {"stts": counted((5, 1 << 31))},
        {"stts": None},
        {"stsc": counted((1, 2, 1), (4, 1, 1))},
        {"stsc": counted((1, 2, 1), (3, 1, 1), (2, 1, 1))},
        {"stsc": counted((1, 2, 1), (2, 2, 1), (2, 2, 1), (3, 1, 1), (3, 1, 1))},
        {"stsc": counted((1, 2, 1), (9, 1, 1))},
        {"stsc": counted((1, 2, 9999), (3, 1, 1))},
        {"stsc": counted()},
        {"stsz": None},
        {"stsz": bytes(11)},
        {"stz2": bytes(12)},
        {"stsz": None, "stz2": struct.pack(">III", 0, 12, 5) + bytes(99)},
        {"stco": None},
        {"stco": counted()},
        {"co64": counted()},
        {"stco": None, "co64": counted((1 << 63,), (1,), (2,), layout="Q")},
        {"stss": counted((0,))},
        {"stss": counted((6,))},
        {"stss": counted((3,), (2,))},
    ],
)
def test_tables_that_do_not_agree_are_malformed(change: dict[str, bytes | None]) -> None:
    with pytest.raises(MalformedError):
        parse_samples(tables(**change), 1)


@pytest.mark.clause("ISO/IEC 14496-12 §8.7.4")
@pytest.mark.parametrize(
    ("entries", "offsets"),
    [
        (((1, 2, 1), (1, 2, 1), (3, 1, 1)), [100, 110, 200, 300]),
        (((1, 2, 1), (1, 1, 1)), [100, 110, 200, 300]),
        (((0, 2, 1), (3, 1, 1)), [100, 200, 300]),
        (((2, 2, 1),), [100, 110, 200, 230, 300]),
        (((1, 2, 1), (3, 0, 1)), [100, 110, 200, 230, 300]),
        (((1, 2, 1), (9, 0, 0)), [100, 110, 200, 230, 300]),
        (((1, 2, 1), (0, 0, 0)), [100, 110, 200, 230, 300]),
        (((1, 2, 1), (0xFFFFFFFF, 1, 1)), [100, 110, 200, 300]),
        (((1, 5, 1), (2, 0, 1), (3, 1, 1)), [100, 110, 130, 160, 200]),
        (((1, 2, 0), (3, 1, 1)), [100, 200, 300]),
        (((1, 1, 1),), [100, 200, 300]),
        (((1, 1, 1), (1, 2, 1), (1, 3, 1)), [100, 200, 220, 250, 300]),
        (((3, 2, 1), (2, 2, 1), (1, 1, 1)), [100, 200, 300]),
    ],
)
def test_entries_of_chunks_that_break_the_rules_are_read_as_ffmpeg_reads_them(
    entries: tuple[tuple[int, int, int], ...], offsets: list[int]
) -> None:
    """The offsets are those that ffprobe 5.1 prints of such a file (``-show_entries packet=pos``)."""
    assert parse_samples(tables(stsc=counted(*entries)), 1).offset.tolist() == offsets


def test_the_last_duration_is_that_of_samples_behind_the_table_and_they_have_no_offset() -> None:
    """ffmpeg and Chromium play a file whose stts or ctts ends before its samples so."""
    short = parse_samples(tables(stts=counted((1, 300), (3, 512))), 1)
    whole = parse_samples(tables(stts=counted((1, 300), (4, 512))), 1)
    assert short.decode_time.tolist() == whole.decode_time.tolist()
    offsets = parse_samples(tables(ctts=counted((2, 700))), 1).composition_offset
    assert offsets.tolist() == [700, 700, 0, 0, 0]


def test_a_change_of_the_sample_entry_within_a_track_is_not_supported() -> None:
    with pytest.raises(UnsupportedError):
        parse_samples(tables(stsc=counted((1, 2, 1), (3, 1, 2))), 2)
    assert SampleTable(tables(stsc=counted((1, 2, 2), (3, 1, 2))), 2).description == 1


def test_chunks_behind_the_last_sample_do_no_harm() -> None:
    table = parse_samples(tables(stco=counted((100,), (200,), (300,), (400,))), 1)
    assert table.offset.tolist() == [100, 110, 200, 230, 300]


@pytest.mark.parametrize(
    ("is_compact", "most_offset", "share", "far"),
    [(False, 90, 0, 0), (True, 5, 0, 400), (True, 5, 0.1, 1 << 20), (True, 9000, 0.6, 0)],
    ids=["as in the file", "compact", "compact, with exceptions", "where nothing can be saved"],
)
def test_any_range_of_a_long_table_is_that_range_of_the_whole(
    is_compact: bool, most_offset: int, share: float, far: int
) -> None:
    """The whole is expanded by the plainest of loops.

    Args:
        share: of the samples that have about as many bytes as two bytes say, or more.
        far: most bytes between the beginnings of two chunks; 0 for chunks in any order.
    """
    random = Random(1)
    count = 3 * STRETCH_LENGTH + 77
    durations = _random_runs(random, count, 0, 9)
    offsets = _random_runs(random, count, -5, most_offset)
    lengths = [
        random.choice(LARGE) if random.random() < share else random.randrange(100) for _ in range(count)
    ]
    sync = [index for index in range(count) if random.random() < 0.1]
    chunks: list[int] = []
    while (left := count - sum(chunks)) > 0:
        chunks += [random.randint(1, min(5, left))] * min(left // 5 + 1, random.randint(1, 4), left)
        while sum(chunks) > count:
            chunks.pop()
    places = [random.randrange(1 << 30) for _ in chunks]
    if far:
        places = [*accumulate(random.randrange(far if random.random() < 0.05 else 400) for _ in chunks)]
    rows = [(number, size, 1) for number, size in enumerate(chunks, 1)]
    table = SampleTable(
        tables(
            stts=counted(*durations),
            ctts=counted(*[(run, value & 0xFFFFFFFF) for run, value in offsets]),
            stsc=counted(*rows),
            stsz=sizes(*lengths),
            stco=counted(*[(place,) for place in places]),
            stss=counted(*[(index + 1,) for index in sync]),
        ),
        1,
    )
    parts = [(start, stop) for start, stop in _random_ranges(random, count) if start < stop]
    ends = [table.data_end(*part) for part in parts]
    if is_compact:
        table.compact()
    times = [0, *accumulate(value for run, value in durations for _ in range(run))]
    shifts = [value for run, value in offsets for _ in range(run)]
    offset: list[int] = []
    for place, size in zip(places, chunks, strict=True):
        for _ in range(size):
            offset.append(place)
            place += lengths[len(offset) - 1]
    assert len(table) == count
    assert table.duration == times[-1]
    for start, stop in [(0, count), (0, 1), (count - 1, count), (5, 5), *_random_ranges(random, count)]:
        found = table.samples(start, stop)
        assert found.offset.tolist() == offset[start:stop]
        assert found.size.tolist() == lengths[start:stop]
        assert found.decode_time.tolist() == times[start : stop + 1]
        assert found.composition_offset.tolist() == shifts[start:stop]
        assert [start + index for index, one in enumerate(found.is_sync) if one] == [
            index for index in sync if start <= index < stop
        ]
        if start < stop:
            assert table.offset_bounds(start, stop) == (min(shifts[start:stop]), max(shifts[start:stop]))
    some = np.array(sorted(random.sample(range(count), 500)))
    assert table.composition_times_of(some).tolist() == [times[one] + shifts[one] for one in some]
    before = [0, *accumulate(lengths)]
    assert table.bytes_between(some).tolist() == [
        before[end] - before[begin] for begin, end in pairwise(some.tolist())
    ]
    firsts = [0, *accumulate(chunks)][:-1]
    assert [one.tolist() for one in table.chunks()] == [places, firsts]
    for time in random.sample(range(times[-1]), 100):
        assert table.decoded_by(time) == bisect_right(times[:-1], time)
    assert [table.data_end(*part) for part in parts] == ends


def test_a_day_of_film_takes_less_than_thirty_mebibytes() -> None:
    """As ffmpeg writes it: a chunk for each picture, and one or two frames of sound between two of them."""
    source = np.random.default_rng(3)
    pictures, frames = 24 * 3600 * 25, 24 * 3600 * 48_000 // 1024
    size = source.integers(2_000, 60_000, pictures)
    size[::50] = 180_000
    sounds = np.full(pictures, 2)
    sounds[source.choice(pictures, 2 * pictures - frames, replace=False)] = 1
    sound = source.integers(200, 500, frames)
    behind = np.add.reduceat(sound, np.cumsum(sounds) - sounds)
    begin = np.cumsum(size + behind) - size - behind + (1 << 20)
    offsets = np.array([2, 5, 2, 0, 1])[np.arange(pictures) % 5] * 512

    def table(
        count: int, stsz: NDArray[np.int64], each: NDArray[np.int64], co64: NDArray[np.int64], **more: bytes
    ) -> SampleTable:
        starts = np.flatnonzero(np.diff(each, prepend=0))
        rows = np.stack((starts + 1, each[starts], np.ones(len(starts), np.int64)), axis=1)
        return SampleTable(
            tables(
                stts=counted((count, 512)),
                stsz=struct.pack(">III", 0, 0, count) + stsz.astype(">u4").tobytes(),
                stsc=struct.pack(">II", 0, len(rows)) + rows.astype(">u4").tobytes(),
                co64=struct.pack(">II", 0, len(co64)) + co64.astype(">u8").tobytes(),
                stco=None,
                **more,
            ),
            1,
        )

    runs = np.stack((np.ones(pictures, np.int64), offsets), axis=1)
    both = (
        table(
            pictures,
            size,
            np.ones(pictures, np.int64),
            begin,
            ctts=struct.pack(">II", 0, pictures) + runs.astype(">u4").tobytes(),
        ),
        table(frames, sound, sounds, begin + size),
    )
    some = [(0, 40), (pictures // 2, pictures // 2 + 150), (pictures - 3, pictures)]
    before = [one.samples(*part) for one in both for part in some]
    for one in both:
        one.compact()
    after = [one.samples(*part) for one in both for part in some]
    for first, second in zip(before, after, strict=True):
        for name in ("offset", "size", "decode_time", "composition_offset", "is_sync"):
            assert getattr(first, name).tolist() == getattr(second, name).tolist()
    assert sum(one.nbytes for one in both) < 30 << 20


def _random_runs(random: Random, count: int, low: int, high: int) -> list[tuple[int, int]]:
    runs = []
    while count:
        run = min(count, random.choice([0, 1, 1, 2, 3, 50]))
        runs.append((run, random.randint(low, high)))
        count -= run
    return runs


def _random_ranges(random: Random, count: int) -> list[tuple[int, int]]:
    ranges = []
    for _ in range(30):
        start, stop = sorted((random.randrange(count), random.randrange(count)))
        ranges.append((start, random.choice([stop, min(start + 100, count)])))
    return ranges


@settings(max_examples=150, deadline=None)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            kind: st.binary(max_size=40) | st.builds(lambda rows: counted(*rows), st.lists(
                st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 3)), max_size=5))
            for kind in ("stts", "ctts", "stsc", "stsz", "stz2", "stco", "co64", "stss")
        },
    )
)  # fmt: skip
def test_any_tables_are_read_or_refused(change: dict[str, bytes]) -> None:
    try:
        whole = SampleTable(tables(**change), 1)
    except MediaError:
        return
    table = whole.samples(0, len(whole))
    whole.compact()
    compact = whole.samples(0, len(whole))
    assert compact.offset.tolist() == table.offset.tolist()
    assert compact.size.tolist() == table.size.tolist()
    assert compact.composition_time.tolist() == table.composition_time.tolist()
    assert len(table.offset) == len(table.size) == len(table.composition_offset) == len(table)
    assert len(table.decode_time) == len(table) + 1
    assert (table.offset >= 0).all()
