"""Where a viewer lands who opens the server's address alone."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from playwright.async_api import Browser

from packager.library.file_endings import CONTAINERS, SUBTITLE_ENDINGS
from tests.conftest import start_server
from tests.copied_channel import film
from tests.e2e.conftest import SMALL, open_tab
from tests.origin.ingest.studio import KEY

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

SECTIONS = {
    "station": '[[radio]]\nname = "station.mp3"\nsource = "publish"\nsource_password = "of-the-source"\n',
    "channel": f'[[live]]\nname = "channel"\nsource = "publish"\npublish_key = "{KEY}"\n',
    "events": '[[events]]\nname = "news"\n',
    "relay": '[[relay]]\nname = "assistant"\nupstreams = ["http://127.0.0.1:9/v1"]\n',
}
SELECTED = "document.querySelector('[role=tab][aria-selected=true]').textContent"
EMPTY = "document.querySelector('#panel-library .empty').checkVisibility()"
SUFFIXES = {"MPEG-TS": ".ts", "OGG": ".ogg"}
"""File name endings of formats that the page calls otherwise, by the words of the page."""


@pytest.mark.parametrize(
    ("sections", "films", "landing"),
    [
        ("station", 0, "Radio"),
        ("channel", 0, "Live"),
        ("events", 0, "Events"),
        ("relay", 0, "Events"),
        ("station channel", 0, "Live"),
        ("station channel", 1, "Library"),
    ],
)
async def test_an_address_alone_opens_the_first_section_that_has_something(
    browser: Browser, tmp_path: Path, sections: str, films: int, landing: str
) -> None:
    library = tmp_path / "library"
    library.mkdir()
    for number in range(films):
        shutil.copyfile(film(), library / f"{number}.mp4")
    config = tmp_path / "headwater.toml"
    config.write_text(
        f'[library]\npath = "{library}"\n' + "".join(SECTIONS[name] for name in sections.split())
    )
    server = start_server("--config", str(config), "--port", "0")
    try:
        tab = await open_tab(browser, server.url, viewport=SMALL)
        asked: list[str] = []
        tab.page.on("request", lambda request: asked.append(request.url))
        await tab.page.goto(server.url)
        await tab.until(f"{SELECTED} === '{landing}'")
        if films:
            await tab.page.locator("a.row").first.wait_for()
            assert not [one for one in asked if re.search(r"/api/(live|radio|events)\b", one)]
            assert await tab.value("location.hash") == ""
        else:
            # A viewer who wants to see the library does.
            await tab.page.get_by_role("tab", name="Library").click()
            await tab.until(EMPTY)
            assert await tab.value(SELECTED) == "Library"
        assert tab.troubles == []
        await tab.page.context.close()
    finally:
        server.stop()


async def test_an_empty_library_says_what_can_be_put_in(browser: Browser, tmp_path: Path) -> None:
    library = tmp_path / "library"
    library.mkdir()
    server = start_server("--library", str(library), "--port", "0")
    try:
        tab = await open_tab(browser, server.url, viewport=SMALL)
        await tab.page.goto(server.url)
        await tab.until(EMPTY)
        said = await tab.page.inner_text("#panel-library .empty")
    finally:
        server.stop()
    words = re.findall(r"[\w-]+", said.upper())
    named = {SUFFIXES.get(word, f".{word.lower()}") for word in words}
    assert set(SUBTITLE_ENDINGS) <= named
    assert set(CONTAINERS.values()) == {CONTAINERS[ending] for ending in named & set(CONTAINERS)}
    await tab.page.context.close()
