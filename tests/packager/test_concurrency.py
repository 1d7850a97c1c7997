"""Waiting in a process that stood still itself: what came meanwhile is no silence."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator

import pytest

from packager.concurrency import patiently
from packager.process.process import readable

PATIENCE_SECONDS = 0.05


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    os.set_blocking(ends[0], False)
    yield ends
    for end in ends:
        os.close(end)


async def test_what_came_while_this_process_stood_still_is_taken(pipe: tuple[int, int]) -> None:
    read, write = pipe

    async def receive() -> bytes:
        await readable(read)
        return os.read(read, 100)

    waiting = asyncio.create_task(patiently(receive, PATIENCE_SECONDS))
    await asyncio.sleep(0)
    os.write(write, b"there")
    time.sleep(3 * PATIENCE_SECONDS)
    assert await waiting == b"there"


async def test_a_silence_counts(pipe: tuple[int, int]) -> None:
    with pytest.raises(TimeoutError):
        await patiently(lambda: readable(pipe[0]), PATIENCE_SECONDS)
