"""Files of ours that say what can't be, and indexes that are lost: a start loses those segments alone."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from media.errors import MalformedError
from media.mp4.fragments.fragments import write_fragment
from media.mp4.fragments.live_segment_check import check_live_segment
from media.mp4.fragments.moof import Sample
from packager.dvr import index
from packager.dvr.disk_archive import DiskArchive
from packager.dvr.disk_rendition import DvrFolder
from packager.dvr.index import INDEX, MAX_UNREADABLE_LINES, IndexLine
from packager.process.ffmpeg_discovery import Tools
from packager.window.sequence_numbers import MAX_NUMBER, SequenceNumbers
from tests.conformance.handfed import NUMBER, Track
from tests.packager.station import PARTS, Station, on_air
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


NONE: set[int] = set()
ALL = set(range(COUNT))

EDITS: dict[str, tuple[Callable[[bytes], bytes], set[int]]] = {
    "a gap ten million numbers ahead": (lambda data: data + line(LAST + 10**7), NONE),
    "a gap ten million numbers before": (lambda data: line(NUMBER - 10**7) + data, NONE),
    "a gap of the largest number": (lambda data: data + line(MAX_NUMBER), NONE),
    "a number of 10^15": (lambda data: data + line(10**15), NONE),
    "a segment's number of 10^15": (saying(NUMBER + 4, number=10**15), {4}),
    "a segment's number off by ten million": (saying(NUMBER + 4, number=NUMBER + 10**7), {4}),
    "two segments' numbers exchanged": (lambda data: exchanged(data, NUMBER + 3, NUMBER + 4), {3, 4}),
    "a date of the year 10^9": (saying(NUMBER + 4, date=[10**17, 1]), {4}),
    "a date of 1902": (saying(NUMBER + 4, date=[-(2**31), 1]), {4}),
    "a date of 2090": (saying(NUMBER + 4, date=[3_800_000_000, 1]), {4}),
    "the first date of 2090": (saying(NUMBER, date=[3_800_000_000, 1]), {0}),
    "the last date of 2090": (saying(LAST, date=[3_800_000_000, 1]), {8}),
    "a date over nothing": (saying(NUMBER + 4, date=[1, 0]), {4}),
    "a date of 10^400": (saying(NUMBER + 4, date=[10**400, 1]), {4}),
    "a duration of 2^63": (saying(NUMBER + 4, duration=[2**63, 1]), {4}),
    "a duration of an hour": (saying(NUMBER + 4, duration=[3600, 1]), {4}),
    "a duration of nothing": (saying(NUMBER + 4, duration=[0, 1]), {4}),
    "a negative duration": (saying(NUMBER + 4, duration=[-1, 1]), {4}),
    "a length of 2^63": (saying(NUMBER + 4, parts=[2**63]), {4}),
    "a length of 2^31": (saying(NUMBER + 4, parts=[2**31 - 1]), {4}),
    "negative lengths": (saying(NUMBER + 4, parts=[-1, -2]), {4}),
    "a hundred thousand parts": (saying(NUMBER + 4, parts=[1] * 100_000), {4}),
    "10^18 discontinuities": (saying(NUMBER + 4, left=10**18), {4}),
    "10^8 discontinuities": (saying(NUMBER + 4, left=10**8), {4}),
    "another timeline": (saying(NUMBER + 4, init=NUMBER + 1), {4}),
    "not a number": (lambda data: data.replace(b'"duration":[1,1]', b'"duration":[NaN,1]', 3), {0, 1, 2}),
    "infinity": (lambda data: data.replace(b'"duration":[1,1]', b'"duration":[1e999,1]', 3), {0, 1, 2}),
    "invalid UTF-8": (lambda data: data.replace(b"number", b"n\xffmber", 4), {0, 1, 2, 3}),
    "lines twice": (lambda data: data + data, NONE),
    "lines from the last to the first": (
        lambda data: b"".join(reversed(data.splitlines(keepends=True))),
        NONE,
    ),
    "no ends of lines": (lambda data: data.replace(b"\n", b" "), ALL),
    "Windows' ends of lines": (lambda data: data.replace(b"\n", b"\r\n"), NONE),
    "zeros": (lambda data: bytes(len(data)), ALL),
    "nothing": (lambda _: b"", ALL),
    "the first half": (lambda data: data[: len(data) // 2], {4, 5, 6, 7, 8}),
    "depth": (lambda data: b"[" * 100_000 + b"\n" + data, NONE),
}
"""Changes of an index, and the segments without a valid line then, counted from the first."""


@pytest.mark.parametrize("edit", EDITS)
async def test_whatever_an_index_says_segments_with_a_valid_line_are_listed_as_they_were(
    edit: str, tmp_path: Path, material: dict[str, Track], tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    change, costs = EDITS[edit]
    lost = {NUMBER + at for at in costs}
    async with on_air(tmp_path, material, tools, monkeypatch) as station:
        await station.segment(COUNT)
        before = {name: station.bytes_of(name) for name in PARTS}
        facts = facts_of(station)
    path = tmp_path / "dvr" / "240p"
    said = change((path / INDEX).read_bytes())
    assert said != (path / INDEX).read_bytes()
    (path / INDEX).write_bytes(said)
    left = before | {"240p": {number: data for number, data in before["240p"].items() if number not in lost}}
    with capture_logs() as logs:
        async with on_air(tmp_path, material, tools, monkeypatch, number=LAST + 1) as station:
            assert {name: station.bytes_of(name) for name in PARTS} == left
            listed = station.window.listed
            assert [one.number for one in listed] == list(range(NUMBER, LAST + 1))
            assert facts_of(station) == {number: one for number, one in facts.items() if number not in lost}
            assert not any(one.discontinuity for one in listed)
    assert len(logs) <= 1
    assert [line["segments"] for line in logs if lost] == [sorted(lost)] * bool(lost)
    aside = {int(file.stem): file.read_bytes() for file in path.glob("aside/1/*.m4s")}
    assert aside == {number: before["240p"][number] for number in lost}
    async with on_air(tmp_path, material, tools, monkeypatch, number=LAST + 1) as station:
        assert isinstance(station.archive, DiskArchive)
        assert station.archive._segment_stores["240p"].folder.faults.count == 0, "it is mended"


def facts_of(station: Station) -> dict[int, tuple[Fraction, Fraction, Fraction]]:
    """The date, duration and media time of each listed segment that isn't a gap."""
    return {
        one.number: (one.program_date_time, one.duration, one.presentation_time)
        for one in station.window.listed
        if not one.gap
    }


LOST: dict[str, Callable[[Path], object]] = {
    "noise": lambda place: place.write_bytes(os.urandom(5000) + b'\n{"number":-1}\n[]\n'),
    "zeros": lambda place: place.write_bytes(bytes(900)),
    "nothing": lambda place: place.write_bytes(b""),
    "missing": Path.unlink,
}


@pytest.mark.clause("Faults on disk cost themselves, and the start goes on")
@pytest.mark.parametrize("lost", LOST)
async def test_without_any_index_all_segments_are_set_aside_and_the_channel_starts(
    lost: str, tmp_path: Path, material: dict[str, Track], tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with on_air(tmp_path, material, tools, monkeypatch, captions=("en",)) as station:
        await station.segment(COUNT)
        names = (*PARTS, "captions-en")
    before = {name: contents(tmp_path / "dvr" / name) for name in names}
    for name in names:
        LOST[lost](tmp_path / "dvr" / name / INDEX)
    with capture_logs() as logs:
        async with on_air(
            tmp_path, material, tools, monkeypatch, number=LAST + 1, captions=("en",)
        ) as station:
            assert not station.window.listed
            await station.segment()
            assert {name: set(station.bytes_of(name)) for name in PARTS} == {
                name: {LAST + 1} for name in PARTS
            }
    numbers = list(range(NUMBER, LAST + 1))
    assert [(line["event"], line["rendition"], line["segments"]) for line in logs] == [
        ("DVR put in order", name, numbers) for name in names
    ]
    for name in names:
        aside = contents(tmp_path / "dvr" / name / "aside" / "1")
        assert {one: aside[one] for one in before[name] if one != INDEX} == {
            one: data for one, data in before[name].items() if one != INDEX
        }


def test_where_only_lengths_differ_the_line_is_believed_and_the_file_kept_aside(
    tmp_path: Path, material: dict[str, Track]
) -> None:
    segments = make_segments(material["240p"], 9)
    path = tmp_path / "240p"
    store(path, segments)
    (path / INDEX).write_bytes(saying(NUMBER + 4, parts=[1, 2, 3])((path / INDEX).read_bytes()))
    assert set(DvrFolder(path).load().lines) == {one.number for one in segments} - {NUMBER + 4}
    assert (path / "aside" / "1" / f"{NUMBER + 4}.m4s").read_bytes() == segments[4].data


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
    assert not folder.load().lines
    assert folder.faults.unreadable == MAX_UNREADABLE_LINES + 1
    assert len(list(path.glob("aside/2/*.m4s"))) == 20
    assert time.process_time() - began < 30


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


def test_a_live_segment_is_checked_by_its_structure_alone() -> None:
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
    check_live_segment(reader(data), len(data))
    for cut in range(len(data)):
        if cut != len(first):
            with pytest.raises(MalformedError):
                check_live_segment(reader(data[:cut]), cut)
    with pytest.raises(MalformedError, match="doesn't begin where the one before it ends"):
        check_live_segment(reader(second + first), len(data))


def test_lines_far_from_those_on_both_sides_are_found() -> None:
    def stored(number: int, date: int, left: int = 0) -> IndexLine:
        return IndexLine(number, (date, 1), (1, 1), left, 1, parts=(7,), presentation_time=(number, 1))

    lines = {number: stored(number, 1000 + number) for number in range(1, 10)}
    assert index.impossible(lines) == set()
    for number in range(1, 10):
        assert index.impossible(lines | {number: stored(number, 9_000_000)}) == {number}
        wrong = index.impossible(dict(sorted((lines | {number: stored(number, 1000 + number, 77)}).items())))
        assert wrong == {number}
