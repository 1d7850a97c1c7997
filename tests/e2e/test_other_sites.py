"""Pages of other sites in a real browser, on the machine of a server that listens on loopback."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, async_playwright

from tests.conftest import ServerProcess, start_server
from tests.e2e.conftest import PATIENCE_SECONDS, launching, open_tab
from tests.keys import ADMIN_TOKEN

pytestmark = pytest.mark.e2e
in_session = pytest.mark.asyncio(loop_scope="session")

REBOUND = "rebound.example"
"""A name of somebody else's that leads to this machine."""

TEXT = """
[server]
port = 0

[library]
path = "."

[[radio]]
name = "talk.mp3"
source = "publish"
source_password = "sesame"
"""

PROTECTED = TEXT.replace("port = 0", 'port = 0\nprotected = ["api"]') + 'listener_password = "listen"\n'

SEEN = """async ([address, how]) => {
  try {
    const answer = await fetch(address, how);
    return `${answer.status} ${await answer.text()}`;
  } catch {
    return "refused";
  }
}"""

SENT = """async ([address, method]) => {
  const frame = document.createElement("iframe");
  frame.name = "answer";
  const form = document.createElement("form");
  Object.assign(form, { action: address, method, target: "answer", enctype: "text/plain" });
  document.body.append(frame, form);
  form.submit();
}"""
"""What any page may have a browser send, without being let to before."""


LED = """address => {
  const frame = document.createElement("iframe");
  frame.referrerPolicy = "no-referrer";
  frame.src = address;
  document.body.append(frame);
}"""
"""What leads a browser to an address without naming who did."""


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@dataclass(frozen=True)
class Sites:
    server: ServerProcess
    elsewhere: str
    """A page of another origin."""

    @property
    def port(self) -> str:
        return self.server.url.rpartition(":")[2]


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    folder, other = tmp_path_factory.mktemp("origin"), tmp_path_factory.mktemp("elsewhere")
    (folder / "headwater.toml").write_text(TEXT)
    (folder / "private.mp3").write_bytes(b"\xff\xfb" + bytes(100))
    (other / "index.html").write_text("<!doctype html><title>elsewhere</title><body>")
    server = start_server(cwd=folder)
    serving = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(other)))
    thread = threading.Thread(target=serving.serve_forever)
    thread.start()
    try:
        yield Sites(server, f"http://evil.example:{serving.server_port}/")
    finally:
        serving.shutdown()
        thread.join()
        serving.server_close()
        server.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def resolving() -> AsyncIterator[Browser]:
    """A browser for which every name leads to this machine."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            **launching("--host-resolver-rules=MAP *.example 127.0.0.1")
        )
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="session")
async def page(sites: Sites, resolving: Browser) -> AsyncIterator[Page]:
    """A page of a fresh profile of that browser, which knows the admin token."""
    context = await resolving.new_context(http_credentials={"username": "source", "password": ADMIN_TOKEN})
    context.set_default_timeout(1000 * PATIENCE_SECONDS)
    yield await context.new_page()
    await context.close()


async def seen(page: Page, address: str, **how: Any) -> str:
    return str(await page.evaluate(SEEN, [address, how]))


@pytest.mark.clause("WHATWG Fetch §3.3")
@in_session
async def test_a_page_of_another_origin_reads_no_list_but_media(sites: Sites, page: Page) -> None:
    await page.goto(sites.elsewhere)
    url = sites.server.url
    for path in ("/api/library", "/api/radio", "/health", "/metrics"):
        assert await seen(page, url + path) == "refused", path
    assert (await seen(page, f"{url}/media/private.mp3")).startswith("200 ")
    assert (await seen(page, f"{url}/api/time")).startswith("200 ")


@pytest.mark.clause("CWE-350")
@in_session
async def test_a_page_under_a_name_that_leads_here_reads_none_either(sites: Sites, page: Page) -> None:
    """To the browser it is one of this origin: no other check than the name's stands between."""
    await page.goto(f"http://{REBOUND}:{sites.port}/")
    for path in ("/api/library", "/api/radio", "/health", "/metrics"):
        answer = await seen(page, path)
        assert answer.startswith("421 "), path
        assert "private" not in answer
    # Who has given the server this name reads what to do.
    assert f"Add “{REBOUND}” to server.names" in await page.locator("#notice").inner_text()
    await page.goto(f"{sites.server.url}/")
    assert "private.mp3" in await seen(page, "/api/library")


@pytest.mark.clause("CWE-352")
@in_session
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/admin/metadata?mode=updinfo&mount=/radio/talk.mp3&song=hacked"),
        ("POST", "/admin/metadata?mode=updinfo&mount=/radio/talk.mp3&song=hacked"),
        ("POST", "/live/talk/end"),
    ],
)
async def test_a_form_of_another_site_changes_nothing_with_the_password_that_the_browser_knows(
    sites: Sites, page: Page, method: str, path: str
) -> None:
    await page.goto(f"{sites.server.url}/")
    own = await seen(page, "/admin/metadata?mode=updinfo&mount=/radio/talk.mp3&song=own")
    # Behind the password: there is no source whose title it could be.
    assert own.startswith("400 ")
    await page.goto(sites.elsewhere)
    async with page.expect_response(lambda answer: path.partition("?")[0] in answer.url) as answered:
        await page.evaluate(SENT, [sites.server.url + path, method])
    answer = await answered.value
    assert answer.status == 403
    assert "sec-fetch-site" in await answer.request.all_headers()


@pytest.mark.clause("CWE-352")
@in_session
async def test_no_link_of_another_site_changes_anything_where_there_is_no_encryption(
    sites: Sites, resolving: Browser, tmp_path: Path
) -> None:
    """A browser then names neither its site nor its origin, and adds the password all the same."""
    (tmp_path / "headwater.toml").write_text(TEXT.replace("port = 0", 'port = 0\nnames = ["radio.example"]'))
    server = await asyncio.to_thread(start_server, cwd=tmp_path)
    context = await resolving.new_context()
    context.set_default_timeout(1000 * PATIENCE_SECONDS)
    try:
        admin = f"radio.example:{server.url.rpartition(':')[2]}/admin"
        page = await context.new_page()
        # What the browser then knows for this address.
        first = await page.goto(f"http://source:{ADMIN_TOKEN}@{admin}/stats")
        assert first is not None
        assert first.status == 200
        await page.goto(sites.elsewhere)
        for action in ("killsource", "metadata", "moveclients", "killclient", "killsource.xsl"):
            async with page.expect_response(f"http://{admin}/{action}?mount=/radio/talk.mp3") as answered:
                await page.evaluate(LED, f"http://{admin}/{action}?mount=/radio/talk.mp3")
            answer = await answered.value
            sent = await answer.request.all_headers()
            assert answer.status == 403
            assert "authorization" in sent
            assert not {"sec-fetch-site", "origin", "referer"} & set(sent)
    finally:
        await context.close()
        await asyncio.to_thread(server.stop)


@in_session
async def test_where_lists_are_protected_it_asks_for_the_token(browser: Browser, tmp_path: Path) -> None:
    (tmp_path / "headwater.toml").write_text(PROTECTED)
    server = await asyncio.to_thread(start_server, cwd=tmp_path)
    tab = await open_tab(browser, server.url)
    asked: list[str] = []
    tab.page.on("request", lambda request: asked.append(request.url))
    try:
        await tab.open("radio")
        await tab.page.get_by_text("What is here plays by its own address.").wait_for()
        await tab.page.get_by_text("For this server's administrator").click()
        count = len([url for url in asked if "/api/" in url])
        await tab.page.fill("#notice input", "wrong")
        await tab.page.press("#notice input", "Enter")
        await tab.page.get_by_text("That isn't the admin token of this server.").wait_for()
        assert len([url for url in asked if "/api/" in url]) == count + 1, "it isn't asked again and again"
        await tab.page.fill("#notice input", ADMIN_TOKEN)
        await tab.page.press("#notice input", "Enter")
        await tab.until("document.querySelector('.station h3')?.textContent.includes('talk.mp3')")
        assert await tab.value("document.getElementById('notice').hidden")
        # What lists say of a station to the administrator is said of one with a password, too.
        text = await tab.page.locator(".station").inner_text()
        assert "0 listeners" in text
    finally:
        await tab.page.context.close()
        await asyncio.to_thread(server.stop)
