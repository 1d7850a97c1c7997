"""Players that open a channel with a past whose end has gaps: before a publisher, just after a restart."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from playwright.async_api import Browser, Page, Route

from tests.clients.vlc import check_plays, playing
from tests.conftest import ServerProcess, start_server
from tests.copied_channel import copied_channel
from tests.e2e.conftest import PATIENCE_SECONDS, POLL_SECONDS, new_page
from tests.e2e.watching import DASHJS, SHAKA, Watching
from tests.origin.ingest.studio import KEY, encoder_arguments, encoding
from tests.patience import CLIENT_SECONDS
from tests.ports import kept_port
from tests.waiting import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

BARE = """<!doctype html><link rel=icon href=data:,>
<video id=video muted autoplay playsinline></video>
<script type=module>
  import Hls from "/player/vendor/hls.min.mjs";
  const hls = new Hls({ lowLatencyMode: LOW_LATENCY });
  hls.loadSource("/live/NAME/master.m3u8");
  hls.attachMedia(document.getElementById("video"));
</script>"""
"""A page with hls.js as its own documentation shows it: nothing begins anew after an error."""

ELEMENT = """<!doctype html><link rel=icon href=data:,>
<video id=video src=/live/NAME/master.m3u8 muted autoplay playsinline></video>"""
"""A page with the browser's own player of HLS."""

RETRYING = """
player.addEventListener("error", ({ detail }) => detail.code === 1011 && player.retryStreaming(1))"""
"""Shaka stops at a gap in HLS until the page has it go on, as `docs/embedding.md` says."""

OTHERS = {
    "dash.js": ("dashjs", DASHJS, "manifest.mpd"),
    "Shaka, DASH": ("shaka-player", SHAKA, "manifest.mpd"),
    "Shaka, HLS": ("shaka-player", SHAKA + RETRYING, "master.m3u8"),
}
"""Players whose scripts are other projects', how each is started, and what it plays."""

PLAYERS = ("embed", "hls.js", "hls.js without parts", *OTHERS)

ADVANCES = """() => new Promise((resolve) => {
  const { currentTime, readyState } = document.querySelector("video");
  setTimeout(() => {
    const video = document.querySelector("video");
    const passed = video.currentTime - currentTime;
    resolve(video.readyState > 2 && readyState > 2 && passed > 0 && passed < 1);
  }, 500);
})"""


async def opened(browser: Browser, server: ServerProcess, player: str, name: str) -> Page:
    page = await new_page(browser)
    if player == "embed":
        await page.goto(f"{server.url}/embed/live/{name}?autoplay&muted")
        return page
    if player in OTHERS:
        package, start, address = OTHERS[player]
        await Watching(page).load(package, start, f"{server.url}/live/{name}/{address}")
        return page
    has_parts = "true" if player == "hls.js" else "false"
    body = (ELEMENT if player == "video" else BARE).replace("NAME", name).replace("LOW_LATENCY", has_parts)

    async def bare(route: Route) -> None:
        await route.fulfill(body=body, content_type="text/html")

    await page.route("**/bare.html", bare)
    await page.goto(f"{server.url}/bare.html")
    return page


async def until(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not await condition():
        assert time.monotonic() < end, what
        await asyncio.sleep(POLL_SECONDS)


async def until_true(page: Page, expression: str) -> None:
    async def is_true() -> bool:
        return bool(await page.evaluate(expression))

    await until(is_true, expression)


def media_playlist(server: ServerProcess, name: str) -> str:
    answer = httpx.get(f"{server.url}/live/{name}/source/media.m3u8", timeout=CLIENT_SECONDS)
    return answer.text if answer.status_code == 200 else ""


@contextlib.contextmanager
def started(folder: Path, port: int) -> Iterator[ServerProcess]:
    server = start_server("--config", str(folder / "headwater.toml"), "--port", str(port))
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    past = 'dvr = "1h"'
    (tmp_path / "headwater.toml").write_text(
        f'[server]\nallow_embed = ["*"]\ndata = "{tmp_path / "data"}"\n[library]\npath = "{tmp_path}"\n'
        f'[[live]]\nname = "studio"\nsource = "publish"\npublish_key = "{KEY}"\nladder = ["source"]\n{past}\n'
        f"{copied_channel('picture', past)}"
    )
    with kept_port() as port:
        yield port


async def until_listed(server: ServerProcess, name: str, text: str, times: int) -> None:
    async def is_listed() -> bool:
        return media_playlist(server, name).count(text) >= times

    await until(is_listed, f"{times} times {text}")


@pytest.mark.parametrize("player", PLAYERS)
async def test_who_waits_before_the_publisher_begins_sees_it_begin(
    browser: Browser, tmp_path: Path, port: int, player: str
) -> None:
    with started(tmp_path, port) as server:
        words = [*encoder_arguments().split(), "-method", "PUT", f"{server.url}/live/studio/ingest?key={KEY}"]
        with encoding(*words):
            await until_listed(server, "studio", ".m4s\n", 4)
        await until_listed(server, "studio", "#EXT-X-GAP", 3)
        page = await opened(browser, server, player, "studio")
        # The end of the earlier run is shown, and its last picture stays; Shaka shows none of it by DASH.
        waits = "seekable.length > 0" if player in OTHERS else "readyState === 2"
        await until_true(page, f"() => document.querySelector('video').{waits}")
        with encoding(*words):
            await until_true(page, ADVANCES)
        await page.close()


# Shaka inspects the middle of a list in HLS, and can't open one where gaps and the first parts follow it.
@pytest.mark.parametrize("player", [one for one in PLAYERS if one != "Shaka, HLS"])
async def test_who_opens_a_channel_with_a_past_just_after_a_restart_sees_it(
    browser: Browser, tmp_path: Path, port: int, player: str
) -> None:
    with started(tmp_path, port) as server:
        await until_listed(server, "picture", ".m4s\n", 4)
    with started(tmp_path, port) as server:
        await until_listed(server, "picture", "#EXT-X-DISCONTINUITY\n", 1)
        page = await opened(browser, server, player, "picture")
        await until_true(page, ADVANCES)
        await page.close()


# Chromium's own player, which can't begin at a gap, goes over it.
@pytest.mark.parametrize("player", [*PLAYERS, "video"])
async def test_who_watches_a_channel_over_a_restart_of_the_server_sees_it_go_on(
    browser: Browser, tmp_path: Path, port: int, player: str
) -> None:
    with started(tmp_path, port) as server:
        await until_listed(server, "picture", ".m4s\n", 4)
        page = await opened(browser, server, player, "picture")
        await until_true(page, ADVANCES)
    with started(tmp_path, port) as server:
        await until_listed(server, "picture", "#EXT-X-DISCONTINUITY\n", 1)
        await until_true(page, ADVANCES)
        await page.close()


@pytest.mark.parametrize("address", ["master.m3u8", "manifest.mpd"])
async def test_vlc_goes_on_over_a_restart_and_opens_a_channel_just_after_one(
    tmp_path: Path, port: int, address: str
) -> None:
    def seconds() -> int:
        return watching.number("get_time")

    with ExitStack() as stack:
        with started(tmp_path, port) as server:
            await until_listed(server, "picture", ".m4s\n", 4)
            url = f"{server.url}/live/picture/{address}"
            watching = await asyncio.to_thread(stack.enter_context, playing(url))
        with started(tmp_path, port) as server:
            await until_listed(server, "picture", "#EXT-X-DISCONTINUITY\n", 1)
            await asyncio.to_thread(check_plays, url)
            before = await asyncio.to_thread(wait_for, seconds, "the time that VLC shows")
            # More than it has ready.
            await asyncio.to_thread(wait_for, lambda: seconds() > before + 6, "VLC to go on")
