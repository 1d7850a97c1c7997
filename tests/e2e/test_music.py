"""Music on the page: its tags and covers, on the lock screen too, and the keys for the next track."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from packager.process.ffmpeg_discovery import Tools
from tests.conftest import ServerProcess, start_server
from tests.e2e.conftest import Tab, open_tab, quiet_tab

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

TITLES = ("Das erste Lied", "Das zweite Lied")
TITLE = "document.getElementById('title').textContent"
METADATA = """(({ title, artist, album, artwork }) =>
  [title, artist, album, new URL(artwork[0].src).pathname])(navigator.mediaSession.metadata)"""
HANDLERS = """window.handlers = {};
const set = MediaSession.prototype.setActionHandler;
MediaSession.prototype.setActionHandler = function (name, handler) {
  handlers[name] = handler;
  return set.call(this, name, handler);
};"""
"""Keeps the handlers that the page sets, which only the keyboard of a system would call."""


@pytest.fixture(scope="module")
def music(tools: Tools, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    root: Path = tmp_path_factory.mktemp("music")
    command = [str(tools.ffmpeg), "-nostdin", "-v", "error"]
    for folder in ("Album", "Beside"):
        (root / folder).mkdir()
    cover = root / "Beside" / "cover.jpg"
    green = ["-f", "lavfi", "-i", "color=green:size=400x400", "-frames:v", "1"]
    subprocess.run([*command, *green, str(cover)], check=True)
    for number, title in enumerate(TITLES, 1):
        named = {"title": title, "artist": "Die Band", "album": "Das Album", "track": number}
        tags = [word for name, value in named.items() for word in ("-metadata", f"{name}={value}")]
        sound = ["-f", "lavfi", "-i", f"sine={440 * number}:duration=60"]
        subprocess.run([*command, *sound, *tags, str(root / "Beside" / f"{number}.opus")], check=True)
        words = [
            *sound,
            "-i",
            str(cover),
            *["-map", "0", "-map", "1", "-c:v", "copy", "-disposition:v", "attached_pic"],
        ]
        subprocess.run([*command, *words, *tags, str(root / "Album" / f"{number}.mp3")], check=True)
    chapters = [f"[CHAPTER]\nTIMEBASE=1/1\nSTART={a}\nEND={a + 20}\ntitle={a}\n" for a in (0, 20, 40)]
    (listed := root / "chapters.txt").write_text(";FFMETADATA1\n" + "".join(chapters))
    words = ["-i", str(root / "Album" / "1.mp3"), "-i", str(listed), "-map_chapters", "1", "-c", "copy"]
    subprocess.run([*command, *words, str(root / "book.mp3")], check=True)
    with start_server("--library", str(root), "--port", "0") as server:
        yield server


@pytest_asyncio.fixture(loop_scope="session")
async def tab(browser: Browser, music: ServerProcess) -> AsyncIterator[Tab]:
    async with quiet_tab(browser, music.url) as tab:
        yield tab


@pytest.mark.parametrize(
    ("path", "cover"),
    [("Album/1.mp3", "/vod/Album/1.mp3/cover.jpg"), ("Beside/1.opus", "/media/Beside/cover.jpg")],
)
async def test_music_has_its_title_and_cover_on_the_page_and_on_the_lock_screen(
    tab: Tab, path: str, cover: str
) -> None:
    await tab.open(f"library/{path}")
    await tab.until("headwater.video.currentTime > 0.5")
    assert await tab.value(TITLE) == TITLES[0]
    assert "Die Band · Das Album, 1" in await tab.page.locator("#facts").inner_text()
    # The picture was loaded, and is over the place of the film's.
    await tab.until("document.getElementById('cover')?.naturalWidth === 400")
    assert await tab.page.locator("#cover").is_visible()
    await tab.until("document.querySelectorAll('.virtual canvas.drawn').length === 2")
    assert await tab.value(METADATA) == [TITLES[0], "Die Band", "Das Album", cover]
    assert await tab.value("navigator.mediaSession.playbackState") == "playing"
    await tab.screenshot(f"music-{path.partition('/')[0].lower()}")
    await tab.page.keyboard.press("k")
    await tab.until("navigator.mediaSession.playbackState === 'paused'")


async def test_media_keys_go_to_the_next_track_and_back_and_through_it(tab: Tab) -> None:
    await tab.page.add_init_script(HANDLERS)
    await tab.open("library/Album/1.mp3")
    await tab.until("headwater.video.currentTime > 0.5")
    for name, title in {"nexttrack": TITLES[1], "previoustrack": TITLES[0]}.items():
        await tab.value(f"void handlers.{name}({{}})")
        await tab.until(f"{TITLE} === '{title}' && headwater.video.currentTime > 0.5")
        assert (await tab.value(METADATA))[0] == title
    await tab.value("void handlers.seekto({ seekTime: 30 })")
    await tab.until("headwater.video.currentTime >= 30 && !headwater.video.seeking")
    await tab.value("void handlers.seekbackward({ seekOffset: 20 })")
    await tab.until("headwater.video.currentTime < 25 && !headwater.video.seeking")
    await tab.value("void handlers.pause({})")
    await tab.until("headwater.video.paused")


async def test_a_cover_that_is_gone_leaves_no_broken_picture(browser: Browser, music: ServerProcess) -> None:
    tab = await open_tab(browser, music.url, viewport={"width": 360, "height": 640}, has_touch=True)
    await tab.page.route("**/cover.jpg", lambda route: route.fulfill(status=404))
    await tab.open("library/Album/1.mp3")
    await tab.until("headwater.video.currentTime > 0.5 && !document.getElementById('cover')")
    assert await tab.value("document.documentElement.scrollWidth") <= 360
    await tab.page.context.close()


async def test_a_book_in_mp3_has_its_chapters(tab: Tab) -> None:
    await tab.open("library/book.mp3")
    chapters = tab.page.get_by_role("list", name="Chapters")
    await chapters.get_by_role("button", name="40").click()
    assert await chapters.get_by_role("button").all_text_contents() == ["0", "20", "40"]
    await tab.until("headwater.video.currentTime >= 40 && headwater.video.currentTime < 60")
    await tab.until("document.querySelector('#chapters [aria-current]')?.textContent === '40'")
