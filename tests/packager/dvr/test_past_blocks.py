"""The blocks of a DVR's past: what is put there is found, whatever happens to the files."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace as replaced

from packager.dvr.block_writer import BlockWriter
from packager.dvr.disk_rendition import DvrFolder
from packager.dvr.index import IndexLine, encode
from packager.dvr.limits import DEFAULT_LIMITS
from packager.dvr.own_files import erase_in
from packager.dvr.past_blocks import PastBlocks
from packager.dvr.stored_blocks import PAST
from packager.past.outlines import BLOCK_SEGMENTS
from packager.safe_files import DataFolder
from packager.window.model import LiveSegment
from tests.conformance.handfed import Track
from tests.packager.stored_segments import make_segments, store

pytestmark = pytest.mark.timeout(300)

FIRST = 3 * BLOCK_SEGMENTS - 6
"""The first number: some are in the block before a boundary, and the others in those behind it."""

BREAK = FIRST + 4
COUNT = 14


@pytest.fixture
def segments(material: dict[str, Track]) -> list[LiveSegment]:
    return make_segments(material["240p"], COUNT, first=FIRST, breaks=(BREAK,))


def archive(path: Path, segments: Sequence[LiveSegment]) -> list[IndexLine]:
    """Store segments, and put them into the past, from where the rendition's folder no longer has them."""
    store(path, segments)
    folder = DvrFolder(path)
    lines = list(folder.load().lines.values())
    folder.archive(lines)
    for line in lines:
        folder.remove(line.number, line.size)
    return lines


def everything(blocks: PastBlocks) -> list[LiveSegment]:
    return blocks.read(Fraction(0), None, 10**12)


def numbers(found: Sequence[LiveSegment]) -> list[int]:
    return [one.number for one in found]


def index_of(path: Path, block: int = FIRST // BLOCK_SEGMENTS) -> Path:
    return path / PAST / str(block) / "index"


def test_what_has_left_the_playlist_is_found_by_its_time_and_number(
    tmp_path: Path, segments: list[LiveSegment]
) -> None:
    path = tmp_path / "240p"
    archive(path, segments)
    blocks = PastBlocks(path)
    assert blocks.blocks.numbers() == [2, 3]
    assert numbers(everything(blocks)) == numbers(segments)
    for one in segments:
        found = blocks.find(one.number)
        assert found is not None
        assert (found.date_ratio, found.duration, found.discontinuity, found.timeline) == (
            one.date_ratio,
            one.duration,
            one.discontinuity,
            one.timeline,
        )
        assert Path(blocks.place_of(one)).read_bytes() == one.data
    for start in range(COUNT):
        for end in range(start + 1, COUNT):
            date, until = segments[start].program_date_time, segments[end].program_date_time
            wanted = numbers(segments[start:end])
            assert numbers(blocks.read(date, until, 10**12)) == wanted
            assert numbers(blocks.read(date + Fraction(1, 3), until, 10**12)) == wanted
            assert numbers(blocks.read(date, None, segments[end].number)) == wanted
    assert blocks.find(FIRST - 1) is None
    assert blocks.oldest() == segments[0].program_date_time
    assert blocks.init(BREAK) == blocks.init(FIRST) == segments[0].timeline.init  # type: ignore[union-attr]


def test_whoever_wants_what_a_start_still_puts_into_the_past_is_refused_until_it_is_there(
    tmp_path: Path, segments: list[LiveSegment]
) -> None:
    path = tmp_path / "240p"
    archive(path, segments[: COUNT // 2])
    writer, end = BlockWriter(PastBlocks(path).blocks), segments[COUNT // 2 - 1].program_date_time
    writer.begin_move()
    blocks = PastBlocks(path)
    start = segments[0].program_date_time
    assert numbers(blocks.read(start, end, 10**12)) == numbers(segments[: COUNT // 2 - 1])
    assert blocks.outlines(start, end, 10**12)
    assert blocks.find(segments[0].number) is not None
    later = segments[COUNT // 2].program_date_time + 1
    for ask in (
        lambda: blocks.read(start, None, 10**12),
        lambda: blocks.read(start, later, 10**12),
        lambda: blocks.outlines(start, later, 10**12),
        lambda: blocks.find(segments[-1].number),
        lambda: blocks.init(segments[-1].number),
    ):
        with pytest.raises(BlockingIOError):
            ask()
    writer.end_move()
    assert numbers(blocks.read(start, None, 10**12)) == numbers(segments[: COUNT // 2])
    assert blocks.find(segments[-1].number) is None
    writer.begin_move()
    assert writer.remove_oldest()
    with DataFolder.at(path).open() as folder:
        assert erase_in(folder, PAST), "it is a file of ours"


def test_another_renditions_segments_stand_for_blocks_that_differ_from_them_by_nothing(
    tmp_path: Path, segments: list[LiveSegment]
) -> None:
    timeline = segments[0].timeline
    assert timeline is not None
    blocks = range(5)
    # Nothing, a gap, a discontinuity, a number that is missing.
    odd = {2: "gap", 3: "break", 4: "hole"}
    for name in ("a", "b"):
        for block in (*blocks, len(blocks)):
            folder = tmp_path / name / PAST / str(block)
            folder.mkdir(parents=True)
            (folder / f"init-{timeline.number}.mp4").write_bytes(timeline.init)
            lines = [
                IndexLine(number, (2 * number, 1), (2, 1), init=timeline.number, parts=(10,))
                for number in range(block * BLOCK_SEGMENTS, (block + 1) * BLOCK_SEGMENTS)
            ]
            what = odd.get(block, "") if name == "b" else ""
            if what == "gap":
                lines[7] = replaced(lines[7], parts=())
            elif what == "break":
                lines[7] = replaced(lines[7], discontinuity=True)
            elif what == "hole":
                del lines[7]
            (folder / "index").write_bytes(b"".join(map(encode, lines)))
    own = everything(PastBlocks(tmp_path / "a"))
    assert len(own) == BLOCK_SEGMENTS * (len(blocks) + 1)
    whole, reader = everything(PastBlocks(tmp_path / "b")), PastBlocks(tmp_path / "b")
    for _ in range(2):
        found = reader.read(Fraction(0), None, 10**12, own)
        assert found == whole
        known = set(map(id, own))
        assert {one.number // BLOCK_SEGMENTS for one in found if id(one) in known} == {1}


def test_no_more_blocks_than_the_limit_are_in_memory(tmp_path: Path, segments: list[LiveSegment]) -> None:
    path = tmp_path / "240p"
    archive(path, segments)
    blocks = PastBlocks(path, replace(DEFAULT_LIMITS, blocks_read=1, blocks_dated=1))
    for _ in range(3):
        assert numbers(everything(blocks)) == numbers(segments)
        assert len(blocks.blocks._read) <= 1
        assert len(blocks.blocks._begins) <= 1


def test_the_oldest_block_goes_once_its_time_is_over_and_its_bytes_are_counted(
    tmp_path: Path, segments: list[LiveSegment]
) -> None:
    path = tmp_path / "240p"
    archive(path, segments)
    blocks = PastBlocks(path)
    writer = BlockWriter(blocks.blocks)
    assert writer.nbytes == sum(len(one.data) for one in segments)
    second = next(one for one in segments if one.number == 3 * BLOCK_SEGMENTS)
    assert not writer.remove_before(second.program_date_time - Fraction(1, 100))
    assert writer.remove_before(second.program_date_time)
    rest = [one for one in segments if one.number >= 3 * BLOCK_SEGMENTS]
    assert numbers(everything(blocks)) == numbers(rest)
    assert numbers(everything(PastBlocks(path))) == numbers(rest)
    assert writer.nbytes == sum(len(one.data) for one in rest)
    assert blocks.init(BREAK) is not None, "the segments that are left need it"
    assert not (path / PAST / "2").exists()
    assert writer.remove_oldest()
    assert not writer.remove_oldest()
    assert everything(blocks) == []


def test_the_oldest_block_becomes_shorter_for_all_who_have_read_it(
    tmp_path: Path, segments: list[LiveSegment]
) -> None:
    path = tmp_path / "240p"
    archive(path, segments)
    writing, reading = PastBlocks(path), PastBlocks(path)
    writer = BlockWriter(writing.blocks)
    start, end = segments[0].program_date_time, segments[-1].program_date_time + 1
    foreign = Path(writing.place_of(segments[1]))
    foreign.write_bytes(b"mine")
    for gone in (2, 4, 7):
        writer.remove_until(segments[gone - 1].number)
        rest = segments[gone:]
        for blocks in (writing, reading):
            assert blocks.oldest() == rest[0].program_date_time
            assert numbers(everything(blocks)) == numbers(rest)
            there = [
                one.first + at for one in blocks.outlines(start, end, 10**12) for at in one.there.tolist()
            ]
            assert there == numbers(rest)
            assert blocks.find(segments[gone - 1].number) is None
            assert BlockWriter(blocks.blocks).nbytes == sum(len(one.data) for one in rest)
        assert foreign.exists(), "it isn't what was written"
    assert not Path(writing.place_of(segments[2])).exists()
    assert [one.name for one in foreign.parent.iterdir()] == [foreign.name], "of a block that is gone"
    writer.remove_until(segments[-1].number)
    assert everything(reading) == []
    assert reading.oldest() is None


def test_what_others_have_put_into_a_block_stays_and_holds_nothing_up(
    tmp_path: Path, segments: list[LiveSegment]
) -> None:
    path = tmp_path / "240p"
    archive(path, segments)
    (path / PAST / "2" / "notes.txt").write_text("mine")
    (path / PAST / "other").mkdir()
    blocks = PastBlocks(path)
    writer = BlockWriter(blocks.blocks)
    assert writer.remove_oldest()
    assert [one.name for one in (path / PAST / "2").iterdir()] == ["notes.txt"]
    assert writer.remove_oldest()
    assert (path / PAST / "other").is_dir()
    assert everything(blocks) == []


@pytest.mark.parametrize("behind", [1, 3])
def test_blocks_that_a_crash_left_without_an_index_hide_none_before_them(
    tmp_path: Path, segments: list[LiveSegment], behind: int
) -> None:
    path = tmp_path / "240p"
    archive(path, segments)
    for block in range(4, 4 + behind):
        (path / PAST / str(block)).mkdir()
    for at, one in enumerate(segments):
        date = one.program_date_time
        assert numbers(PastBlocks(path).read(date, None, 10**12)) == numbers(segments[at:])
        assert numbers(PastBlocks(path).read(date, date + 1, 10**12))[0] == one.number
    assert numbers(everything(PastBlocks(path))) == numbers(segments)


@pytest.mark.parametrize("cut", [1, 30, 200])
def test_a_line_that_a_crash_cut_off_costs_no_other_one(
    tmp_path: Path, segments: list[LiveSegment], cut: int
) -> None:
    path = tmp_path / "240p"
    lines = archive(path, segments[:5])
    index = index_of(path)
    os.truncate(index, index.stat().st_size - cut)
    torn = -(-(cut - 1) // len(encode(lines[0])))
    assert numbers(everything(PastBlocks(path))) == numbers(segments[: 5 - torn])
    # The next start puts what is still listed there again, and then goes on.
    store(path, segments[5:6])
    folder = DvrFolder(path)
    folder.archive([*lines, *folder.load().lines.values()])
    assert numbers(everything(PastBlocks(path))) == numbers(segments[:6])


@settings(
    deadline=None,
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(seed=st.integers(0, 10**9), noise=st.binary(min_size=1, max_size=60), kind=st.integers(0, 3))
def test_whatever_an_index_holds_nothing_is_found_that_was_not_put_there(
    tmp_path_factory: pytest.TempPathFactory,
    segments: list[LiveSegment],
    seed: int,
    noise: bytes,
    kind: int,
) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "240p"
    archive(path, segments)
    index = index_of(path)
    data, at = index.read_bytes(), random.Random(seed).randrange(index.stat().st_size)
    index.write_bytes((data[:at] + noise + data[at:], data[:at], data[:at] + noise, noise)[kind])
    blocks = PastBlocks(path)
    behind = [one.number for one in segments if one.number // BLOCK_SEGMENTS == 3]
    found = numbers(everything(blocks))
    assert found == sorted(found)
    assert [one for one in found if one // BLOCK_SEGMENTS == 3] == behind, "other blocks are whole"
    assert all(one // BLOCK_SEGMENTS in (2, 3) for one in found)
    for number in range(FIRST - 2, FIRST + COUNT + 2):
        blocks.find(number)
    writer = BlockWriter(blocks.blocks)
    assert writer.nbytes >= 0
    blocks.oldest()
    while writer.remove_oldest():
        pass


def test_files_that_are_gone_or_no_files_are_no_segments(tmp_path: Path, segments: list[LiveSegment]) -> None:
    path = tmp_path / "240p"
    archive(path, segments)
    index_of(path).unlink()
    index_of(path).symlink_to("/dev/zero")
    index_of(path, 3).unlink()
    index_of(path, 3).mkdir()
    blocks = PastBlocks(path)
    assert everything(blocks) == []
    assert blocks.oldest() is None
    assert blocks.find(FIRST) is None


def test_what_is_in_the_past_is_not_set_aside_where_its_line_has_gone(
    tmp_path: Path, segments: list[LiveSegment]
) -> None:
    path = tmp_path / "240p"
    store(path, segments)
    folder = DvrFolder(path)
    lines = list(folder.load().lines.values())
    folder.archive(lines[:-2])
    # The files stay for the next start, which may come once the lines have gone, as behind a crash.
    (path / "index").write_bytes(b"".join(map(encode, lines[-1:])))
    again = DvrFolder(path)
    assert list(again.load().lines) == [lines[-1].number]
    assert again.faults.segments == [lines[-2].number], "only what is nowhere else is set aside"
    assert not any((path / f"{line.number}.m4s").exists() for line in lines[:-1])
    assert numbers(everything(PastBlocks(path))) == numbers(segments)[:-2]


def test_whenever_the_writer_is_killed_nothing_is_lost_that_was_listed(
    tmp_path: Path, segments: list[LiveSegment]
) -> None:
    path = tmp_path / "240p"
    store(path, segments)
    published = {one.number: one.data for one in segments}
    for round_ in range(12):
        kill_an_archiver(path, round_ % 5)
        kept = {number for number in published if (path / f"{number}.m4s").exists()}
        blocks = PastBlocks(path)
        found = everything(blocks)
        assert kept | set(numbers(found)) == published.keys()
        for one in found:
            assert Path(blocks.place_of(one)).read_bytes() == published[one.number]
    assert numbers(everything(PastBlocks(path)))


def kill_an_archiver(path: Path, most: int) -> None:
    """Let a process put segments into the past one by one, and remove them; kill it after some."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            folder = DvrFolder(path)
            for line in folder.load().lines.values():
                folder.archive([line])
                os.write(writing, b".")
                folder.remove(line.number, line.size)
        finally:
            os._exit(0)
    os.close(writing)
    told = 0
    while told < most and os.read(reading, 1):
        told += 1
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(reading)
