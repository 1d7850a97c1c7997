"""Waiting in a process that stood still itself, and for what a thread opens."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from packager.concurrency import quota_of, receive_within, running_tasks, usable_cores
from packager.process.process import readable
from packager.threads import SHARED_THREADS
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
    opening = asyncio.ensure_future(SHARED_THREADS.opened(Opened, go))
    await asyncio.sleep(0)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    go.set()
    await until(lambda: instances and instances[0].closed.is_set())


async def test_what_was_waited_for_stays_open_and_an_error_is_told() -> None:
    go = threading.Event()
    go.set()
    opened = await SHARED_THREADS.opened(Opened, go)
    assert not opened.closed.is_set()
    with pytest.raises(FileNotFoundError):
        await SHARED_THREADS.opened(Path("/nowhere").open, "rb")


async def endless(ended: list[str]) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        # Whoever is cancelled may take a while to clear up.
        await asyncio.sleep(0)
        ended.append("cancelled")


async def failing() -> None:
    raise LookupError


async def test_tasks_have_ended_when_their_block_has() -> None:
    ended: list[str] = []
    async with running_tasks(endless(ended), asyncio.sleep(0)) as (slow, quick):
        await asyncio.wait((slow, quick), return_when=asyncio.FIRST_COMPLETED)
        assert quick.done()
    assert slow.cancelled()
    assert ended == ["cancelled"]


async def test_an_error_of_the_block_is_raised_when_its_tasks_have_ended() -> None:
    ended: list[str] = []

    async def block() -> None:
        async with running_tasks(endless(ended), failing()) as tasks:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            raise KeyError

    with pytest.raises(KeyError):
        await block()
    assert ended == ["cancelled"]


async def test_who_cancels_a_block_finds_its_tasks_ended() -> None:
    ended: list[str] = []

    async def block() -> None:
        async with running_tasks(endless(ended), endless(ended)) as tasks:
            await asyncio.wait(tasks)

    running = asyncio.create_task(block())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert ended == ["cancelled", "cancelled"]


async def test_an_error_that_nobody_asks_for_is_not_raised() -> None:
    async with running_tasks(failing()) as tasks:
        await asyncio.wait(tasks)
    with pytest.raises(LookupError):
        tasks[0].result()


@pytest.mark.parametrize(
    ("limits", "cores"),
    [
        ({"": "max 100000", "/a": "max 100000"}, None),
        ({"": "max 100000", "/a": "150000 100000"}, 2),
        ({"": "50000 100000", "/a": "max 100000"}, 1),
        ({"/a": "100000 100000", "/a/b": "800000 100000"}, 1),
        ({"/a/b": "nothing"}, None),
        ({}, None),
    ],
)
def test_a_container_s_quota_bounds_the_cores(
    tmp_path: Path, limits: dict[str, str], cores: int | None
) -> None:
    own, groups = tmp_path / "own", tmp_path / "groups"
    own.write_text("12:cpu:/old\n0::/a/b\n")
    (groups / "a/b").mkdir(parents=True)
    for place, limit in limits.items():
        (groups / f".{place}" / "cpu.max").write_text(f"{limit}\n")
    every = usable_cores(quota_of(tmp_path / "none", groups))
    assert usable_cores(quota_of(own, groups)) == min(every, every if cores is None else cores)
