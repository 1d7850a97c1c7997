"""Event channels in the browser: the page's Events view, EventSource and WebSocket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Browser

from tests.conftest import ServerProcess, start_server
from tests.e2e.conftest import PATIENCE_SECONDS, Tab, keep, open_tab
from tests.ports import kept_port

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

TOKEN = "chat-token-000001"
KEY = "a key & more?"
WIDTHS = (320, 800, 1400)
BURST = 8000
MOST_MESSAGES, MOST_WAITING = 100, 1000

STATUS = "document.getElementById('events-status').textContent"
MESSAGES = "[...document.querySelectorAll('.messages .data')].map(each => each.textContent)"
ARRIVED = "headwater.events().state === 'open'"


class Channels:
    """A server with event channels, which may be stopped and started at the same address."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self.port = folder, port
        (folder / "headwater.toml").write_text(
            f'[server]\nport = {port}\n[library]\npath = "{folder}"\n[limits]\nevent_rate = 1000000\n'
            f'[[events]]\nname = "chat"\npublish_token = "{TOKEN}"\n'
            f'[[events]]\nname = "closed"\npublish_token = "{TOKEN}"\nread_key = "{KEY}"\n'
        )
        (folder / "headwater.toml").chmod(0o600)
        self.server: ServerProcess = self.start()

    @property
    def url(self) -> str:
        return self.server.url

    def start(self) -> ServerProcess:
        self.server = start_server("--config", str(self.folder / "headwater.toml"))
        return self.server

    async def publish(self, *events: dict[str, str], channel: str = "chat") -> list[str]:
        """Publish events in one request; give their ids."""
        lines = "".join(json.dumps(one) + "\n" for one in events)
        headers = {"authorization": f"Bearer {TOKEN}", "content-type": "application/x-ndjson"}
        async with httpx.AsyncClient(timeout=PATIENCE_SECONDS, trust_env=False) as client:
            answer = await client.post(f"{self.url}/events/{channel}", content=lines, headers=headers)
        assert answer.status_code == 200, answer.text
        ids: list[str] = answer.json()["ids"]
        return ids


@pytest.fixture(scope="module")
def channels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Channels]:
    with kept_port() as port:
        channels = Channels(tmp_path_factory.mktemp("channels"), port)
        yield channels
        channels.server.stop()


@pytest_asyncio.fixture(loop_scope="session")
async def view(browser: Browser, channels: Channels) -> AsyncIterator[Tab]:
    """The Events view of the chat; a restart and a wrong key are all that its console may tell of."""
    tab = await open_tab(browser, channels.url)
    await tab.open("events/chat")
    await tab.until(ARRIVED)
    yield tab
    await tab.page.context.close()
    expected = ("ERR_CONNECTION_REFUSED", "ERR_INCOMPLETE_CHUNKED", "ERR_CONNECTION_RESET", "status of 401")
    assert [text for text in tab.troubles if not any(one in text for one in expected)] == []


async def test_the_demos_channel_lives(tab: Tab) -> None:
    await tab.open("events")
    await tab.until("headwater.events().pieces > 10 && headwater.events().gapMs !== null")
    stats = await tab.value("headwater.events()")
    assert (stats["channel"], stats["state"], stats["reconnects"]) == ("demo", "open", 0)
    assert stats["firstEventMs"] > 0
    assert len((await tab.page.locator(".typed").inner_text()).split()) > 8
    types = await tab.value("[...document.querySelectorAll('.messages .type')].map(each => each.textContent)")
    assert {"state", "title"} <= set(types)
    await tab.until("document.querySelector('#gaps .bandwidth').getAttribute('d').includes('L')")
    await tab.until("document.querySelector('#panel-events .row').textContent.includes('1 reader')")
    keep("events-view", stats)
    for width in WIDTHS:
        await tab.page.set_viewport_size({"width": width, "height": 900})
        for scheme in ("light", "dark"):
            await tab.page.emulate_media(color_scheme=scheme)
            await tab.until(f"innerWidth === {width}")
            assert await tab.value("document.documentElement.scrollWidth") <= width
            await tab.screenshot(f"events-{width}-{scheme}")


async def test_a_view_that_is_left_reads_no_more(tab: Tab) -> None:
    await tab.open("events/demo")
    await tab.until(ARRIVED)
    await tab.page.get_by_role("tab", name="Library").click()
    await tab.until("headwater.events().channel === null")
    readers = "fetch('/api/events').then(answer => answer.json()).then(([one]) => one.readers === 0)"
    await tab.until(readers)


async def test_what_floods_in_is_shown_once_a_frame_in_order_and_bounded(
    view: Tab, channels: Channels
) -> None:
    """However fast it comes: frames are counted beside those that the page used."""
    await view.value(
        "void (window.frames = 0, (function next() { frames += 1; requestAnimationFrame(next); })())"
    )
    before = await view.value("[frames, headwater.events().renders, headwater.events().received]")
    *_, last = await channels.publish(*({"data": f"message {number}"} for number in range(BURST)))
    await view.until(f"headwater.events().lastId === '{last}' && headwater.events().waiting === 0")
    after = await view.value("[frames, headwater.events().renders, headwater.events().received]")
    frames, renders, received = (late - early for late, early in zip(after, before, strict=True))
    stats = await view.value("headwater.events()")
    # What a slow page can't take the channel skips by itself, and says so.
    assert received == BURST or stats["resets"] > 0
    assert 1 <= renders <= frames + 1
    shown = await view.value(MESSAGES)
    assert len(shown) == MOST_MESSAGES
    assert shown[0] == f"message {BURST - 1}"
    numbers = [int(one.split()[1]) for one in shown if one.startswith("message")]
    assert numbers == sorted(numbers, reverse=True)
    keep("events-burst", {"events": received, "frames": frames, "renders": renders, **stats})


async def test_a_page_without_frames_keeps_a_bounded_queue(view: Tab) -> None:
    """As a hidden page has none: all comes within one turn of the page's own loop."""
    found = await view.value(
        """(async () => {
            const { FrameQueue } = await import("/player/views/renderqueue.js");
            const shown = [];
            const queue = new FrameQueue((items) => shown.push(...items));
            let most = 0;
            for (let number = 0; number < 50000; number += 1) {
                queue.push(number);
                most = Math.max(most, queue.length);
            }
            while (queue.length) await new Promise(requestAnimationFrame);
            return { most, shown, renders: queue.renders, skipped: queue.skipped };
        })()"""
    )
    assert found["most"] <= 2 * MOST_WAITING
    assert found["shown"] == list(range(50_000 - MOST_WAITING, 50_000))
    assert (found["renders"], found["skipped"]) == (1, 50_000 - MOST_WAITING)


async def test_stopped_and_gone_on_with_it_misses_nothing(view: Tab, channels: Channels) -> None:
    await channels.publish({"data": "before"})
    await view.until(f"{MESSAGES}[0] === 'before'")
    await view.page.get_by_role("button", name="Stop").click()
    await view.until("headwater.events().state === 'stopped'")
    await channels.publish({"data": "meanwhile"}, {"data": "and more"})
    assert (await view.value(MESSAGES))[0] == "before"
    await view.page.get_by_role("button", name="Go on").click()
    await view.until(f"{MESSAGES}[0] === 'and more'")
    assert (await view.value(MESSAGES))[:3] == ["and more", "meanwhile", "before"]
    assert await view.value("headwater.events().resets") == 0


def chunk(content: str | None, finish: str | None = None, identity: str = "x") -> dict[str, str]:
    """An event of a relayed answer, as OpenAI-compatible servers stream it."""
    delta = {} if content is None else {"content": content}
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"data": json.dumps({"id": identity, "object": "chat.completion.chunk", "choices": [choice]})}


async def test_an_answer_of_a_language_model_is_typed_as_it_comes(view: Tab, channels: Channels) -> None:
    role = {"data": json.dumps({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]})}
    await channels.publish(role, chunk("Gr"), chunk("üße"))
    await view.until("headwater.events().text === 'Grüße'")
    usage = {"data": json.dumps({"id": "x", "choices": [], "usage": {"total_tokens": 3}})}
    await channels.publish(chunk(" <b>aus</b> 東京"), chunk(None, "stop"), usage, {"data": "[DONE]"})
    await view.until("headwater.events().text === 'Grüße <b>aus</b> 東京'")
    assert await view.page.locator(".typed").inner_text() == "Grüße <b>aus</b> 東京"
    # The next answer takes its place; what only looks like one is a message.
    await channels.publish({"data": '{"choices": 3}'}, {"data": '{"choices"'}, chunk("Another"))
    await view.until("headwater.events().text === 'Another'")
    assert (await view.value(MESSAGES))[:2] == ['{"choices"', '{"choices": 3}']
    # Answers that come at once are told apart by their ids: the one that began last is shown.
    await channels.publish(*(chunk(text, identity=text[0]) for text in ("a1", "b1", "a2", "b2", "a3")))
    *_, last = await channels.publish(chunk("b3", "stop", "b"), chunk("a4", "stop", "a"))
    await view.until(f"headwater.events().lastId === '{last}' && headwater.events().waiting === 0")
    assert await view.value("headwater.events().text") == "b1b2b3"


async def test_a_channel_with_a_key_asks_for_it(browser: Browser, view: Tab, channels: Channels) -> None:
    await channels.publish({"data": "secret"}, channel="closed")
    await view.page.get_by_role("link", name="closed").click()
    field = view.page.get_by_label("Key", exact=True)
    await field.fill("wrong")
    await field.press("Enter")
    await view.until("document.querySelector('#panel-events [role=alert]')?.textContent.includes('key')")
    await field.fill(KEY)
    await field.press("Enter")
    await view.until(f"{MESSAGES}[0] === 'secret'")
    assert await view.page.get_by_label("Key", exact=True).count() == 0


BROWSER_READERS = """(() => {
    window.told = { source: [], socket: [] };
    const source = new EventSource("/events/chat");
    const note = (event) => told.source.push({ event: event.type, data: event.data, id: event.lastEventId });
    for (const type of ["message", "reset"]) source.addEventListener(type, note);
    let last = "";
    (function connect() {
        const socket = new WebSocket(`ws://${location.host}/events/chat?since=${last}`);
        socket.addEventListener("message", ({ data }) => {
            const event = JSON.parse(data);
            told.socket.push(event);
            last = event.id;
        });
        socket.addEventListener("close", () => setTimeout(connect, 200));
    })();
})()"""
"""Opens both as any page may: one reconnects by itself, the other by its script."""


async def test_readers_of_a_browser_come_again_to_a_new_server_and_learn_that_it_is_one(
    view: Tab, channels: Channels
) -> None:
    """EventSource, WebSocket and the page itself."""
    await channels.publish({"data": "of the first server"})
    await view.value(BROWSER_READERS)
    seen = "[told.source, told.socket].every(list => list.some(one => one.data === '{}'))"
    await view.until(seen.replace("{}", "of the first server"))
    old = await view.value("[told.source.at(-1).id, told.socket.at(-1).id, headwater.events().lastId]")
    assert len(set(old)) == 1

    await asyncio.to_thread(channels.server.stop)
    # It says so between two attempts, which are short.
    await view.until(f"{STATUS}.includes('Trying again')")
    await asyncio.to_thread(channels.start)
    (new,) = await channels.publish({"data": "of the second server"})
    assert new.partition("-")[0] != old[0].partition("-")[0]
    await view.until(seen.replace("{}", "of the second server"))
    await view.until(f"headwater.events().lastId === '{new}'")
    for way in ("source", "socket"):
        told: list[dict[str, Any]] = await view.value(f"told.{way}")
        after = told[next(place for place, one in enumerate(told) if one["event"] == "reset") :]
        assert [one["event"] for one in after] == ["reset", "message"], way
        assert json.loads(after[0]["data"])["reason"] == "restart"
        assert (after[1]["data"], after[1]["id"]) == ("of the second server", new)
    stats = await view.value("headwater.events()")
    assert stats["reconnects"] >= 1
    assert stats["resets"] == 1
    assert await view.value(STATUS) == ""


async def test_an_ended_channel_says_so_and_goes_on_with_its_next_event(
    view: Tab, channels: Channels
) -> None:
    await channels.publish({"data": "{}", "event": "end"})
    await view.until("headwater.events().state === 'over'")
    assert "has ended" in await view.value(STATUS)
    await channels.publish({"data": "again"})
    await view.until(f"{MESSAGES}[0] === 'again'")
    await view.until(f"{STATUS} === ''")
