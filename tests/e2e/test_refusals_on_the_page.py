"""What the server refuses: the page says the server's own reason, as the answer to a client has it."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Iterator

import httpx
import jwt
import pytest
from playwright.async_api import Browser, Route, expect

from origin.access.address_tokens import SigningKeys
from tests.conftest import ServerProcess, start_server
from tests.copied_channel import copied_channel, film
from tests.e2e.conftest import DESKTOP, PHONE, SMALL, open_tab
from tests.e2e.station_tones import tone
from tests.patience import CLIENT_SECONDS
from tests.programmed_channel import keep_span

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

KEY = "2026-11:a-secret-of-the-tests"
WEB_SECRET = "a-secret-of-the-tests-for-web-tokens"
SIZES = {"desktop": DESKTOP, "phone": PHONE}
VIEWS = {
    "library/family/first.mp4": "/vod/family/first.mp4/master.m3u8",
    "library/family/": "/vod/family/",
    "live/secret": "/live/secret/master.m3u8",
    "radio/closed.mp3": "/radio/closed.mp3",
}
"""Views of the page, and addresses for which a client asks."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("refused")
    for name in ("library/family/first.mp4", "library/film.mp4", "music/one.mp3"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(film(), folder / "library" / "film.mp4")
    (folder / "library" / "family" / "first.mp4").hardlink_to(folder / "library" / "film.mp4")
    (folder / "music" / "one.mp3").write_bytes(tone(440, 30, artist="Artist", title="Song"))
    config = folder / "headwater.toml"
    config.write_text(
        '[server]\ndata = "data"\n'
        f'[access]\nkeys = ["{KEY}"]\njwt_keys = ["HS256:{WEB_SECRET}"]\n'
        '[library]\npath = "library"\nfolders = { "family" = "signed" }\n'
        f'[[radio]]\nname = "closed.mp3"\nfolder = "{folder / "music"}"\nbitrate = 64\naccess = "signed"\n'
        + copied_channel("match", 'dvr = "10m"')
        + copied_channel("secret", 'access = "signed"')
    )
    with start_server("--config", str(config), "--port", "0") as running:
        yield running


def web_token(**claims: object) -> str:
    return jwt.encode({"exp": int(time.time()) + 3600, "paths": ["/"], **claims}, WEB_SECRET, "HS256")


def token_of(kind: str, path: str) -> str:
    """Return a token that isn't valid for the folder of a playlist, or for a station."""
    scope = path.removesuffix("/master.m3u8").rstrip("/")
    later = int(time.time()) + 3600
    tokens = {
        "expired": SigningKeys([KEY]).sign(scope, 1),
        "for another address": SigningKeys([KEY]).sign("/live/none", later),
        "for another client": SigningKeys([KEY]).sign(scope, later, client="192.0.2.7"),
        "not valid yet": web_token(nbf=later),
        "of another signer": jwt.encode({"exp": later, "paths": ["/"]}, "x" * 40, "HS256"),
    }
    return tokens[kind]


KINDS = ("expired", "for another address", "for another client", "not valid yet", "of another signer")


@pytest.mark.parametrize("view", VIEWS)
async def test_the_page_says_what_is_wrong_with_the_token_of_its_address(
    browser: Browser, server: ServerProcess, view: str
) -> None:
    for kind in KINDS:
        token = token_of(kind, VIEWS[view])
        answer = httpx.get(f"{server.url}/t/{token}{VIEWS[view]}", timeout=CLIENT_SECONDS)
        assert answer.status_code == 403
        tab = await open_tab(browser, f"{server.url}/t/{token}", viewport=SMALL)
        await tab.open(view)
        notice = tab.page.locator("#notice")
        await expect(notice).to_contain_text(answer.text.strip(), ignore_case=True)
        await tab.page.context.close()


async def test_a_folder_that_needs_a_token_isnt_called_empty(browser: Browser, server: ServerProcess) -> None:
    tab = await open_tab(browser, server.url, viewport=SMALL)
    await tab.open("library/family/")
    await expect(tab.page.locator("#notice")).to_contain_text("A token is needed")
    await expect(tab.page.get_by_text("There is nothing in this folder.")).not_to_be_visible()
    await tab.page.context.close()


@pytest.mark.parametrize(("name", "size"), SIZES.items())
async def test_a_field_for_another_token_says_why_that_one_doesnt_open_it_either(
    browser: Browser, server: ServerProcess, name: str, size: dict[str, int]
) -> None:
    path = VIEWS["live/secret"]
    tab = await open_tab(browser, server.url, viewport=size)
    await tab.open("live/secret")
    await expect(tab.page.locator("#notice")).to_contain_text("A token is needed")
    field = tab.page.get_by_label("Token", exact=True)
    await field.fill(token_of("expired", path))
    await field.press("Enter")
    await expect(tab.page.locator("#notice [role=alert]")).to_have_text("The token has expired.")
    await tab.screenshot(f"refused-{name}-token")
    assert not await tab.value("document.documentElement.scrollWidth > innerWidth")
    await tab.page.context.close()


@pytest.mark.parametrize(("name", "size"), SIZES.items())
async def test_a_download_that_is_refused_says_why_and_offers_what_is_there(
    browser: Browser, server: ServerProcess, name: str, size: dict[str, int]
) -> None:
    """The lines are those of a clip over the channel's slate."""
    reason = (
        "the picture's size changes within this time, from 320x180 to 640x360; each of these is one file:"
    )
    parts = [f"clip.mp4?start=2026-11-30T18:00:{at}Z&end=2026-11-30T18:00:{at + 9}Z" for at in (10, 20)]
    tab = await open_tab(browser, server.url, viewport=size)
    await tab.open("live/match")
    await tab.playing()

    async def refuse(route: Route) -> None:
        body = "" if route.request.method == "HEAD" else "\n".join((reason, *parts, ""))
        await route.fulfill(status=409, content_type="text/plain; charset=utf-8", body=body)

    await tab.page.get_by_role("button", name="Cut a clip").click()
    await tab.page.route("**/clip.mp4*", refuse)
    await tab.page.get_by_role("link", name="Download MP4").click()
    note = tab.page.locator(".refusal")
    await expect(note).to_contain_text("The picture's size changes within this time, from 320x180 to 640x360")
    links = note.get_by_role("link")
    addresses = [await one.get_attribute("href") for one in await links.all()]
    assert addresses == [f"{server.url}/live/match/{one}" for one in parts]
    await note.scroll_into_view_if_needed()
    await tab.screenshot(f"refused-{name}-download")
    assert not await tab.value("document.documentElement.scrollWidth > innerWidth")
    await tab.page.unroute("**/clip.mp4*")
    async with tab.page.expect_download() as coming:
        await tab.page.get_by_role("link", name="Download MP4").click()
    assert (await (await coming.value).path()).stat().st_size > 0
    await expect(note).to_have_count(0)
    await tab.page.context.close()


async def test_the_page_says_the_reason_of_any_refusal_of_a_list(
    browser: Browser, server: ServerProcess
) -> None:
    tab = await open_tab(browser, server.url, viewport=SMALL)

    async def refuse(route: Route) -> None:
        await route.fulfill(
            status=403, content_type="text/plain", body="pages of other sites may not see this\n"
        )

    await tab.page.route("**/api/live*", refuse)
    await tab.open("live")
    await expect(tab.page.locator("#notice")).to_contain_text("Pages of other sites may not see this.")
    await expect(tab.page.locator("#notice")).not_to_contain_text("doesn't answer")
    await tab.page.context.close()


async def test_a_clip_says_for_how_long_it_is_there_and_one_of_a_recording_ends_where_it_was_cut(
    browser: Browser, server: ServerProcess
) -> None:

    recording = await asyncio.to_thread(keep_span, server, "match")
    tab = await open_tab(browser, server.url, viewport=DESKTOP)
    await tab.open("live/match")
    await tab.playing()
    await tab.page.get_by_role("button", name="Cut a clip").click()
    await tab.page.get_by_text("What the clip shows is there until").wait_for()
    await tab.open(f"live/match/{recording}")
    await tab.playing()
    await tab.page.get_by_role("button", name="Cut a clip").click()
    await tab.page.get_by_text("for as long as the recording is kept").wait_for()
    await tab.screenshot("recording-clip")
    end = tab.page.get_by_role("slider", name="End of the clip")
    await end.evaluate("(one) => { one.value = Number(one.min) + 3; one.dispatchEvent(new Event('input')); }")
    await tab.page.get_by_role("link", name="Play it").click()
    await tab.until("headwater.video.paused && headwater.video.currentTime >= 3")
    assert await tab.value("headwater.video.currentTime < headwater.video.duration - 1")
    assert tab.troubles == []
    await tab.page.context.close()
