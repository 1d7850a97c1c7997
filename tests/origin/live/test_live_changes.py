"""Live channels over HTTP while they start, end, or lose their ffmpeg."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import httpx
import m3u8
import pytest
from starlette.applications import Starlette

from origin.answers.asgi import handler_routes
from origin.live.handler import LiveHandler
from origin.live.requests.addresses import PATTERNS
from packager.live.channel import Channel
from packager.live.limits import LiveLimits
from packager.live.options import ChannelOptions
from packager.live.restarts import Restarts
from packager.process.ffmpeg_discovery import Tools
from tests.live_server import broadcasting, running
from tests.patience import CLIENT_SECONDS, LIVE, PATIENCE_SECONDS, REQUESTS
from tests.waiting import until, wait_for

pytestmark = pytest.mark.timeout(900)

PATIENT = replace(LIVE, publish=REQUESTS)
"""Neither a channel nor its requests mind what comes late."""

SOON_SECONDS = 60.0
"""Far less than what isn't answered at the end would wait for."""


def test_a_killed_ffmpeg_comes_back_behind_a_discontinuity_and_players_read_on(tools: Tools) -> None:
    # One break alone: an ffmpeg that is late makes no other one, and none leaves the playlist.
    options = ChannelOptions(
        "test",
        ladder=("240p",),
        part_duration=0.25,
        segment_duration=1.0,
        dvr_window=PATIENCE_SECONDS,
        limits=LIVE,
    )
    channel = Channel(options, tools)
    timeout = CLIENT_SECONDS
    with broadcasting(channel) as server, httpx.Client(base_url=server.url + "/", timeout=timeout) as client:
        wait_for(lambda: channel.ready, "the channel")
        first = client.get("240p/media.m3u8").raise_for_status().text
        # It asks again for as long as the encoder may be away.
        command = ["ffmpeg", "-nostdin", "-v", "error", "-max_reload", "10000"]
        command += ["-i", f"{server.url}/master.m3u8", "-t", "6", "-map", "0:v", "-f", "framecrc", "-"]
        player = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert player.stdout is not None
            lines = iter(player.stdout)
            shown = [next(line for line in lines if not line.startswith("#"))]
            assert channel.pid is not None
            os.kill(channel.pid, signal.SIGKILL)
            wait_for(lambda: channel.restarts == 1 and channel.state == "live", what="the restart")
            shown += lines
            assert player.wait(120) == 0
        finally:
            player.kill()
            player.wait()
            if player.stdout is not None:
                player.stdout.close()
        # six seconds at 30 frames a second, of which the break took some
        assert len(shown) > 100
        for name in ("240p", "audio"):
            text = client.get(f"{name}/media.m3u8").raise_for_status().text
            assert text.count("#EXT-X-DISCONTINUITY\n#EXT-X-MAP:URI=") == 1
            uris = [segment.uri for segment in m3u8.loads(text).segments if segment.uri]
            numbers = [int(uri.split(".")[0]) for uri in uris]
            assert numbers == list(range(numbers[0], numbers[-1] + 1))
            assert numbers[0] >= m3u8.loads(first).media_sequence


async def silence(*_: object) -> None:
    await asyncio.Event().wait()


def test_shutdown_releases_everyone_who_waits(tools: Tools, monkeypatch: pytest.MonkeyPatch) -> None:
    # Nothing comes before all of them wait, and they wait until the end, however late they or we are.
    monkeypatch.setattr(Restarts, "run", silence)
    options = ChannelOptions("test", ladder=("240p",), segment_duration=2.0, limits=PATIENT)
    channel = Channel(options, tools)
    with ThreadPoolExecutor(4) as pool:
        with broadcasting(channel) as server:
            url, timeout = f"{server.url}/240p/media.m3u8", CLIENT_SECONDS
            waiting = [pool.submit(httpx.get, url, timeout=timeout) for _ in range(4)]
            wait_for(lambda: channel.stream.blocked == 4, what="four blocked requests")
            begin = time.monotonic()
            server.loop.call_soon_threadsafe(channel.close)
            answers = [request.result() for request in waiting]
            assert time.monotonic() - begin < SOON_SECONDS
        assert [answer.status_code for answer in answers] == [503] * 4
        assert all(answer.headers["retry-after"] == "2" for answer in answers)


@pytest.mark.parametrize("name", ["master.m3u8", "240p/media.m3u8"])
async def test_who_asks_while_a_channel_looks_into_its_folder_gets_the_playlist_and_no_refusal(
    tools: Tools, tmp_path: Path, name: str
) -> None:
    # Only a refusal that comes without waiting is looked for: ffmpeg has the time that it needs.
    limits = LiveLimits(publish=REQUESTS)
    (tmp_path / "number").write_text("1\n")
    options = ChannelOptions("test", ladder=("240p",), segment_duration=1.0, data=tmp_path, limits=limits)
    channel = Channel(options, tools)
    transport = httpx.ASGITransport(
        Starlette(routes=handler_routes(LiveHandler({"test": channel.stream}), PATTERNS))
    )
    async with httpx.AsyncClient(transport=transport, base_url="http://test/live/test/") as client:
        asking = asyncio.create_task(client.get(name, timeout=100))
        while not channel.stream.blocked:
            await asyncio.sleep(0)
        async with running(channel):
            answer = await asking
    assert (answer.status_code, answer.text[:7]) == (200, "#EXTM3U")


async def test_who_asks_for_a_segment_while_a_channel_looks_into_its_dvr_gets_it(
    tools: Tools, tmp_path: Path
) -> None:
    options = ChannelOptions(
        "test", ladder=("240p",), segment_duration=1.0, data=tmp_path, dvr_window=3600, limits=PATIENT
    )
    former = Channel(options, tools)

    def oldest() -> int | None:
        """Its number, once it is on disk: that isn't waited for when a channel ends."""
        window = former.renditions["240p"].window
        return window.finished.oldest_number if window.stored(window.finished.oldest_number) else None

    async with running(former):
        await until(lambda: former.ready and oldest(), "a segment on disk")
        number = oldest()
    channel = Channel(options, tools)
    transport = httpx.ASGITransport(
        Starlette(routes=handler_routes(LiveHandler({"test": channel.stream}), PATTERNS))
    )
    async with httpx.AsyncClient(transport=transport, base_url="http://test/live/test/") as client:
        asking = asyncio.create_task(client.get(f"240p/{number}.m4s", timeout=100))
        while not (channel.stream.blocked or asking.done()):
            await asyncio.sleep(0)
        async with running(channel):
            answer = await asking
    assert (answer.status_code, answer.content[4:8]) == (200, b"moof")
