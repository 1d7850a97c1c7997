"""Breaks that players fill by themselves: hls.js plays what an interstitial names, and returns."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.async_api import Browser

from tests.conftest import ServerProcess, start_server
from tests.copied_channel import copied_channel
from tests.e2e.conftest import Tab, open_tab
from tests.patience import CLIENT_SECONDS
from tests.waiting import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

DOCUMENT = (Path(__file__).parents[2] / "docs" / "live.md").read_text("utf-8")
KEY = "a-key-of-the-channel"
AD_SECONDS = 4

PLAY = """async (url) => {
  const { default: Hls } = await import(`${location.origin}/player/vendor/hls.min.mjs`);
  document.body.innerHTML = "<video muted></video>";
  const video = document.querySelector("video");
  const hls = new Hls({ liveSyncDuration: 4 });
  Object.assign(window, { video, hls, heard: [], faults: [] });
  const hear = (name, { event, asset }) => heard.push({ name, id: event?.identifier, uri: asset?.uri });
  for (const name of ["STARTED", "ASSET_STARTED"]) {
    hls.on(Hls.Events[`INTERSTITIAL_${name}`], (_, told) => hear(name, told));
  }
  hls.on(Hls.Events.INTERSTITIALS_PRIMARY_RESUMED, (_, told) => hear("RESUMED", told));
  hls.on(Hls.Events.ERROR, (_, { fatal, details }) => fatal && faults.push(details));
  hls.loadSource(url);
  hls.attachMedia(video);
  hls.once(Hls.Events.MANIFEST_PARSED, () => video.play());
}"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("interstitials")
    (folder / "library").mkdir()
    source = (
        f"-f lavfi -i color=red:size=160x90:rate=12:duration={AD_SECONDS} -f lavfi -i sine=300:d={AD_SECONDS}"
    )
    for name in ("spot.mp4", "other.mp4"):
        command = (
            f"ffmpeg -nostdin -v error {source} -c:v libx264 -g 12 -pix_fmt yuv420p -c:a aac library/{name}"
        )
        subprocess.run(shlex.split(command), check=True, timeout=300, cwd=folder)
    (folder / "headwater.toml").write_text(
        '[server]\nport = 0\n[library]\npath = "library"\n'
        + copied_channel("demo", "segment_duration = 1.0", "part_duration = 0.25", f'publish_key = "{KEY}"')
    )
    with start_server(cwd=folder) as running:
        wait_for(lambda: "EXTINF" in playlist(running), "the channel's first segment")
        yield running


def playlist(server: ServerProcess) -> str:
    answer = httpx.get(f"{server.url}/live/demo/source/media.m3u8", timeout=CLIENT_SECONDS)
    return answer.text if answer.status_code == 200 else ""


def documented(mark: str) -> dict[str, Any]:
    """Return the body of the page's command that has some text."""
    (body,) = (one for one in re.findall(r"-d '(\{.+?\})'", DOCUMENT, re.DOTALL) if mark in one)
    found: dict[str, Any] = json.loads(body)
    return found


def announce(server: ServerProcess, mark: str, **attributes: str) -> float:
    """Publish the page's interstitial, some seconds from now; return its date."""
    date = time.time() + 8
    body = documented(mark)
    body["start"] = datetime.fromtimestamp(date, UTC).isoformat()
    body["attributes"] |= attributes
    body["id"] = mark
    url = f"{server.url}/live/demo/metadata"
    answer = httpx.post(url, json=body, headers={"Authorization": f"Bearer {KEY}"}, timeout=CLIENT_SECONDS)
    assert answer.status_code == 201, answer.text
    return date


async def played(tab: Tab, server: ServerProcess, mark: str, date: float) -> list[str]:
    """Let hls.js play beyond a break, and return the addresses of what it has played there."""
    await tab.page.goto(server.url)
    await tab.page.evaluate(PLAY, f"{server.url}/live/demo/master.m3u8")
    of_break = f"window.heard.findIndex(({{ id, name }}) => id === '{mark}' && name === 'STARTED')"
    resumed = "name === 'RESUMED'"
    await tab.until(f"{of_break} >= 0 && heard.slice({of_break}).some(({{ name }}) => {resumed})")
    await tab.until(f"hls.playingDate?.getTime() / 1000 > {date + AD_SECONDS}")
    assert await tab.value("faults") == []
    heard = [one for one in await tab.value("heard") if one.get("id") == mark]
    return [one["uri"] for one in heard if one["name"] == "ASSET_STARTED"]


@pytest.mark.clause("RFC 8216bis §4.4.5.1")
async def test_hls_js_plays_the_asset_of_an_interstitial(browser: Browser, server: ServerProcess) -> None:
    tab = await open_tab(browser, server.url)
    date = announce(server, "X-ASSET-URI", **{"X-ASSET-URI": f"{server.url}/vod/spot.mp4/master.m3u8"})
    assert 'CLASS="com.apple.hls.interstitial"' in playlist(server)
    assert await played(tab, server, "X-ASSET-URI", date) == [f"{server.url}/vod/spot.mp4/master.m3u8"]
    await tab.page.context.close()


async def test_hls_js_plays_a_list_of_assets_one_after_the_other(
    browser: Browser, server: ServerProcess
) -> None:
    tab = await open_tab(browser, server.url)
    (listed,) = re.findall(r'^    (\{"ASSETS".+\})$', DOCUMENT, re.MULTILINE)
    text = listed.replace("https://HOST", server.url)
    # A list is of a server of its own, which may make another one for each viewer.
    address = f"{server.url}/breaks/7.json"
    await tab.page.route(f"{address}*", lambda route: route.fulfill(json=json.loads(text)))
    date = announce(server, "X-ASSET-LIST", **{"X-ASSET-LIST": address})
    names = [f"{server.url}/vod/{name}/master.m3u8" for name in ("spot.mp4", "other.mp4")]
    assert await played(tab, server, "X-ASSET-LIST", date) == names
    await tab.page.context.close()
