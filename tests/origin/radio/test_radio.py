import asyncio
import json
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from media.mp3.icy import metadata_block
from origin.radio.mounts.mount import Mount
from origin.radio.routes import wants_titles
from origin.radio.status import status
from packager.radio.audio_blocks import AudioBlock
from tests.patience import MOUNT
from tests.radio_server import FRAME_BYTES, Feed, mount_options, numbers, one_mount, serving
from tests.waiting import until

CLOSE_SECONDS = 30.0
"""Far from the half second that a client has which doesn't read, and from the minute that it has else."""


async def test_all_listeners_get_the_same_audio_from_where_they_joined() -> None:
    async with one_mount(mount_options(burst_bytes=0)) as (feed, mount, server):
        early = await server.open()
        await until(lambda: mount.listeners == 1)
        feed.push(10)
        assert numbers(await early.body(10 * FRAME_BYTES)) == list(range(10))
        late = await server.open()
        await until(lambda: mount.listeners == 2)
        feed.push(5)
        assert numbers(await early.body(5 * FRAME_BYTES)) == list(range(10, 15))
        assert numbers(await late.body(5 * FRAME_BYTES)) == list(range(10, 15))


@pytest.mark.parametrize("media_type", ["audio/mpeg", "audio/aac"])
async def test_who_listens_before_the_first_block_stays_if_that_is_of_the_responses_type(
    media_type: str,
) -> None:
    async with one_mount() as (feed, mount, server):
        listener = await server.open()
        await until(lambda: mount.listeners == 1)
        feed.push(10)
        block = feed._queue.get_nowait()
        assert block is not None
        feed._queue.put_nowait(replace(block, media_type=media_type))
        if media_type == listener.headers["content-type"]:
            assert numbers(await listener.body(10 * FRAME_BYTES)) == list(range(10))
        else:
            assert await listener.chunk() == b""


async def test_a_listener_that_doesnt_read_is_dropped_and_the_others_miss_nothing() -> None:
    options = mount_options(queue_bytes=512 * 1024)
    async with one_mount(options) as (feed, mount, server):
        stuck = [await server.open() for _ in range(3)]
        reading = await server.open()
        await until(lambda: mount.listeners == 4)
        heard, pushed = b"", 0
        with capture_logs() as logs:
            while mount.dropped < 3:
                assert pushed < 2000, "nobody was dropped"
                feed.push(39)
                pushed += 39
                heard += await reading.body(39 * FRAME_BYTES)
            await until(lambda: mount.listeners == 1)
        feed.push(10)
        heard += await reading.body(10 * FRAME_BYTES)
        assert numbers(heard) == list(range(pushed + 10))
        assert [entry["event"] for entry in logs] == ["listener dropped"] * 3
        assert mount.dropped == 3
        for client in stuck:
            rest = await asyncio.wait_for(client.reader.read(-1), 120)
            # RFC 9112 §8: without the last chunk the client knows that the body is incomplete.
            assert not rest.endswith(b"0\r\n\r\n")


async def test_a_listener_that_leaves_is_noticed_without_any_audio_going_out() -> None:
    async with one_mount() as (feed, mount, server):
        feed.push()
        clients = [await server.open() for _ in range(3)]
        await until(lambda: mount.listeners == 3)
        await clients[0].close()
        await until(lambda: mount.listeners == 2, "the FIN")
        clients[1].abort()
        await until(lambda: mount.listeners == 1, "the RST")


async def test_closing_a_mount_ends_its_listeners_in_order_and_the_stuck_ones_soon() -> None:
    limits = replace(
        MOUNT,
    )
    async with one_mount(mount_options(limits=limits)) as (feed, mount, server):
        reading, stuck = await server.open(), await server.open()
        await until(lambda: mount.listeners == 2)
        for _ in range(20):
            feed.push(39)
            await reading.body(39 * FRAME_BYTES)
        started = asyncio.get_running_loop().time()
        mount.close()
        assert await reading.chunk() == b""
        assert await reading.reader.read() == b""
        await until(lambda: mount.listeners == 0)
        assert asyncio.get_running_loop().time() - started < CLOSE_SECONDS
        assert mount.state == "down"
        await stuck.close()
        assert (await server.open()).status == 503


async def test_the_end_of_the_source_ends_the_listeners() -> None:
    async with one_mount() as (feed, _mount, server):
        client = await server.open()
        feed.push(3)
        feed.end()
        assert numbers(await client.body(3 * FRAME_BYTES)) == [0, 1, 2]
        assert await client.chunk() == b""


async def test_the_state_is_starting_then_live_then_down_when_silent() -> None:
    feed, now = Feed(), 1000.0
    mount = Mount("test", feed, mount_options(), clock=lambda: now)
    running = asyncio.create_task(mount.run())
    try:
        await asyncio.sleep(0)
        assert (mount.state, mount.title) == ("starting", "")
        feed.push(title="One")
        await until(lambda: mount.state == "live")
        assert mount.title == "One"
        now += MOUNT.silence_seconds + 0.1
        assert mount.state == "down"
        feed.push(title="Two")
        await until(lambda: mount.state == "live")
        assert mount.title == "Two"
    finally:
        running.cancel()
        await asyncio.wait([running])


async def test_a_station_that_never_sounds_is_down_after_a_while() -> None:
    now = 1000.0
    mount = Mount("test", Feed(), mount_options(), clock=lambda: now)
    assert mount.state == "starting"
    now += MOUNT.silence_seconds + 0.1
    assert mount.state == "down"


async def test_a_source_is_closed_with_its_mount() -> None:
    closed = asyncio.Event()

    class Closing(Feed):
        async def blocks(self) -> AsyncGenerator[AudioBlock]:
            try:
                async with aclosing(super().blocks()) as blocks:
                    async for block in blocks:
                        yield block
            finally:
                closed.set()

    mount = Mount("test", Closing(), mount_options())
    running = asyncio.create_task(mount.run())
    await asyncio.sleep(0)
    running.cancel()
    await asyncio.wait([running])
    assert closed.is_set()


async def test_a_limit_of_the_whole_server_holds_over_all_mounts() -> None:
    mounts = {name: Mount(name, Feed(), mount_options()) for name in ("one", "two")}
    async with serving(mounts, max_listeners=2) as server:
        clients = [await server.open(path=f"/radio/{name}") for name in ("one", "two")]
        await until(lambda: sum(mount.listeners for mount in mounts.values()) == 2)
        refused = await server.open(path="/radio/one")
        assert refused.status == 503
        assert refused.headers["retry-after"].isdigit()
        await clients[1].close()
        await until(lambda: mounts["two"].listeners == 0)
        assert (await server.open(path="/radio/one")).status == 200


@pytest.mark.clause("ICY metadata goes to those who ask for it")
@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ([b"1"], True),
        ([b" 01 "], True),
        ([b"001"], True),
        ([b"11"], False),
        ([b""], False),
        ([], False),
        ([b"0"], False),
        ([b"2"], False),
        ([b"1", b"1"], False),
        ([b"1, 1"], False),
    ],
)
def test_titles_are_only_for_those_who_ask_with_a_single_one(values: list[bytes], wanted: bool) -> None:
    headers = [(b"host", b"a"), *((b"icy-metadata", value) for value in values)]
    assert wants_titles(headers) is wanted


async def test_titles_change_with_the_audio_that_they_belong_to() -> None:
    options = mount_options(metaint=FRAME_BYTES, url="http://radio.example/")
    async with one_mount(options) as (feed, mount, server):
        feed.push(2, "One")
        feed.push(2, "Two")
        await until(lambda: mount.title == "Two")
        client = await server.open("Icy-MetaData: 1")
        one, two = (metadata_block(title, "http://radio.example/") for title in ("One", "Two"))
        stream = await client.body(4 * FRAME_BYTES + len(one) + len(two) + 2)
        frames = [stream[match.start() :][:FRAME_BYTES] for match in re.finditer(b"\xff\xfb", stream)]
        assert stream == frames[0] + one + frames[1] + b"\0" + frames[2] + two + frames[3] + b"\0"


@pytest.mark.clause("CWE-79")
@pytest.mark.parametrize("title", ["</script>", '"', "\u2028", "\ud800", "Żółć"])
async def test_the_status_is_json_that_is_safe_inside_html(title: str) -> None:
    feed = Feed()
    mount = Mount("test", feed, mount_options())
    running = asyncio.create_task(mount.run())
    feed.push(1, title)
    await until(lambda: mount.state == "live")
    running.cancel()
    await asyncio.wait([running])
    text = status({"/radio/test": mount}, "http://radio.example")
    assert json.loads(text)["icestats"]["source"][0]["title"] == title
    assert "<" not in text
    assert text.isascii()


def test_a_header_from_the_configuration_stays_one_line() -> None:
    mount = Mount("test", Feed(), mount_options(title="a\r\nSet-Cookie: b", genre="Ö\0"))
    headers = dict(mount.broadcast.headers(mount.facts, with_titles=False))
    assert headers[b"icy-name"] == b"aSet-Cookie: b"
    assert headers[b"icy-genre"] == "Ö".encode()
