"""The slate of channels that pull their source: what viewers see on the same playlists while that is gone."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from origin.config.load import validate
from origin.config.warnings import unserved
from packager.live.channel import Channel
from packager.live.options import ChannelOptions
from packager.live.pulled_slate import SlateFallback
from packager.process.ffmpeg_discovery import Tools
from packager.window.model import LiveSegment
from tests.live_server import running
from tests.packager.sources.decoded_pictures import decoded
from tests.packager.sources.protocol_servers import child, free_port
from tests.upstream import Upstream
from tests.waiting import until

RED, BLUE = (254, 0, 0), (0, 0, 254)
"""The slate and the source, as ffmpeg's lavfi makes them and H.264 keeps them."""

CODING = "-c:v libx264 -preset ultrafast -tune zerolatency -g 10 -pix_fmt yuv420p -c:a aac"


def made(colour: str) -> str:
    return f"-re -f lavfi -i color={colour}:size=160x120:rate=10 -re -f lavfi -i sine {CODING} -f mpegts"


@pytest.fixture(scope="module")
def slate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("slate") / "slate.mp4"
    source = f"-f lavfi -i color=red:size=320x180:rate=25 -f lavfi -i sine -t 2 {CODING}"
    subprocess.run(["ffmpeg", "-v", "error", *source.split(), str(path)], check=True)
    return path


@contextlib.asynccontextmanager
async def over_http(server: Upstream) -> AsyncIterator[None]:
    await server.start()
    try:
        yield
    finally:
        await server.stop()


@contextlib.asynccontextmanager
async def over_udp(url: str) -> AsyncIterator[None]:
    with child(["ffmpeg", "-nostdin", "-v", "quiet", *made("blue").split(), f"{url}?pkt_size=1316"]):
        yield


def newest_behind(channel: Channel, number: int) -> LiveSegment | None:
    """Give the newest finished segment, if its number is another one."""
    finished = [one for one in channel.renditions["240p"].window.listed if one.data]
    return finished[-1] if finished and finished[-1].number != number else None


async def wait_for_colour(tools: Tools, channel: Channel, colour: tuple[int, ...]) -> None:
    """Wait until the newest finished segment is of a colour, but for what coding changes."""
    looked_at = -1
    while True:
        await until(functools.partial(newest_behind, channel, looked_at), f"a segment of {colour}")
        segment = newest_behind(channel, looked_at)
        assert segment is not None
        looked_at = segment.number
        words = ["-frames:v", "1", "-vf", "scale=1:1", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
        found = (await asyncio.to_thread(decoded, tools, segment, *words)).stdout
        if all(abs(a - b) < 40 for a, b in zip(found, colour, strict=True)):
            # Recordings leave the slate out by this.
            assert segment.timeline is not None
            assert segment.timeline.is_slate == (colour == RED)
            return


@pytest.mark.clause("While a pulled source is gone, viewers see the slate on the same address")
@pytest.mark.parametrize("protocol", ["http", "udp"])
async def test_the_slate_stands_in_for_a_pulled_source_before_it_comes_and_after_it_went(
    tools: Tools, slate: Path, protocol: str
) -> None:
    source: Callable[[], contextlib.AbstractAsyncContextManager[None]]
    if protocol == "http":
        server = Upstream(tools, f"{made('blue')} pipe:1")
        source = functools.partial(over_http, server)
        async with source():
            url = f"http://127.0.0.1:{server.port}/a.ts"
    else:
        url = f"udp://127.0.0.1:{free_port(socket.SOCK_DGRAM)}"
        source = functools.partial(over_udp, url)
    options = ChannelOptions(
        "pulled", url, ladder=("240p",), part_duration=0.25, segment_duration=1.0, slate=str(slate)
    )
    channel = Channel(options, tools)
    async with running(channel):
        with capture_logs() as logs:
            await wait_for_colour(tools, channel, RED)
            # Viewers see a picture; who operates it is told that the source isn't there.
            assert (channel.state, bool(channel.trouble)) == ("down", True)
            async with source():
                await wait_for_colour(tools, channel, BLUE)
                await until(lambda: channel.state == "live")
                assert not channel.trouble
            await until(lambda: channel.state == "down")
            await wait_for_colour(tools, channel, RED)
        numbers = [segment.number for segment in channel.renditions["240p"].window.listed]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    told = [line["event"] for line in logs if str(line["event"]).endswith("is shown")]
    assert told == ["slate is shown", "source is shown", "slate is shown"]
    assert "slate can't be shown" not in str(logs)


async def test_a_slate_that_can_not_be_played_is_told_once_and_the_source_is_played(
    tools: Tools, tmp_path: Path
) -> None:
    path = tmp_path / "slate.mp4"
    path.write_bytes(b"\0\0\0\x10ftypisom" + bytes(1000))
    server = Upstream(tools, f"{made('blue')} pipe:1")
    await server.start()
    await server.stop()
    url = f"http://127.0.0.1:{server.port}/a.ts"
    options = ChannelOptions(
        "pulled", url, ladder=("240p",), part_duration=0.25, segment_duration=1.0, slate=str(path)
    )
    channel = Channel(options, tools)
    with capture_logs() as logs:
        async with running(channel):
            await until(lambda: "slate can't be shown" in str(logs))
            async with over_http(server):
                await until(lambda: channel.state == "live")
    assert str(logs).count("slate can't be shown") == 1


def test_only_channels_whose_source_may_be_gone_have_a_slate(tmp_path: Path) -> None:
    slate = tmp_path / "slate.mp4"
    slate.touch()

    def told(source: str) -> list[str]:
        channel = {"name": "one", "source": source, "offline": str(slate)}
        return list(unserved(validate({"live": [channel]}, "a test")))

    assert not told("publish")
    assert not told("https://elsewhere.example/live.m3u8")
    assert not told("udp://239.1.2.3:5000")
    (line,) = told("testsrc")
    assert "offline: only a channel that is published to or pulled has a slate" in line


async def test_who_waits_no_more_leaves_nothing_that_looks_for_the_source(tools: Tools) -> None:
    looks, ended = asyncio.Event(), list[str]()

    async def detected() -> None:
        looks.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append("cancelled")

    fallback = SlateFallback("slate.mp4", detected, tools, "pulled")
    waiting = asyncio.create_task(fallback.wait_until_flowing())
    await until(looks.is_set)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert ended == ["cancelled"]
