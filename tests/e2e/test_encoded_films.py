"""Films of codecs that the browser lacks, encoded while hls.js, dash.js and Shaka play them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page

from tests.conftest import start_server
from tests.e2e.conftest import ENCODES, SMALL, open_tab
from tests.e2e.timed_film import PLAYERS, SECONDS, address, assert_plays, make_timed_film

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

CLIP = (5.5, 9.0)
ENCODED = {
    "phone.mkv": ("-c:v", "libx265", "-x265-params", "log-level=none:crf=8", "-g", "50", "-c:a", "ac3"),
    "disc.mkv": ("-c:v", "mpeg2video", "-q:v", "1", "-bf", "2", "-g", "12", "-c:a", "dca", "-strict", "-2"),
}
"""Films that Chromium doesn't play as they are."""


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    library = tmp_path_factory.mktemp("encoded")
    for name, words in ENCODED.items():
        make_timed_film(library / name, "160x90", 25, *words, "-shortest")
    with start_server("--library", str(library), "--port", "0", cwd=library, env=ENCODES) as server:
        yield f"{server.url}/vod"


@pytest.mark.parametrize("name", ENCODED)
@pytest.mark.parametrize("kind", PLAYERS)
async def test_a_film_whose_codecs_the_browser_lacks_is_encoded_while_it_plays(
    page: Page, origin: str, kind: str, name: str
) -> None:
    await assert_plays(page, kind, f"{origin}/{name}/{address(kind)}", 0, SECONDS)


async def test_a_clip_of_a_film_that_is_encoded_begins_and_ends_where_it_was_asked_for(
    page: Page, origin: str
) -> None:
    begin, end = CLIP
    await assert_plays(page, "hls.js", f"{origin}/disc.mkv/master.m3u8?start={begin}&end={end}", begin, end)


async def test_films_without_a_storyboard_have_a_picture_in_the_list(
    browser: Browser, tmp_path: Path
) -> None:
    """AVI and Windows Media, whose pictures no storyboard can be made of as they are."""
    make_timed_film(
        tmp_path / "tape.avi", "160x90", 25, "-c:v", "mpeg4", "-vtag", "XVID", "-c:a", "libmp3lame"
    )
    make_timed_film(tmp_path / "old.wmv", "160x90", 25, "-c:v", "wmv2", "-c:a", "wmav2")
    server = start_server("--library", str(tmp_path), "--port", "0", cwd=tmp_path, env=ENCODES)
    try:
        tab = await open_tab(browser, server.url, viewport=SMALL)
        await tab.open("library")
        await tab.until("document.querySelectorAll('.virtual canvas.drawn').length === 2")
        await tab.page.context.close()
    finally:
        server.stop()
