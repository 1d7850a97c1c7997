"""Datagrams that bring next to nothing, in simulated time: floods are lost unread, a few too many aren't."""

from __future__ import annotations

import heapq
import itertools

from origin.http3.idle_datagrams import (
    DATAGRAMS,
    DATAGRAMS_A_SECOND,
    FLOOD_PAUSE_SECONDS,
    TURN_SECONDS,
    ExcessTurns,
    IdleDatagrams,
)

SECONDS = 60.0


def simulated(rates: list[float]) -> list[list[float]]:
    """Return when datagrams of each client are read.

    Args:
        rates: how many datagrams each client sends in a second.
    """
    now, turns = 0.0, ExcessTurns()
    clients = [IdleDatagrams(turns, lambda: now) for _ in rates]
    read: list[list[float]] = [[] for _ in rates]
    due = [(number / (len(rates) * rate), number) for number, rate in enumerate(rates)]
    heapq.heapify(due)
    while due[0][0] < SECONDS:
        now, number = heapq.heappop(due)
        heapq.heappush(due, (now + 1 / rates[number], number))
        if not clients[number].loses(now):
            read[number].append(now)
            clients[number].count(now)
    return read


def test_who_sends_as_many_as_are_allowed_loses_none() -> None:
    (read,) = simulated([45.0])
    assert len(read) == 45 * SECONDS


def test_a_client_that_sends_a_few_too_many_is_read_while_others_flood() -> None:
    slight, *others = simulated([60.0, *[400.0] * 60])
    assert max(later - earlier for earlier, later in itertools.pairwise(slight)) < 0.2
    # What each is allowed, and as many further ones of all together as there are turns.
    allowed = 60 * (DATAGRAMS + DATAGRAMS_A_SECOND * SECONDS) + SECONDS / TURN_SECONDS
    assert sum(map(len, others)) <= allowed


def test_bursts_are_a_flood_however_long_the_time_between_them() -> None:
    now = 0.0
    client = IdleDatagrams(ExcessTurns(), lambda: now)
    for _ in range(20):
        for _ in range(400):
            if not client.loses(now):
                client.count(now)
        now += 4 * TURN_SECONDS
    assert client.is_flood


def test_the_first_one_too_many_of_a_suspect_is_a_flood() -> None:
    # Long after the clock's beginning, as any clock is.
    now = 5000.0
    client = IdleDatagrams(ExcessTurns(), lambda: now)
    client.suspect(0.1)
    read = list(itertools.takewhile(lambda _: not client.count(now), range(DATAGRAMS)))
    assert len(read) == DATAGRAMS // 10
    assert client.is_flood
    assert client.loses(now + FLOOD_PAUSE_SECONDS - 0.01)
