"""Clients that send many requests or frames at once share a part of the event loop's time."""

from __future__ import annotations

import asyncio
import functools
import itertools
import os
import socket
from collections import Counter
from pathlib import Path
from unittest import mock

import pytest

from origin.http1 import states
from origin.http1.limits import HttpLimits
from origin.http1.request_reader import RequestReader
from origin.http1.shared_turns import STEP_REQUESTS, UNWATCHED_REQUESTS, SharedTurns, SuspectShare
from packager.step_budget import StepBudget
from tests.conformance.conftest import served_files, serving
from tests.conformance.raw import Client
from tests.crowd import CROWD, Crowd
from tests.patience import CLIENT_SECONDS
from tests.waiting import until

CONNECTIONS, VISITS = 100, 20

KEPT_SECONDS = round(CLIENT_SECONDS)
"""How long the connections of a crowd are kept that one thread asks by, one after the other."""


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
    turns = SharedTurns(suspects=SuspectShare(0.0, pause))
    began = loop.time()

    def visit(_: int) -> None:
        times.append(loop.time())

    for number in range(3):
        turns.append(functools.partial(visit, number), is_suspect=True)
    await until(lambda: len(times) == 3, "three turns")
    gaps = [after - before for before, after in itertools.pairwise((began, *times))]
    # A timer may be early by the clock's resolution.
    assert min(gaps) > 0.9 * pause


@pytest.mark.clause("RFC 9112 §9.3.2")
def test_whatever_waits_for_its_turn_is_answered_in_order(tmp_path: Path) -> None:
    for number in range(10):
        (tmp_path / f"{number}.mp3").write_bytes(b"%d" % number * 10)
    served = served_files(tmp_path)
    requests = b"".join(b"GET /media/%d.mp3 HTTP/1.1\r\nHost: a\r\n\r\n" % (n % 10) for n in range(500))
    hasty = HttpLimits(turn_seconds=0.0)
    with serving(
        served.app, tmp_path, "uvloop", hasty, fast_path=served.fast_path, at_end=served.close
    ) as running:
        clients = [running.connect() for _ in range(5)]
        for client in clients:
            client.socket.sendall(requests)
            client.socket.shutdown(socket.SHUT_WR)
        for client in clients:
            assert [client.answer().body for _ in range(500)] == [b"%d" % (n % 10) * 10 for n in range(500)]
            client.socket.close()


@pytest.mark.clause("CWE-400")
def test_a_crowd_is_answered_in_many_steps_of_the_loop(tmp_path: Path) -> None:
    crowd, patient = Crowd(), HttpLimits(header_seconds=CLIENT_SECONDS)
    with serving(crowd, tmp_path, "uvloop", patient, KEPT_SECONDS) as running:
        clients = [running.connect() for _ in range(CROWD)]
        # Each is accepted and has been answered before.
        for number, client in enumerate(clients):
            client.socket.sendall(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number)
            assert client.answer().body == b"/%d" % number
        with crowd.held():
            for number, client in enumerate(clients):
                client.socket.sendall(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number)
            # Those who wait may ask for more, end their side, or go.
            for client in clients[-40:-20]:
                client.socket.sendall(b"GET /more HTTP/1.1\r\nHost: a\r\n\r\n")
            for client in clients[-20:-10]:
                client.socket.shutdown(socket.SHUT_WR)
            for client in clients[-10:]:
                client.socket.close()
        for number, client in enumerate(clients[:-10]):
            assert client.answer().body == b"/%d" % number
        for client in clients[-40:-20]:
            assert client.answer().body == b"/more"
        for client in clients:
            client.socket.close()
    assert sum(crowd.steps.values()) >= CROWD - 10
    assert max(crowd.steps.values()) <= 2 * STEP_REQUESTS


def test_requests_behind_one_that_waits_are_answered_behind_it(tmp_path: Path) -> None:
    (tmp_path / "film.mp4").write_bytes(bytes(range(256)) * 4096)
    os.utime(tmp_path / "film.mp4", (1_700_000_000, 1_700_000_000))
    served, crowd = served_files(tmp_path), Crowd()

    def ask(client: Client, start: int) -> None:
        fields = b"Host: a\r\nRange: bytes=%d-%d" % (start, start + 9)
        client.socket.sendall(b"GET /media/film.mp4 HTTP/1.1\r\n%b\r\n\r\n" % fields)

    def expect(client: Client, start: int) -> None:
        assert client.answer().body == bytes(number % 256 for number in range(start, start + 10))

    slow = HttpLimits(header_seconds=CLIENT_SECONDS, turn_seconds=0.0)
    answers = functools.partial(serving, fast_path=served.fast_path, at_end=served.close)
    with answers(crowd, tmp_path, "uvloop", slow, KEPT_SECONDS) as running:
        clients = [running.connect() for _ in range(CROWD)]
        clients[0].socket.sendall(b"GET /other HTTP/1.1\r\nHost: a\r\n\r\n")
        assert clients[0].answer().body == b"/other"
        for client in clients:
            client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for _ in range(3):
                ask(client, 0)
                expect(client, 0)
        first = crowd.hold()
        assert first.began.wait(60)
        for client in clients:
            ask(client, 100)
        # Behind the step in which these are read, and before the next one.
        second = crowd.hold()
        first.release()
        assert second.began.wait(60)
        for client in clients:
            ask(client, 200)
        second.release()
        for client in clients:
            expect(client, 100)
            expect(client, 200)
            client.socket.close()


async def test_who_has_asked_nothing_for_long_is_answered_before_those_who_wait() -> None:
    turns, answered = SharedTurns(1.0), list[int]()
    for number in range(UNWATCHED_REQUESTS, 2 * STEP_REQUESTS):
        turns.asked += 1
        if turns.asked > UNWATCHED_REQUESTS and not turns.admits(0.5, ""):
            turns.defer(functools.partial(answered.append, number), "")
    await until(lambda: answered, "the first who waited")
    turns.defer(functools.partial(answered.append, -1), "")
    assert not turns.admits(0.5, "")
    assert turns.admits(2.0, "")
    await until(lambda: answered[-1] == -1, "all who waited")
    assert answered[:-1] == sorted(answered[:-1])
    # Nobody waits any more.
    await until(lambda: turns.asked == 0, "the end of the crowd")
    assert turns.admits(0.5, "")


async def test_steps_for_those_who_wait_are_bounded_in_time() -> None:
    clock, steps, answered = Clock(), 0, list[int]()
    turns = SharedTurns(0.005, clock)

    def answer(number: int) -> None:
        clock.now += 0.001
        answered.append(number)

    turns.asked = STEP_REQUESTS + 1
    for number in range(100):
        assert not turns.admits(0.0, "")
        turns.defer(functools.partial(answer, number), "")
    while len(answered) < 100:
        before, steps = clock.now, steps + 1
        await asyncio.sleep(0)
        assert clock.now - before < 0.0065
    assert answered == list(range(100))
    assert steps >= 16


@pytest.mark.clause("CWE-400")
async def test_a_client_waits_for_one_turn_of_another_however_many_connections_that_has() -> None:
    clock, order = Clock(), list[str]()
    turns = SharedTurns(0.001, clock)

    def visit(name: str) -> None:
        clock.now += 0.001
        order.append(name)

    for number in range(CONNECTIONS):
        turns.append(functools.partial(visit, f"many {number}"), "192.0.2.1")
    turns.append(functools.partial(visit, "another"), "198.51.100.1")
    turns.defer(functools.partial(visit, "a neighbour in the same network"), "192.0.2.1")
    await until(lambda: len(order) == CONNECTIONS + 2, "all turns")
    assert order[:3] == ["a neighbour in the same network", "many 0", "another"]


async def test_only_busy_connections_are_kept_waiting_by_busy_ones() -> None:
    clock = Clock()
    turns = SharedTurns(0.001, clock)
    assert turns.has_time()
    clock.now += 0.002
    busy_until = turns.append(lambda: None, "192.0.2.1")
    turns.asked = 1
    assert not turns.admits(0.0, "192.0.2.1", busy_until)
    assert turns.admits(0.0, "192.0.2.1")
    assert turns.admits(0.0, "198.51.100.1")
    # A client gains nothing by a connection that is new.
    assert turns.busy_until("192.0.2.1") > clock.now
    assert not turns.busy_until("198.51.100.1")
    # Who hasn't been busy for a second is as quiet as any other.
    clock.now = busy_until
    assert turns.admits(0.0, "192.0.2.1", busy_until)
    await until(lambda: turns.unwatched or not turns.admits(0.0, ""), "the end of all waiting")


async def test_what_a_step_begins_for_the_next_one_is_counted_in_its_time() -> None:
    clock = Clock()
    turns = SharedTurns(0.001, clock)
    for _ in range(4):
        turns.spend(0.000_2)
        assert turns.has_time()
    turns.spend(0.000_2)
    assert not turns.has_time()


async def test_tasks_that_wait_for_their_turn_compute_one_after_the_other() -> None:
    turns, steps = SharedTurns(0.0), list[int]()
    step = 0

    async def compute(host: str) -> None:
        budget = StepBudget(turns=turns, host=host)
        for _ in range(3):
            await budget.spend()
            steps.append(step)

    tasks = [asyncio.create_task(compute(f"192.0.2.{number}")) for number in range(5)]
    while not all(task.done() for task in tasks):
        step += 1
        await asyncio.sleep(0)
    # The first one had a turn of its own without a wait.
    assert max(Counter(steps).values()) == 1


@pytest.mark.clause("RFC 9112 §7.1")
@pytest.mark.parametrize(
    ("chunk", "most"), [(b"1\r\nx\r\n", 4096 // 6 + 1), (b"1000\r\n%b\r\n" % bytes(4096), 17)]
)
def test_as_many_chunks_are_parsed_at_once_as_take_little_time(chunk: bytes, most: int) -> None:
    """Large chunks are parsed together, and bytes between them are neither lost nor read twice."""
    taken: list[bytes] = []
    consumer = mock.Mock()
    consumer.head_read.return_value = states.END_OF_HEAD
    consumer.body_read.side_effect = taken.append
    reader = RequestReader(consumer, HttpLimits(), keeps_head=False)
    reader.receive_data(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    count = (256 << 10) // len(chunk)
    data, start, longest = chunk * count + b"0\r\n\r\n", 0, 0
    while start < len(data):
        end = reader.end_of_piece(data, start)
        longest = max(longest, end - start)
        reader.receive_data(data[start:end])
        start = end
    assert longest <= most * len(chunk)
    assert reader.state is states.IDLE
    assert len(b"".join(taken)) == count * (len(chunk) - chunk.index(b"\n") - 3)
