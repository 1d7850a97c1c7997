"""Waiting in a process that stood still itself, and for what a thread opens."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from packager.concurrency import opened_in_thread, receive_within
from packager.process.process import readable
from tests.waiting import until

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

    waiting = asyncio.create_task(receive_within(receive, PATIENCE_SECONDS))
    await asyncio.sleep(0)
    os.write(write, b"there")
    time.sleep(3 * PATIENCE_SECONDS)
    assert await waiting == b"there"


async def test_a_silence_counts(pipe: tuple[int, int]) -> None:
    with pytest.raises(TimeoutError):
        await receive_within(lambda: readable(pipe[0]), PATIENCE_SECONDS)


class Opened:
    """A file that takes its time to be opened."""

    def __init__(self, go: threading.Event) -> None:
        go.wait(60)
        self.closed = threading.Event()
        instances.append(self)

    def close(self) -> None:
        self.closed.set()


instances: list[Opened] = []


async def test_what_is_open_when_nobody_waits_for_it_any_more_is_closed() -> None:
    instances.clear()
    go = threading.Event()
    opening = asyncio.ensure_future(opened_in_thread(Opened, go))
    await asyncio.sleep(0)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    go.set()
    await until(lambda: instances and instances[0].closed.is_set())


async def test_what_was_waited_for_stays_open_and_an_error_is_told() -> None:
    go = threading.Event()
    go.set()
    opened = await opened_in_thread(Opened, go)
    assert not opened.closed.is_set()
    with pytest.raises(FileNotFoundError):
        await opened_in_thread(Path("/nowhere").open, "rb")
