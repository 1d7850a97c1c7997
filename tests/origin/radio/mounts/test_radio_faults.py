"""Crowds that misbehave: nobody else notices, and nothing stays behind."""

import asyncio
import gc
import resource
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from media.mp3.reader import Frame, MpegAudioReader
from origin.radio.mounts.listeners import Listener, ListenerClient
from origin.radio.mounts.mount import Mount
from packager.process.ffmpeg_discovery import Tools, ToolsError
from packager.radio.folder_station import Station, StationOptions
from tests.descriptors import descriptors
from tests.keys import ADMIN_TOKEN
from tests.patience import MOUNT
from tests.radio_server import FRAME_BYTES, Client, Server, mount_options, one_mount
from tests.reading import events_of
from tests.waiting import until

SECOND = 39
CROWD = 250
STOPPED = 100
LEAVING = 200


@pytest.fixture(autouse=True)
def enough_descriptors() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, 4096), hard), hard))


@pytest.mark.parametrize("on_demand", [False, True])
async def test_what_ffmpeg_lacks_for_a_station_ends_its_mount_as_that_error_alone(
    tmp_path: Path, tools: Tools, on_demand: bool
) -> None:
    """In a group of errors, whoever supervises it would take it for a fault and try again for ever."""
    station = Station(StationOptions("test", tmp_path, loudness=-16.0), replace(tools, filters=frozenset()))
    mount = Mount("test", station, mount_options(on_demand=on_demand))
    mount._demand.update(has_listeners=True)
    with pytest.raises(ToolsError, match="the loudness of radio station 'test' needs filter"):
        await mount.run()


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


class Silent:
    """A listener that sends its request and reads nothing, with a small receive buffer."""

    def __init__(self, port: int) -> None:
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.connect(("127.0.0.1", port))
        self.socket.sendall(b"GET /radio/test HTTP/1.1\r\nHost: x\r\n\r\n")


async def gather(server: Server, count: int) -> list[Client]:
    return [await server.open(version="1.0") for _ in range(count)]


def frames(data: bytes) -> list[int]:
    return [
        int.from_bytes(one.data[36:44], "big")
        for one in events_of(MpegAudioReader(), data)
        if isinstance(one, Frame)
    ]


@pytest.mark.clause("A listener that falls behind by more than the queue is dropped")
async def test_of_a_crowd_those_that_stop_reading_are_dropped_and_the_others_miss_nothing() -> None:
    options = mount_options(queue_bytes=256 * 1024, burst_bytes=0)
    async with one_mount(options) as (feed, mount, server):
        readers = await gather(server, CROWD - STOPPED)
        stopped = [Silent(server.port) for _ in range(STOPPED)]
        await until(lambda: mount.listeners == CROWD)
        heard = [bytearray() for _ in readers]
        size, pushed = 0, 0
        grown = resident_bytes()
        while mount.dropped < STOPPED:
            assert pushed < 100, f"only {mount.dropped} were dropped"
            feed.push(SECOND)
            pushed += 1
            size += SECOND * FRAME_BYTES
            async with asyncio.timeout(120):
                for client, data in zip(readers, heard, strict=True):
                    data += await client.reader.readexactly(SECOND * FRAME_BYTES)
        # 256 KiB of queue, what the kernel keeps on both sides, and a block that was on its way.
        assert (pushed - 1) * SECOND * FRAME_BYTES > options.limits.queue_bytes
        expected = list(range(pushed * SECOND))
        assert all(frames(bytes(data)) == expected for data in heard[::30])
        assert all(len(data) == size for data in heard)
        assert (mount.listeners, mount.dropped) == (CROWD - STOPPED, STOPPED)
        # The readers' own copies are in this process too.
        assert resident_bytes() - grown < size * len(readers) * 1.5 + STOPPED * 256 * 1024
        for one in stopped:
            one.socket.close()


async def test_a_crowd_that_leaves_at_once_leaves_nothing_behind() -> None:
    # Nothing is played meanwhile, and a busy machine takes its time: for the mount there is none.
    async with one_mount(clock=lambda: 1000.0) as (feed, mount, server):
        feed.push(SECOND)
        await feed.settled()
        (await server.open()).abort()
        await until(lambda: mount.listeners == 0)
        gc.collect()
        before = (len(asyncio.all_tasks()), descriptors())
        for _ in range(2):
            crowd = await gather(server, LEAVING)
            await until(lambda: mount.listeners == LEAVING)
            for client in crowd:
                client.abort()
            await until(lambda: mount.listeners == 0, "the crowd's leaving")
            server.clients.clear()
            crowd.clear()
            gc.collect()
            await until(lambda: descriptors() <= before[1] + 2, "the descriptors")
            await until(lambda: len(asyncio.all_tasks()) <= before[0] + 1, "the tasks")
        assert mount.audience.peak == 0


async def test_a_listener_that_lags_may_be_set_forward_to_whole_frames() -> None:
    options = mount_options(queue_bytes=128 * 1024, burst_bytes=0, skips=True)
    async with one_mount(options) as (feed, mount, server):
        slow = await server.open(version="1.0")
        await until(lambda: mount.listeners == 1)
        pushed = 0
        while mount.audience.skipped < 3:
            assert pushed < 200, "it was never set forward"
            feed.push(SECOND)
            await feed.settled()
            pushed += 1
        feed.push(SECOND)
        data = b""
        async with asyncio.timeout(120):
            while True:
                part = await slow.reader.read(65536)
                data += part
                found = frames(data) if len(data) % FRAME_BYTES == 0 else []
                if found and found[-1] == (pushed + 1) * SECOND - 1:
                    break
                if len(data) % FRAME_BYTES == 0:
                    feed.push(SECOND)
                    pushed += 1
        assert data == b"".join(data[at : at + FRAME_BYTES] for at in range(0, len(data), FRAME_BYTES))
        assert found == sorted(set(found))
        assert (mount.listeners, mount.dropped) == (1, 0)


async def test_closing_a_mount_of_a_crowd_takes_no_longer_than_its_patience() -> None:
    limits = replace(
        MOUNT,
    )
    async with one_mount(mount_options(limits=limits)) as (feed, mount, server):
        for _ in range(12):
            feed.push(SECOND)
        await feed.settled()
        stopped = [Silent(server.port) for _ in range(100)]
        await until(lambda: mount.listeners == 100)
        mount.close()
        assert mount.listeners == 0
        for one in stopped:
            one.socket.close()


async def test_a_list_of_thousands_of_listeners_holds_nobody_up() -> None:
    """It took a third of a second of the event loop, for which a station's source has the password."""
    async with one_mount() as (feed, mount, server):
        feed.push(SECOND)
        await until(lambda: mount.state == "live")
        client = ListenerClient("192.0.2.1", "a program <of theirs>")
        crowd = {Listener(None, client=client, number=number): None for number in range(20_000)}
        mount.audience._present.update(crowd)
        try:
            path = "/admin/listclients?mount=/radio/test"
            answer = await server.open(f"Authorization: Bearer {ADMIN_TOKEN}", path=path)
            async with asyncio.timeout(120):
                text = await answer.reader.readexactly(int(answer.headers["content-length"]))
        finally:
            mount.audience._present.clear()
    assert text.count(b"<listener>") == text.count(b"&lt;of theirs&gt;") == 20_000
    assert b"<ID>19999</ID>" in text
