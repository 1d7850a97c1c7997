"""Asynchronous iterators as sources of an event channel."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.event_server import a_channel


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
