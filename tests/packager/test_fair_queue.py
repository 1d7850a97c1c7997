"""Tasks that wait for a semaphore take turns by client."""

from __future__ import annotations

import asyncio
import random

import pytest

from packager.fair_queue import FairSemaphore, TooManyWaitingError


class Work:
    """Tasks that hold a semaphore until they are told to end, in the order in which they were let in."""

    def __init__(self, semaphore: FairSemaphore) -> None:
        self.semaphore = semaphore
        self.let_in: list[str] = []
        self.most = self.now = 0
        self.end = asyncio.Semaphore(0)

    async def run(self, client: str) -> None:
        async with self.semaphore.held(client):
            self.let_in.append(client)
            self.now += 1
            self.most = max(self.most, self.now)
            try:
                await self.end.acquire()
            finally:
                self.now -= 1

    async def begin(self, clients: str) -> list[asyncio.Task[None]]:
        tasks = [asyncio.create_task(self.run(client)) for client in clients]
        await asyncio.sleep(0)
        return tasks


async def test_who_asks_once_comes_before_the_rest_of_who_asks_often() -> None:
    work = Work(FairSemaphore(2, 2, 100))
    tasks = await work.begin("aaaaaaaabbc")
    for _ in tasks:
        work.end.release()
    await asyncio.gather(*tasks)
    assert "".join(work.let_in) == "aaabcabaaaa"
    assert work.most == 2


async def test_a_place_stays_taken_for_as_long_as_it_was_used_where_that_is_wanted() -> None:
    semaphore, loop = FairSemaphore(2, 1, 100, rest=1.0), asyncio.get_running_loop()
    begin = loop.time()
    async with semaphore.held("a"):
        await asyncio.sleep(0.05)
    used = loop.time() - begin
    async with semaphore.held("a"):
        # A timer's resolution may let it run a moment early.
        assert loop.time() - begin >= 2 * used - 0.01
        async with semaphore.held("b"):
            pass


async def test_one_client_leaves_room_for_others() -> None:
    work = Work(FairSemaphore(3, 2, 100))
    tasks = await work.begin("aaaab")
    assert sorted(work.let_in) == ["a", "a", "b"]
    for _ in tasks:
        work.end.release()
    await asyncio.gather(*tasks)


async def test_where_too_many_wait_the_client_with_the_most_is_refused() -> None:
    work = Work(FairSemaphore(1, 1, 3))
    tasks = await work.begin("aaaa")
    with pytest.raises(TooManyWaitingError):
        await work.run("a")
    others = await work.begin("bc")
    await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    refused = [task for task in tasks if task.done()]
    assert len(refused) == 2
    for task in refused:
        assert isinstance(task.exception(), TooManyWaitingError)
    with pytest.raises(TooManyWaitingError):
        await work.run("d")
    for _ in range(4):
        work.end.release()
    await asyncio.gather(*(task for task in tasks + others if task not in refused))


async def test_no_place_is_lost_by_those_that_go_while_they_wait() -> None:
    chance, semaphore = random.Random(1), FairSemaphore(3, 2, 20)
    work = Work(semaphore)
    for _ in range(300):
        tasks = await work.begin("".join(chance.choices("abcd", k=12)))
        for task in tasks:
            if chance.random() < 0.5:
                work.end.release()
            if chance.random() < 0.5:
                task.cancel()
            if chance.random() < 0.3:
                await asyncio.sleep(0)
        for _ in tasks:
            work.end.release()
        await asyncio.gather(*tasks, return_exceptions=True)
        work.end = asyncio.Semaphore(0)
    assert work.most == 3
    assert (semaphore._free, semaphore._held, len(semaphore._waiters)) == (3, {}, 0)
