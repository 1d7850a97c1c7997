"""The page itself: by keyboard, on a phone, in the dark, by its addresses."""

import pytest
from playwright.async_api import Browser

from tests.conftest import ServerProcess
from tests.e2e.conftest import DESKTOP, PHONE, Tab, open_tab

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

NARROWEST = 320
"""CSS pixels: WCAG 2.2 §1.4.10 asks for no scrolling in two dimensions down to here."""

VIEWS = {
    "library": "library/film.480p.mp4?mode=hls",
    "live": "live/demo",
    "radio": "radio/demo.mp3",
    "events": "events/demo",
}
MOVING = {"reduced_motion": "no-preference"}
"""What most viewers have."""

SELECTED = "document.querySelector('[role=tab][aria-selected=true]').textContent"
FOCUSED = "document.activeElement.textContent.trim()"


async def test_the_tabs_and_the_list_work_by_keyboard(tab: Tab) -> None:
    await tab.open("library")
    await tab.page.locator("a.row").first.wait_for()
    keyboard = tab.page.keyboard
    await keyboard.press("Tab")
    assert await tab.value(FOCUSED) == "Library"
    assert await tab.value("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    for key, name in (("ArrowRight", "Live"), ("End", "Events"), ("ArrowRight", "Library")):
        await keyboard.press(key)
        await tab.until(f"{SELECTED} === '{name}' && {FOCUSED} === '{name}'")
    await tab.page.locator("a.row").first.wait_for()
    for _ in range(30):
        await keyboard.press("Tab")
        if await tab.value("document.activeElement.dataset.path") == "film.240p.mp4":
            break
    await keyboard.press("Enter")
    await tab.until("location.hash === '#library/film.240p.mp4'")
    await tab.playing()
    assert await tab.value("document.querySelector('a.row[aria-current]').dataset.path") == "film.240p.mp4"


async def test_only_the_chosen_tab_is_a_stop_of_the_tab_key(tab: Tab) -> None:
    await tab.open("live")
    indexes = "[...document.querySelectorAll('[role=tab]')].map(tab => tab.tabIndex)"
    assert await tab.value(indexes) == [-1, 0, -1, -1]


async def test_a_picture_that_had_no_room_or_whose_row_was_replaced_comes_all_the_same(tab: Tab) -> None:
    await tab.open("library")
    found = await tab.page.evaluate("""async () => {
      const { Posters } = await import(`${location.origin}/player/views/posters.js`);
      const real = window.fetch;
      const small = Object.assign(document.createElement("canvas"), { width: 4, height: 4 });
      const picture = await new Promise((done) => small.toBlob(done));
      window.fetch = async (address, options) => {
        if (!String(address).includes("/poster-")) return real(address, options);
        return new Response(String(address).endsWith("vtt")
          ? `00:00.000 --> 00:10.000\\n${address}.jpg#xywh=0,0,4,4` : picture);
      };
      const posters = new Posters();
      const canvases = Array.from({ length: 80 }, () => document.createElement("canvas"));
      document.body.append(...canvases);
      const draw = () => canvases.forEach((canvas, index) => posters.show(canvas, `/poster-${index}.vtt`));
      const isDrawn = () => canvases.every((canvas) => canvas.classList.contains("drawn"));
      draw();
      const replacement = document.createElement("canvas");
      canvases[0].replaceWith(replacement);
      canvases[0] = replacement;
      for (let times = 0; times < 600 && !isDrawn(); times += 1) {
        await new Promise((done) => setTimeout(done, 50));
        draw();
      }
      window.fetch = real;
      for (const canvas of canvases) canvas.remove();
      return canvases.filter((canvas) => canvas.classList.contains("drawn")).length;
    }""")
    assert found == 80


async def test_an_address_that_names_nothing_says_so(tab: Tab) -> None:
    await tab.open("library/no%20such%20film")
    await tab.until("document.getElementById('facts').textContent.includes('no such film')")
    await tab.open("live/%")
    await tab.until("document.getElementById('facts').textContent.includes('no channel')")


@pytest.mark.parametrize("view", VIEWS)
async def test_the_page_fits_a_phone(browser: Browser, demo_server: ServerProcess, view: str) -> None:
    options = {"viewport": PHONE, "has_touch": True, "color_scheme": "dark", **MOVING}
    tab = await open_tab(browser, demo_server.url, **options)
    await tab.open(VIEWS[view])
    await _shown(tab, view)
    await tab.screenshot(f"{view}-phone-dark")
    faces = "[...document.querySelectorAll('button, select, a')].filter(each => each.checkVisibility())"
    for width in (PHONE["width"], NARROWEST):
        await tab.page.set_viewport_size({"width": width, "height": PHONE["height"]})
        await tab.until(f"innerWidth === {width}")
        assert await tab.value("document.documentElement.scrollWidth") <= width
        right = await tab.value(f"Math.max(...{faces}.map(each => each.getBoundingClientRect().right))")
        assert right <= width
    await tab.page.context.close()
    assert tab.troubles == []


@pytest.mark.parametrize("view", VIEWS)
async def test_each_view_is_pictured_in_light_and_dark(
    browser: Browser, demo_server: ServerProcess, view: str
) -> None:
    tab = await open_tab(browser, demo_server.url, viewport=DESKTOP, color_scheme="light", **MOVING)
    await tab.open(VIEWS[view])
    await _shown(tab, view)
    grounds = []
    for scheme in ("light", "dark"):
        await tab.page.emulate_media(color_scheme=scheme)
        grounds.append(await tab.value("getComputedStyle(document.body).backgroundColor"))
        await tab.screenshot(f"{view}-desktop-{scheme}")
    assert grounds[0] != grounds[1]
    await tab.page.context.close()
    assert tab.troubles == []


async def _shown(tab: Tab, view: str) -> None:
    if view == "radio":
        await tab.until("headwater.audio.currentTime > 1 && headwater.radioLevel() !== null")
    elif view == "events":
        await tab.until("headwater.events().pieces > 5 && document.querySelector('.messages li')")
    else:
        await tab.playing()
