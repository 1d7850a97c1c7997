"""The DVR on disk: what stays listed and fetchable behind the live edge and over restarts."""

from __future__ import annotations

import os
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from origin.answers.pieces import TruncatedFileError
from origin.live.requests.waits import OpenSegmentBody
from packager.data_lock import DataInUseError, DataLock
from packager.dvr import index
from packager.dvr.index import IndexLine
from packager.dvr.restore_plan import StoredRendition, align_renditions
from packager.live.channel import Channel
from packager.process.ffmpeg_discovery import Tools
from packager.window.segments import MEMORY_TARGET_DURATIONS
from tests.conformance.handfed import NUMBER, OPTIONS, Source, Track
from tests.packager.station import PARTS, on_air
from tests.patience import DVR


async def test_bytes_leave_memory_behind_the_live_edge_and_the_playlist_doesnt_change(
    tmp_path: Path, material: dict[str, Track], tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_memory = Channel(replace(OPTIONS, dvr_window=3600.0), tools)
    for rendition in in_memory.renditions.values():
        rendition.window.restore((), NUMBER)
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
        assert station.window.finished.totals.average_bandwidth == other.finished.totals.average_bandwidth
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
        bandwidth = station.window.finished.totals.peak_bandwidth
    async with on_air(tmp_path, material, tools, monkeypatch, number=NUMBER + 15) as station:
        assert station.channel.ready
        assert station.window.finished.totals.peak_bandwidth == bandwidth
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


@pytest.mark.clause("Faults on disk cost themselves, and the start goes on")
async def test_faults_on_disk_are_set_aside_with_one_line_and_the_start_goes_on(
    tmp_path: Path, material: dict[str, Track], tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with on_air(tmp_path, material, tools, monkeypatch) as station:
        await station.segment(8)
        before = station.bytes_of("240p")
    folder = tmp_path / "dvr" / "240p"
    os.truncate(folder / f"{NUMBER + 7}.m4s", 1000)
    (folder / f"{NUMBER + 3}.m4s").unlink()
    (folder / f"{NUMBER + 8}.m4s.tmp").write_bytes(before[NUMBER + 7][:1000])
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
    assert [(line["event"], line["rendition"]) for line in logs] == [("DVR put in order", "240p")]
    assert logs[0]["segments"] == [999, NUMBER + 7]
    assert sorted(path.name for path in (folder / "aside" / "1").iterdir()) == [
        f"{NUMBER + 7}.m4s",
        "999.m4s",
    ]
    # Nothing of ours has such a name: it is in nobody's way.
    assert (folder / "holiday.jpg").read_bytes() == b"foreign"
    assert not list(folder.glob("*.tmp"))


async def test_what_has_left_the_window_leaves_the_disk(
    tmp_path: Path, material: dict[str, Track], tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = replace(DVR, compact_slack_lines=4)
    async with on_air(tmp_path, material, tools, monkeypatch, dvr=0.001, limits=limits) as station:
        await station.segment(45)
        oldest = station.window.finished.oldest_number
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
    async with on_air(tmp_path, material, tools, monkeypatch, dvr_bytes=900_000) as station:
        await station.segment(40)
        windows = [each.window for each in station.channel.renditions.values()]
        assert len({window.listed[0].number for window in windows}) == 1
        assert 7 < len(windows[0].listed) < 40
        # RFC 8216bis §6.2.2: what has left the list stays fetchable for as long again
        left = windows[0].listed[0].number - windows[0].finished.oldest_number
        assert left >= len(windows[0].listed)
    stored = sum(path.stat().st_size for path in (tmp_path / "dvr").rglob("*.m4s"))
    assert 600_000 < stored <= 900_000


async def test_a_reader_of_a_growing_segment_that_has_left_memory_sees_that_the_rest_is_missing(
    tmp_path: Path, material: dict[str, Track], tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with on_air(tmp_path, material, tools, monkeypatch) as station:
        station._sources["240p"].publish()
        body = OpenSegmentBody(station.window, NUMBER)
        assert await anext(body)
        for _ in range(PARTS["240p"] * (MEMORY_TARGET_DURATIONS + 2)):
            station._sources["240p"].publish()
            await station.archive.settle()
        with pytest.raises(TruncatedFileError):
            await anext(body)


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


@pytest.mark.clause("Faults on disk cost themselves, and the start goes on")
def test_a_line_that_was_torn_anywhere_costs_only_its_own_segment() -> None:
    lines = [IndexLine(number, (3 * number, 2), (2, 1), init=1, parts=(10, 20)) for number in (1, 2, 3)]
    data = b"".join(index.encode(line) for line in lines)
    last = len(index.encode(lines[2]))
    for cut in range(1, last):
        found, torn = index.decode(data[:-cut])
        assert list(found)[:2] == [1, 2]
        # without its end alone it is whole; with less, it can't be read
        assert (len(found), torn) == ((3, 1) if cut == 1 else (2, 1))


def test_renditions_take_up_the_same_numbers_and_lost_discontinuities() -> None:
    def line(number: int, left: int = 0, *, discontinuity: bool = False) -> IndexLine:
        return IndexLine(number, (number, 1), (1, 1), left, 5, discontinuity=discontinuity, parts=(7,))

    found = {
        "720p": StoredRendition({5: line(5), 6: line(6), 9: line(9, 1)}, {}),
        "audio": StoredRendition({6: line(6), 9: line(9, 1)}, {}),
    }
    segments, sequence = align_renditions(found, 12, Fraction(1))
    assert sequence == 0
    for listed in segments.values():
        assert [one.number for one in listed] == list(range(5, 12))
        # the one that began with segment 7 or 8 was lost with it
        assert [one.number for one in listed if one.discontinuity] == [7]
        assert [one.program_date_time for one in listed] == list(range(5, 12))


@pytest.mark.clause("RFC 8216bis §6.2.1 MUST 15")
@pytest.mark.parametrize(
    ("now", "gaps"),
    [
        (13, ["1", "1", "1"]),
        (15, ["1", "1", "1"]),
        ("12.5", ["1", "1", "1/2"]),
        (12, ["1", "1/2", "1/2"]),
        ("10.3", ["1/10", "1/10", "1/10"]),
        (9, ["1", "1", "1"]),  # the clock was set back: nothing helps
    ],
)
def test_gaps_behind_what_is_taken_up_end_before_what_comes_next(now: int | str, gaps: list[str]) -> None:
    # §6.2.1: no two segments share a date; numbers that were reserved may be ahead of the clock
    found = {"720p": StoredRendition({9: IndexLine(9, (9, 1), (1, 1), init=5, parts=(7,))}, {})}
    segments, _ = align_renditions(found, 13, Fraction(1), Fraction(now))
    listed = segments["720p"][1:]
    assert [one.number for one in listed] == [10, 11, 12]
    assert [one.duration for one in listed] == [Fraction(gap) for gap in gaps]
    ends = [one.program_date_time + one.duration for one in segments["720p"]]
    assert [one.program_date_time for one in listed] == ends[:-1]


def test_a_data_folder_is_one_servers_until_its_end(tmp_path: Path) -> None:
    lock, other = DataLock(tmp_path / "data"), DataLock(tmp_path / "data")
    lock.acquire()
    with pytest.raises(DataInUseError, match="another server uses this data folder; stop it, or set"):
        other.acquire()
    lock.release()
    other.acquire()
    other.release()
