"""Files of ours that say what can't be, and indexes that are lost: a start loses that, and nothing else."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from media.errors import MalformedError
from media.mp4.fragments.fragments import write_fragment
from media.mp4.fragments.live_segment_reader import read_live_segment
from media.mp4.fragments.moof import Sample
from packager.dvr import index
from packager.dvr.disk_archive import DiskArchive
from packager.dvr.disk_rendition import DvrFolder
from packager.dvr.index import INDEX, MAX_UNREADABLE_LINES, IndexLine
from packager.dvr.limits import DvrLimits
from packager.process.ffmpeg_discovery import Tools
from packager.window.sequence_numbers import MAX_NUMBER, SequenceNumbers
from tests.conformance.handfed import NUMBER, Track
from tests.packager.station import PARTS, on_air
from tests.packager.stored_segments import contents, make_segments, store

pytestmark = pytest.mark.timeout(600)

COUNT = 9
LAST = NUMBER + COUNT - 1


def line(number: int, **other: object) -> bytes:
    said: dict[str, object] = {"number": number, "date": [number, 1], "duration": [1, 1]}
    return json.dumps(said | other).encode() + b"\n"


def with_line(number: int, change: Callable[[dict[str, object]], object]) -> Callable[[bytes], bytes]:
    """Change what the line of a number says."""

    def edit(data: bytes) -> bytes:
        lines = []
        for text in data.splitlines():
            said = json.loads(text)
            if said["number"] == number:
                change(said)
            lines.append(json.dumps(said).encode() + b"\n")
        return b"".join(lines)

    return edit


def saying(number: int, /, **values: object) -> Callable[[bytes], bytes]:
    return with_line(number, lambda said: said.update(values))


def exchanged(data: bytes, one: int, other: int) -> bytes:
    return (
        data.replace(b":%d," % one, b"@")
        .replace(b":%d," % other, b":%d," % one)
        .replace(b"@", b":%d," % other)
    )


EDITS: dict[str, Callable[[bytes], bytes]] = {
    "a gap ten million numbers ahead": lambda data: data + line(LAST + 10**7),
    "a gap ten million numbers before": lambda data: line(NUMBER - 10**7) + data,
    "a gap of the largest number": lambda data: data + line(MAX_NUMBER),
    "a number of 10^15": lambda data: data + line(10**15),
    "a segment's number of 10^15": saying(NUMBER + 4, number=10**15),
    "a segment's number off by ten million": saying(NUMBER + 4, number=NUMBER + 10**7),
    "two segments' numbers exchanged": lambda data: exchanged(data, NUMBER + 3, NUMBER + 4),
    "a date of the year 10^9": saying(NUMBER + 4, date=[10**17, 1]),
    "a date of 1902": saying(NUMBER + 4, date=[-(2**31), 1]),
    "a date of 2090": saying(NUMBER + 4, date=[3_800_000_000, 1]),
    "the first date of 2090": saying(NUMBER, date=[3_800_000_000, 1]),
    "the last date of 2090": saying(LAST, date=[3_800_000_000, 1]),
    "a date over nothing": saying(NUMBER + 4, date=[1, 0]),
    "a date of 10^400": saying(NUMBER + 4, date=[10**400, 1]),
    "a duration of 2^63": saying(NUMBER + 4, duration=[2**63, 1]),
    "a duration of an hour": saying(NUMBER + 4, duration=[3600, 1]),
    "a duration of nothing": saying(NUMBER + 4, duration=[0, 1]),
    "a negative duration": saying(NUMBER + 4, duration=[-1, 1]),
    "a length of 2^63": saying(NUMBER + 4, parts=[2**63]),
    "a length of 2^31": saying(NUMBER + 4, parts=[2**31 - 1]),
    "negative lengths": saying(NUMBER + 4, parts=[-1, -2]),
    "a hundred thousand parts": saying(NUMBER + 4, parts=[1] * 100_000),
    "10^18 discontinuities": saying(NUMBER + 4, left=10**18),
    "10^8 discontinuities": saying(NUMBER + 4, left=10**8),
    "another timeline": saying(NUMBER + 4, init=NUMBER + 1),
    "not a number": lambda data: data.replace(b'"duration":[1,1]', b'"duration":[NaN,1]', 3),
    "infinity": lambda data: data.replace(b'"duration":[1,1]', b'"duration":[1e999,1]', 3),
    "invalid UTF-8": lambda data: data.replace(b"number", b"n\xffmber", 4),
    "lines twice": lambda data: data + data,
    "lines from the last to the first": lambda data: b"".join(reversed(data.splitlines(keepends=True))),
    "no ends of lines": lambda data: data.replace(b"\n", b" "),
    "Windows' ends of lines": lambda data: data.replace(b"\n", b"\r\n"),
    "zeros": lambda data: bytes(len(data)),
    "nothing": lambda _: b"",
    "the first half": lambda data: data[: len(data) // 2],
    "depth": lambda data: b"[" * 100_000 + b"\n" + data,
}


@pytest.mark.parametrize("edit", EDITS)
async def test_whatever_an_index_says_all_segments_are_listed_as_they_were(
    edit: str, tmp_path: Path, material: dict[str, Track], tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with on_air(tmp_path, material, tools, monkeypatch) as station:
        await station.segment(COUNT)
        before = {name: station.bytes_of(name) for name in PARTS}
        dates = [one.program_date_time for one in station.window.listed]
        times = [one.presentation_time for one in station.window.listed]
        lasting = [one.duration for one in station.window.listed]
    path = tmp_path / "dvr" / "240p" / INDEX
    path.write_bytes(EDITS[edit](path.read_bytes()))
    with capture_logs() as logs:
        async with on_air(tmp_path, material, tools, monkeypatch, number=LAST + 1) as station:
            assert {name: station.bytes_of(name) for name in PARTS} == before
            listed = station.window.listed
            assert [one.number for one in listed] == list(range(NUMBER, LAST + 1))
            assert [one.program_date_time for one in listed] == dates
            assert [one.presentation_time for one in listed if one.stored] == times
            assert not any(one.discontinuity for one in listed)
            assert [one.duration for one in listed] == lasting
    assert len(logs) <= 1
    async with on_air(tmp_path, material, tools, monkeypatch, number=LAST + 1) as station:
        assert isinstance(station.archive, DiskArchive)
        assert station.archive._segment_stores["240p"].folder.troubles == 0, "it is mended"


@pytest.mark.parametrize("edit", ["zeros", "nothing", "the first half"])
async def test_both_indexes_may_be_lost_and_the_dates_are_those_at_which_files_were_written(
    edit: str, tmp_path: Path, material: dict[str, Track], tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with on_air(tmp_path, material, tools, monkeypatch, captions=("en",)) as station:
        await station.segment(COUNT)
        before = {name: station.bytes_of(name) for name in (*PARTS, "captions-en")}
    for name in before:
        path = tmp_path / "dvr" / name / INDEX
        path.write_bytes(EDITS[edit](path.read_bytes()))
        for number in range(NUMBER, LAST + 1):
            for file in path.parent.glob(f"{number}.*"):
                os.utime(file, (number + 1, number + 1))
    async with on_air(tmp_path, material, tools, monkeypatch, number=LAST + 1, captions=("en",)) as station:
        assert {name: station.bytes_of(name) for name in before} == before
        for rendition in station.channel.renditions.values():
            dates = [float(one.program_date_time) for one in rendition.window.listed]
            assert dates == pytest.approx(range(NUMBER, LAST + 1), abs=0.1)
        # RFC 8216bis §6.2.4: the same dates in all renditions
        assert station.channel.presentation.manifest(0).count(b"<Period ") == 1


def test_all_of_two_hundred_segments_are_there_after_the_index_is_destroyed(
    tmp_path: Path, material: dict[str, Track]
) -> None:
    segments = make_segments(material["240p"], 200, breaks=(NUMBER + 50, NUMBER + 130))
    path = tmp_path / "240p"
    store(path, segments)
    files = contents(path)
    (path / INDEX).write_bytes(os.urandom(9000))
    found = DvrFolder(path).load()
    assert list(found.lines) == [one.number for one in segments]
    assert [one for one in found.lines if found.lines[one].discontinuity] == [NUMBER + 50, NUMBER + 130]
    assert [line.left for line in found.lines.values()] == [0] * 51 + [1] * 80 + [2] * 69
    assert [line.init for line in found.lines.values()] == [
        one.timeline.number for one in segments if one.timeline
    ]
    after = contents(path)
    for name, what in files.items():
        assert name == INDEX or after[name] == what


def test_where_only_lengths_differ_the_line_is_believed_and_the_file_kept_aside(
    tmp_path: Path, material: dict[str, Track]
) -> None:
    segments = make_segments(material["240p"], 9)
    path = tmp_path / "240p"
    store(path, segments)
    (path / INDEX).write_bytes(saying(NUMBER + 4, parts=[1, 2, 3])((path / INDEX).read_bytes()))
    assert set(DvrFolder(path).load().lines) == {one.number for one in segments} - {NUMBER + 4}
    assert (path / "aside" / "1" / f"{NUMBER + 4}.m4s").read_bytes() == segments[4].data


def test_what_is_cut_off_or_not_where_it_belongs_is_not_listed(
    tmp_path: Path, material: dict[str, Track]
) -> None:
    segments = make_segments(material["240p"], 20)
    path = tmp_path / "240p"
    store(path, segments)
    (path / INDEX).unlink()
    whole_parts = sum(len(part.data) for part in segments[3].parts[:2])
    os.truncate(path / f"{NUMBER + 3}.m4s", whole_parts)
    (path / f"{NUMBER + 8}.m4s").write_bytes(segments[14].data)
    (path / f"{NUMBER + 12}.m4s").write_bytes(segments[12].data[:-1])
    (path / f"{NUMBER + 19}.m4s").write_bytes(os.urandom(2000))
    found = DvrFolder(path).load()
    gone = {NUMBER + 3, NUMBER + 8, NUMBER + 12, NUMBER + 19}
    assert set(found.lines) == {one.number for one in segments} - gone
    assert {place.name for place in path.glob("aside/1/*")} == {f"{number}.m4s" for number in gone}


def test_an_index_of_a_gigabyte_is_not_read_and_one_of_empty_lines_not_to_its_end(
    tmp_path: Path, material: dict[str, Track]
) -> None:
    segments = make_segments(material["240p"], 20)
    path = tmp_path / "240p"
    store(path, segments)
    os.truncate(path / INDEX, 1 << 30)
    began = time.process_time()
    folder = DvrFolder(path)
    assert len(folder.load().lines) == 20
    assert os.stat(path / "aside" / "1" / INDEX).st_size == 1 << 30
    (path / INDEX).write_bytes((b"[]" + b" " * 500 + b"\n") * 200_000)
    folder = DvrFolder(path)
    assert len(folder.load().lines) == 20
    assert folder.faults.unreadable == MAX_UNREADABLE_LINES + 1
    assert time.process_time() - began < 30


def test_of_an_index_that_is_too_long_as_many_lines_are_made_anew_as_the_limits_say(
    tmp_path: Path, material: dict[str, Track]
) -> None:
    segments = make_segments(material["240p"], 20)
    path = tmp_path / "240p"
    store(path, segments)
    folder = DvrFolder(path, DvrLimits(index_bytes=100, rebuilt_segments=5))
    assert list(folder.load().lines) == [one.number for one in segments[-5:]]
    assert (folder.faults.rebuilt, folder.faults.stuck) == (5, 15)


@pytest.mark.parametrize(
    "words", ["99999999999999 1", "999999999999999", "100000000000 0", "5 1000000001", "9" * 40, "-1", "1e9"]
)
async def test_a_number_that_cannot_be_is_not_gone_on_with(words: str, tmp_path: Path) -> None:
    (tmp_path / "number").write_text(words)
    numbers = SequenceNumbers(tmp_path)
    with capture_logs() as logs:
        await asyncio.to_thread(numbers.load)
    assert (numbers.reserved, numbers.discontinuity_sequence) == (-1, 0)
    assert [line["event"] for line in logs] == ["reserved sequence numbers can't be read"]
    assert (tmp_path / "aside" / "1" / "number").read_text() == words
    await asyncio.to_thread(numbers.reserve, 7)
    assert (tmp_path / "number").read_text() == "9 4\n"


@pytest.mark.parametrize(("reserved", "believed"), [(LAST + 3, True), (LAST + 10**6, False), (10**10, False)])
async def test_a_dvr_that_is_there_is_not_given_up_for_a_number_far_in_the_future(
    reserved: int,
    believed: bool,
    tmp_path: Path,
    material: dict[str, Track],
    tools: Tools,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with on_air(tmp_path, material, tools, monkeypatch) as station:
        await station.segment(COUNT)
        before = {name: station.bytes_of(name) for name in PARTS}
    (tmp_path / "number").write_text(f"{reserved} 3\n")
    with monkeypatch.context() as patch:
        async with on_air(tmp_path, material, tools, patch) as other:
            channel = other.channel
    monkeypatch.undo()
    monkeypatch.setattr(SequenceNumbers, "now", lambda _: float(LAST + 5))
    await channel._gap_schedule.load_numbers()
    archive = channel._new_archive()
    assert archive is not None
    plan = await channel._planner.plan_restored(channel.cadence, archive)
    window = plan.renditions["240p"].window
    assert [one.number for one in window.listed if one.stored] == list(before["240p"])
    assert window.next_number < LAST + 20
    assert (channel._numbers.reserved == reserved) == believed


async def test_a_hole_in_the_index_that_is_longer_than_the_dvr_ends_it(
    tmp_path: Path, material: dict[str, Track], tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Numbers in a playlist have no holes: no ten million gaps; and what there was no time for stays."""
    async with on_air(tmp_path, material, tools, monkeypatch) as station:
        await station.segment(6)
        before = station.bytes_of("240p")
    far = NUMBER + 10**7
    for name in PARTS:
        folder = tmp_path / "dvr" / name
        for number in range(NUMBER + 3, NUMBER + 6):
            (folder / f"{number}.m4s").rename(folder / f"{number + 10**7}.m4s")
        lines = (folder / INDEX).read_bytes().splitlines(keepends=True)
        for at in range(3, 6):
            lines[at] = lines[at].replace(b'{"number":%d' % (NUMBER + at), b'{"number":%d' % (far + at))
        (folder / INDEX).write_bytes(b"".join(lines))
    async with on_air(tmp_path, material, tools, monkeypatch, number=far + 6) as station:
        assert [one.number for one in station.window.listed] == [far + 3, far + 4, far + 5]
        await station.archive.settle()
    kept = {place.name: place.read_bytes() for place in (tmp_path / "dvr" / "240p" / "aside").rglob("*.m4s")}
    assert kept == {f"{number}.m4s": before[number] for number in range(NUMBER, NUMBER + 3)}


def reader(data: bytes) -> Callable[[int, int], bytes]:
    return lambda offset, length: data[offset : offset + length]


def test_a_live_segment_is_read_from_its_structure_alone() -> None:
    first = write_fragment(
        sequence_number=3,
        track_id=2,
        base_media_decode_time=900,
        samples=[Sample(512, 10, True, 1024), Sample(512, 5, False, -512)],
        data=b"x" * 15,
    )
    second = write_fragment(
        sequence_number=4,
        track_id=2,
        base_media_decode_time=1924,
        samples=[Sample(512, 7), Sample(511, 8)],
        data=b"x" * 15,
    )
    data = first + second
    facts = read_live_segment(reader(data), len(data))
    assert (facts.track_id, facts.decode_time, facts.presentation_time, facts.duration) == (
        2,
        900,
        1924,
        2047,
    )
    assert facts.part_sizes == (len(first), len(second))
    for cut in range(len(data)):
        if cut != len(first):
            with pytest.raises(MalformedError):
                read_live_segment(reader(data[:cut]), cut)


def test_lines_far_from_those_on_both_sides_are_found() -> None:
    def stored(number: int, date: int, left: int = 0) -> IndexLine:
        return IndexLine(number, (date, 1), (1, 1), left, 1, parts=(7,), presentation_time=(number, 1))

    lines = {number: stored(number, 1000 + number) for number in range(1, 10)}
    assert index.impossible(lines) == set()
    for number in range(1, 10):
        assert index.impossible(lines | {number: stored(number, 9_000_000)}) == {number}
        wrong = index.impossible(dict(sorted((lines | {number: stored(number, 1000 + number, 77)}).items())))
        assert wrong == {number}
