"""The administrator has a film prepared on the page, and nobody else sees that films can be."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from tests.conftest import ServerProcess, start_server
from tests.e2e.conftest import DESKTOP, ENCODES, PHONE, Tab, quiet_tab
from tests.e2e.scripts import script
from tests.keys import ADMIN_TOKEN
from tests.packager.films import run_ffmpeg

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

FILM = "film.avi"
TITLE, LARGEST, SMALLEST = "old", "old.240p.mkv", "old.120p.mkv"
SHOWN = "!document.getElementById('preparation').hidden"
WORDS = "document.getElementById('preparation-state').textContent"
SERIOUS = """() => axe.run("#preparation").then(({ violations }) => violations.map(({ id }) => id))"""
ASKED = "document.getElementById('administrator')"
CUT_OFF = "document.documentElement.scrollWidth > innerWidth"


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("prepared")
    (folder / "library").mkdir()
    picture = "-f lavfi -i testsrc2=size=64x48:rate=5:duration=17 -c:v mpeg4 -g 20"
    run_ffmpeg(*picture.split(), folder / "library" / FILM)
    tone = "-f lavfi -i testsrc2=size=320x240:rate=5:duration=9 -f lavfi -i sine=duration=9"
    for name, size in ((LARGEST, "320x240"), (SMALLEST, "160x120")):
        coded = f"{tone} -c:v mpeg2video -g 5 -s {size} -r 25 -c:a mp2"
        run_ffmpeg(*coded.split(), folder / "library" / name)
    data = {"HEADWATER_SERVER_DATA": str(folder / "data")}
    with start_server("--library", str(folder / "library"), "--port", "0", env={**ENCODES, **data}) as server:
        yield server


@pytest_asyncio.fixture(loop_scope="session")
async def tab(browser: Browser, films: ServerProcess) -> AsyncIterator[Tab]:
    async with quiet_tab(browser, films.url) as tab:
        yield tab


async def test_who_has_the_token_has_a_film_prepared_and_takes_it_back(tab: Tab) -> None:
    await tab.open(f"library/{FILM}?mode=hls")
    await tab.until("document.getElementById('title').textContent === 'film.avi'")
    assert not await tab.value(SHOWN)
    await tab.open("library?admin")
    for token in ("wrong", ADMIN_TOKEN):
        await tab.page.get_by_role("textbox", name="Admin token").fill(token)
        await tab.page.get_by_role("button", name="Show it").click()
        if token == "wrong":
            await tab.until(f"{ASKED}.textContent.startsWith('That isn') && !{ASKED}.hidden")
            assert not await tab.value(SHOWN)
    await tab.until(f"{SHOWN} && {ASKED}.hidden")
    await tab.value("document.querySelector('video').pause()")
    button = tab.page.locator("#prepare")
    assert await button.inner_text() == "Prepare"
    await tab.screenshot("prepare")
    await button.click()
    await tab.until(f"['Waits to be prepared', 'Is being prepared', 'Prepared'].includes({WORDS})")
    await tab.screenshot("preparing")
    await tab.until(f"{WORDS} === 'Prepared'")
    await tab.value(f"{script('axe-core').read_text('utf-8')}; 0")
    for name, size in (("desktop", DESKTOP), ("phone", PHONE)):
        await tab.page.set_viewport_size({"width": size["width"], "height": size["height"]})
        await tab.screenshot(f"prepared-{name}")
        assert await tab.page.evaluate(SERIOUS) == []
        assert not await tab.value(CUT_OFF)
    await tab.page.get_by_role("button", name="Take back").click()
    await tab.until(f"{WORDS} === '' && document.getElementById('prepare').textContent === 'Prepare'")


async def test_a_title_of_several_files_is_prepared_as_one_and_only_its_largest_picture(
    tab: Tab, films: ServerProcess
) -> None:
    await tab.open(f"library/{TITLE}?mode=hls&admin")
    await tab.until(f"document.getElementById('title').textContent === '{TITLE}'")
    await tab.page.get_by_role("textbox", name="Admin token").fill(ADMIN_TOKEN)
    await tab.page.get_by_role("button", name="Show it").click()
    await tab.until(f"{SHOWN} && {ASKED}.hidden")
    await tab.value("document.querySelector('video').pause()")
    prepared = f"{films.url}/api/prepared"
    headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
    assert (await tab.page.request.get(f"{prepared}/{TITLE}", headers=headers)).status == 200
    await tab.page.locator("#prepare").click()
    await tab.until(f"{WORDS} === 'Prepared'")
    answer = await (await tab.page.request.get(prepared, headers=headers)).json()
    assert [(one["path"], one["state"]) for one in answer["films"]] == [(TITLE, "prepared")]
    assert answer["films"][0]["segments"] == answer["films"][0]["encoded_segments"] > 0
    await tab.page.get_by_role("button", name="Take back").click()
    await tab.until(f"{WORDS} === '' && document.getElementById('prepare').textContent === 'Prepare'")
