"""Subtitles that are pictures: the page offers them, and shows them within the film's own pictures."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from tests.conftest import ServerProcess, start_server
from tests.e2e.conftest import ENCODE, Tab, quiet_tab
from tests.packager.encode.subtitle_pictures import display_set, film_with_subtitles

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

IN_PICTURE = "Deutsch (in the picture)"
CHOICES = ["Off", "Deutsch", "English", IN_PICTURE]
POSITION = 4.0

WHITE = """(() => {
  const { video } = headwater;
  if (video.readyState < 2 || video.seeking) return null;
  const canvas = new OffscreenCanvas(32, 18);
  const context = canvas.getContext("2d");
  context.drawImage(video, 0, 0, 32, 18);
  return context.getImageData(16, 13, 1, 1).data[0] > 128;
})()"""
"""Whether the picture is white where the subtitles are; null without a picture."""

SHOWN = """[...headwater.video.textTracks]
  .filter(({ mode, activeCues }) => mode === "showing" && activeCues?.length)
  .map(({ language }) => language).join()"""
CHOSEN = "document.getElementById('captions').selectedOptions[0]?.label"
DECIDED = """async ([addresses, wanted, burn]) => {
  const { choose } = await import("/player/engines/decision.js");
  return Object.values(choose(addresses, wanted, [{ number: 1 }, { number: 2 }], burn));
}"""
BOTH = {"file": "a", "hls": "b", "dash": "c"}


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A library with a black film that has white subtitles from its third second on, and text beside it."""
    folder = tmp_path_factory.mktemp("pictures")
    film_with_subtitles(folder / "film.mkv", [(3, display_set(shown=True))])
    for name in ("film.de.default.srt", "film.en.srt"):
        (folder / name).write_text("1\n00:00:00,000 --> 00:00:12,000\nText\n")
    with start_server("--library", str(folder), "--port", "0", env={ENCODE: "all"}) as server:
        yield server


@pytest_asyncio.fixture(loop_scope="session")
async def tab(browser: Browser, films: ServerProcess) -> AsyncIterator[Tab]:
    async with quiet_tab(browser, films.url) as tab:
        yield tab


async def chosen(tab: Tab, name: str, *, white: bool, text: str = "") -> None:
    """Choose subtitles, and wait until their source plays and shows them in the picture or as text."""
    await (await tab.setting("Captions")).select_option(name)
    await tab.until(f"headwater.stats().url.endsWith('?burn=1') === {str(white).lower()}")
    await tab.until(f"{WHITE} === {str(white).lower()} && {SHOWN} === '{text}' && {CHOSEN} === '{name}'")


@pytest.mark.parametrize("mode", ["hls", "dash"])
async def test_subtitles_in_the_picture_are_chosen_and_left_at_the_same_position(tab: Tab, mode: str) -> None:
    await tab.open(f"library/film.mkv?mode={mode}")
    await tab.playing()
    assert "burn" not in (await tab.stats())["url"]
    await tab.value(f"void (headwater.video.pause(), headwater.video.currentTime = {POSITION})")
    await tab.until(f"{WHITE} === false")
    assert await (await tab.setting("Captions")).locator("option").all_inner_texts() == CHOICES
    stays = f"headwater.video.paused && Math.abs(headwater.video.currentTime - {POSITION}) < 0.5"
    for name, white, text in (
        (IN_PICTURE, True, ""),
        ("Off", False, ""),
        (IN_PICTURE, True, ""),
        ("English", False, "en"),
    ):
        await chosen(tab, name, white=white, text=text)
        assert await tab.value(stays)
    assert (await tab.stats())["mode"] == mode
    await tab.value("headwater.video.play()")
    await chosen(tab, IN_PICTURE, white=True)
    await tab.until(f"headwater.video.currentTime > {POSITION + 0.5}")
    await tab.until("!headwater.video.paused || headwater.video.ended")


async def test_the_file_itself_has_none_in_its_picture(tab: Tab) -> None:
    await tab.open("radio")
    for asked, plays in (
        ((BOTH, "file", None), ["file", 0, "a"]),
        ((BOTH, "file", "1"), ["hls", 1, "b?burn=1"]),
        ((BOTH, "dash", "2"), ["dash", 2, "c?burn=2"]),
        ((BOTH, "unknown", "2"), ["hls", 2, "b?burn=2"]),
        ((BOTH, "dash", "3"), ["dash", 0, "c"]),
    ):
        assert await tab.page.evaluate(DECIDED, list(asked)) == plays
