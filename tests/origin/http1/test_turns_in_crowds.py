"""Crowds of connections, each of another network: none of them is before the others for long."""

from __future__ import annotations

import asyncio
import selectors
import socket
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from origin.http1.shared_turns import (
    ACCEPTING_SECONDS,
    MOST_SECONDS,
    STEP_REQUESTS,
    UNWATCHED_REQUESTS,
    SharedTurns,
)
from tests.conftest import start_server
from tests.patience import CLIENT_SECONDS
from tests.waiting import until

CONNECTIONS = 500
MOST_ROUNDS = 12
"""Most answers of each connection of a crowd before a stranger's first one."""


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def host(number: int) -> str:
    return f"192.0.{number}.1"


async def test_what_a_task_takes_in_the_next_step_is_measured_and_counted() -> None:
    clock, loop = Clock(), asyncio.get_running_loop()
    turns, done = SharedTurns(0.001, clock), list[float]()

    def compute() -> None:
        clock.now += 0.003
        done.append(clock.now)

    for number in range(60):
        turns.begin(turns.requests, lambda: loop.call_soon(compute))
        await until(lambda: len(done) > number, "the task")  # noqa: B023
        await until(lambda: turns.asked == 0 and turns.unwatched > 0, "the end of the step")
    assert turns.requests.seconds == pytest.approx(0.003, rel=0.05)
    # A single further one takes more than this step has.
    turns.begin(turns.requests, lambda: loop.call_soon(compute))
    assert not turns.has_time()


async def test_one_task_that_takes_very_long_says_little_about_the_next_one() -> None:
    clock, loop = Clock(), asyncio.get_running_loop()
    turns, done = SharedTurns(0.001, clock), asyncio.Event()

    def compute() -> None:
        clock.now += 60.0
        done.set()

    turns.begin(turns.requests, lambda: loop.call_soon(compute))
    await done.wait()
    await asyncio.sleep(0)
    assert turns.requests.seconds < MOST_SECONDS


async def test_connections_are_accepted_although_others_have_used_up_the_step() -> None:
    clock = Clock()
    turns = SharedTurns(0.001, clock)
    for _ in range(2):
        turns.spend(0.1)
        assert not turns.has_time()
        accepted = next(number for number in range(STEP_REQUESTS) if not turns.accepts())
        assert accepted == pytest.approx(ACCEPTING_SECONDS / turns.connections.seconds, abs=2)
        # The next step has as much again.
        await asyncio.sleep(0)
        await asyncio.sleep(0)


async def test_in_a_crowd_of_networks_nobody_is_answered_before_those_who_wait() -> None:
    turns = SharedTurns(1.0, Clock())
    turns.asked = STEP_REQUESTS + 1
    for number in range(UNWATCHED_REQUESTS):
        assert not turns.admits(0.0, host(number))
        turns.defer(lambda: None, host(number))
    turns.asked = 1
    # Few wait: those who are read from first needn't.
    assert turns.admits(0.0, host(250))
    turns.defer(lambda: None, host(251))
    assert not turns.admits(0.0, host(250))
    assert turns.admits(2.0, host(250))
    await until(lambda: turns.unwatched or turns.admits(0.0, ""), "the end of the crowd")


def test_a_stranger_is_answered_soon_though_a_crowd_has_come_before(tmp_path: Path) -> None:
    """The crowd asks again as soon as it is answered; the kernel has the stranger behind all of it."""
    request, answers = b"GET /api/time HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 0
    with ExitStack() as stack:
        (tmp_path / "library").mkdir()
        server = stack.enter_context(start_server("--port", "0", cwd=tmp_path))
        address = "127.0.0.1", httpx.URL(server.url).port
        waiting = stack.enter_context(selectors.DefaultSelector())
        for number in range(CONNECTIONS + 1):
            client = stack.enter_context(socket.socket())
            client.bind((f"127.{1 + number % 250}.{number // 250}.9", 0))
            client.connect(address)
            client.sendall(request)
            waiting.register(client, selectors.EVENT_READ)
        stranger = client
        while stranger not in (ready := [key.fileobj for key, _ in waiting.select(CLIENT_SECONDS)]):
            assert ready
            for one in ready:
                assert isinstance(one, socket.socket)
                assert one.recv(65536).startswith(b"HTTP/1.1 200 ")
                answers += 1
                one.sendall(request)
    assert answers < MOST_ROUNDS * CONNECTIONS
