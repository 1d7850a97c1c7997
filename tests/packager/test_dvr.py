"""The DVR on disk: what stays listed and fetchable over restarts, full disks, and crashes at any step."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from starlette.types import Message
from structlog.testing import capture_logs

from origin.http1.zerocopy import TruncatedFileError
from origin.live.growing import GrowingSegment
from packager.datalock import DataInUseError, DataLock
from packager.dvr import archive as archive_module
from packager.dvr import folder as folder_module
from packager.dvr import index
from packager.dvr.folder import Folder
from packager.dvr.index import Line
from packager.dvr.restore import Found, line_up
from packager.live.channel import Channel
from packager.live.numbers import Numbers
from packager.live.window import MEMORY_TARGET_DURATIONS, LiveSegment
from packager.tools import Tools
from tests.conformance.handfed import NUMBER, OPTIONS, Source, Track, make_material, segments_of
from tests.packager.station import LIMIT_SECONDS, PARTS, Station, on_air, until


@pytest.fixture(scope="module")
def material(tools: Tools, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Track]:
    return make_material(tools, tmp_path_factory.mktemp("material"))


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk with room for about fourteen seconds."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=700k", "tmpfs", str(folder)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("no tmpfs can be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


async def test_bytes_leave_memory_behind_the_live_edge_and_the_playlist_doesnt_change(
    tmp_path: Path, material: dict[str, Track], tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_memory = Channel(replace(OPTIONS, dvr_window=3600.0), tools)
    for rendition in in_memory.renditions.values():
        rendition.window.next_number = NUMBER
    sources = {name: Source(in_memory, name, material[name], NUMBER, 0) for name in in_memory.renditions}
    async with on_air(tmp_path, material, tools, monkeypatch) as station:
        for _ in range(30):
            await station.segment()
            for name, source in sources.items():
                for _ in range(PARTS[name]):
                    source.publish()
            assert station.text() == in_memory.presentation.media("240p").decode()
        held = [one.number for one in station.window.listed if one.data]
        assert held == list(range(NUMBER + 30 - MEMORY_TARGET_DURATIONS, NUMBER + 30))
        assert len(station.window.listed) == 30
        other = in_memory.renditions["240p"].window
        assert station.bytes_of("240p") == {one.number: one.data for one in other.listed}
        assert station.window.average_bandwidth == other.average_bandwidth
        where = station.window.stored(NUMBER)
        assert where is not None
        assert list(where[1].part_sizes) == [len(part.data) for part in other.listed[0].parts]
        first = in_memory.presentation.manifest(0).decode()
        assert station.channel.presentation.manifest(0).decode() == first


async def test_after_a_restart_the_old_segments_are_listed_before_a_discontinuity_byte_for_byte(
    tmp_path: Path, material: dict[str, Track], tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with on_air(tmp_path, material, tools, monkeypatch) as station:
        await station.segment(12)
        before = {name: station.bytes_of(name) for name in PARTS}
        dates = [one.program_date_time for one in station.window.listed]
        bandwidth = station.window.peak_bandwidth
    async with on_air(tmp_path, material, tools, monkeypatch, number=NUMBER + 15) as station:
        assert station.channel.ready
        assert station.window.peak_bandwidth == bandwidth
        assert {name: station.bytes_of(name) for name in PARTS} == before
        await station.segment(2)
        listed = station.window.listed
        assert [one.number for one in listed] == list(range(NUMBER, NUMBER + 17))
        assert [one.number for one in listed if one.gap] == [NUMBER + 12, NUMBER + 13, NUMBER + 14]
        assert [one.number for one in listed if one.discontinuity] == [NUMBER + 15]
        assert [one.program_date_time for one in listed][:12] == dates
        text = station.text()
        assert text.count("#EXT-X-GAP") == 3
        assert text.count("#EXT-X-DISCONTINUITY\n") == 1
        assert f'#EXT-X-MAP:URI="init-{NUMBER}.mp4"' in text
        assert station.window.init(NUMBER) == material["240p"].init.data
        assert station.channel.presentation.manifest(0).count(b"<Period ") == 2


async def test_discontinuities_are_counted_on_over_restarts(
    tmp_path: Path, material: dict[str, Track], tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    # a window of ten target durations: each run pushes the one before it out
    for run in range(4):
        number = NUMBER + 11 * run
        async with on_air(tmp_path, material, tools, monkeypatch, number=number, dvr=0.001) as station:
            await station.segment(11)
            left = [one for one in range(1, run + 1) if NUMBER + 11 * one < station.window.listed[0].number]
            assert station.window.discontinuity_sequence == len(left)


async def test_faults_on_disk_are_set_aside_with_one_line_and_the_start_goes_on(
    tmp_path: Path, material: dict[str, Track], tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with on_air(tmp_path, material, tools, monkeypatch) as station:
        await station.segment(8)
        before = station.bytes_of("240p")
    folder = tmp_path / "dvr" / "240p"
    os.truncate(folder / f"{NUMBER + 7}.m4s", 1000)
    (folder / f"{NUMBER + 3}.m4s").unlink()
    (folder / f"{NUMBER + 8}.m4s.tmp").write_bytes(b"half")
    (folder / "holiday.jpg").write_bytes(b"foreign")
    (folder / "999.m4s").symlink_to("/etc/passwd")
    with (folder / index.__name__.rpartition(".")[2]).open("ab") as file:
        file.write(b'{"number":17950')
    with capture_logs() as logs:
        async with on_air(tmp_path, material, tools, monkeypatch, number=NUMBER + 8) as station:
            gone = {NUMBER + 3, NUMBER + 7}
            assert station.bytes_of("240p") == {
                number: data for number, data in before.items() if number not in gone
            }
            assert {one.number for one in station.window.listed if one.gap} == gone
    assert [line["event"] for line in logs] == ["DVR put in order"]
    assert sorted(path.name for path in (folder / "aside").iterdir()) == [
        f"{NUMBER + 7}.m4s",
        "999.m4s",
        "holiday.jpg",
    ]
    assert not list(folder.glob("*.tmp"))


async def test_an_index_of_noise_loses_the_dvr_and_nothing_else(
    tmp_path: Path, material: dict[str, Track], tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with on_air(tmp_path, material, tools, monkeypatch) as station:
        await station.segment(2)
    for name in PARTS:
        (tmp_path / "dvr" / name / "index").write_bytes(os.urandom(5000) + b'\n{"number":-1}\n[]\n')
    async with on_air(tmp_path, material, tools, monkeypatch, number=NUMBER + 2) as station:
        assert not station.window.listed
        await station.segment()
        assert len(station.window.listed) == 1


async def test_what_has_left_the_window_leaves_the_disk(
    tmp_path: Path, material: dict[str, Track], tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_module, "COMPACT_SLACK", 4)
    async with on_air(tmp_path, material, tools, monkeypatch, dvr=0.001) as station:
        await station.segment(45)
        oldest = station.window.oldest_number
        # Listed for ten seconds and a millisecond. RFC 8216bis §6.2.2: then fetchable for its own duration
        # and that of the longest playlist: 1 s and 11 s
        assert len(station.window.listed) == 11
        assert NUMBER + 45 - oldest == 11 + 12
    for name in PARTS:
        files = sorted(path.name for path in (tmp_path / "dvr" / name).glob("*.m4s"))
        assert files == [f"{number}.m4s" for number in range(oldest, NUMBER + 45)]
        lines = (tmp_path / "dvr" / name / "index").read_bytes().count(b"\n")
        assert lines <= 2 * len(files) + 4 + 1


async def test_a_size_shortens_all_renditions_alike(
    tmp_path: Path, material: dict[str, Track], tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with on_air(tmp_path, material, tools, monkeypatch, dvr_bytes=500_000) as station:
        await station.segment(40)
        windows = [each.window for each in station.channel.renditions.values()]
        assert len({window.listed[0].number for window in windows}) == 1
        assert 7 < len(windows[0].listed) < 40
    stored = sum(path.stat().st_size for path in (tmp_path / "dvr").rglob("*.m4s"))
    assert 300_000 < stored <= 500_000


async def test_a_full_disk_shortens_the_dvr_and_live_goes_on(
    tiny_disk: Path, material: dict[str, Track], tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    with capture_logs() as logs:
        async with on_air(tiny_disk, material, tools, monkeypatch) as station:
            await station.segment(40)
            assert "space" in station.archive.trouble
            assert not any(one.gap for one in station.window.listed)
            assert len(station.window.listed) < 40
            assert station.window.next_number == NUMBER + 40
    assert [line["event"] for line in logs].count("DVR isn't kept") == 1
    async with on_air(tiny_disk, material, tools, monkeypatch, number=NUMBER + 40) as station:
        assert station.window.listed[-1].number == NUMBER + 39


async def test_a_disk_that_fails_is_a_gap_behind_the_live_edge_and_its_end_is_told(
    tmp_path: Path, material: dict[str, Track], tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(archive_module, "CALM_WRITES", 3)
    with capture_logs() as logs:
        async with on_air(tmp_path, material, tools, monkeypatch) as station:
            await station.segment(5)
            with monkeypatch.context() as patch:
                patch.setattr(os, "fdatasync", fail)
                await station.segment(3, stored=False)
                await asyncio.wait_for(station.archive._idle.wait(), LIMIT_SECONDS)
            assert station.archive.trouble == "Input/output error"
            assert not any(one.gap for one in station.window.listed), "they are in memory"
            await station.segment(10)
            assert station.archive.trouble == ""
            lost = [NUMBER + 5, NUMBER + 6, NUMBER + 7]
            assert [one.number for one in station.window.listed if one.gap] == lost
            assert station.text().count("#EXT-X-GAP") == 3
            assert segments_of(station.text()) == list(range(NUMBER, NUMBER + 18))
    assert [line["event"] for line in logs] == ["DVR isn't kept", "DVR is kept again"]
    async with on_air(tmp_path, material, tools, monkeypatch, number=NUMBER + 18) as station:
        assert [one.number for one in station.window.listed if one.gap] == lost


async def test_a_disk_that_hangs_costs_the_dvr_and_no_memory(
    tmp_path: Path, material: dict[str, Track], tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive_module, "DRAIN_SECONDS", 0.01)
    channel = Channel(replace(OPTIONS, data=tmp_path, dvr_window=3600.0), tools)
    archive = channel.archive
    assert archive is not None
    monkeypatch.setattr(Numbers, "first", lambda *_: NUMBER)
    channel._adopt(await channel._planner.take_up(channel.cadence, archive))
    station = Station(channel, archive, material, NUMBER)
    await station.segment(40, stored=False)  # nobody writes
    assert len(archive._puts) == archive_module.QUEUE_SEGMENTS
    assert archive.trouble == "the disk is too slow"
    assert [one.number for one in station.window.listed if not one.gap] == list(
        range(NUMBER + 40 - MEMORY_TARGET_DURATIONS, NUMBER + 40)
    )
    async with archive.running():
        await asyncio.wait_for(archive._idle.wait(), LIMIT_SECONDS)
    # what came too late is a gap for ever
    assert not list((tmp_path / "dvr").rglob("*.m4s"))


async def test_a_reader_of_a_growing_segment_that_has_left_memory_sees_that_the_rest_is_missing(
    tmp_path: Path, material: dict[str, Track], tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with on_air(tmp_path, material, tools, monkeypatch) as station:
        sent: list[bytes] = []
        goes_on = asyncio.Event()

        async def receive() -> Message:
            return {"type": "http.request"}

        async def send(message: Message) -> None:
            if message.get("body"):
                sent.append(bytes(message["body"]))
                await goes_on.wait()

        station._sources["240p"].publish()
        response = GrowingSegment(station.window, NUMBER, "video/mp4", "no-store")
        task = asyncio.create_task(response({"type": "http", "method": "GET"}, receive, send))
        await until(lambda: sent)
        for _ in range(PARTS["240p"] * (MEMORY_TARGET_DURATIONS + 2)):
            station._sources["240p"].publish()
            await until(lambda: station.archive._idle.is_set())
        goes_on.set()
        with pytest.raises(TruncatedFileError):
            await task
        assert len(sent) == 1


class Crash(BaseException):
    """The process ends here."""


def test_a_crash_at_any_step_of_a_write_leaves_all_segments_that_were_stored(
    tmp_path: Path, material: dict[str, Track], tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel = Channel(OPTIONS, tools)
    for rendition in channel.renditions.values():
        rendition.window.next_number = NUMBER
    source = Source(channel, "240p", material["240p"], NUMBER, 0)
    for _ in range(7 * PARTS["240p"]):
        source.publish()
    segments = list(channel.renditions["240p"].window.listed)
    assert len(segments) == 7
    steps = 0
    for crash_at in range(100):
        folder = Folder(tmp_path / str(crash_at))
        folder.load()
        whole = _write_until(folder, segments, crash_at, monkeypatch)
        found = Folder(folder.path).load()
        assert whole <= found.lines.keys()
        assert len(found.lines) <= len(whole) + 1
        for number, line in found.lines.items():
            data = (folder.path / f"{number}.m4s").read_bytes()
            assert data == segments[number - NUMBER].data
            assert [len(part.data) for part in segments[number - NUMBER].parts] == list(line.parts)
        steps += 1
        if len(whole) == len(segments):
            break
    assert steps > 30


def _write_until(
    folder: Folder, segments: list[LiveSegment], crash_at: int, monkeypatch: pytest.MonkeyPatch
) -> set[int]:
    """Store segments until a step of it crashes, in its middle where it has one; give what was whole."""
    count = 0

    def step(real: Callable[..., object], torn: bool) -> Callable[..., object]:
        def run(*arguments: object) -> object:
            nonlocal count
            count += 1
            if count > crash_at:
                if torn:
                    data = arguments[1]
                    assert isinstance(data, memoryview)
                    real(arguments[0], data[: len(data) // 2])
                raise Crash
            return real(*arguments)

        return run

    whole: set[int] = set()
    with monkeypatch.context() as patch, contextlib.suppress(Crash):
        patch.setattr(os, "write", step(os.write, torn=True))
        patch.setattr(os, "fdatasync", step(os.fdatasync, torn=False))
        patch.setattr(Path, "replace", step(Path.replace, torn=False))
        for segment in segments:
            folder.store(segment, 0)
            whole.add(segment.number)
    return whole


async def test_segments_of_another_cadence_are_set_aside(
    tmp_path: Path, material: dict[str, Track], tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with on_air(tmp_path, material, tools, monkeypatch) as station:
        await station.segment(3)
    for _ in range(2):
        async with on_air(
            tmp_path, material, tools, monkeypatch, number=NUMBER + 9, part_duration=0.5
        ) as station:
            assert not station.window.listed
    assert len(list((tmp_path / "dvr" / "former" / "240p").glob("*.m4s"))) == 3


def test_a_line_that_was_torn_anywhere_costs_only_its_own_segment() -> None:
    lines = [Line(number, (3 * number, 2), (2, 1), init=1, parts=(10, 20)) for number in (1, 2, 3)]
    data = b"".join(index.encode(line) for line in lines)
    last = len(index.encode(lines[2]))
    for cut in range(1, last):
        found, torn = index.decode(data[:-cut])
        assert list(found)[:2] == [1, 2]
        # without its end alone it is whole; with less, it can't be read
        assert (len(found), torn) == ((3, 1) if cut == 1 else (2, 1))


def test_renditions_take_up_the_same_numbers_and_lost_discontinuities() -> None:
    def line(number: int, left: int = 0, *, discontinuity: bool = False) -> Line:
        return Line(number, (number, 1), (1, 1), left, 5, discontinuity=discontinuity, parts=(7,))

    found = {
        "720p": Found({5: line(5), 6: line(6), 9: line(9, 1)}, {}),
        "audio": Found({6: line(6), 9: line(9, 1)}, {}),
    }
    segments, sequence = line_up(found, 12, Fraction(1))
    assert sequence == 0
    for listed in segments.values():
        assert [one.number for one in listed] == list(range(5, 12))
        # the one that began with segment 7 or 8 was lost with it
        assert [one.number for one in listed if one.discontinuity] == [7]
        assert [one.program_date_time for one in listed] == list(range(5, 12))


def test_a_data_folder_is_one_servers_until_its_end(tmp_path: Path) -> None:
    lock = DataLock(tmp_path / "data")
    with pytest.raises(DataInUseError, match="another server uses this data folder; stop it, or set"):
        DataLock(tmp_path / "data")
    lock.release()
    DataLock(tmp_path / "data").release()
