"""A recording whose publisher came back with another size of picture has an MP4 for each stretch."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.async_api import Browser

from packager.process.ffmpeg_discovery import Tools
from tests.conftest import start_server
from tests.e2e.conftest import DESKTOP, PHONE, open_tab
from tests.keys import BEARER
from tests.waiting import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(600)]

SIZES = ((320, 180), (640, 360))
SECONDS = 8
KEY = "sesame"
CLIENT_SECONDS = 120.0
TIMES = """(stretches) => stretches.map(({ start }) =>
  new Date(start * 1000).toLocaleTimeString([], { timeStyle: "medium" }))"""


def encode(tools: Tools, folder: Path, width: int, height: int) -> Path:
    """Encode what a publisher sends, with its picture of a size."""
    path = folder / f"{width}.ts"
    command = f"-nostdin -v error -f lavfi -i testsrc2=size={width}x{height}:rate=24:duration={SECONDS}"
    command += f" -f lavfi -i sine=duration={SECONDS} -c:v libx264 -preset ultrafast -g 24 -pix_fmt yuv420p"
    subprocess.run([str(tools.ffmpeg), *command.split(), "-c:a", "aac", str(path)], check=True, timeout=240)
    return path


def facts(tools: Tools, address: str) -> tuple[tuple[int, int], float, int]:
    """Size of the picture, seconds and pictures of a film, by ffprobe."""
    command = [str(tools.ffprobe), "-v", "error", "-count_packets", "-show_streams", "-show_format"]
    answer = subprocess.run([*command, "-of", "json", address], check=True, capture_output=True, timeout=240)
    found = json.loads(answer.stdout)
    assert [one["codec_type"] for one in found["streams"]] == ["video", "audio"]
    video = found["streams"][0]
    size = (int(video["width"]), int(video["height"]))
    return size, float(found["format"]["duration"]), int(video["nb_read_packets"])


@pytest.fixture(scope="module")
def arguments(tools: Tools, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """A server's arguments, in whose data folder is a recording of two publishers behind each other."""
    folder = tmp_path_factory.mktemp("stretches")
    config = folder / "headwater.toml"
    config.write_text(
        f'[server]\ndata = "{folder / "data"}"\n[library]\npath = "{folder}"\n'
        f'[[live]]\nname = "studio"\nsource = "publish"\npublish_key = "{KEY}"\nladder = ["source"]\n'
        'dvr = "1h"\nsegment_duration = 1.0\npart_duration = 0.25\n'
    )
    found = ("--config", str(config), "--port", "0")
    films = [encode(tools, folder, *size) for size in SIZES]
    server = start_server(*found)
    try:
        for number, film in enumerate(films, 1):
            command = [str(tools.ffmpeg), "-nostdin", "-v", "error", "-re", "-i", str(film), "-c", "copy"]
            command += ["-f", "mpegts", "-method", "PUT", f"{server.url}/live/studio/ingest?key={KEY}"]
            subprocess.run(command, check=True, timeout=240)
            wait_for(lambda: channel(server.url)["state"] != "live", what=f"the end of stream {number}")
        httpx.post(f"{server.url}/live/studio/end", headers=BEARER, timeout=CLIENT_SECONDS).raise_for_status()
        wait_for(lambda: channel(server.url)["recordings"], what="the recording")
        wait_for(lambda: channel(server.url)["recordings"][0]["mp4_reason"], what="its MP4s")
        made = channel(server.url)["recordings"]
    finally:
        assert server.stop() == 0
    # Behind a restart the list is the same.
    (folder / "made.json").write_text(json.dumps(made))
    return found


def channel(url: str) -> dict[str, Any]:
    (found,) = httpx.get(f"{url}/api/live", timeout=CLIENT_SECONDS).json()
    return dict(found)


@pytest.fixture(scope="module")
def url(arguments: tuple[str, ...]) -> Iterator[str]:
    with start_server(*arguments) as server:
        wait_for(lambda: channel(server.url)["recordings"], what="the recording")
        yield server.url


async def test_each_stretch_has_an_mp4_with_its_own_size_time_ranges_and_validators(
    url: str, tools: Tools, arguments: tuple[str, ...]
) -> None:
    recordings = channel(url)["recordings"]
    assert recordings == json.loads((Path(arguments[1]).parent / "made.json").read_text())
    (recording,) = recordings
    assert recording["mp4"] is None
    assert recording["mp4_reason"].endswith("from 320x180 to 640x360")
    first, second = recording["mp4_stretches"]
    assert first["start"] == pytest.approx(recording["start"], abs=0.1)
    assert second["start"] >= first["start"] + first["duration"]
    # The recording's duration is that of its sound, of which a stream's end may lack some.
    assert first["duration"] + second["duration"] == pytest.approx(recording["duration"], abs=1.0)
    tags = set()
    with httpx.Client(base_url=url, timeout=CLIENT_SECONDS) as client:
        for size, one in zip(SIZES, (first, second), strict=True):
            shown, seconds, pictures = facts(tools, url + one["mp4"])
            assert shown == size
            assert seconds == pytest.approx(one["duration"], abs=0.2)
            assert pictures == pytest.approx(one["duration"] * 24, abs=5)
            whole = client.get(one["mp4"])
            assert whole.headers["content-type"] == "video/mp4"
            # RFC 9110 §14.2 and §13.1.2
            part = client.get(one["mp4"], headers={"range": "bytes=1000-1999"})
            assert (part.status_code, part.content) == (206, whole.content[1000:2000])
            tag = whole.headers["etag"]
            assert client.get(one["mp4"], headers={"if-none-match": tag}).status_code == 304
            tags.add(tag)
        assert len(tags) == 2
        base = first["mp4"].removesuffix("event-1.mp4")
        assert {
            client.get(f"{base}{name}").status_code for name in ("event-3.mp4", "event-0.mp4", "event.mp4")
        } == {404}


@pytest.mark.parametrize(("name", "size"), [("desktop", DESKTOP), ("phone", PHONE)])
async def test_the_page_lists_each_stretch_with_its_times(
    browser: Browser, url: str, name: str, size: dict[str, int]
) -> None:
    tab = await open_tab(browser, url, viewport=size)
    await tab.open("live")
    links = tab.page.locator("#panel-live a[download]")
    await links.nth(1).wait_for()
    stretches = channel(url)["recordings"][0]["mp4_stretches"]
    assert [await one.get_attribute("href") for one in await links.all()] == [one["mp4"] for one in stretches]
    for link, begin in zip(await links.all(), await tab.page.evaluate(TIMES, stretches), strict=True):
        assert begin in await link.inner_text()
    assert "no MP4 of the whole: the picture's size" in await tab.page.inner_text("#panel-live")
    assert await tab.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    await tab.page.screenshot(path=f"artifacts/recording-stretches-{name}.png", full_page=True)
    async with tab.page.expect_download() as started:
        await links.nth(1).click()
    assert (await started.value).suggested_filename.endswith("-2.mp4")
    await tab.page.context.close()
    assert tab.troubles == []
