"""Each block of `docs/embedding.md`, on a page of another site in a real browser, and the page for frames."""

from __future__ import annotations

import asyncio
import http.server
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, Frame, Page, Route

from tests.conftest import ServerProcess, start_server
from tests.copied_channel import copied_channel
from tests.e2e.conftest import PATIENCE_SECONDS, POLL_SECONDS, new_page
from tests.e2e.scripts import script
from tests.ports import kept_port

pytestmark = pytest.mark.e2e
in_session = pytest.mark.asyncio(loop_scope="session")

ROOT = Path(__file__).parents[2]
HLS_JS = ROOT / "player" / "vendor" / "hls.min.mjs"
DOCUMENT = (ROOT / "docs/embedding.md").read_text("utf-8")
BLOCKS: list[tuple[str, str, str]] = re.findall(
    r"^## (.+?)$.*?^```(html|sh)\n(.+?)^```", DOCUMENT, re.DOTALL | re.MULTILINE
)
PLAYING = """() => {
  const media = document.querySelector("video, audio");
  if (media && media.paused) media.play().catch(() => {});
  return media && media.currentTime > 0.5;
}"""
EMPTY = "() => document.querySelector('video').readyState === HTMLMediaElement.HAVE_NOTHING"
PLAYS_BY_ITSELF = """() => {
  const media = document.querySelector("video");
  return !media.paused && media.readyState > HTMLMediaElement.HAVE_CURRENT_DATA;
}"""
SHOWN = """() => (document.querySelector("#title, #found")?.textContent ?? "").length > 3"""


def block(heading: str) -> str:
    (found,) = [text for name, _, text in BLOCKS if name == heading]
    return found


class Site(http.server.ThreadingHTTPServer):
    """Another site, of this machine too: browsers keep pages of the internet from a server on loopback.

    Attributes:
        text: what its only page has.
    """

    text = ""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Pages)

    def url(self, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.server_address[1]}"


class _Pages(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Site)
        body = f"<!doctype html><meta charset=utf-8><link rel=icon href=data:,>{self.server.text}".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with Site() as one:
        serving = threading.Thread(target=one.serve_forever)
        serving.start()
        yield one
        one.shutdown()
        serving.join()


@pytest.fixture(scope="module")
def server(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    config = tmp_path_factory.mktemp("embedding") / "headwater.toml"
    config.write_text(f'[server]\nallow_embed = ["{site.url()}"]\n{copied_channel("demo")}')
    with start_server("--demo", "--port", "0", "--config", str(config)) as one:
        yield one


async def visit(browser: Browser, site: Site, url: str, server: ServerProcess, heading: str) -> Page:
    """Open a page of another site that has a block, with the scripts of others from this machine."""
    page = await new_page(browser)

    async def give_hls_js(route: Route) -> None:
        fields = {"access-control-allow-origin": "*"}
        await route.fulfill(path=HLS_JS, content_type="text/javascript", headers=fields)

    async def give_dash_js(route: Route) -> None:
        await route.fulfill(path=await asyncio.to_thread(script, "dashjs"), content_type="text/javascript")

    await page.route("https://cdn.jsdelivr.net/**", give_hls_js)
    await page.route("https://cdn.dashjs.org/**", give_dash_js)
    site.text = block(heading).replace("https://stream.example", server.url)
    await page.goto(url)
    return page


async def until(where: Page | Frame, expression: str) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not await where.evaluate(expression):
        assert time.monotonic() < end, expression
        await asyncio.sleep(POLL_SECONDS)


@in_session
@pytest.mark.parametrize(
    ("heading", "expected"),
    [
        ("A film, as it is", PLAYING),
        ("HLS with hls.js", PLAYING),
        ("A live channel of low latency", PLAYING),
        ("DASH with dash.js", PLAYING),
        ("A station", PLAYING),
        ("What is on", SHOWN),
        ("Ranges by script", SHOWN),
    ],
)
async def test_what_the_document_shows_works_on_a_page_of_another_site(
    browser: Browser, site: Site, server: ServerProcess, heading: str, expected: str
) -> None:
    page = await visit(browser, site, site.url(), server, heading)
    await until(page, expected)
    if heading == "Ranges by script":
        assert (await page.text_content("#found") or "").startswith("ftyp (bytes 4-7/")
    await page.close()


@in_session
async def test_a_live_channel_plays_on_after_its_server_was_started_again(
    browser: Browser, site: Site, tmp_path: Path
) -> None:
    config = tmp_path / "headwater.toml"
    config.write_text(f'[library]\npath = "{tmp_path}"\n{copied_channel("demo")}')
    with kept_port() as port:
        arguments = ("--config", str(config), "--port", str(port))
        first = await asyncio.to_thread(start_server, *arguments)
        page = await visit(browser, site, site.url(), first, "A live channel of low latency")
        await until(page, PLAYING)
        await asyncio.to_thread(first.stop)
        # hls.js has given up, and left the element, before the server is back.
        await until(page, EMPTY)
        second = await asyncio.to_thread(start_server, *arguments)
        await until(page, PLAYS_BY_ITSELF)
        await page.close()
        await asyncio.to_thread(second.stop)


@in_session
async def test_a_frame_plays_on_the_sites_that_are_named_and_on_no_other(
    browser: Browser, site: Site, server: ServerProcess
) -> None:
    page = await visit(browser, site, site.url(), server, "A frame")
    frame = page.frames[1]
    await frame.wait_for_url(f"{server.url}/embed/**")
    await until(frame, "() => window.headwater?.media.currentTime > 0.5")
    await page.close()
    stranger = await visit(browser, site, site.url("localhost"), server, "A frame")
    # CSP3 §6.4.2.1: it is an error page of the browser's instead.
    await until(stranger, "() => document.readyState === 'complete'")
    assert not stranger.frames[1].url.startswith(server.url)
    await stranger.close()


@in_session
@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("vod/no-such", "There is no such film."),
        ("vod/100%-of-it", "There is no such film."),
        ("live/no-such", "Nothing is on air at the moment."),
    ],
)
async def test_a_frame_without_anything_to_play_says_so(
    browser: Browser, server: ServerProcess, target: str, said: str
) -> None:
    page = await new_page(browser)
    await page.goto(f"{server.url}/embed/{target}")
    await until(page, f"() => document.getElementById('status').textContent === {said!r}")
    await page.close()


@in_session
@pytest.mark.parametrize("status", [0, 404])
async def test_a_film_in_a_frame_goes_on_where_it_was_once_its_server_is_back(
    browser: Browser, server: ServerProcess, status: int
) -> None:
    """404 is what segments of a film that was replaced have; playlists name those of the new one."""
    page = await new_page(browser)
    asked: list[str] = []

    async def refuse(route: Route) -> None:
        asked.append(route.request.url)
        await (route.fulfill(status=status) if status else route.abort())

    # From the start: on a busy machine all of a short film may be in the buffer before anything else is done.
    end = re.compile(r"/([89]|[1-9]\d)\.m4s$")
    await page.route(end, refuse)
    await page.goto(f"{server.url}/embed/vod/film?autoplay&muted")
    await until(page, "() => headwater.media.currentTime > 0.5")
    await page.evaluate("void (headwater.media.currentTime = headwater.media.duration - 8)")
    await until(page, "() => document.getElementById('status').textContent.startsWith('The server')")
    assert asked
    await page.unroute(end)
    await until(page, "() => headwater.media.currentTime > headwater.media.duration - 7")
    await until(page, "() => document.getElementById('status').hidden")
    await page.close()


@pytest.mark.promise("/embed/radio/NAME", "server.allow_embed")
@in_session
async def test_a_station_in_a_frame_is_heard_by_who_plays_it_alone_and_comes_back(
    browser: Browser, server: ServerProcess
) -> None:
    page = await new_page(browser)
    asked: list[str] = []

    async def refuse_the_first(route: Route) -> None:
        asked.append(route.request.url)
        await (route.abort() if len(asked) == 1 else route.continue_())

    await page.route(f"{server.url}/radio/**", refuse_the_first)
    await page.goto(f"{server.url}/embed/radio/demo.mp3?muted")
    await until(page, "() => window.headwater?.media.currentSrc !== ''")
    assert await page.evaluate("headwater.media.preload") == "none"
    assert asked == []
    await page.evaluate("void headwater.media.play().catch(() => {})")
    await until(page, "() => document.getElementById('status').textContent.startsWith('Nothing is on air')")
    await until(page, "() => headwater.media.currentTime > 0.2")
    await page.close()


def test_a_download_that_broke_off_goes_on(server: ServerProcess, tmp_path: Path) -> None:
    command = block("Downloads that can be resumed").strip().replace("https://stream.example", server.url)
    whole = subprocess.run(
        ["curl", "-s", command.split()[-1]], capture_output=True, check=True, timeout=240
    ).stdout
    part = tmp_path / command.rpartition("/")[2]
    part.write_bytes(whole[:100_000])
    subprocess.run([*command.split(), "-sS"], cwd=tmp_path, check=True, timeout=240)
    assert part.read_bytes() == whole


def test_every_block_of_the_document_is_run() -> None:
    tested = Path(__file__).read_text("utf-8")
    assert len(BLOCKS) == 9
    assert [name for name, _, _ in BLOCKS if f'"{name}"' not in tested] == []
