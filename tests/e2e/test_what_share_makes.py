"""The addresses that Share makes: each plays on the page, in a frame and in VLC, by its token."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator

import httpx
import pytest
from playwright.async_api import Browser

from origin.access.address_tokens import SigningKeys
from tests.clients.vlc import check_plays
from tests.conftest import ServerProcess, start_server
from tests.copied_channel import copied_channel, film
from tests.e2e.conftest import DESKTOP, ENCODES, PHONE, SMALL, open_tab
from tests.keys import ADMIN_TOKEN
from tests.patience import CLIENT_SECONDS
from tests.programmed_channel import keep_span, put
from tests.waiting import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

KEY = "2026-11:a-secret-of-the-tests"
NOT_ALLOWED = "Not allowed: "
FILMS = {"title": "titel", "clips": "two.playlist.json"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One whose library and channel are for those with a token alone."""
    folder = tmp_path_factory.mktemp("shared")
    private = folder / "library" / "private"
    private.mkdir(parents=True)
    copy = ["ffmpeg", "-v", "error", "-i", str(film()), "-t", "8", "-c", "copy", str(private / "film.mp4")]
    subprocess.run(copy, check=True, timeout=CLIENT_SECONDS)
    for name in ("titel.720p.mp4", "titel.240p.mp4"):
        shutil.copy(private / "film.mp4", private / name)
    clips = {"clips": [{"path": "film.mp4", "start": 1, "end": 4}, {"path": "film.mp4", "start": 5}]}
    (private / FILMS["clips"]).write_text(json.dumps(clips))
    (folder / "headwater.toml").write_text(
        f'[server]\nport = 0\ndata = "data"\n[access]\nkeys = ["{KEY}"]\nviewers_per_name = 9\n'
        '[library]\npath = "library"\naccess = "signed"\n'
        + copied_channel("a", 'dvr = "10m"', 'access = "signed"', "segment_duration = 1.0")
    )
    with start_server(cwd=folder, env=ENCODES) as running:
        yield running


def is_kept(server: ServerProcess) -> bool:
    """Return whether the channel has anything that could be shared."""
    admin = {"authorization": f"Bearer {ADMIN_TOKEN}"}
    listed = httpx.get(f"{server.url}/api/live", headers=admin, timeout=CLIENT_SECONDS).json()
    return any(one["available_from"] is not None for one in listed)


def view_of(server: ServerProcess, kind: str) -> str:
    """Return the view of the page that plays a title, a playlist of clips, or some past of the channel."""
    if kind in FILMS:
        return f"library/private/{FILMS[kind]}?mode=hls"
    wait_for(lambda: is_kept(server), what="the channel")
    now = time.time()
    if kind == "programme":
        assert put(server, [{"id": "on", "start": now - 3, "end": now + 900, "title": "On"}]).is_success
        return "live/a/programme:on"
    if kind == "recording":
        return f"live/a/{keep_span(server, 'a')}"
    start, end = (time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now + one)) for one in (-2, 1))
    return f"live/a/clip:{start}/{end}"


@pytest.mark.parametrize("kind", ["title", "clips", "recording", "programme", "span"])
async def test_what_share_makes_plays_on_the_page_and_in_vlc(
    browser: Browser, server: ServerProcess, kind: str
) -> None:
    view = await asyncio.to_thread(view_of, server, kind)
    tab = await open_tab(browser, server.url, viewport=SMALL)
    await tab.open(view + ("&admin" if "?" in view else "?admin"))
    await tab.page.get_by_role("textbox", name="Admin token").fill(ADMIN_TOKEN)
    await tab.page.get_by_role("button", name="Show it").click()
    await tab.playing()
    if kind == "recording":
        await tab.page.get_by_role("button", name="Cut a clip").click()
        await tab.page.get_by_text("Who opens this address needs a token").wait_for()
    await tab.page.get_by_role("button", name="Share", exact=True).click()
    await tab.page.get_by_role("button", name="Make an address").click()
    await tab.until("document.getElementById('shared-media').value")
    page = await tab.page.get_by_role("textbox", name="For a browser").input_value()
    media = await tab.page.get_by_role("textbox", name="For a player").input_value()
    assert tab.troubles == []
    await tab.page.context.close()
    viewer = await open_tab(browser, server.url, viewport=SMALL)
    await viewer.page.goto(page)
    await viewer.playing()
    for name, size in (("desktop", DESKTOP), ("phone", PHONE)):
        await viewer.page.set_viewport_size({"width": size["width"], "height": size["height"]})
        await viewer.screenshot(f"shared-{kind}-{name}")
    address, _, query = media.partition("?")
    frame = re.sub("/(live|vod)/", r"/embed/\1/", address, count=1).removesuffix("/master.m3u8")
    await viewer.page.goto(f"{frame}?autoplay&muted&{query}")
    await viewer.until("headwater.media.currentTime > 1")
    assert viewer.troubles == []
    await viewer.page.context.close()
    # VLC fetches no second init segment of a playlist that is complete.
    played = media.replace("/master.m3u8", "/manifest.mpd") if kind == "clips" else media
    await asyncio.to_thread(check_plays, played)


async def test_the_page_of_a_signed_clip_begins_and_pauses_where_the_clip_does(
    browser: Browser, server: ServerProcess
) -> None:
    wanted = {"path": "/vod/private/film.mp4/master.m3u8?start=2&end=0:04", "for": "1h"}
    headers = {"authorization": f"Bearer {ADMIN_TOKEN}"}
    answer = httpx.post(f"{server.url}/api/sign", json=wanted, headers=headers, timeout=CLIENT_SECONDS)
    viewer = await open_tab(browser, server.url, viewport=SMALL)
    await viewer.page.goto(answer.json()["page"])
    await viewer.playing()
    await viewer.until("headwater.video.paused && headwater.video.currentTime >= 4")
    # The clip lasts 2 s of the film's 8.
    ranges = "[...Array(headwater.video.played.length).keys()]"
    length = "headwater.video.played.end(one) - headwater.video.played.start(one)"
    assert await viewer.value(f"{ranges}.reduce((sum, one) => sum + {length}, 0) < 3")
    assert await viewer.value("headwater.video.currentTime < 5")
    assert viewer.troubles == []
    await viewer.page.context.close()


async def test_a_token_that_has_expired_is_told_as_that_on_the_page_and_in_a_frame(
    browser: Browser, server: ServerProcess
) -> None:
    token = SigningKeys([KEY]).sign("/live/a", int(time.time()) + 15)
    tab = await open_tab(browser, f"{server.url}/t/{token}", viewport=SMALL)
    await tab.open("live/a")
    await tab.playing()
    await tab.until(f"document.getElementById('status').textContent.startsWith('{NOT_ALLOWED}')", 60)
    for name, size in (("desktop", DESKTOP), ("phone", PHONE)):
        await tab.page.set_viewport_size({"width": size["width"], "height": size["height"]})
        await tab.screenshot(f"not-allowed-{name}")
    for path in ("live/a", "vod/private/film.mp4", "media/private/film.mp4"):
        await tab.page.goto(f"{server.url}/t/{token}/embed/{path}")
        await tab.until(f"document.getElementById('status').textContent.startsWith('{NOT_ALLOWED}')")
    await tab.page.context.close()
