"""What connections leave behind: nothing, at once. What waits for the garbage collector grows like a leak."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

from packager.process.ffmpeg_discovery import Tools
from tests.conformance.conftest import Running
from tests.conformance.handfed import NUMBER, PARTS, HandFed, Track, on_air
from tests.conformance.raw import Client
from tests.held_connections import connections, in_memory
from tests.radio_server import LIMIT, one_mount
from tests.waiting import until, wait_for

LIVE = "/live/test/240p/"
FILM = "/media/film.mp4"


@pytest.fixture(autouse=True)
def _without_collector() -> Iterator[None]:
    gc.collect()
    # What thousands of other tests have left isn't looked through again and again.
    gc.freeze()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def fed(material: dict[str, Track], tools: Tools, tmp_path: Path) -> Iterator[HandFed]:
    """The channel of other tests, where nobody waits for long: as long, who closes may still be reading."""
    with on_air(material, tools, tmp_path, patient=False) as fed:
        fed.publish(8 * PARTS + 2)
        yield fed


def is_sending(client: tuple[str, int]) -> bool:
    """Tell whether bytes of a file wait for a client."""
    return any(one.sender is not None and one.sender.is_sending for one in in_memory(client))


@pytest.mark.parametrize(
    "target",
    [
        f"{LIVE}media.m3u8",
        f"{LIVE}media.m3u8?_HLS_msn={NUMBER + 8}&_HLS_part=3",
        f"{LIVE}{NUMBER + 7}.m4s",
        f"{LIVE}{NUMBER + 8}.m4s",
        f"{LIVE}{NUMBER + 8}.2.m4s",
        f"{LIVE}nothing",
    ],
)
def test_a_viewer_who_leaves_is_freed(fed: HandFed, target: str) -> None:
    with Client(fed.address) as client:
        own = client.socket.getsockname()
        client.send(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")
        wait_for(lambda: connections(own) == 1, "the connection")
    wait_for(lambda: connections(own) == 0, "nothing to be left of it")


@pytest.mark.parametrize(
    ("status", "fields"),
    [
        (200, ()),
        (206, ("Range: bytes=0-9",)),
        (206, ("Range: bytes=0-9,20000-20009",)),
        (200, ('If-None-Match: "other"',)),
    ],
)
def test_a_client_of_files_that_leaves_is_freed(
    files_origin: Running, status: int, fields: tuple[str, ...]
) -> None:
    with files_origin.connect() as client:
        own = client.socket.getsockname()
        assert client.ask(FILM, *fields).status == status
        client.send("\r\n".join((f"GET {FILM} HTTP/1.1", "Host: a", *fields, "", "")))
        assert connections(own) == 1
    wait_for(lambda: connections(own) == 0, "nothing to be left of it")


@pytest.mark.parametrize("fields", [(), ("Range: bytes=1-",), ("Range: bytes=0-9,20000-",)])
def test_a_client_that_leaves_within_a_file_is_freed(files_origin: Running, fields: tuple[str, ...]) -> None:
    large = files_origin.library / "large.mp4"
    with large.open("wb") as file:
        file.truncate(64 * 1024 * 1024)
    with files_origin.connect(receive_buffer=4096) as client:
        own = client.socket.getsockname()
        client.send("\r\n".join(("GET /media/large.mp4 HTTP/1.1", "Host: a", *fields, "", "")))
        wait_for(lambda: is_sending(own), "a sending that waits for the client")
        client.reset()
    wait_for(lambda: connections(own) == 0, "nothing to be left of it")
    large.unlink()


async def test_a_listener_who_leaves_is_freed() -> None:
    async with one_mount() as (feed, mount, server):
        feed.push(39)
        await feed.settled()
        client = await server.open()
        own = client.writer.get_extra_info("sockname")
        await until(lambda: mount.listeners == 1)
        feed.push(39)
        await client.body(39 * 417)
        assert connections(own) == 1
        await client.close()
        async with asyncio.timeout(LIMIT):
            # With a block it is asked whether one that has been here for a while was more than a probe.
            while connections(own):
                feed.push(1)
                await asyncio.sleep(0.1)
