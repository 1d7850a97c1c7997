"""Answers of any length are written in steps, which share a bounded time of the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from origin.http1.answer_turns import AnswerTurns
from origin.http1.shared_turns import SharedTurns

PART = b"0123456789"
HOST, NEIGHBOUR = "192.0.2.1", "192.0.2.2"


class Costs:
    """A clock on which each part of an answer takes 0.3 ms."""

    def __init__(self) -> None:
        self.now = 100.0
        self.made = 0

    def __call__(self) -> float:
        return self.now

    def parts(self, count: int) -> Iterator[bytes]:
        for _ in range(count):
            self.now += 0.0003
            self.made += 1
            yield PART


async def longest_step(costs: Costs, tasks: list[asyncio.Task[list[bytes]]]) -> float:
    longest = 0.0
    while not all(task.done() for task in tasks):
        before = costs.now
        await asyncio.sleep(0)
        longest = max(longest, costs.now - before)
    return longest


@pytest.mark.clause("CWE-400")
async def test_all_answers_together_take_a_bounded_time_of_each_step_of_the_loop() -> None:
    costs = Costs()
    turns = AnswerTurns(SharedTurns(0.001, costs), HOST)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(turns.spread(costs.parts(50))) for _ in range(20)]
        assert await longest_step(costs, tasks) < 0.0015
    assert [len(task.result()) for task in tasks] == [50] * 20


async def test_a_short_answer_does_not_wait_for_the_end_of_long_ones() -> None:
    costs = Costs()
    turns = AnswerTurns(SharedTurns(0.001, costs), HOST)
    async with asyncio.TaskGroup() as group:
        long = group.create_task(turns.spread(costs.parts(10_000)))
        await asyncio.sleep(0)
        assert 0 < costs.made < 10
        assert await turns.spread(costs.parts(3)) == [PART] * 3
        assert costs.made < 100
        long.cancel()


async def test_a_neighbours_answer_waits_for_one_turn_of_another_client_however_many_answers_that_has() -> (
    None
):
    costs = Costs()
    turns = SharedTurns(0.001, costs)
    async with asyncio.TaskGroup() as group:
        crowd = [group.create_task(AnswerTurns(turns, HOST).spread(costs.parts(1000))) for _ in range(50)]
        await asyncio.sleep(0)
        before = costs.made
        assert await AnswerTurns(turns, NEIGHBOUR).spread(costs.parts(3)) == [PART] * 3
        assert costs.made - before < 20
        for task in crowd:
            task.cancel()


async def test_nothing_is_made_behind_the_last_part_that_has_room() -> None:
    costs = Costs()
    parts = costs.parts(10_000)
    assert b"".join(await AnswerTurns(SharedTurns(1.0, costs), HOST).collect(parts, 25)) == PART * 3
    assert costs.made == 3
    assert next(parts) == PART


async def test_nothing_more_is_made_for_a_client_that_has_left() -> None:
    costs = Costs()
    turns = AnswerTurns(SharedTurns(0.001, costs), HOST)
    task = asyncio.create_task(turns.spread(costs.parts(10_000)))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    made = costs.made
    assert 0 < made < 10
    assert len(await turns.spread(iter([PART] * 2))) == 2
    assert costs.made == made


async def test_an_answer_that_fails_in_a_later_step_fails_alone() -> None:
    costs = Costs()
    turns = AnswerTurns(SharedTurns(0.001, costs), HOST)

    def failing() -> Iterator[bytes]:
        yield from costs.parts(50)
        raise ValueError("it can't be written")

    with pytest.raises(ValueError, match="can't be written"):
        await turns.spread(failing())
    assert len(await turns.spread(costs.parts(5))) == 5
