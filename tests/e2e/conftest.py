"""A real Chromium, headless, on the page of a real server."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, ConsoleMessage, Locator, Page, ViewportSize, async_playwright

from tests.certificates import pin
from tests.conftest import ARTIFACTS, ServerProcess, demo, start_server
from tests.copied_channel import copied_channel
from tests.ports import kept_port

BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
"""Programs, of which the first that is installed is taken.

The headless one is the same Chromium, but draws no frame of address bar and tabs around pages, which costs
the processor as much as many a page does.
"""

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
)
DESKTOP = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 844}
SMALL = ViewportSize(width=480, height=360)
"""Where nobody looks at the page itself: without a graphics card the processor draws each of its pixels."""

ENCODE = "HEADWATER_LIBRARY_ENCODE"
ENCODES = {ENCODE: "auto"}
"""The variables of a server that encodes films as it does without any configuration."""

PATIENCE_SECONDS = 240.0
LOOK_SECONDS = 300.0
LEAST_LOOKS = 5
POLL_SECONDS = 0.05
LOOKS_AT_ONCE = 20
"""Looks at a condition that a page takes by itself: each one from outside costs four processes time."""

LATE = re.compile(r"/live/.*\.m3u8(\?|$)|/thumbnails/\d+\.jpg$")


def looks() -> Iterator[int]:
    """Number the looks at what is measured, until a busy machine has had time for it in one of them."""
    end = time.monotonic() + LOOK_SECONDS
    for number in itertools.count():
        if number >= LEAST_LOOKS and time.monotonic() > end:
            return
        yield number


async def looked_for(page: Page, expression: str) -> Any:
    """Give what is true of an expression within a second, or what it is at that second's end."""
    return await page.evaluate(
        f"""(async () => {{
          for (let look = 1; ; look += 1) {{
            const value = await ({expression});
            if (value || look === {LOOKS_AT_ONCE}) return value;
            await new Promise((done) => setTimeout(done, {1000 * POLL_SECONDS:.0f}));
          }}
        }})()"""
    )


@dataclass
class Tab:
    """One page of the browser, and everything that it complained about."""

    page: Page
    url: str
    troubles: list[str] = field(default_factory=list)

    async def open(self, fragment: str) -> None:
        """Load the page anew at this view, such as ``live/demo``."""
        if self.page.url != "about:blank":
            await self.page.goto("about:blank")
        await self.page.goto(f"{self.url}/#{fragment}")
        await self.until("window.headwater !== undefined")

    async def value(self, expression: str) -> Any:
        return await self.page.evaluate(expression)

    async def stats(self) -> dict[str, Any]:
        stats: dict[str, Any] = await self.page.evaluate("headwater.stats()")
        return stats

    async def until(self, expression: str, seconds: float = PATIENCE_SECONDS) -> Any:
        """Wait until the script expression is true; `wait_for_function` would need the policy's eval."""
        end = time.monotonic() + seconds
        while not (value := await looked_for(self.page, expression)):
            if time.monotonic() > end:
                shown = await self.page.evaluate("window.headwater ? headwater.stats() : null")
                status = await self.page.evaluate("document.getElementById('status').textContent")
                pytest.fail(f"{expression} not in {seconds:.0f} s; {status!r} {shown} {self.troubles}")
        return value

    async def playing(self, seconds: float = PATIENCE_SECONDS) -> None:
        """Wait until the video has moved on by a good second; one that begins anew counts anew."""
        await self.value("void (window.playedFrom = headwater.video.currentTime)")
        await self.until(
            "!headwater.video.paused && headwater.stats().decoded > 0 && headwater.video.currentTime > 1 "
            "+ (playedFrom = Math.min(playedFrom, headwater.video.currentTime))",
            seconds,
        )

    async def pace(self, element: str, seconds: float) -> float:
        """Media time over wall time of ``headwater.video`` or ``headwater.audio``."""
        now = f"[headwater.{element}.currentTime, performance.now() / 1000]"
        media, wall = await self.value(now)
        await self.until(f"performance.now() / 1000 > {wall + seconds}", seconds + PATIENCE_SECONDS)
        media_end, wall_end = await self.value(now)
        pace: float = (media_end - media) / (wall_end - wall)
        return pace

    async def setting(self, name: str) -> Locator:
        """Open the player's settings, and give the choice of this name."""
        choice = self.page.get_by_role("combobox", name=name)
        button = self.page.get_by_role("button", name="Settings")
        async with asyncio.timeout(PATIENCE_SECONDS):
            # Scrolling closes them, which a small page does when the button is brought into view.
            while not await choice.is_visible():
                if await button.get_attribute("aria-expanded") != "true":
                    await button.click()
                await asyncio.sleep(POLL_SECONDS)
        return choice

    async def screenshot(self, name: str) -> None:
        ARTIFACTS.mkdir(exist_ok=True)
        await self.page.screenshot(path=ARTIFACTS / f"page-{name}.png", animations="disabled")


def keep(name: str, facts: dict[str, Any]) -> None:
    """Keep a measurement beside the screenshots."""
    ARTIFACTS.mkdir(exist_ok=True)
    (ARTIFACTS / f"{name}.json").write_text(json.dumps(facts, indent=1) + "\n", "utf-8")


def executable() -> str:
    """Find Chromium, or fail with how to get it."""
    for name in (os.environ.get("CHROMIUM"), *BROWSERS):
        if name and (path := shutil.which(name)):
            return path
    if os.environ.get("SYSTEM") == "no":
        pytest.skip("Chromium isn't installed, and make test SYSTEM=no installs nothing")
    pytest.fail("Chromium is missing: install it (Debian: apt-get install chromium) or set $CHROMIUM")


def launching(*flags: str) -> dict[str, Any]:
    """Playwright's options of a Chromium, with these flags beside the usual ones."""
    return {
        "executable_path": Path(__file__).parent / "chromium",
        "env": {**os.environ, "BROWSER_PROGRAM": executable()},
        "args": [*FLAGS, *flags],
        "timeout": 1000 * PATIENCE_SECONDS,
    }


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(**launching(), ignore_default_args=["--mute-audio"])
        yield browser
        await browser.close()


@contextlib.asynccontextmanager
async def browser_of_http3(url: str, chain: Path) -> AsyncIterator[Browser]:
    """A browser that speaks HTTP/3 with one server.

    With an unknown authority Chromium does so only where it is told to: Alt-Svc wouldn't lead it there.

    Args:
        chain: file with the server's certificate.
    """
    options = launching(
        f"--origin-to-force-quic-on={url.removeprefix('https://')}",
        f"--ignore-certificate-errors-spki-list={pin(chain)}",
    )
    options["args"].remove("--disable-quic")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(**options)
        yield browser
        await browser.close()


async def open_tab(browser: Browser, url: str, **options: Any) -> Tab:
    """A fresh context with one page that writes down every error it reports.

    Its viewer wants no motion: what moves for show is drawn sixty times a second as long as the page is open.
    """
    context = await browser.new_context(**{"viewport": DESKTOP, "reduced_motion": "reduce", **options})
    context.set_default_timeout(1000 * PATIENCE_SECONDS)
    tab = Tab(await context.new_page(), url)

    def heard(message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"} and not is_late(message) and not is_left(message):
            tab.troubles.append(message.text)

    tab.page.on("console", heard)
    tab.page.on("pageerror", lambda error: tab.troubles.append(str(error)))
    return tab


def is_late(message: ConsoleMessage) -> bool:
    """Whether a message says that a live playlist or a small picture of a film didn't come in time: 503.

    RFC 8216bis §6.2.5.2: a playlist doesn't where server or encoder stand still for three target durations.
    Pictures are made at the lowest priority. Players ask again.
    """
    return "status of 503" in message.text and bool(LATE.search(message.location["url"]))


def is_left(message: ConsoleMessage) -> bool:
    """Whether a message says that a media source is gone which the browser was about to open.

    hls.js takes its address back where a viewer leaves a view at once.
    """
    return "ERR_FILE_NOT_FOUND" in message.text and message.location["url"].startswith("blob:")


async def new_page(browser: Browser) -> Page:
    """A fresh small page that is as patient."""
    page = await browser.new_page(viewport=SMALL)
    page.set_default_timeout(1000 * PATIENCE_SECONDS)
    return page


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def page(browser: Browser) -> AsyncIterator[Page]:
    """A small page for all tests of a file, which open an address in it; it caches nothing for the next one.

    To open and close a window takes Chromium as long as what many tests do in it.
    """
    page = await new_page(browser)
    devtools = await page.context.new_cdp_session(page)
    await devtools.send("Network.enable")
    await devtools.send("Network.setCacheDisabled", {"cacheDisabled": True})
    yield page
    await page.close()


@pytest.fixture(scope="module")
def demo_server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    """One server for all tests of a file: the demo, but for a channel that is copied from a film.

    `small_demo` is one whose channel is encoded, and `own_server` has the demo as it is.
    """
    config = tmp_path_factory.mktemp("demo") / "headwater.toml"
    config.write_text(copied_channel("demo"))
    with demo(request.path.stem, "--config", str(config)) as server:
        yield server


@pytest.fixture(scope="module", autouse=True)
def films_as_they_are() -> Iterator[None]:
    """Let the servers of a file encode no film: an adaptive player would have an ffmpeg for each segment.

    A file of tests about encoded films starts its server with `ENCODES`.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(ENCODE, "off")
        yield


@contextlib.asynccontextmanager
async def quiet_tab(browser: Browser, url: str) -> AsyncIterator[Tab]:
    """A page of a server that must end without an error or a policy violation in its console."""
    tab = await open_tab(browser, url)
    yield tab
    await tab.page.context.close()
    assert tab.troubles == []


@pytest_asyncio.fixture(loop_scope="session")
async def tab(browser: Browser, demo_server: ServerProcess) -> AsyncIterator[Tab]:
    async with quiet_tab(browser, demo_server.url) as tab:
        yield tab


@pytest.fixture(scope="session")
def own_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Somebody's own folder: a clip that plays and one that no browser plays."""
    folder = tmp_path_factory.mktemp("library")
    source = ("-f", "lavfi", "-i", "testsrc2=size=320x180:rate=25:duration=4")
    for name, codec in (("clip.mp4", "libx264"), ("old <b>film.avi", "mpeg4")):
        command = ("ffmpeg", "-nostdin", "-loglevel", "error", *source, "-c:v", codec, "-pix_fmt", "yuv420p")
        subprocess.run((*command, f"file:{folder / name}"), check=True, timeout=300)
    return folder


@pytest.fixture
def own_server(own_library: Path) -> Iterator[ServerProcess]:
    """A server that may be stopped, with the demo as it is: its port is kept for the next one."""
    with kept_port() as port:
        server = start_server(
            "--library",
            str(own_library),
            "--demo",
            "--port",
            str(port),
            env={"HEADWATER_SERVER_RTMP_PORT": "0"},
        )
        yield server
        if server.process.poll() is None:
            server.stop()
