"""The page for everybody: axe-core finds nothing serious, all states can be read, nothing jumps."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from tests.conftest import ServerProcess
from tests.e2e.axe import RULES, SERIOUS
from tests.e2e.conftest import DESKTOP, Tab, open_tab
from tests.e2e.scripts import script

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

VIEWS = {
    "library": ("library/film.480p.mp4?mode=file", "document.querySelector('a.row[aria-current]')"),
    "instruments": ("library/film?mode=hls", "document.querySelector('.requests li')"),
    "live": ("live/demo", "document.querySelector('#panel-live a.row[aria-current]')"),
    "radio": ("radio", "document.querySelector('.station .song')?.textContent"),
    "events": ("events/demo", "document.querySelector('.messages li')"),
}
WIDTHS = (320, DESKTOP["width"])
"""CSS pixels: from what WCAG 2.2 §1.4.10 asks for to a usual screen."""

WIDEST = 3840
"""CSS pixels of a 4K screen, of which the processor draws each: so what moves is paused there."""

PAUSE = "document.querySelectorAll('video').forEach(video => video.pause())"

CONTRAST = """selector => axe.run(selector, { runOnly: ["color-contrast"] }).then(({ violations }) =>
  violations.flatMap(({ nodes }) => nodes.map(node => `${node.html} ${node.failureSummary}`)))"""
HOVERED = ("[role=tab][aria-selected=true]", "[role=tab][aria-selected=false]", "a.row[aria-current]",
           "a.row:not([aria-current])", ".segments span", "#download", "#keys", ".crumbs a",
           "#play", "#sound-off", "#time", "#settings-button", "#instruments-button")  # fmt: skip

MOST_SHIFT = 0.1
"""Cumulative layout shift that web.dev calls good."""

NOTE_SHIFTS = """window.shifted = 0; new PerformanceObserver(list => {
  for (const entry of list.getEntries()) shifted += entry.hadRecentInput ? 0 : entry.value;
}).observe({ type: "layout-shift", buffered: true });"""


@pytest_asyncio.fixture(loop_scope="session")
async def calm(browser: Browser, demo_server: ServerProcess) -> AsyncIterator[Tab]:
    """A page of somebody who doesn't want things to move."""
    tab = await open_tab(browser, demo_server.url, reduced_motion="reduce")
    yield tab
    await tab.page.context.close()
    assert tab.troubles == []


async def resize(tab: Tab, width: int) -> None:
    """Give a page this width, and wait until it has it."""
    await tab.page.set_viewport_size({"width": width, "height": max(width * 9 // 16, 640)})
    await tab.until(f"innerWidth === {width}")


@pytest.mark.parametrize("view", VIEWS)
async def test_axe_finds_nothing_serious_from_the_narrowest_to_the_widest(calm: Tab, view: str) -> None:
    # WCAG 2.2 §1.4.3, §1.4.10.
    address, shown = VIEWS[view]
    await calm.open(address)
    if view == "instruments":
        await calm.page.get_by_role("button", name="Instruments").click()
    await calm.until(shown)
    await calm.value(f"{script('axe-core').read_text('utf-8')}; 0")
    for width in WIDTHS:
        await resize(calm, width)
        for scheme in ("light", "dark"):
            await calm.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            assert await calm.page.evaluate(SERIOUS, RULES[scheme]) == [], (width, scheme)
            if view == "instruments":
                await calm.screenshot(f"{view}-{width}-{scheme}")
                await calm.page.get_by_role("button", name="Settings").click()
                found = await calm.page.evaluate(SERIOUS, RULES[scheme])
                assert found == [], (width, scheme, "the settings are open")
                await calm.screenshot(f"settings-{width}-{scheme}")
                await calm.page.keyboard.press("Escape")
        assert await calm.value("document.documentElement.scrollWidth") <= width
        await calm.screenshot(f"{view}-{width}")
    await calm.value(PAUSE)
    await resize(calm, WIDEST)
    assert await calm.page.evaluate(SERIOUS, RULES["light"]) == []
    assert await calm.value("document.documentElement.scrollWidth") <= WIDEST
    moving = "document.getAnimations().filter(each => each.playState === 'running').length"
    assert await calm.value(moving) == 0


async def test_what_is_under_the_pointer_can_be_read(calm: Tab) -> None:
    await calm.open("library/film.480p.mp4?mode=file")
    await calm.until("document.querySelector('a.row[aria-current]')")
    await calm.value(f"{script('axe-core').read_text('utf-8')}; 0")
    for scheme in ("light", "dark"):
        await calm.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        for selector in HOVERED:
            await calm.page.locator(selector).first.hover(force=True)
            found = await calm.page.evaluate(CONTRAST, f"{selector}:hover")
            assert found == [], (scheme, selector)


@pytest.mark.parametrize("width", [360, 1280])
async def test_nothing_jumps_while_the_page_fills(
    browser: Browser, demo_server: ServerProcess, width: int
) -> None:
    tab = await open_tab(browser, demo_server.url, viewport={"width": width, "height": 800})
    await tab.page.add_init_script(NOTE_SHIFTS)
    for address in ("library/film?mode=hls", "live/demo"):
        await tab.open(address)
        await tab.playing()
        assert await tab.value("shifted") < MOST_SHIFT, address
    await tab.page.context.close()
    assert tab.troubles == []
