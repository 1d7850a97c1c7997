"""The page's forms: a channel and a station are added while another channel is watched, and published to."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.async_api import Browser

from tests.changing_server import DATA, ChangingServer, changing_server
from tests.e2e.axe import RULES, SERIOUS
from tests.e2e.conftest import DESKTOP, PHONE, Tab, open_tab
from tests.e2e.scripts import script
from tests.keys import ADMIN_TOKEN
from tests.origin.ingest.studio import encoder_arguments, encoding
from tests.patience import CLIENT_SECONDS
from tests.ports import kept_port
from tests.waiting import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

FORM = "#panel-live .tables form"
ADDRESSES = "document.querySelectorAll('.publisher h3 + dl dd')"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ChangingServer]:
    watched = '[[live]]\nname = "watched"\nsource = "testsrc"\nladder = ["240p"]\n'
    with kept_port() as port:
        text = DATA.replace("rtmp_port = 0", f"rtmp_port = {port}") + watched
        with changing_server(tmp_path, text) as one:
            yield one


def watched(server: ChangingServer) -> str:
    return httpx.get(f"{server.url}/live/watched/240p/media.m3u8", timeout=CLIENT_SECONDS).text


def number_of(server: ChangingServer) -> int:
    """Return the number of segments that the channel has had."""
    listed = watched(server)
    first = re.search(r"#EXT-X-MEDIA-SEQUENCE:(\d+)", listed)
    assert first is not None
    return int(first[1]) + listed.count("#EXTINF")


async def open_forms(tab: Tab, panel: str, title: str) -> None:
    """Open the forms of a panel, and give the admin token."""
    await tab.page.get_by_text(title).click()
    await tab.page.fill("#administrator input", ADMIN_TOKEN)
    await tab.page.press("#administrator input", "Enter")
    await tab.until(f"document.querySelector('#{panel} .tables > button')?.offsetParent")


async def check_accessible(tab: Tab, name: str) -> None:
    await tab.value(f"{script('axe-core').read_text('utf-8')}; 0")
    for size in (PHONE, DESKTOP):
        await tab.page.set_viewport_size({"width": size["width"], "height": size["height"]})
        await tab.until(f"innerWidth === {size['width']}")
        for scheme in ("light", "dark"):
            await tab.page.emulate_media(color_scheme=scheme)
            assert await tab.page.evaluate(SERIOUS, RULES[scheme]) == [], (size, scheme)
        await tab.page.locator(".tables form:visible").scroll_into_view_if_needed()
        await tab.screenshot(f"{name}-{size['width']}")
        assert await tab.value("document.documentElement.scrollWidth") <= size["width"]


async def test_a_channel_is_added_on_the_page_while_another_one_is_watched(
    browser: Browser, server: ChangingServer
) -> None:
    watching = await open_tab(browser, server.url)
    await watching.open("live/watched")
    await watching.playing()
    began = number_of(server)

    tab = await open_tab(browser, server.url)
    await tab.open("live")
    await open_forms(tab, "panel-live", "Channels of this server")
    await tab.until("document.querySelector('#panel-live .tables li')?.innerText.includes('file')")
    await tab.page.get_by_role("button", name="Add a channel").click()
    await check_accessible(tab, "table-form")

    # What can't be is said at its field, and nothing is lost.
    await tab.page.fill(f"{FORM} input >> nth=0", "room")
    await tab.page.get_by_label("Dvr", exact=True).fill("an hour")
    await tab.page.get_by_role("button", name="Save").click()
    await tab.until(f"document.querySelector('{FORM} [aria-invalid]')")
    fault = "document.activeElement.parentElement.querySelector('[role=alert]').textContent"
    assert "a duration such as" in await tab.value(fault)
    assert await tab.page.input_value(f"{FORM} input >> nth=0") == "room"
    await tab.page.get_by_label("Dvr", exact=True).fill("1h")
    await tab.page.get_by_label("Record", exact=True).select_option("publications")
    for rendition, wanted in (("source", True), ("720p", False), ("360p", False)):
        await tab.page.get_by_label(rendition, exact=True).set_checked(wanted)
    await tab.page.get_by_role("button", name="Save").click()

    # The page leads to the channel, with the key that was made.
    await tab.until("location.hash === '#live/room'")
    await tab.until(f"[...{ADDRESSES}].some(one => /^room\\?key=[^…]{{16,}}$/.test(one.textContent))")
    table = server.ask("GET", "/api/live/room").json()
    assert (table["dvr"], table["record"], table["ladder"]) == ("1h", "publications", ["source"])
    target, key = [await tab.value(f"{ADDRESSES}[{number}].textContent") for number in (0, 1)]
    with encoding(*encoder_arguments("flv").split(), f"{target}/{key}"):
        await tab.until("document.querySelector('.publisher').innerText.includes('On air')")
        await tab.playing()
    wait_for(lambda: server.ask("GET", "/api/live/room/recordings").json(), what="the recording")
    await watching.playing()
    assert (await watching.stats())["recoveries"] == 0
    # A busy machine draws late, and what it is sent has no hole but those of an encoder that was starved.
    wait_for(lambda: number_of(server) > began, what="the other channel's going on")
    described = {one["name"]: one for one in server.ask("GET", "/api/live").json()}
    holes = watched(server).splitlines().count("#EXT-X-DISCONTINUITY")
    assert holes <= described["watched"]["restarts"]

    # It is changed and removed.
    await tab.page.get_by_role("button", name="Change room").click()
    await tab.page.locator(f"{FORM} summary").click()
    await tab.page.get_by_label("Takeover", exact=True).select_option("refuse")
    await tab.page.get_by_role("button", name="Save").click()
    wait_for(lambda: server.ask("GET", "/api/live/room").json()["takeover"] == "refuse", what="the change")
    assert server.ask("GET", "/api/live/room?reveal").json()["publish_key"] in key
    remove = tab.page.get_by_role("button", name="Remove room")
    await remove.click()
    assert server.ask("GET", "/api/live/room").status_code == 200
    await remove.click()
    wait_for(lambda: server.ask("GET", "/api/live/room").status_code == 404, what="the removal")
    for one in (tab, watching):
        await one.page.context.close()
    assert [text for text in watching.troubles if "/live/" not in text] == []


async def test_a_station_is_added_on_the_page_with_the_password_of_its_sources(
    browser: Browser, server: ChangingServer
) -> None:
    tab = await open_tab(browser, server.url)
    await tab.open("radio")
    await open_forms(tab, "panel-radio", "Stations of this server")
    await tab.page.get_by_role("button", name="Add a station").click()
    await check_accessible(tab, "station-form")
    form = tab.page.locator("#panel-radio .tables form")
    await form.get_by_label("Name", exact=True).fill("dj.mp3")
    await form.get_by_label("Title", exact=True).fill("The morning")
    await form.get_by_role("button", name="Save").click()
    await tab.until("document.querySelector('#panel-radio .tables input[readonly]')?.value.length > 16")
    password = await tab.page.input_value("#panel-radio .tables input[readonly]")
    assert server.ask("GET", "/api/radio/dj.mp3?reveal").json()["source_password"] == password
    await tab.until("document.querySelector('.station')?.innerText.includes('The morning')")
    await tab.page.context.close()
    assert tab.troubles == []
