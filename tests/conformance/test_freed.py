"""What connections leave behind: nothing, at once. What waits for the garbage collector grows like a leak."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator

import pytest

from origin.wire import WireProtocol
from tests.conformance.conftest import Running
from tests.conformance.handfed import NUMBER, HandFed
from tests.conformance.raw import Client
from tests.radio_server import LIMIT, one_mount
from tests.waiting import until, wait_for

LIVE = "/live/test/240p/"
FILM = "/media/film.mp4"


@pytest.fixture(autouse=True)
def _without_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def connections() -> int:
    """Count those that are in memory."""
    return sum(issubclass(type(one), WireProtocol) for one in gc.get_objects())


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
    before = connections()
    with Client(fed.address) as client:
        client.send(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")
        wait_for(lambda: connections() > before, "the connection")
    wait_for(lambda: connections() == before, "nothing to be left of it")


@pytest.mark.parametrize(
    "fields", [(), ("Range: bytes=0-9",), ("Range: bytes=0-9,20-29",), ('If-None-Match: "other"',)]
)
def test_a_client_of_files_that_leaves_is_freed(files_origin: Running, fields: tuple[str, ...]) -> None:
    before = connections()
    with files_origin.connect() as client:
        assert client.ask(FILM, *fields).status in {200, 206}
        client.send("\r\n".join((f"GET {FILM} HTTP/1.1", "Host: a", *fields, "", "")))
        assert connections() > before
    wait_for(lambda: connections() == before, "nothing to be left of it")


async def test_a_listener_who_leaves_is_freed() -> None:
    async with one_mount() as (feed, mount, server):
        before = connections()
        feed.push(39)
        await feed.settled()
        client = await server.open()
        await until(lambda: mount.listeners == 1)
        feed.push(39)
        await client.body(39 * 417)
        await client.close()
        async with asyncio.timeout(LIMIT):
            # With a block it is asked whether one that has been here for a while was more than a probe.
            while connections() > before:
                feed.push(1)
                await asyncio.sleep(0.1)
