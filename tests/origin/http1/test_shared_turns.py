"""Clients that send many requests or frames at once share a part of the event loop's time."""

from __future__ import annotations

import asyncio
import functools
import itertools
import socket
from pathlib import Path

import pytest

from origin.http1.limits import HttpLimits
from origin.http1.shared_turns import SharedTurns
from tests.conformance.conftest import files_wing, serving
from tests.waiting import until

CONNECTIONS, VISITS = 100, 20


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.clause("CWE-400")
async def test_a_step_of_the_loop_is_bounded_however_many_connections_wait() -> None:
    clock, steps, left = Clock(), 0, dict.fromkeys(range(CONNECTIONS), VISITS)
    turns = SharedTurns(0.005, clock)
    longest = 0.0

    def visit(number: int) -> None:
        clock.now += 0.001
        left[number] -= 1
        if left[number]:
            turns.append(connections[number])

    connections = [lambda number=number: visit(number) for number in range(CONNECTIONS)]
    for connection in connections:
        turns.append(connection)
    while any(left.values()):
        before, steps = clock.now, steps + 1
        await asyncio.sleep(0)
        longest = max(longest, clock.now - before)
        # Each has its turn before any has its next but one.
        assert max(left.values()) - min(left.values()) <= 1
    assert longest < 0.0065
    assert steps >= CONNECTIONS * VISITS / 6


async def test_the_time_begins_anew_with_each_step() -> None:
    clock = Clock()
    turns = SharedTurns(0.005, clock)
    assert turns.has_time()
    clock.now += 0.01
    assert not turns.has_time()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert turns.has_time()


async def test_steps_with_a_pause_leave_the_loop_to_others_meanwhile() -> None:
    loop, pause, times = asyncio.get_running_loop(), 0.02, list[float]()
    turns = SharedTurns(0.0, pause=pause)
    began = loop.time()

    def visit(_: int) -> None:
        times.append(loop.time())

    for number in range(3):
        turns.append(functools.partial(visit, number))
    await until(lambda: len(times) == 3, "three turns")
    gaps = [after - before for before, after in itertools.pairwise((began, *times))]
    # A timer may be early by the clock's resolution.
    assert min(gaps) > 0.9 * pause


@pytest.mark.clause("RFC 9112 §9.3.2")
def test_whatever_waits_for_its_turn_is_answered_in_order(tmp_path: Path) -> None:
    for number in range(10):
        (tmp_path / f"{number}.mp3").write_bytes(b"%d" % number * 10)
    wing = files_wing(tmp_path)
    requests = b"".join(b"GET /media/%d.mp3 HTTP/1.1\r\nHost: a\r\n\r\n" % (n % 10) for n in range(500))
    hasty = HttpLimits(pipelined_seconds=0.0)
    with serving(wing.app, tmp_path, "uvloop", hasty, fast_path=wing.fast_path, at_end=wing.close) as running:
        clients = [running.connect() for _ in range(5)]
        for client in clients:
            client.socket.sendall(requests)
            client.socket.shutdown(socket.SHUT_WR)
        for client in clients:
            assert [client.answer().body for _ in range(500)] == [b"%d" % (n % 10) * 10 for n in range(500)]
            client.socket.close()
