"""The page for visitors, where the lists are protected, and for who has the admin token."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator

import httpx
import pytest
from playwright.async_api import Browser, Route, expect

from origin.access.address_tokens import SigningKeys
from tests.conftest import ServerProcess, start_server
from tests.copied_channel import copied_channel, film
from tests.e2e.conftest import DESKTOP, PHONE, SMALL, Tab, open_tab
from tests.e2e.station_tones import tone
from tests.keys import ADMIN_TOKEN

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

KEY = "2026-11:a-secret-of-the-tests"
FOREVER = 1 << 31
SIZES = {"desktop": DESKTOP, "phone": PHONE}
UNTRUE = (
    "[[live]]",
    "[[radio]]",
    "[[events]]",
    "headwater.toml",
    "--demo",
    "OBS",
    "Stream key",
    "viewer",
    "listener",
)
"""What concerns who runs the server, and nobody else."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One whose lists are protected, as behind a proxy with HTTPS, and one of whose channels is signed."""
    folder = tmp_path_factory.mktemp("visited")
    for name in ("library", "music"):
        (folder / name).mkdir()
    shutil.copyfile(film(), folder / "library" / "film.mp4")
    for name in ("family/first.mp4", "family/second.mp4", "open/third.mp4"):
        (folder / "library" / name).parent.mkdir(exist_ok=True)
        (folder / "library" / name).hardlink_to(folder / "library" / "film.mp4")
    (folder / "music" / "one.mp3").write_bytes(tone(440, 30, artist="Artist", title="Song"))
    config = folder / "headwater.toml"
    config.write_text(
        '[server]\ndata = "data"\nprotected = ["api", "health", "metrics"]\n'
        f'[access]\nkeys = ["{KEY}"]\n[library]\npath = "library"\nfolders = {{ "family" = "signed" }}\n'
        f'[[radio]]\nname = "music.mp3"\nfolder = "{folder / "music"}"\nbitrate = 64\n'
        '[[live]]\nname = "studio"\nsource = "publish"\n'
        + copied_channel("match", 'dvr = "10m"')
        + copied_channel("secret", 'access = "signed"')
    )
    with start_server("--config", str(config), "--port", "0") as running:
        yield running


async def test_visitors_play_by_address_what_no_list_shows_them(
    browser: Browser, server: ServerProcess
) -> None:
    tab = await open_tab(browser, server.url, viewport=SMALL)
    for view in ("live/match", "library/film.mp4", "library/film.mp4?mode=hls"):
        await tab.open(view)
        await tab.playing()
    await tab.open("radio/music.mp3")
    await tab.until("!headwater.audio.paused && headwater.audio.currentTime > 1")
    await tab.open("live/studio")
    await tab.page.get_by_text("Nobody publishes to this channel at the moment.").wait_for()
    await tab.open("live/none")
    await tab.page.get_by_text("There is no channel “none”.").wait_for()
    assert not await tab.page.locator("input[type=password]:visible").count()
    await tab.page.context.close()
    assert tab.troubles == []


@pytest.mark.parametrize(("name", "size"), SIZES.items())
async def test_nothing_that_concerns_the_owner_is_said_to_visitors(
    browser: Browser, server: ServerProcess, name: str, size: dict[str, int]
) -> None:
    tab = await open_tab(browser, server.url, viewport=size)
    for view in ("library", "live", "radio", "events"):
        await tab.open(view)
        await tab.page.get_by_text("What is here plays by its own address.").wait_for()
        assert [word for word in UNTRUE if word in await tab.page.inner_text("body")] == []
        assert not await tab.page.locator("input[type=password]:visible").count()
    await tab.screenshot(f"visitor-{name}-no-address")
    await tab.open("live/match")
    await tab.playing()
    assert [word for word in UNTRUE if word in await tab.page.inner_text("body")] == []
    await tab.screenshot(f"visitor-{name}-live")
    assert not await tab.value("document.documentElement.scrollWidth > innerWidth")
    await tab.page.context.close()
    assert tab.troubles == []


async def test_the_page_asks_for_a_token_only_where_an_item_needs_one(
    browser: Browser, server: ServerProcess
) -> None:
    tab = await open_tab(browser, server.url, viewport=PHONE)
    await tab.open("live/secret")
    field = tab.page.get_by_label("Token", exact=True)
    await field.fill("wrong")
    await field.press("Enter")
    await tab.page.get_by_text("The token isn't valid for this address.", exact=True).wait_for()
    await tab.screenshot("visitor-phone-token")
    await field.fill(SigningKeys([KEY]).sign("/live/secret", FOREVER))
    await field.press("Enter")
    await tab.page.wait_for_url("**/t/**")
    await tab.until("window.headwater !== undefined")
    await tab.playing()
    await tab.page.context.close()


@pytest.mark.parametrize(("name", "size"), SIZES.items())
async def test_the_administrator_sees_lists_and_ends_and_begins_an_event(
    browser: Browser, server: ServerProcess, name: str, size: dict[str, int]
) -> None:
    tab = await open_tab(browser, server.url, viewport=size)
    await tab.open("live")
    await tab.page.get_by_text("For this server's administrator").click()
    await tab.page.locator("#notice").get_by_label("Admin token").fill(ADMIN_TOKEN)
    await tab.page.get_by_role("button", name="Show the lists").click()
    await tab.page.get_by_role("link", name="studio").click()
    await tab.page.get_by_text("What to type into OBS").wait_for()
    await tab.page.locator("a[href='#live/match']").click()
    await tab.playing()
    assert "viewer" in await tab.page.inner_text("#panel-live")
    await tab.page.get_by_role("button", name="End the event").click()
    await tab.screenshot(f"owner-{name}-end")
    assert not await tab.value("document.documentElement.scrollWidth > innerWidth")
    await tab.page.get_by_role("button", name="End it for everybody").click()
    await tab.page.get_by_text("The event has ended.").wait_for()
    await tab.page.get_by_role("link", name="as MP4").first.wait_for()
    await tab.screenshot(f"owner-{name}-ended")
    await begins_again(tab)
    await tab.page.context.close()
    assert tab.troubles == []


async def begins_again(tab: Tab) -> None:
    await tab.page.get_by_role("button", name="Begin the next event").click()
    await expect(tab.page.get_by_role("button", name="End the event")).to_be_visible()


TOKENS = {
    "/vod/family": ({"family/first.mp4", "family/second.mp4"}, set(), set()),
    "/vod/family/first.mp4": ({"family/first.mp4"}, set(), set()),
    "/vod/open": ({"open/third.mp4"}, set(), set()),
    "/live/secret": (set(), {"secret"}, set()),
    "/radio/music.mp3": (set(), set(), {"music.mp3"}),
}
"""What lists name to the holder of a token: films, channels and stations."""


@pytest.mark.parametrize(("path", "listed"), TOKENS.items())
async def test_protected_lists_name_to_the_holder_of_a_token_what_it_covers_and_nothing_else(
    server: ServerProcess, path: str, listed: tuple[set[str], set[str], set[str]]
) -> None:
    token, films, channels, stations = SigningKeys([KEY]).sign(path, FOREVER), *listed
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
        for base, headers in ((f"/t/{token}", {}), ("", {"cookie": f"headwater_token={token}"})):
            for query in ("", "?search=mp4", "?sort=name"):
                answer = await client.get(f"{base}/api/library{query}", headers=headers)
                assert {one["path"] for one in answer.json()} == films
                for one in answer.json():
                    # What the list names can be had.
                    for address in filter(None, (one["media"], one["hls"])):
                        assert (await client.get(address, headers=headers)).status_code == 200
            for area, names in (("live", channels), ("radio", stations), ("events", set())):
                answer = await client.get(f"{base}/api/{area}", headers=headers)
                assert {one["name"] for one in answer.json()} == names
            # The rest of what is protected stays so.
            for closed in ("/metrics", "/api/viewers", "/api/live/match/publish_key"):
                assert (await client.get(f"{base}{closed}", headers=headers)).status_code == 401
        expired = SigningKeys([KEY]).sign(path, 1)
        for base in ("", f"/t/{expired}"):
            assert (await client.get(f"{base}/api/library")).status_code == 401
        # What a token is signed for shows with its path alone: a forged one covers nothing.
        forged = f"{token[:-2]}{'AA' if not token.endswith('AA') else 'BA'}"
        assert (await client.get(f"/t/{forged}/api/library")).json() == []


@pytest.mark.parametrize(("name", "size"), SIZES.items())
async def test_the_page_shows_the_holder_of_a_token_the_list_of_what_it_covers(
    browser: Browser, server: ServerProcess, name: str, size: dict[str, int]
) -> None:
    token = SigningKeys([KEY]).sign("/vod/family", FOREVER)
    tab = await open_tab(browser, f"{server.url}/t/{token}", viewport=size)
    await tab.open("")
    await tab.page.get_by_role("link", name="family").click()
    await tab.page.get_by_role("link", name="second").click()
    await tab.playing()
    text = await tab.page.inner_text("body")
    assert "third" not in text
    assert [word for word in UNTRUE if word in text] == []
    await tab.screenshot(f"visitor-{name}-token-list")
    assert not await tab.value("document.documentElement.scrollWidth > innerWidth")
    await tab.page.context.close()
    assert tab.troubles == []


async def test_a_page_that_asks_too_often_says_so_waits_and_goes_on_by_itself(
    browser: Browser, server: ServerProcess
) -> None:
    tab = await open_tab(browser, server.url, viewport=PHONE)
    asked: list[float] = []

    async def limit(route: Route) -> None:
        """Answer as a proxy in front that limits the requests of an address (RFC 6585 §4)."""
        asked.append(time.monotonic())
        if len(asked) == 1:
            await route.fulfill(status=429, headers={"retry-after": "4"}, body="")
        else:
            await route.continue_()

    await tab.page.route("**/api/item/live/match", limit)
    await tab.open("live/match")
    await tab.page.get_by_text("This server is asked too often from here at the moment.").wait_for()
    await tab.screenshot("visitor-phone-too-often")
    assert "doesn't answer" not in await tab.page.inner_text("body")
    await tab.playing()
    await expect(tab.page.get_by_text("asked too often")).to_be_hidden()
    # RFC 9110 §10.2.3
    assert asked[1] - asked[0] >= 4
    await tab.page.context.close()
