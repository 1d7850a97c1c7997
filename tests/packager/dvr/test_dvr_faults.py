"""The DVR on disks that are full, fail or hang, behind a crash or a power cut: always whole."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from packager.dvr.disk_rendition import DvrFolder
from packager.dvr.index import INDEX
from packager.live.channel import Channel
from packager.live.limits import LiveLimits
from packager.process.ffmpeg_discovery import Tools
from packager.publish.hls import SKIP_BOUNDARY
from packager.safe_files import TEMPORARY
from packager.window.model import LiveSegment
from packager.window.segments import MEMORY_TARGET_DURATIONS
from packager.window.sequence_numbers import SequenceNumbers
from tests.conformance.handfed import NUMBER, OPTIONS, Source, Track
from tests.packager.station import PARTS, Station, on_air
from tests.patience import DVR
from tests.small_disk import small_disk
from tests.waiting import until

COUNT = 7


@pytest.fixture(scope="module")
def segments(tools: Tools, material: dict[str, Track]) -> list[LiveSegment]:
    """Real ones, in memory."""
    channel = Channel(OPTIONS, tools)
    window = channel.renditions["240p"].window
    window.restore((), NUMBER)
    source = Source(channel, "240p", material["240p"], NUMBER, 0)
    for _ in range(COUNT * PARTS["240p"]):
        source.publish()
    return list(window.listed)


def whole(path: Path, segments: list[LiveSegment]) -> set[int]:
    """The numbers that a start finds; each is there with all its bytes."""
    found = DvrFolder(path).load()
    for number, line in found.lines.items():
        assert (path / f"{number}.m4s").read_bytes() == segments[number - NUMBER].data
        assert line.size == len(segments[number - NUMBER].data)
        assert list(line.parts) == [len(part.data) for part in segments[number - NUMBER].parts]
        assert line.init in found.timelines
    assert not list(path.glob("*.tmp"))
    return set(found.lines)


def failing(
    real: Callable[..., object], count: Iterator[int], at: int, *, half: bool
) -> Callable[..., object]:
    """Let a call fail as a disk does, the at-th of all; a write may have done half of it."""

    def call(*arguments: object, **options: object) -> object:
        if next(count) != at:
            return real(*arguments, **options)
        data = arguments[1] if half else b""
        if isinstance(data, memoryview) and len(data) > 1:
            real(arguments[0], data[: len(data) // 2])
        raise OSError(errno.EIO, "Input/output error")

    return call


@pytest.mark.clause("A write that fails never leaves half a segment")
def test_an_error_at_any_step_costs_one_segment_at_most_and_never_shows_half_of_it(
    tmp_path: Path, segments: list[LiveSegment], monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = 0
    for at in range(100):
        folder = DvrFolder(tmp_path / str(at))
        folder.load()
        count = iter(range(10_000))
        stored, failed = set(), 0
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", failing(os.write, count, at, half=True))
            patch.setattr(os, "fdatasync", failing(os.fdatasync, count, at, half=False))
            patch.setattr(os, "replace", failing(os.replace, count, at, half=False))
            for segment in segments:
                try:
                    folder.store(segment, 0)
                    stored.add(segment.number)
                except OSError:
                    failed += 1
        if not failed:
            break
        steps += 1
        assert failed == 1
        assert whole(Path(str(folder.place)), segments) == stored
    assert steps > 4 * COUNT, "write, synchronise and rename of each segment, and its line"


def test_names_of_segments_are_not_interned(
    tmp_path: Path, segments: list[LiveSegment], monkeypatch: pytest.MonkeyPatch
) -> None:
    """CPython's table of interned strings would grow with them, long after they have gone."""
    folder, interned, real = DvrFolder(tmp_path), [], sys.intern
    folder.load()

    def intern(name: str) -> str:
        interned.append(name)
        return real(name)

    with monkeypatch.context() as patch:
        patch.setattr(sys, "intern", intern)
        assert (Path(tmp_path) / "seen").name in interned
        for segment in segments:
            folder.store(segment, 0)
        for segment in segments:
            folder.remove(segment.number, len(segment.data))
        folder.tidy([NUMBER])
    assert not [name for name in interned if name.endswith((".m4s", ".mp4", TEMPORARY))]


@pytest.mark.clause("A write that fails never leaves half a segment")
def test_short_writes_are_gone_on_with(
    tmp_path: Path, segments: list[LiveSegment], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, real = DvrFolder(tmp_path), os.write
    folder.load()
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[: max(len(data) // 3, 1)]))
        for segment in segments:
            folder.store(segment, 0)
    assert len(whole(tmp_path, segments)) == COUNT


@pytest.mark.clause("After a power cut only what is whole is listed")
@pytest.mark.parametrize("lost", ["renaming", "file", "tail", "index", "index's bytes"])
def test_of_what_a_power_cut_may_lose_only_what_is_whole_is_listed(
    tmp_path: Path, segments: list[LiveSegment], lost: str
) -> None:
    """Whatever wasn't synchronised may be missing: a renaming, the end of the index; blocks may be zeros."""
    for count in range(1, COUNT):
        path = tmp_path / str(count)
        folder = DvrFolder(path)
        folder.load()
        for segment in segments:
            folder.store(segment, 0)
        gone = [path / f"{segment.number}.m4s" for segment in segments[-count:]]
        text = (path / INDEX).read_bytes()
        lines = text.splitlines(keepends=True)
        for file in gone:
            if lost == "renaming":
                file.rename(file.with_name(f"{file.name}.tmp"))
            elif lost == "file":
                file.unlink()
            elif lost == "tail":
                os.truncate(file, file.stat().st_size // 2)
        kept = b"".join(lines[:-count])
        if lost == "index":
            (path / INDEX).write_bytes(kept + lines[-count][:17])
        elif lost == "index's bytes":
            (path / INDEX).write_bytes(kept + bytes(len(text) - len(kept)))
        left = {segment.number for segment in segments[:-count]}
        assert whole(path, segments) == left
        if lost.startswith("index"):
            aside = {int(file.stem): file.read_bytes() for file in path.glob("aside/1/*.m4s")}
            assert aside == {segment.number: segment.data for segment in segments[-count:]}
        # What is written next is found behind it, and a second start has nothing more to mend.
        again = DvrFolder(path)
        again.load()
        assert again.faults.count == 0
        again.store(segments[-1], 0)
        assert whole(path, segments) == left | {segments[-1].number}


@pytest.mark.clause("After a power cut only what is whole is listed")
def test_a_power_cut_costs_no_segment_that_was_stored(
    tmp_path: Path, segments: list[LiveSegment], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its line is synchronised, and not only its file."""
    folder, synchronised, real = DvrFolder(tmp_path), dict[int, int](), os.fdatasync

    def synchronise(descriptor: int) -> None:
        real(descriptor)
        status = os.fstat(descriptor)
        synchronised[status.st_ino] = status.st_size

    folder.load()
    monkeypatch.setattr(os, "fdatasync", synchronise)
    for segment in segments:
        folder.store(segment, 0)
        for file in (tmp_path / INDEX, tmp_path / f"{segment.number}.m4s"):
            assert synchronised[file.stat().st_ino] == file.stat().st_size


@pytest.mark.clause("Faults on disk cost themselves, and the start goes on")
def test_a_line_without_its_init_segment_is_not_listed(tmp_path: Path, segments: list[LiveSegment]) -> None:
    folder = DvrFolder(tmp_path)
    folder.load()
    for segment in segments:
        folder.store(segment, 0)
    (tmp_path / f"init-{NUMBER}.mp4").write_bytes(b"\0" * 700)
    assert not DvrFolder(tmp_path).load().lines


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk with room for about fourteen seconds."""
    with small_disk(tmp_path / "disk", 700 << 10) as folder:
        yield folder


@pytest.mark.clause("A full disk shortens the DVR, and live goes on")
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
    (told,) = [line for line in logs if line["event"] == "DVR isn't kept"]
    assert told["advice"].startswith("free space where server.data is")
    async with on_air(tiny_disk, material, tools, monkeypatch, number=NUMBER + 40) as station:
        assert station.window.listed[-1].number == NUMBER + 39


@pytest.mark.clause("A write that fails never leaves half a segment")
async def test_what_a_failing_disk_does_not_take_stays_what_it_was_until_it_does_and_the_log_tells(
    tmp_path: Path, material: dict[str, Track], tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    hasty = replace(DVR, calm_writes=3, retry_seconds=0.01)
    count = 5 + MEMORY_TARGET_DURATIONS + 4
    with capture_logs() as logs:
        async with on_air(tmp_path, material, tools, monkeypatch, limits=hasty) as station:
            await station.segment(5)
            with monkeypatch.context() as patch:
                patch.setattr(os, "fdatasync", fail)
                await station.segment(count - 5, stored=False)
                await until(lambda: station.archive.trouble)
                assert station.archive.trouble == "Input/output error"
                before = {name: station.bytes_of(name) for name in PARTS}
                held = [before[name][number] for name in PARTS for number in range(NUMBER + 5, NUMBER + 9)]
                assert station.archive.waiting == sum(map(len, held))
                # RFC 8216bis §6.2.1: what was published isn't taken back
                assert "#EXT-X-GAP" not in station.text()
                assert list(before["240p"]) == list(range(NUMBER, NUMBER + count))
            await station.archive.settle()
            assert (station.archive.trouble, station.archive.waiting) == ("", 0)
            assert {name: station.bytes_of(name) for name in PARTS} == before
            live = range(NUMBER + count - MEMORY_TARGET_DURATIONS, NUMBER + count)
            assert [one.number for one in station.window.listed if one.data] == list(live)
    assert [(line["event"], line.get("lost")) for line in logs] == [
        ("DVR isn't kept", None),
        ("DVR is kept again", 0),
    ]
    async with on_air(tmp_path, material, tools, monkeypatch, number=NUMBER + count) as station:
        assert {name: station.bytes_of(name) for name in PARTS} == before


async def test_a_disk_that_takes_files_again_is_well_though_the_channel_stores_nothing_more(
    tmp_path: Path, material: dict[str, Track], tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    # Far more calm writes than come: what is stored later doesn't end the trouble.
    hasty = replace(DVR, calm_writes=1000, retry_seconds=0.01, look_seconds=0.05)
    with capture_logs() as logs:
        async with on_air(tmp_path, material, tools, monkeypatch, limits=hasty) as station:
            await station.segment(5)
            with monkeypatch.context() as patch:
                patch.setattr(os, "fdatasync", fail)
                await station.segment(3, stored=False)
                await until(lambda: station.archive.trouble)
                assert "space" in station.archive.trouble
            await station.archive.settle()
            files = sorted(path.name for path in tmp_path.rglob("*"))
            await until(lambda: not station.archive.trouble)
            # Nothing stays of what was tried.
            assert sorted(path.name for path in tmp_path.rglob("*")) == files
    assert [line["event"] for line in logs] == ["DVR isn't kept", "DVR is kept again"]


async def test_a_disk_that_hangs_costs_the_dvr_once_its_memory_is_full_and_no_line_changes_twice(
    tmp_path: Path, material: dict[str, Track], tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = 300_000
    limits = LiveLimits(dvr=replace(DVR, drain_seconds=0.01, waiting_bytes=room))
    options = replace(OPTIONS, data=tmp_path, dvr_window=3600.0, limits=limits)
    channel = Channel(options, tools)
    archive = channel.archive
    assert archive is not None
    monkeypatch.setattr(SequenceNumbers, "first_number", lambda *_: NUMBER)
    channel._adopt(await channel._planner.plan_restored(channel.cadence, archive))
    station, settled = Station(channel, archive, material, NUMBER), list[str]()
    with capture_logs() as logs:
        for _ in range(40):
            await station.segment(stored=False)  # nobody writes
            assert archive.waiting <= room
            older = station.text().split("#EXTINF")[: -SKIP_BOUNDARY - 1]
            # §6.2.5.1: what delta updates skip never changes any more
            assert older[1 : len(settled)] == settled[1:]
            settled = older
    assert [line["event"] for line in logs] == ["DVR isn't kept", "DVR loses segments"]
    assert archive.trouble == "the disk is too slow"
    in_memory = [one.number for one in station.window.listed if one.data]
    kept = len(in_memory) - MEMORY_TARGET_DURATIONS
    assert 3 < kept < 20
    assert in_memory[kept:] == list(range(NUMBER + 34, NUMBER + 40))
    lost = [one.number for one in station.window.listed if one.gap]
    assert sorted(in_memory + lost) == list(range(NUMBER, NUMBER + 40))
    assert room - archive.waiting < max(one.size for one in station.window.listed)
    async with archive.running():
        await archive.settle()
    assert archive.waiting == 0
    files = sorted(int(path.stem) for path in (tmp_path / "dvr" / "240p").glob("*.m4s"))
    assert files == in_memory


class Crash(BaseException):
    """The process ends here."""


@pytest.mark.clause("After a power cut only what is whole is listed")
def test_a_crash_at_any_step_of_a_write_leaves_all_segments_that_were_stored(
    tmp_path: Path, segments: list[LiveSegment], monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = 0
    for crash_at in range(100):
        folder = DvrFolder(tmp_path / str(crash_at))
        folder.load()
        stored = _write_until(folder, segments, crash_at, monkeypatch)
        found = whole(Path(str(folder.place)), segments)
        assert stored <= found
        assert len(found) <= len(stored) + 1
        if len(stored) == COUNT:
            break
        steps += 1
    assert steps > 30


def _write_until(
    folder: DvrFolder, segments: list[LiveSegment], crash_at: int, monkeypatch: pytest.MonkeyPatch
) -> set[int]:
    """Store segments until a step of it crashes, in its middle where it has one; give what was stored."""
    count = 0

    def step(real: Callable[..., object], torn: bool) -> Callable[..., object]:
        def run(*arguments: object, **options: object) -> object:
            nonlocal count
            count += 1
            if count > crash_at:
                if torn:
                    data = arguments[1]
                    assert isinstance(data, memoryview)
                    real(arguments[0], data[: len(data) // 2])
                raise Crash
            return real(*arguments, **options)

        return run

    stored: set[int] = set()
    with monkeypatch.context() as patch, contextlib.suppress(Crash):
        patch.setattr(os, "write", step(os.write, torn=True))
        patch.setattr(os, "fdatasync", step(os.fdatasync, torn=False))
        patch.setattr(os, "replace", step(os.replace, torn=False))
        for segment in segments:
            folder.store(segment, 0)
            stored.add(segment.number)
    return stored
