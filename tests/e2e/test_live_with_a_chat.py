"""The page of `docs/live-with-a-chat.md` in a real browser: viewers see a channel and what others say."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import jwt
import pytest
from playwright.async_api import Browser, Page, Route, expect

from tests.conftest import ARTIFACTS, ServerProcess, start_server
from tests.copied_channel import copied_channel
from tests.e2e.axe import RULES, SERIOUS
from tests.e2e.conftest import PATIENCE_SECONDS, new_page
from tests.e2e.scripts import script

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

DOCUMENT = (Path(__file__).parents[2] / "docs" / "live-with-a-chat.md").read_text("utf-8")
(PAGE,) = re.findall(r"^```html\n(.+?)^```", DOCUMENT, re.DOTALL | re.MULTILINE)
SECRET = "a secret of 32 signs or more"
PATIENT_MS = 1000 * PATIENCE_SECONDS


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Run the page's configuration, with a film in place of a publisher."""
    folder = tmp_path_factory.mktemp("chat")
    (block,) = (one for one in re.findall(r"\n\n((?:    .*\n|\n)+)", DOCUMENT) if "[access]" in one)
    text = re.sub(r"(?m)^    ", "", block).replace(SECRET, SECRET * 2)
    published = '[[live]]\nname = "studio"\nsource = "publish"\n'
    assert published in text
    (folder / "headwater.toml").write_text(
        "[server]\nport = 0\n" + text.replace(published, copied_channel("studio"))
    )
    with start_server(cwd=folder) as running:
        yield running


async def opened(browser: Browser, server: ServerProcess, name: str, token: str) -> Page:
    page = await new_page(browser)
    await page.set_viewport_size({"width": 390, "height": 844})
    text = PAGE.replace('name="Anna"', f'name="{name}"').replace(
        'token="TOKEN"', f'token="{token}"' * bool(token)
    )

    async def give(route: Route) -> None:
        await route.fulfill(body=text, content_type="text/html; charset=utf-8")

    await page.route("**/watch.html", give)
    await page.goto(f"{server.url}/watch.html")
    return page


async def test_viewers_watch_and_write_to_each_other(browser: Browser, server: ServerProcess) -> None:
    claims = {
        "exp": int(time.time()) + 3600,
        "sub": "anna",
        "paths": ["/events/studio-chat"],
        "publish": True,
    }
    token = jwt.encode(claims, SECRET * 2, "HS256")
    anna = await opened(browser, server, "Anna", token)
    guest = await opened(browser, server, "Guest", "")
    video = anna.frame_locator("iframe").locator("video")
    await expect(video).to_have_js_property("paused", False, timeout=PATIENT_MS)
    await anna.get_by_label("Message").fill("Hello <b>all</b>")
    await anna.get_by_role("button", name="Send").click()
    for page in (anna, guest):
        await expect(page.get_by_role("listitem")).to_have_text("Anna: Hello <b>all</b>", timeout=PATIENT_MS)
        await expect(page.get_by_role("status")).to_have_text("2 watching", timeout=PATIENT_MS)
    await expect(guest.get_by_label("Message")).to_be_hidden()
    # Who comes later sees what was said.
    late = await opened(browser, server, "Late", "wrong")
    await expect(late.get_by_role("listitem")).to_have_text("Anna: Hello <b>all</b>", timeout=PATIENT_MS)
    await late.get_by_label("Message").fill("Me, too")
    await late.get_by_role("button", name="Send").click()
    await expect(late.get_by_role("status")).not_to_have_text(re.compile("watching"), timeout=PATIENT_MS)
    await expect(anna.get_by_role("listitem")).to_have_count(1)
    await anna.evaluate(f"{script('axe-core').read_text('utf-8')}; 0")
    assert await anna.evaluate(SERIOUS, RULES["light"]) == []
    ARTIFACTS.mkdir(exist_ok=True)
    await anna.screenshot(path=ARTIFACTS / "live-with-a-chat.png")
    for page in (anna, guest, late):
        await page.close()
