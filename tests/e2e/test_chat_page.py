"""The chat page of `docs/events.md` in a real browser, through two questions and a wrong token."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, Route

from tests.completion_server import Asked, chunk, completing
from tests.conftest import start_server
from tests.e2e.conftest import PATIENCE_SECONDS, looked_for, new_page
from tests.event_server import TOKEN

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

DOCUMENT = (Path(__file__).parents[2] / "docs" / "events.md").read_text("utf-8")
(CHAT_PAGE,) = re.findall(r"^```html\n(.+?)^```", DOCUMENT, re.DOTALL | re.MULTILINE)
SHOWN = "[...document.querySelectorAll('#chat p')].map(one => one.textContent)"

OPENED = """performance.getEntriesByType("resource").filter(
    each => each.name.endsWith("/events/answers")).length"""


async def answer(asked: Asked) -> None:
    """Answer with the number of messages, in two pieces, as a server that has read them all."""
    await asked.head()
    for text in ("I have read ", str(len(asked.options["messages"]))):
        await asked.event(chunk({"content": text}))
    for data in (chunk({}, "stop"), chunk({}, choices=[], usage={}), "[DONE]"):
        await asked.event(data)
    await asked.end()


async def ask(page: Page, question: str, token: str = TOKEN) -> None:
    await page.fill("[name=question]", question)
    await page.fill("[name=token]", token)
    await page.click("button")


async def shows(page: Page, *texts: str) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await page.evaluate(SHOWN) != list(texts):
            await looked_for(page, "true")


async def test_the_documented_page_shows_one_answer_after_another(browser: Browser, tmp_path: Path) -> None:
    async with completing(answer) as upstream:
        path = tmp_path / "headwater.toml"
        path.write_text(
            f'[library]\npath = "{tmp_path}"\n[[events]]\nname = "answers"\nrelay = "{upstream.url}"\n'
            f'publish_token = "{TOKEN}"\n'
        )
        path.chmod(0o600)
        server = await asyncio.to_thread(start_server, "--config", str(path), "--port", "0")
        try:
            page, reader = await new_page(browser), await new_page(browser)
            for one in (page, reader):

                async def give(route: Route) -> None:
                    await route.fulfill(body=CHAT_PAGE, content_type="text/html; charset=utf-8")

                await one.route("**/chat.html", give)
                await one.goto(f"{server.url}/chat.html")
            await ask(page, "Who are you?")
            for one in (page, reader):
                await shows(one, "Who are you?", "I have read 1")
            # The connection is still open: the second answer comes on it, and knows what was said before.
            await ask(page, "And now?")
            for one in (page, reader):
                await shows(one, "Who are you?", "I have read 1", "And now?", "I have read 3")
                assert await one.evaluate(OPENED) <= 1
            await ask(page, "Let me in", "a-wrong-token-000000")
            async with asyncio.timeout(PATIENCE_SECONDS):
                while "publish_token" not in await page.inner_text("#status"):
                    await looked_for(page, "true")
            await page.close()
            await reader.close()
        finally:
            await asyncio.to_thread(server.stop)
