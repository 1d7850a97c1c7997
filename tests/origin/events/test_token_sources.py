"""Asynchronous iterators as sources of an event channel, language models of others among them."""

from __future__ import annotations

import asyncio
import re
import textwrap
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.event_server import LIMIT, NDJSON, TOKEN, WAYS, Way, a_channel, reading, serving

PAGE = (Path(__file__).parents[3] / "docs" / "events.md").read_text()
QUESTION = "Why is the sky blue?"
ANSWER = "Grüße,\n  aus  東京!"


class Source:
    """A generator that never waits, and knows whether it was closed."""

    def __init__(self, *tokens: str) -> None:
        self.tokens = tokens
        self.given, self.is_closed = 0, False

    async def stream(self) -> AsyncIterator[str]:
        try:
            for token in self.tokens:
                self.given += 1
                yield token
        finally:
            self.is_closed = True


async def test_a_source_that_has_everything_at_once_leaves_the_loop_its_turns() -> None:
    channel, turns = a_channel(published_at_once=10), 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(others())
    assert await channel.publish_from(Source(*["x"] * 1000).stream()) == 1000
    task.cancel()
    assert turns >= 100


async def test_a_closed_channel_takes_no_more_and_the_source_is_let_go() -> None:
    channel, source = a_channel(published_at_once=1), Source("one", "two", "three")
    task = asyncio.create_task(channel.publish_from(source.stream()))
    while not channel.published:
        await asyncio.sleep(0)
    channel.close()
    assert await task == 1
    assert source.is_closed
    assert source.given == 2


async def test_a_source_is_let_go_when_its_event_isnt_taken_or_it_is_cancelled() -> None:
    channel = a_channel(history_bytes=1000, published_at_once=1)
    source = Source("x", "x" * 2000, "x")
    with pytest.raises(ValueError, match="bytes"):
        await channel.publish_from(source.stream())
    assert source.is_closed
    assert source.given == 2
    source = Source(*["x"] * 1_000_000)
    task = asyncio.create_task(channel.publish_from(source.stream()))
    while source.given < 10:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert source.is_closed


class Accessor(str):
    """A text as LangChain's chunks have it: of a class of its own, which can be called."""

    __slots__ = ()


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
async def test_texts_of_other_classes_are_texts(way: Way) -> None:
    async def pieces() -> AsyncIterator[str]:
        yield Accessor("Grüße")

    async with serving() as server:
        assert await server.channel.publish_from(pieces()) == 1
        async with reading(way, server, "", bool) as (got, task):
            await asyncio.wait_for(task, LIMIT)
    assert [one.data for one in got] == ["Grüße"]


def langchain() -> Callable[[], Awaitable[AsyncIterator[str]]]:
    """Give an answer as the documented example takes it."""
    models = pytest.importorskip("langchain_core.language_models", reason="`make test` installs it")
    messages = pytest.importorskip("langchain_core.messages")
    model = models.GenericFakeChatModel(messages=iter([messages.AIMessage(content=ANSWER)]))

    async def asked() -> AsyncIterator[str]:
        return (chunk.text async for chunk in model.astream(QUESTION))

    return asked


def llama_index() -> Callable[[], Awaitable[AsyncIterator[str]]]:
    """The same of a model that repeats what it is asked, letter by letter."""
    models = pytest.importorskip("llama_index.core.llms", reason="`make test` installs it")
    model = models.MockLLM()

    async def asked() -> AsyncIterator[str]:
        answer = await model.astream_complete(ANSWER)
        return (chunk.delta async for chunk in answer)

    return asked


@pytest.fixture(params=[langchain, llama_index], ids=lambda made: made.__name__)
def ask(request: pytest.FixtureRequest) -> Callable[[], Awaitable[AsyncIterator[str]]]:
    """Ask a language model; its package is imported here, since that takes seconds."""
    asked: Callable[[], Awaitable[AsyncIterator[str]]] = request.param()
    return asked


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
async def test_the_answer_of_a_language_model_is_read_as_it_was_given(
    ask: Callable[[], Awaitable[AsyncIterator[str]]], way: Way
) -> None:
    async with serving(a_channel(history=1000)) as server:
        count = await server.channel.publish_from(await ask(), "token")
        async with reading(way, server, "", lambda got: "".join(one.data for one in got) == ANSWER) as (
            got,
            task,
        ):
            await asyncio.wait_for(task, LIMIT)
    assert count > 3
    assert {one.name for one in got} == {"token"}


@pytest.fixture
def models() -> tuple[Any, Any]:
    """Give a model of LangChain's and one of LlamaIndex's; to import their packages takes seconds."""
    models = pytest.importorskip("langchain_core.language_models", reason="`make test` installs it")
    messages = pytest.importorskip("langchain_core.messages")
    llms = pytest.importorskip("llama_index.core.llms")
    answers = iter([messages.AIMessage(content="Grüße aus 東京!")])
    return models.GenericFakeChatModel(messages=answers), llms.MockLLM()


async def test_the_documented_example_publishes_what_real_models_answer(models: tuple[Any, Any]) -> None:
    (example,) = re.findall(r"\n\n((?:    .*\n)*    async with RemoteChannel(?:.*\n)(?:     .*\n)+)", PAGE)
    program = "async def example(model, llm):\n" + textwrap.indent(textwrap.dedent(example), "    ")
    async with serving(a_channel(history=1000)) as server:
        names: dict[str, Any] = {"TOKEN": TOKEN}
        exec(program.replace("http://127.0.0.1:8000/events/chat", server.url), names)
        await names["example"](*models)
        async with reading(NDJSON, server, "", lambda got: len(got) == server.channel.published) as (
            got,
            task,
        ):
            await asyncio.wait_for(task, LIMIT)
    assert "".join(event.data for event in got) == "Grüße aus 東京!" + "Why?"
    assert {event.name for event in got} == {"token"}
