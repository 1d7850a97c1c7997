"""Events in Redis that their node numbers itself: sent again and again, and there once."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest

from packager.cluster.event_streams import EntryPlace, EventRetention, EventStreams, PutOutcome
from packager.cluster.limits import ClusterLimits
from packager.cluster.log_stream import EntryId
from tests.packager.cluster.redis_connections import connected
from tests.redis_server import RedisServer

KEPT = EventRetention(100, 1 << 20, 0.0, 60, is_counted=True)
NAME = "talk@0a1b"
RECORD = {"type": "made", "name": "talk", "number": "0a1b"}


@pytest.fixture
async def streams(redis_server: RedisServer) -> AsyncIterator[EventStreams]:
    redis_server.command("FLUSHALL")
    async with connected(redis_server) as connection:
        found = EventStreams(connection, "token", ClusterLimits())
        redis_server.command("HSET", found.created_key("records"), "talk", json.dumps(RECORD))
        yield found
    redis_server.command("FLUSHALL")


async def put(streams: EventStreams, first: int, *texts: bytes, is_last: bool = False) -> EntryPlace:
    return await streams.put(NAME, EntryId(7, first), texts, KEPT, is_last=is_last)


async def found(streams: EventStreams) -> list[tuple[str, bytes]]:
    read = (await streams.read({NAME: b"0-0"}))[NAME]
    return [(str(one.number), one.message) for one in read.events]


async def test_events_that_come_again_are_there_once_and_missing_ones_are_asked_for(
    streams: EventStreams, redis_server: RedisServer
) -> None:
    assert await put(streams, 1, b"a", b"b") == EntryPlace(PutOutcome.DONE, 3)
    # The answer was lost, and some more have come meanwhile.
    assert await put(streams, 1, b"a", b"b") == EntryPlace(PutOutcome.DONE, 3)
    assert await put(streams, 2, b"b", b"c") == EntryPlace(PutOutcome.DONE, 4)
    assert await put(streams, 6, b"f") == EntryPlace(PutOutcome.BEHIND, 4)
    assert await put(streams, 4) == EntryPlace(PutOutcome.DONE, 4)
    assert await found(streams) == [("7-1", b"a"), ("7-2", b"b"), ("7-3", b"c")]
    # A Redis that has lost them gets all of them again, under the same numbers.
    keys = redis_server.command("KEYS", f"*{NAME}*").decode().split("\r\n")[2::2]
    redis_server.command("DEL", *keys)
    assert await put(streams, 4, b"d") == EntryPlace(PutOutcome.BEHIND, 1)
    assert await put(streams, 1, b"a", b"b", b"c", b"d") == EntryPlace(PutOutcome.DONE, 5)
    assert (await found(streams))[-1] == ("7-4", b"d")
    redis_server.command("DEL", next(one for one in keys if one.endswith("entries")))
    assert await put(streams, 5, b"e") == EntryPlace(PutOutcome.BEHIND, 1)


async def test_the_end_that_another_node_adds_is_the_last_event_and_added_once(
    streams: EventStreams,
) -> None:
    await put(streams, 1, b"a", b"b")
    # Who hasn't read all ends nothing.
    assert (await put(streams, 2, b"end", is_last=True)).outcome is PutOutcome.BEHIND
    assert (await put(streams, 3, b"end", is_last=True)).outcome is PutOutcome.DONE
    assert (await put(streams, 3, b"end", is_last=True)).outcome is PutOutcome.ENDED
    for first in (1, 3, 4):
        assert (await put(streams, first, b"late")).outcome is PutOutcome.ENDED
    assert await found(streams) == [("7-1", b"a"), ("7-2", b"b"), ("7-3", b"end")]


@pytest.mark.parametrize(
    "record", [None, RECORD | {"number": "ffff"}, RECORD | {"type": "gone"}, "x", ["made"], 5]
)
async def test_nothing_is_written_for_a_channel_that_is_gone_or_is_another_one(
    streams: EventStreams, redis_server: RedisServer, record: object
) -> None:
    key = streams.created_key("records")
    redis_server.command("DEL", key)
    if record is not None:
        redis_server.command("HSET", key, "talk", json.dumps(record))
    assert (await put(streams, 1, b"a")).outcome is PutOutcome.UNKNOWN
    assert redis_server.command("KEYS", f"*{NAME}*") == b"*0\r\n"


async def test_nothing_is_appended_to_a_channel_that_was_deleted_meanwhile(
    streams: EventStreams, redis_server: RedisServer
) -> None:
    assert await streams.append(NAME, 1, [b"a"], 0, KEPT) is not None
    gone = RECORD | {"type": "gone", "until": 9e9}
    redis_server.command("HSET", streams.created_key("records"), "talk", json.dumps(gone))
    redis_server.command("DEL", *redis_server.command("KEYS", f"*{NAME}*").decode().split("\r\n")[2::2])
    assert await streams.append(NAME, 2, [b"b"], 0, KEPT) is None
    assert redis_server.command("KEYS", f"*{NAME}*") == b"*0\r\n"
    # Another channel of its name, and what Redis doesn't know, as it has lost its data, are none of that.
    assert await streams.append("talk@ffff", 3, [b"c"], 0, KEPT) is not None
    assert await streams.append("lost@0a1b", 4, [b"d"], 0, KEPT) is not None


async def test_the_readers_of_other_nodes_are_counted_channel_by_channel(streams: EventStreams) -> None:
    async def report(token: str, name: str, readers: int) -> None:
        other = EventStreams(streams._connection, token, ClusterLimits())
        await other.report(name, readers, None, None, answers=False)

    for token, readers in (("token", 5), ("b", 2), ("c", 3)):
        await report(token, NAME, readers)
    await report("b", "another@1", 1)
    assert await streams.readers([NAME, "none@2", "another@1"]) == [5, 0, 1]


async def test_a_node_counts_as_there_once_it_says_so(
    streams: EventStreams, redis_server: RedisServer
) -> None:
    assert not await streams.is_publishing("token")
    await streams.note_publishing()
    assert await streams.is_publishing("token")
    assert not await streams.is_publishing("another")
    (key,) = redis_server.command("KEYS", "*publishing*").decode().split("\r\n")[2:-1]
    left = int(redis_server.command("PTTL", key)[1:])
    assert 0 < left <= 3000
