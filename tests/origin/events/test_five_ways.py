"""One scenario read in all five ways and by gRPC, by real clients: the lists of events are the same."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tests.certificates import Certificate, self_signed
from tests.event_server import LIMIT, WAYS, Got, Server, Way, a_channel, reading, serving
from tests.grpc_events import Grpc
from tests.waiting import until

ALL = (*WAYS, Grpc())

LINES = "one\ntwo\r\nthree\r\rfive: \n\ndata: x\nid: 9"
READ_LINES = "one\ntwo\nthree\n\nfive: \n\ndata: x\nid: 9"
"""The same with LF alone, which is all that server-sent events know."""

TEXTS = ["first", LINES, "ж 😀 \u2028 \x00", '{"json": [1, 2]}', " leading and trailing ", "last"]


async def joined(way: Way, server: Server, got: list[Got]) -> None:
    """Wait until a reader is there, where one can see that."""
    if way.name != "poll":
        await until(lambda: server.channel.readers == 1)


async def join_early(way: Way, server: Server) -> list[Got]:
    async with reading(way, server) as (got, task):
        await joined(way, server, got)
        for text in TEXTS:
            server.channel.publish_text(text, "message")
        server.channel.publish("title", {"title": "A-B"})
        await until(lambda: len(got) == len(TEXTS) + 1 or task.done())
        server.channel.end()
        await asyncio.wait_for(task, LIMIT)
        return got


async def join_late(way: Way, server: Server) -> list[Got]:
    for text in TEXTS:
        server.channel.publish_text(text)
    async with reading(way, server) as (got, task):
        await until(lambda: len(got) == len(TEXTS) or task.done())
        server.channel.publish_text("more", "late")
        await until(lambda: len(got) == len(TEXTS) + 1 or task.done())
        server.channel.end()
        await asyncio.wait_for(task, LIMIT)
        return got


async def drop_and_resume(way: Way, server: Server) -> list[Got]:
    for number in range(5):
        server.channel.publish_text(f"text {number}")
    async with reading(way, server, is_enough=lambda got: len(got) >= 5) as (got, task):
        await asyncio.wait_for(task, LIMIT)
    for number in range(5, 9):
        server.channel.publish_text(f"text {number}")
    async with reading(way, server, got[-1].id) as (more, task):
        await until(lambda: len(more) == 4 or task.done())
        server.channel.publish_text("text 9")
        server.channel.end()
        await asyncio.wait_for(task, LIMIT)
        return got + more


async def fall_behind(way: Way, server: Server) -> list[Got]:
    """Come again when what was missed is no longer kept."""
    server.channel.publish_text("seen")
    async with reading(way, server, is_enough=bool) as (got, task):
        await asyncio.wait_for(task, LIMIT)
    for number in range(150):
        server.channel.publish_text(f"text {number}")
    async with reading(way, server, got[-1].id) as (more, task):
        await until(lambda: len(more) == 101 or task.done())
        server.channel.end()
        await asyncio.wait_for(task, LIMIT)
        return got + more


async def another_epoch(way: Way, server: Server) -> list[Got]:
    """Come again with an id of the channel's epoch before this one."""
    server.channel.publish_text("one")
    async with reading(way, server, "d-17") as (got, task):
        await until(lambda: len(got) == 2 or task.done())
        server.channel.end()
        await asyncio.wait_for(task, LIMIT)
        return got


async def end(way: Way, server: Server) -> list[Got]:
    """Come behind the end, with the id of what came before it, then with its own."""
    server.channel.publish_text("one")
    server.channel.end()
    async with reading(way, server, "e-1") as (got, task):
        await asyncio.wait_for(task, LIMIT)
    async with reading(way, server, got[-1].id) as (nothing, task):
        await asyncio.wait_for(task, LIMIT)
    assert nothing == []
    return got


def numbered(*events: tuple[str, str]) -> list[Got]:
    return [Got(name, data, f"e-{number}") for number, (name, data) in enumerate(events, 1)]


MESSAGES = [("message", READ_LINES if text is LINES else text) for text in TEXTS]
END = ("end", "{}")

SCENARIOS: dict[str, tuple[Callable[[Way, Server], Awaitable[list[Got]]], list[Got]]] = {
    "join early": (join_early, numbered(*MESSAGES, ("title", '{"title":"A-B"}'), END)),
    "join late": (join_late, numbered(*MESSAGES, ("late", "more"), END)),
    "drop and resume": (
        drop_and_resume,
        numbered(*[("message", f"text {number}") for number in range(10)], END),
    ),
    "fall behind": (
        fall_behind,
        [
            Got("message", "seen", "e-1"),
            Got("reset", '{"reason":"expired","lost":50}', "e-51"),
            *[Got("message", f"text {number}", f"e-{number + 2}") for number in range(50, 150)],
            Got("end", "{}", "e-152"),
        ],
    ),
    "another epoch": (
        another_epoch,
        [
            Got("reset", '{"reason":"restart","lost":null}', "e-0"),
            Got("message", "one", "e-1"),
            Got("end", "{}", "e-2"),
        ],
    ),
    "end": (end, [Got("end", "{}", "e-2")]),
}


@pytest.mark.parametrize("way", ALL, ids=lambda way: way.name)
@pytest.mark.parametrize("scenario", SCENARIOS)
async def test_a_scenario_reads_the_same_in_every_way(scenario: str, way: Way) -> None:
    act, expected = SCENARIOS[scenario]
    async with serving(a_channel()) as server:
        assert await act(way, server) == expected
        await until(lambda: server.channel.readers == 0)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return self_signed(tmp_path_factory.mktemp("tls"))


@pytest.mark.parametrize("way", ALL, ids=lambda way: way.name)
@pytest.mark.parametrize("scenario", ["join early", "join late", "drop and resume", "fall behind"])
async def test_over_tls_where_nothing_is_written_past_the_transport_it_reads_the_same(
    scenario: str, way: Way, certificate: Certificate
) -> None:
    act, expected = SCENARIOS[scenario]
    async with serving(a_channel(), certificate=certificate) as server:
        assert await act(way, server) == expected
        await until(lambda: server.channel.readers == 0)
