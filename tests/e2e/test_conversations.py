"""Conversations with a relay on the page: answers that come, a reload in one, a stop, and two windows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from tests.completion_server import Asked, CompletionServer, chunk, completing
from tests.conftest import ServerProcess, start_server
from tests.e2e.conftest import DESKTOP, PHONE, Tab, keep, open_tab, quiet_tab
from tests.e2e.scripts import script
from tests.event_server import TOKEN
from tests.waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

WORDS = [f"word-{number} " for number in range(60)]
TALK = "headwater.events().conversation"
SHOWN = "[...document.querySelectorAll('.talk .said:not([hidden])')].map(one => one.textContent)"
IS_OVER = f"{TALK}.turns.every(one => one.state === 'done')"
STORED = "JSON.stringify([{...localStorage}, {...sessionStorage}])"
OPENED = f"window.headwater !== undefined && {TALK} !== null"
STATUS = "document.getElementById('conversation-status').textContent"


@dataclass
class Answering:
    """An upstream server's answers: so many words, and the others when it is told to go on."""

    first: int = len(WORDS)
    silent: bool = False
    words: list[str] = field(default_factory=lambda: WORDS)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, asked: Asked) -> None:
        if asked.target.endswith("/models"):
            await asked.answer("200 OK", '{"object": "list", "data": [{"id": "tiny", "object": "model"}]}')
            return
        if self.silent:
            return
        await asked.head()
        for number, word in enumerate(self.words):
            if number == self.first:
                await self.go_on.wait()
            await asked.event(chunk({"content": word}))
        for data in (chunk({}, "stop"), "[DONE]"):
            await asked.event(data)
        await asked.end()


@dataclass
class Relay:
    server: ServerProcess
    upstream: CompletionServer
    answering: Answering

    @property
    def questions(self) -> list[Asked]:
        return [one for one in self.upstream.asked if one.body]


@pytest_asyncio.fixture(loop_scope="session")
async def relay(tmp_path: Path) -> AsyncIterator[Relay]:
    answering = Answering()
    async with completing(answering) as upstream:
        path = tmp_path / "headwater.toml"
        base = upstream.url.removesuffix("/chat/completions")
        path.write_text(
            f'[library]\npath = "{tmp_path}"\n[[relay]]\nname = "assistant"\nupstreams = ["{base}"]\n'
            f'token = "{TOKEN}"\n'
        )
        path.chmod(0o600)
        server = await asyncio.to_thread(start_server, "--config", str(path), "--port", "0")
        try:
            yield Relay(server, upstream, answering)
        finally:
            await asyncio.to_thread(server.stop)


async def present(tab: Tab) -> None:
    """Type the relay's token, upon which the upstream server's list fills in its one model."""
    field = tab.page.get_by_label("Relay token")
    await field.fill(TOKEN)
    await field.press("Tab")
    await tab.until("document.querySelector('[name=model]').value === 'tiny'")


async def opened(tab: Tab) -> None:
    await tab.open("events/relay/assistant")
    await tab.until(OPENED)
    await present(tab)


async def ask(tab: Tab, question: str) -> None:
    await tab.page.get_by_label("Question").fill(question)
    await tab.page.get_by_label("Question").press("Enter")


async def reload(tab: Tab) -> None:
    await tab.page.reload()
    await tab.until(OPENED)


async def has_come(tab: Tab, words: int) -> str:
    text = "".join(WORDS[:words])
    await tab.until(f"({SHOWN}).at(-1) === {text!r}")
    return text


async def test_an_answer_goes_on_behind_a_reload_in_its_middle(browser: Browser, relay: Relay) -> None:
    relay.answering.first = 25
    async with quiet_tab(browser, relay.server.url) as tab:
        await opened(tab)
        await ask(tab, "Who are you?")
        await has_come(tab, 25)
        await tab.screenshot("conversation-before-reload")
        last = await tab.value(f"{TALK}.lastIds[0]")
        await reload(tab)
        await has_come(tab, 25)
        # It goes on behind the last event, and reads none again; no key of the relay is kept.
        assert await tab.value(f"{TALK}.resumed") == [last]
        assert TOKEN not in await tab.value(STORED)
        relay.answering.go_on.set()
        text = await has_come(tab, len(WORDS))
        await tab.until(IS_OVER)
        assert await tab.value(SHOWN) == ["Who are you?", text]
        assert len(relay.questions) == 1
        # What opens the answer's channel is forgotten with its end.
        assert "/events/" not in await tab.value(STORED)
        assert "token" not in await tab.value(
            "Object.values(localStorage).map(JSON.parse).flatMap(Object.keys)"
        )
        # The next question has what was said before.
        await present(tab)
        await tab.page.get_by_label("Question").fill("And now?")
        await tab.page.get_by_role("button", name="Ask").click()
        await tab.until(f"({SHOWN}).length === 4 && ({SHOWN}).at(-1) === {text!r} && {IS_OVER}")
        assert await tab.value(SHOWN) == ["Who are you?", text, "And now?", text]
        assert relay.questions[1].options["messages"] == [
            {"role": "user", "content": "Who are you?"},
            {"role": "assistant", "content": text},
            {"role": "user", "content": "And now?"},
        ]
        await tab.page.get_by_role("button", name="Clear conversation").click()
        await tab.until(f"({SHOWN}).length === 0")
        assert "Who are you?" not in await tab.value(STORED)


async def test_two_windows_show_the_same_text_and_lose_none_of_what_both_ask(
    browser: Browser, relay: Relay
) -> None:
    relay.answering.first = 10
    async with quiet_tab(browser, relay.server.url) as tab:
        other = Tab(await tab.page.context.new_page(), tab.url)
        for one in (tab, other):
            await opened(one)
        await ask(tab, "Hello?")
        for one in (tab, other):
            await has_come(one, 10)
        relay.answering.go_on.set()
        for one in (tab, other):
            await has_come(one, len(WORDS))
            await one.until(IS_OVER)
        assert await tab.value(SHOWN) == await other.value(SHOWN)
        assert len(relay.questions) == 1
        # Both at once, before either has heard of the other.
        for number, one in enumerate((tab, other)):
            await one.page.get_by_label("Question").fill(f"Both? {number}")
        await asyncio.gather(*(one.page.get_by_label("Question").press("Enter") for one in (tab, other)))
        # A window that has heard of the other's question keeps its own in the field until that is answered.
        asked = [await one.page.get_by_label("Question").input_value() for one in (tab, other)].count("")
        await until(lambda: len(relay.questions) == 1 + asked > 1)
        await until(lambda: all(one.writer.is_closing() for one in relay.questions))
        for one in (tab, other):
            await one.until(f"{TALK}.turns.length >= {1 + asked} && {IS_OVER}")
        assert await tab.value(SHOWN) == await other.value(SHOWN)
        await other.page.get_by_role("button", name="Clear conversation").click()
        await tab.until(f"{TALK}.turns.length === 0")


async def test_stop_reaches_the_upstream_server_also_behind_a_reload(browser: Browser, relay: Relay) -> None:
    relay.answering.first = 5
    async with quiet_tab(browser, relay.server.url) as tab:
        await opened(tab)
        for is_reloaded in (False, True):
            await ask(tab, "Count!")
            await tab.until(f"{TALK}.turns.at(-1)?.state === 'open'")
            await has_come(tab, 5)
            if is_reloaded:
                await reload(tab)
                await has_come(tab, 5)
            await tab.page.get_by_role("button", name="Stop").click()
            if is_reloaded:
                await tab.until(f"{STATUS}.includes('token')")
                assert not relay.questions[-1].closed.is_set()
                await tab.page.get_by_label("Relay token").fill(TOKEN)
                await tab.page.keyboard.press("Tab")
            began = asyncio.get_running_loop().time()
            await until(lambda: relay.questions[-1].closed.is_set())
            seconds = asyncio.get_running_loop().time() - began
            keep(f"conversation-stop-{is_reloaded}", {"seconds": round(seconds, 3)})
            await tab.until(f"{TALK}.turns.at(-1).state === 'cancelled'")
            await tab.until("document.querySelector('.talk li:last-child .note').textContent === 'Stopped.'")
            assert await tab.value(f"({SHOWN}).at(-1)") == "".join(WORDS[:5])


async def test_what_comes_is_drawn_once_a_frame(browser: Browser, relay: Relay) -> None:
    async with quiet_tab(browser, relay.server.url) as tab:
        await opened(tab)
        await tab.value(
            "void (window.ticks = 0, (function next() { ticks += 1; requestAnimationFrame(next); })())"
        )
        before: list[int] = await tab.value(f"[ticks, {TALK}.renders]")
        await ask(tab, "Quickly!")
        await tab.until(f"{TALK}.turns.at(-1)?.state === 'done'")
        await has_come(tab, len(WORDS))
        after: list[int] = await tab.value(f"[ticks, {TALK}.renders]")
        frames, renders = (late - early for late, early in zip(after, before, strict=True))
        assert 1 <= renders <= frames + 1
        keep("conversation", {"words": len(WORDS), "frames": frames, "renders": renders})


async def test_windows_that_write_at_once_lose_nothing_and_what_is_kept_is_bounded(
    browser: Browser, relay: Relay
) -> None:
    """Two records in one page are two windows that haven't heard of each other yet."""
    async with quiet_tab(browser, relay.server.url) as tab:
        await opened(tab)
        found = await tab.value(
            """(async () => {
              const address = `${location.origin}/player/views/conversationrecord.js`;
              const { ConversationRecord } = await import(address);
              const facts = ({ question, content, state }) => [question, content, state];
              const stored = () => new ConversationRecord("r").turns.map(facts);
              const told = {};
              const [one, other] = [new ConversationRecord("r"), new ConversationRecord("r")];
              const turn = one.add("first", "m");
              other.add("second", "m");
              told.both = stored().map(([question]) => question).sort();
              one.begin(turn, "/events/x", "t");
              const late = new ConversationRecord("r");
              const same = late.turns.find(({ id }) => id === turn.id);
              Object.assign(same, { content: "some", last: "e-1" });
              Object.assign(turn, { content: "some more", last: "e-2" });
              one.save(turn);
              late.save(same);
              told.further = stored().find(([question]) => question === "first");
              one.finish(turn, "done", "");
              late.save(same);
              told.finished = stored().find(([question]) => question === "first");
              one.clear();
              late.save(same);
              told.cleared = stored();
              for (let number = 0; number < 250; number += 1) one.add(`${number}`, "m");
              told.many = [stored().length, stored().at(-1)[0], one.turns.length];
              const content = "x".repeat(1e5);
              const long = one.turns.slice(0, 30).map((each) => Object.assign(each, { content }));
              for (const each of long) one.finish(each, "done", "");
              one.add("last", "m");
              const sizes = Object.values(localStorage).map((value) => value.length);
              told.characters = sizes.reduce((sum, size) => sum + size, 0);
              told.newest = stored().at(-1)[0];
              return told;
            })()"""
        )
        assert found.pop("characters") < 1_010_000
        assert found == {
            "both": ["first", "second"],
            "further": ["first", "some more", "open"],
            "finished": ["first", "some more", "done"],
            "cleared": [],
            "many": [200, "249", 200],
            "newest": "last",
        }


async def test_a_question_that_was_not_answered_yet_is_still_there_behind_a_reload(
    browser: Browser, relay: Relay
) -> None:
    relay.answering.first = 0
    async with quiet_tab(browser, relay.server.url) as tab:
        await opened(tab)
        relay.answering.silent = True
        await ask(tab, "Are you there?")
        await until(lambda: relay.questions)
        await reload(tab)
        await tab.until(f"{TALK}.turns.at(-1)?.state === 'unasked'")
        await tab.until(f"{SHOWN}.join() === 'Are you there?'")
        # Nobody knows of its answer, so that it's stopped at once.
        await until(lambda: relay.questions[0].closed.is_set())


async def test_of_a_long_answer_only_the_newest_part_is_laid_out_anew(browser: Browser, relay: Relay) -> None:
    relay.answering.words = [f"Line {number} of a long answer.\n" for number in range(400)]
    relay.answering.first = 300
    async with quiet_tab(browser, relay.server.url) as tab:
        await opened(tab)
        await ask(tab, "At length, please.")
        begun = "".join(relay.answering.words[:300])
        await tab.until(f"({SHOWN}).at(-1) === {begun!r}")
        await tab.value("void (window.parts = [...document.querySelectorAll('.part')])")
        relay.answering.go_on.set()
        await tab.until(f"({SHOWN}).at(-1) === {''.join(relay.answering.words)!r}")
        # Chromium lays out blocks whose text hasn't changed no more than once.
        kept = "parts.slice(0, -1).every((part, place) => document.querySelectorAll('.part')[place] === part)"
        assert await tab.value(f"{kept} && parts.length > 3")
        lengths = await tab.value(
            "[...document.querySelectorAll('.answer .part')].map(one => one.textContent.length)"
        )
        assert max(lengths) < 2100


async def test_what_is_refused_is_said_and_can_be_asked_again(browser: Browser, relay: Relay) -> None:
    tab = await open_tab(browser, relay.server.url)
    await tab.open("events/relay/assistant")
    await ask(tab, "Hello?")
    await tab.until(f"{STATUS}.includes('token')")
    assert await tab.value("document.activeElement.name") == "token"
    await tab.page.get_by_label("Model").fill("tiny")
    await tab.page.get_by_label("Relay token").fill("a-wrong-token-000000")
    await tab.page.get_by_role("button", name="Ask").click()
    refused = f"{STATUS}.startsWith('That isn') && {STATUS}.includes('the token of this relay.')"
    await tab.until(f"{refused} && {STATUS}.toLowerCase().includes('wrong key')")
    assert await tab.value(f"{TALK}.turns") == []
    assert await tab.page.get_by_label("Question").input_value() == "Hello?"
    assert [one for one in tab.troubles if "status of 401" not in one] == []
    assert relay.questions == []
    await tab.page.context.close()


async def test_a_conversation_is_for_everybody_on_each_screen(browser: Browser, relay: Relay) -> None:
    serious = """axe.run({ resultTypes: ["violations"] }).then(({ violations }) => violations
      .filter(({ impact }) => ["serious", "critical"].includes(impact))
      .map(({ id, nodes }) => `${id}: ${nodes[0].html} ${nodes[0].failureSummary}`))"""
    async with quiet_tab(browser, relay.server.url) as tab:
        await opened(tab)
        await ask(tab, "Who are you?")
        await tab.until(f"{TALK}.turns.at(-1)?.state === 'done'")
        await tab.value(f"{script('axe-core').read_text('utf-8')}; 0")
        for name, size in (("desktop", DESKTOP), ("phone", PHONE)):
            await tab.page.set_viewport_size({"width": size["width"], "height": size["height"]})
            await tab.until(f"innerWidth === {size['width']}")
            for scheme in ("light", "dark"):
                await tab.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
                assert await tab.value(serious) == [], (name, scheme)
            assert await tab.value("document.documentElement.scrollWidth") <= size["width"]
            await tab.screenshot(f"conversation-{name}")


async def test_a_wrong_token_is_said_to_be_wrong_before_a_model_is_asked_for(
    browser: Browser, relay: Relay
) -> None:
    tab = await open_tab(browser, relay.server.url)
    await tab.open("events/relay/assistant")
    await tab.until(OPENED)
    field = tab.page.get_by_label("Relay token")
    await field.fill("wrong")
    await ask(tab, "What is it?")
    await tab.until(f"{STATUS}.includes('Wrong key')")
    assert "Type which model" not in await tab.value(STATUS)
    assert relay.questions == []
    await field.fill(TOKEN)
    await ask(tab, "What is it?")
    await tab.until(f"{TALK}.turns.length === 1 && {IS_OVER}")
    await tab.page.context.close()
