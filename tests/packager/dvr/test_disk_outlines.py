"""The outlines of a DVR on a disk: the same as made of its index, whatever happens, and removed with it."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import groupby
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace as replaced

from packager.dvr.block_writer import BlockWriter
from packager.dvr.index import IndexLine, encode
from packager.dvr.own_files import erase
from packager.dvr.past_blocks import PastBlocks
from packager.dvr.stored_blocks import PAST
from packager.dvr.stored_outlines import GROUP_BLOCKS, OUTLINE_FOLDER, OutlineStore, OutlineWriter
from packager.past.coded_outlines import OUTLINES_BEGIN
from packager.past.outlines import BLOCK_SEGMENTS, RECORD, Outline, outlines_of, with_checksum
from packager.safe_files import DataFolder
from packager.window.model import Timeline
from tests.conformance.handfed import Track
from tests.packager.dvr.outline_contents import contents
from tests.packager.stored_segments import timeline_of

pytestmark = pytest.mark.timeout(300)

FIRST = 3 * BLOCK_SEGMENTS - 100
BREAK = 4 * BLOCK_SEGMENTS + 7
BEHIND = 9 * BLOCK_SEGMENTS + 20
NAMES = "240p", "480p"
FULL = ["000000000000000-8", "000000000004096-1"]
"""The files of what is complete: of the blocks 2 to 7 together, and of the block 8."""

ALWAYS = 10**12


@pytest.fixture(scope="module")
def timelines(material: dict[str, Track]) -> Sequence[Timeline]:
    return [timeline_of(material["240p"], number) for number in (FIRST, BREAK)]


def line(number: int) -> IndexLine:
    """Give the line of a segment of two seconds; some are gaps."""
    return IndexLine(
        number,
        (2 * number, 1),
        (2, 1),
        init=BREAK if number >= BREAK else FIRST,
        discontinuity=number == BREAK,
        parts=() if number % 97 == 0 else (100, number % 13 + 1),
        presentation_time=(2 * number, 1),
        key_frame_end=number % 50,
    )


def put(
    dvr: Path,
    timelines: Sequence[Timeline],
    numbers: range = range(FIRST, BEHIND),
    away: range = range(0),
    later: int = 0,
) -> None:
    """Put segments of all renditions into the past, but for their media.

    Args:
        away: numbers that aren't there.
        later: by how many seconds segments are dated later from the middle on.
    """
    lines = [line(number) for number in numbers if number not in away]
    middle = 6 * BLOCK_SEGMENTS + 50
    lines = [
        replaced(one, date=(one.date[0] + later * (one.number >= middle), 1)) if later else one
        for one in lines
    ]
    for name in NAMES:
        for block, own in groupby(lines, lambda one: one.number // BLOCK_SEGMENTS):
            folder = dvr / name / PAST / str(block)
            folder.mkdir(parents=True, exist_ok=True)
            for one in timelines:
                (folder / f"init-{one.number}.mp4").write_bytes(one.init)
            with (folder / "index").open("ab") as file:
                file.write(b"".join(map(encode, own)))


def writer(dvr: Path) -> OutlineWriter:
    return OutlineWriter(OutlineStore.on_disk(DataFolder(dvr)), blocks(dvr))


def blocks(dvr: Path) -> Mapping[str, PastBlocks]:
    return {name: PastBlocks(DataFolder(dvr / name)) for name in NAMES}


def write_all(dvr: Path) -> list[str]:
    """Write all outlines that are lacking; give the names of all files that are there then."""
    one = writer(dvr)
    while one.write_next(0):
        pass
    return files(dvr)


def files(dvr: Path) -> list[str]:
    return sorted(one.name for one in (dvr / OUTLINE_FOLDER).iterdir())


@contextlib.contextmanager
def another_process(dvr: Path) -> Iterator[Mapping[str, list[Outline]]]:
    """Give the outlines of all blocks as another process reads them."""
    # Under a name of its own, of which nothing is in memory.
    place = dvr.with_name(f"again-{random.randbytes(8).hex()}")
    dvr.rename(place)
    try:
        yield {name: one.outlines(Fraction(0), None, ALWAYS) for name, one in blocks(place).items()}
    finally:
        place.rename(dvr)


def read(dvr: Path) -> Mapping[str, list[object]]:
    """Give the contents of these outlines."""
    with another_process(dvr) as found:
        return {name: contents(own) for name, own in found.items()}


def expected(dvr: Path) -> Mapping[str, list[object]]:
    """Give them as they are made of segments."""
    return {
        name: contents(outlines_of(one.read(Fraction(0), None, ALWAYS), "m4s"))
        for name, one in blocks(dvr).items()
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, timelines: Sequence[Timeline]) -> Path:
    """A DVR of two renditions with all of its outlines."""
    found = tmp_path_factory.mktemp("outlined") / "dvr"
    put(found, timelines)
    assert write_all(found) == FULL
    return found


@pytest.fixture
def dvr(tmp_path: Path, made: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "dvr"))


def test_eight_full_blocks_have_one_file_of_all_renditions_which_alone_is_read(dvr: Path) -> None:
    wanted = expected(dvr)
    assert read(dvr) == wanted
    for name in NAMES:
        for block in range(3, 9):
            index = dvr / name / PAST / str(block) / "index"
            index.write_bytes(b"x" * index.stat().st_size)
    assert read(dvr) == wanted


def test_blocks_have_files_of_their_own_until_there_are_eight(
    tmp_path: Path, timelines: Sequence[Timeline]
) -> None:
    dvr, end = tmp_path / "dvr", GROUP_BLOCKS * BLOCK_SEGMENTS
    put(dvr, timelines, range(FIRST, end))
    one = writer(dvr)
    while one.write_next(0):
        pass
    singles = [f"{block * BLOCK_SEGMENTS:015d}-1" for block in range(2, 7)]
    assert files(dvr) == singles, "the newest block isn't full"
    assert read(dvr) == expected(dvr)
    put(dvr, timelines, range(end, end + 1))
    assert read(dvr) == expected(dvr), "as long as it isn't there"
    while one.write_next(0):
        pass
    assert files(dvr) == [FULL[0], *singles]
    assert read(dvr) == expected(dvr)


def test_those_of_an_earlier_version_are_passed_over_and_go_with_their_blocks(
    tmp_path: Path, timelines: Sequence[Timeline]
) -> None:
    dvr = tmp_path / "dvr"
    put(dvr, timelines)
    for name in NAMES:
        for block in range(2, 9):
            (dvr / name / PAST / str(block) / "outline").write_bytes(b"outline 1\n" + bytes(100))
    assert read(dvr) == expected(dvr)
    assert write_all(dvr) == FULL
    assert read(dvr) == expected(dvr)
    assert all(BlockWriter(one.blocks).remove_oldest() for one in blocks(dvr).values())
    assert not (dvr / NAMES[0] / PAST / "2").exists()


@pytest.mark.parametrize("pause", ["none", "of the source", "of the server", "of the clock"])
def test_the_blocks_of_a_span_are_found_however_uneven_their_dates_are(
    tmp_path: Path, timelines: Sequence[Timeline], pause: str
) -> None:
    dvr, away, later = tmp_path / "dvr", range(0), 0
    if pause == "of the server":
        away = range(4 * BLOCK_SEGMENTS - 200, 7 * BLOCK_SEGMENTS + 200)
    elif pause != "none":
        later = 20_000 if pause == "of the source" else -900
    put(dvr, timelines, range(FIRST, BEHIND), away, later)
    past, chosen = blocks(dvr)["240p"], random.Random(pause)
    every = past.read(Fraction(0), None, ALWAYS)
    dates = [float(one.program_date_time) for one in every]
    for _ in range(200):
        start, end = sorted(chosen.uniform(min(dates) - 500, max(dates) + 500) for _ in range(2))
        if chosen.random() < 0.3:
            start, end = sorted((chosen.choice(dates), chosen.choice(dates) + 2))
        found = past.outlines(Fraction(start), Fraction(end), ALWAYS)
        wanted = past.read(Fraction(start), Fraction(end), ALWAYS)
        begun = [one.first for one in found if one.date(int(one.there[0])) <= start]
        assert {one.number - one.number % BLOCK_SEGMENTS for one in wanted} <= {one.first for one in found}
        assert len(begun) <= 1, "what ended before the span isn't read"


DAMAGES = ("torn", "empty", "changed", "foreign", "too long", "of another block", "a folder", "a link")


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_isnt_the_outline_of_this_index_is_passed_over_and_made_again(dvr: Path, damage: str) -> None:
    path, other = (dvr / OUTLINE_FOLDER / name for name in FULL)
    whole = path.read_bytes()
    changed = bytearray(whole)
    changed[random.Random(1).randrange(len(whole))] ^= 1
    path.unlink()
    if damage == "a folder":
        path.mkdir()
    elif damage == "a link":
        path.symlink_to("/dev/zero")
    else:
        made = {
            "torn": whole[: len(whole) // 2],
            "empty": b"",
            "changed": bytes(changed),
            "foreign": b"not ours" * 100,
            "too long": whole + bytes(3 << 20),
            "of another block": other.read_bytes(),
        }
        path.write_bytes(made[damage])
    assert read(dvr) == expected(dvr)
    write_all(dvr)
    assert path.read_bytes() == whole
    assert not path.is_symlink()
    aside = [one for one in (dvr / OUTLINE_FOLDER).glob("aside/*/*") if one.name == path.name]
    assert len(aside) == (damage in ("foreign", "a folder", "a link")), "nothing of others is overwritten"


def test_an_index_that_grew_late_has_another_outline_once_the_next_process_looks(dvr: Path) -> None:
    late = replaced(line(5 * BLOCK_SEGMENTS + 9), parts=(7,))
    with (dvr / NAMES[1] / PAST / "5" / "index").open("ab") as file:
        file.write(encode(late))
    before = (dvr / OUTLINE_FOLDER / FULL[0]).read_bytes()
    wanted = expected(dvr)
    assert read(dvr) == wanted
    assert write_all(dvr) == FULL
    assert (dvr / OUTLINE_FOLDER / FULL[0]).read_bytes() != before
    assert read(dvr) == wanted


def test_whenever_its_writer_is_killed_the_next_process_finds_what_is_there_and_makes_the_rest(
    tmp_path: Path, timelines: Sequence[Timeline]
) -> None:
    dvr = tmp_path / "dvr"
    put(dvr, timelines)
    wanted = expected(dvr)
    for steps in range(9):
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            with contextlib.suppress(BaseException):
                one = writer(dvr)
                while one.write_next(0):
                    os.write(writing, b".")
            os._exit(0)
        os.close(writing)
        for _ in range(steps):
            os.read(reading, 1)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reading)
        assert read(dvr) == wanted
    # As a kill in the middle of a file leaves it.
    (dvr / OUTLINE_FOLDER).mkdir(exist_ok=True)
    (dvr / OUTLINE_FOLDER / f"{FULL[0]}.0123abcd.tmp").write_bytes(OUTLINES_BEGIN)
    assert write_all(dvr) == FULL
    assert read(dvr) == wanted


def test_of_a_block_of_which_something_cant_be_read_none_is_written(
    tmp_path: Path, timelines: Sequence[Timeline]
) -> None:
    dvr = tmp_path / "dvr"
    put(dvr, timelines)
    (init,) = (dvr / NAMES[0] / PAST / "8").glob(f"init-{BREAK}.mp4")
    init.unlink()
    write_all(dvr)
    assert read(dvr) == expected(dvr), "of it, only gaps are there"
    init.write_bytes(timelines[1].init)
    assert read(dvr) == expected(dvr)


def test_outlines_are_removed_with_their_blocks_and_what_isnt_ours_stays(dvr: Path) -> None:
    folder = dvr / OUTLINE_FOLDER
    for name in ("000000000000512-1", "holiday.jpg", f"{FULL[1]}0"):
        (folder / name).write_bytes(b"not ours")
    store = OutlineStore.on_disk(DataFolder(dvr))
    store.remove_before(GROUP_BLOCKS * BLOCK_SEGMENTS - 1)
    assert FULL[0] in files(dvr), "of the last block there may still be something"
    store.remove_before(GROUP_BLOCKS * BLOCK_SEGMENTS)
    assert files(dvr) == ["000000000000512-1", FULL[1], f"{FULL[1]}0", "holiday.jpg"]
    assert read(dvr) == expected(dvr)
    with DataFolder(dvr).open() as opened:
        assert not erase(opened)
    assert files(dvr) == ["000000000000512-1", f"{FULL[1]}0", "holiday.jpg"]


def test_a_folder_far_before_all_others_costs_no_more_than_they_do(dvr: Path) -> None:
    for one in blocks(dvr).values():
        assert len(one.full_blocks(0)) == 7
    for name in NAMES:
        (dvr / name / PAST / "0").mkdir()
        (dvr / name / PAST / str(10**14)).mkdir()
    for one in blocks(dvr).values():
        assert len(one.full_blocks(0)) <= 1 << 15


def in_short(outlines: Mapping[str, list[Outline]]) -> list[object]:
    return [
        (
            name,
            one.first,
            one.pieces,
            *(one.records[field].tolist() for field in ("size", "flags")),
        )
        for name, own in outlines.items()
        for one in own
    ]


@pytest.fixture(scope="module")
def wanted(made: Path) -> list[object]:
    return in_short(
        {
            name: list(outlines_of(one.read(Fraction(0), None, ALWAYS), "m4s"))
            for name, one in blocks(made).items()
        }
    )


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(), noise=st.binary(min_size=1, max_size=60), kind=st.integers(0, 4))
def test_whatever_a_file_holds_the_outlines_are_those_of_the_index(
    made: Path, wanted: list[object], seed: int, noise: bytes, kind: int
) -> None:
    path = made / OUTLINE_FOLDER / FULL[0]
    whole = path.read_bytes()
    at = random.Random(seed).randrange(len(whole))
    rest = whole[at + len(noise) :]
    kinds = (whole[:at] + noise + whole[at:], whole[:at] + noise + rest, whole[:at], noise, whole + noise)
    path.write_bytes(kinds[kind])
    try:
        with another_process(made) as found:
            assert in_short(found) == wanted
        assert path.read_bytes() == kinds[kind], "whoever reads writes nothing"
    finally:
        path.write_bytes(whole)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(changes=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 19), st.integers(0, 255)), max_size=4))
def test_whatever_columns_a_file_has_can_be_counted_with(
    made: Path, changes: list[tuple[int, int, int]]
) -> None:
    path = made / OUTLINE_FOLDER / FULL[0]
    whole = path.read_bytes()
    begin = whole.index(b"\n") + 1
    file = msgspec.msgpack.decode(whole[begin + 4 :])
    for own in file[3].values():
        data = bytearray(own[0][2])
        for column, at, value in changes:
            data[20 * column + at] = value
        own[0][2] = bytes(data)
    path.write_bytes(with_checksum(whole[:begin], msgspec.msgpack.encode(file)))
    try:
        with another_process(made) as found:
            for one in (one for own in found.values() for one in own):
                for field in RECORD.names or ():
                    assert len(one.records[field]) == BLOCK_SEGMENTS
                for at in one.there.tolist()[::100]:
                    assert one.seconds("duration", at)[0] > 0
                    assert one.date(at) == Fraction(*one.records["date"][at].tolist())
    finally:
        path.write_bytes(whole)
