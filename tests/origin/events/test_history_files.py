"""The files of a channel's history: what a disk and other people may do to them, and how many there are."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from time import time

import httpx
import pytest

from origin.config.load import load
from origin.events.disk_history import EventHistory
from origin.events.event_log import Event, Past, PastEpoch
from origin.events.history_files import HistoryFiles, HistoryRoom
from origin.events.limits import EventLimits
from origin.server.services.event_services import make_event_services
from origin.server.services.limits import Limits
from packager.safe_files import DataFolder, OpenFolder
from tests.conftest import start_server
from tests.event_history import LIMITS, datas, files_of, ids, kept
from tests.event_server import LIMIT, a_channel, serving
from tests.keys import ADMIN_TOKEN
from tests.private_files import open_to_all, readable_by_others
from tests.small_disk import small_disk
from tests.waiting import until, wait_for

# How much there is of all channels together


def events_of(epoch: str, numbers: range, size: int = 1000) -> list[Event]:
    return [Event(epoch, number, "", "x" * size, time(), 0, size) for number in numbers]


def test_the_histories_of_many_channels_share_their_room_over_restarts(tmp_path: Path) -> None:
    def opened(name: str, room: HistoryRoom, epoch: str = "a") -> HistoryFiles:
        found = HistoryFiles(name, epoch, DataFolder(tmp_path) / name, EventLimits(), room=room)
        found.read()
        return found

    def used() -> int:
        return sum(file.stat().st_size for file in tmp_path.rglob("*.events"))

    room = HistoryRoom(tmp_path, 20_000)
    stored = 0
    for number in range(10):
        files = opened(f"channel-{number}", room)
        with contextlib.suppress(OSError):
            files.append(events_of("a", range(1, 5)))
            stored += 1
        files.close()
    assert (stored, used() <= 20_000) == (4, True)
    # The next start counts what is there.
    after = HistoryRoom(tmp_path, 20_000)
    full = opened("channel-9", after, "b")
    with pytest.raises(OSError, match="created_history_bytes"):
        full.append(events_of("b", range(1, 5)))
    opened("channel-0", after, "b").remove_all()
    full.append(events_of("b", range(5, 8)))
    full.close()
    assert used() <= 20_000


# What may have happened to the files


async def test_a_last_line_that_was_cut_off_costs_that_event_alone(tmp_path: Path) -> None:
    async with kept(tmp_path, "a") as (channel, _):
        channel.publish_text("1")
        channel.publish_text("2")
    (file,) = files_of(tmp_path)
    os.truncate(file, file.stat().st_size - 5)
    async with kept(tmp_path, "b") as (channel, _):
        assert datas(channel) == ["1"]
        assert channel.since("a-1").complete
        # It has had an event that wasn't kept: there may be others.
        assert channel.since("a-2").reason == "restart"
        assert channel.after(channel.since("a-2")) == []
    assert file in files_of(tmp_path)


async def test_other_users_of_the_machine_cant_read_a_history_nor_an_earlier_one(tmp_path: Path) -> None:
    umask = os.umask(0)
    try:
        async with kept(tmp_path, "a") as (channel, _):
            channel.publish_text("what needs the read_key")
        assert list(readable_by_others(tmp_path)) == []
        open_to_all(tmp_path)
        assert len(list(readable_by_others(tmp_path))) == 1
        async with kept(tmp_path, "b") as (channel, _):
            assert datas(channel) == ["what needs the read_key"]
    finally:
        os.umask(umask)
    assert list(readable_by_others(tmp_path)) == []


async def test_a_folder_without_a_history_keeps_its_mode_for_it_may_be_somebody_elses(tmp_path: Path) -> None:
    folder = tmp_path / "events" / "test"
    folder.mkdir(parents=True)
    (folder / "7.events").write_text("mine")
    open_to_all(tmp_path)
    async with kept(tmp_path, "a") as (channel, _):
        channel.publish_text("1")
    assert list(readable_by_others(tmp_path)) == [str(folder / "7.events")]
    assert folder.stat().st_mode & 0o777 == 0o755


FOREIGN: dict[str, bytes] = {
    "no head": b"hello\n",
    "empty": b"",
    "another channel's": b'{"channel":"other","epoch":"a","offset":0,"whole":true }\n',
    "a wrong epoch": b'{"channel":"test","epoch":"../x","offset":0,"whole":true }\n',
    "a huge number": b'{"channel":"test","epoch":"a","offset":%d,"whole":true }\n' % 10**18,
    "deep JSON": b"[" * 100_000 + b"\n",
    "an event out of order": b'{"channel":"test","epoch":"a","offset":0,"whole":true }\n'
    b'{"offset":7,"time":0,"event":"m","data":""}\n',
    "a type of two lines": b'{"channel":"test","epoch":"a","offset":0,"whole":true }\n'
    b'{"offset":1,"time":0,"event":"m\\nid: 1","data":""}\n',
    "no UTF-8": b'{"channel":"test","epoch":"a","offset":0,"whole":true }\n'
    b'{"offset":1,"time":0,"event":"m","data":"\xff"}\n',
    "bytes": bytes(range(256)) * 100,
}


@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN)
async def test_what_isnt_ours_is_neither_read_nor_changed_nor_removed(content: bytes, tmp_path: Path) -> None:
    async with kept(tmp_path, "a") as (channel, _):
        channel.publish_text("1")
    folder = tmp_path / "events" / "test"
    (folder / "7.events").write_bytes(content)
    (folder / "notes.txt").write_text("mine")
    os.utime(folder / "7.events", (0, 0))
    limits = EventLimits(
        history_look_seconds=0.0, restore_seconds=LIMIT, disk_bytes=1 << 20, history_seconds=1000.0
    )
    async with kept(tmp_path, "b", limits) as (channel, _):
        assert datas(channel) == ["1"]
        channel.publish_text("2")
    assert (folder / "7.events").read_bytes() == content
    assert (folder / "notes.txt").read_text() == "mine"
    assert [file.name for file in files_of(tmp_path)] == ["1.events", "7.events", "8.events"]


def as_a_link(folder: Path, elsewhere: Path) -> None:
    folder.symlink_to(elsewhere, target_is_directory=True)


def as_a_file(folder: Path, _: Path) -> None:
    folder.write_text("mine")


@pytest.mark.parametrize("lay", [as_a_link, as_a_file])
async def test_a_folder_that_isnt_ours_costs_the_history_but_not_the_channel(
    lay: Callable[[Path, Path], None], tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "data" / "events").mkdir(parents=True)
    lay(tmp_path / "data" / "events" / "test", elsewhere)
    channel = a_channel()
    history = EventHistory(channel, DataFolder(tmp_path / "data") / "events" / "test", LIMITS)
    running = asyncio.create_task(history.run())
    async with serving(channel) as server:
        await until(lambda: history.trouble is not None)
        assert (await server.post("1")).status_code == 200
        assert datas(channel) == ["1"]
    history.close()
    await running
    assert "move it away" in str(history.trouble)
    assert list(elsewhere.iterdir()) == []


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", 64 << 10) as folder:
        yield folder


async def test_a_disk_that_hangs_holds_up_nothing_but_the_history(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"c{number}" for number in range(40)]
    tables = "".join(f'[[events]]\nname = "{name}"\nhistory = "1h"\n' for name in names)
    (tmp_path / "headwater.toml").write_text(f'[server]\ndata = "{tmp_path}/data"\n{tables}')
    config = await asyncio.to_thread(load, tmp_path / "headwater.toml", {}, {})
    services = await asyncio.to_thread(make_event_services, config, Limits(), lambda area, size: None)
    hanging, begun = threading.Event(), list[HistoryFiles]()

    def hang(files: HistoryFiles, events: Sequence[Event]) -> None:
        begun.append(files)
        hanging.wait(LIMIT)

    monkeypatch.setattr(HistoryFiles, "append", hang)
    running = [asyncio.create_task(history.run()) for history in services.histories.values()]
    try:
        for history in services.histories.values():
            await history.wait_until_restored()
        for channel in services.channels.values():
            channel.publish_text("x")
        await until(lambda: len(begun) >= Limits().events.history_threads)
        # More channels than there are threads for everything else: their turn comes all the same.
        assert await asyncio.wait_for(asyncio.to_thread(lambda: "done"), LIMIT) == "done"
    finally:
        hanging.set()
        for history in services.histories.values():
            history.close()
        await asyncio.gather(*running)


def test_what_a_full_disk_does_not_keep_is_counted_in_the_metrics(tiny_disk: Path, tmp_path: Path) -> None:
    text = f"""
        server = {{ port = 0, data = "{tiny_disk}" }}
        library = {{ path = "{tmp_path}" }}
        [[events]]
        name = "kept"
        history = "1h"
    """
    (tmp_path / "headwater.toml").write_text(text)
    server = start_server("--config", str(tmp_path / "headwater.toml"))
    counted = 'headwater_events_history_lost_total{channel="kept"} '
    try:
        (tiny_disk / "filling").write_bytes(b"x" * 40_000)
        fields = {"authorization": f"Bearer {ADMIN_TOKEN}", "content-type": "text/plain"}
        with httpx.Client(base_url=server.url, headers=fields, timeout=LIMIT, trust_env=False) as client:
            assert counted + "0.0" in client.get("/metrics").text
            assert client.post("/events/kept", content="x" * 30_000).status_code == 200
            wait_for(lambda: counted + "1.0" in client.get("/metrics").text)
            assert "No space left" in client.get("/health").text
    finally:
        server.stop()


async def test_a_full_disk_loses_history_and_says_so_and_the_channel_goes_on(tiny_disk: Path) -> None:
    async with kept(tiny_disk, "a") as (channel, history):
        channel.publish_text("1")
        await until(lambda: "1" in files_of(tiny_disk)[0].read_text().splitlines()[-1])
        (tiny_disk / "filling").write_bytes(b"x" * 40_000)
        channel.publish_text("x" * 30_000)
        await until(lambda: history.trouble is not None)
        assert "No space left" in str(history.trouble)
        assert history.lost == 1
        assert len(datas(channel)) == 2
    async with kept(tiny_disk, "b") as (channel, history):
        # Nobody who comes again is told that it has missed nothing.
        assert channel.since("a-1").reason == "restart"
        (tiny_disk / "filling").unlink()
        channel.publish_text("3")
        await until(lambda: history.trouble is None)
    async with kept(tiny_disk, "c") as (channel, _):
        assert "3" in datas(channel)
        assert channel.since("a-1").reason == "restart"


async def test_a_gap_in_the_middle_of_an_epoch_is_told(tiny_disk: Path) -> None:
    async with kept(tiny_disk, "a") as (channel, history):
        channel.publish_text("1")
        await until(lambda: "1" in files_of(tiny_disk)[0].read_text().splitlines()[-1])
        (tiny_disk / "filling").write_bytes(b"x" * 40_000)
        channel.publish_text("x" * 30_000)
        await until(lambda: history.trouble is not None)
        (tiny_disk / "filling").unlink()
        channel.publish_text("3")
        await until(lambda: history.trouble is None)
    async with kept(tiny_disk, "b") as (channel, _):
        assert ids(channel) == ["a-3"]
        resumption = channel.since("a-1")
        assert (resumption.reason, resumption.lost) == ("expired", 1)


# Bounds


class Wall:
    """Seconds since the epoch of Unix, as a test has them."""

    def __init__(self) -> None:
        self.now = 1e9

    def __call__(self) -> float:
        return self.now


def an_event(epoch: str, offset: int, time: float, data: str = "x") -> Event:
    return Event(epoch, offset, "message", data, time)


def test_files_that_are_too_old_or_too_many_go_the_oldest_first(tmp_path: Path) -> None:
    wall, place = Wall(), DataFolder(tmp_path) / "events" / "test"
    limits = EventLimits(history_seconds=80.0, disk_bytes=10_000, file_bytes=1000)
    files = HistoryFiles("test", "a", place, limits, wall)
    files.read()
    for offset in range(1, 201):
        files.append([an_event("a", offset, wall.now, "x" * 100)])
        files.remove_old()
        assert sum(file.stat().st_size for file in files_of(tmp_path)) <= 10_000 + 1200
    assert files_of(tmp_path)[0].name != "1.events"
    for _ in range(10):
        wall.now += 10
        files.remove_old()
    # What is left tells where the epoch was, and no text.
    (left,) = files_of(tmp_path)
    assert json.loads(left.read_text()) == {"channel": "test", "epoch": "a", "offset": 200, "whole": True}
    files.close()
    past = HistoryFiles("test", "b", place, limits, wall).read()
    assert past == Past((PastEpoch("a", 200),), ())


def test_many_epochs_of_few_events_leave_few_files(tmp_path: Path) -> None:
    """A server that is restarted again and again and has nothing to say."""
    place = DataFolder(tmp_path) / "events" / "test"
    for number in range(50):
        files = HistoryFiles("test", f"e{number}", place, EventLimits())
        files.read()
        files.remove_old()
        files.close()
    assert len(files_of(tmp_path)) == 1


def append_a_line(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"somebody's line\n")


def put_another_in_its_place(file: Path) -> None:
    """Of the same length, as a copy that is restored would be."""
    other = file.with_suffix(".other")
    other.write_bytes(b"x" * file.stat().st_size)
    other.replace(file)


@pytest.mark.parametrize("change", [append_a_line, put_another_in_its_place])
def test_a_file_that_was_changed_meanwhile_isnt_removed(
    change: Callable[[Path], None], tmp_path: Path
) -> None:
    wall, place = Wall(), DataFolder(tmp_path) / "events" / "test"
    limits = EventLimits(history_seconds=80.0, file_bytes=100)
    files = HistoryFiles("test", "a", place, limits, wall)
    files.read()
    files.append([an_event("a", offset, wall.now) for offset in (1, 2, 3)])
    first = files_of(tmp_path)[0]
    change(first)
    content = first.read_bytes()
    wall.now += 1000
    files.remove_old()
    files.close()
    assert first.read_bytes() == content


def test_a_past_that_is_read_once_more_behind_an_error_of_the_disk_counts_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = DataFolder(tmp_path) / "events" / "test"
    limits = EventLimits(file_bytes=1000, disk_bytes=4000)
    files = HistoryFiles("test", "a", place, limits)
    files.read()
    files.append([an_event("a", offset, time(), "x" * 100) for offset in range(1, 21)])
    files.close()
    before = files_of(tmp_path)
    read = OpenFolder.read

    def fail(folder: OpenFolder, name: str, most: int) -> bytes:
        if name == "1.events":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return read(folder, name, most)

    again = HistoryFiles("test", "b", place, limits)
    with monkeypatch.context() as broken:
        broken.setattr(OpenFolder, "read", fail)
        with pytest.raises(OSError, match="Input/output"):
            again.read()
    assert len(again.read().events) == 20
    again.remove_old()
    again.close()
    # Together they have fewer bytes than may be there: were they counted twice, some would have to go.
    assert files_of(tmp_path) == before


async def test_a_disk_that_is_too_slow_costs_events_of_the_history_alone(tmp_path: Path) -> None:
    limits = EventLimits(restore_seconds=LIMIT, waiting_bytes=1000)
    async with kept(tmp_path, "a", limits) as (channel, history):
        for _ in range(100):  # the loop has no turn in between
            channel.publish_text("x" * 100)
        assert history.lost == 100 - 1000 // 171
        assert len(datas(channel)) == 100
