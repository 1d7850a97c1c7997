"""Event channels that nodes share over a real Redis: each publishes, and all have the same ids."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import msgspec
import pytest

from origin.events.channel import NO_EPOCH, EventChannel, EventChannelOptions, NumberingUnavailableError
from origin.events.channel_replication import FollowedEventLog, ServedEventLog
from origin.events.cluster_channels import ClusterChannels
from origin.events.limits import ChannelLimits
from packager.cluster.connection import RedisConnection
from packager.cluster.event_streams import NEWS
from packager.cluster.limits import ClusterLimits
from packager.concurrency import background_task
from packager.retry_policy import RetryPolicy
from tests.redis_server import RedisServer
from tests.waiting import until

# Loading the client reads files.
REDIS = ClusterLimits(reconnects=RetryPolicy(0.01, 0.1), call_seconds=30.0)
LIMITS = ClusterLimits(publish_seconds=60.0, catch_up_seconds=60.0, restore_seconds=60.0, report_seconds=0.05)
NAME = "chat"


class Node:
    """A node without anything but an event channel."""

    def __init__(
        self,
        connection: RedisConnection,
        limits: ClusterLimits = LIMITS,
        options: EventChannelOptions | ChannelLimits = ChannelLimits(history=5),  # noqa: B008
    ) -> None:
        self.connection = connection
        self.channel = EventChannel(NAME, NO_EPOCH, options)
        self.token = uuid.uuid4().hex
        self.shared = ClusterChannels(connection, self.token, [self.channel], [NAME], limits)

    async def publish(self, *texts: str) -> list[str]:
        return await self.channel.publish_all([("message", text) for text in texts])

    def shown(self) -> list[tuple[str, str]]:
        log = self.channel.log
        return [(one.identity, one.data) for one in log.between(log.first, log.end)]

    def texts(self) -> list[str]:
        return [text for _, text in self.shown()]


@contextlib.asynccontextmanager
async def running(node: Node) -> AsyncIterator[Node]:
    async with background_task(node.connection.run()), background_task(node.shared.run()):
        await node.shared.wait_until_level()
        yield node


async def make(
    server: RedisServer,
    limits: ClusterLimits = LIMITS,
    options: EventChannelOptions | ChannelLimits = ChannelLimits(history=5),  # noqa: B008
) -> Node:
    return Node(await asyncio.to_thread(RedisConnection, server.url, REDIS), limits, options)


@contextlib.asynccontextmanager
async def nodes(
    server: RedisServer,
    count: int = 2,
    limits: ClusterLimits = LIMITS,
    options: EventChannelOptions | ChannelLimits = ChannelLimits(history=5),  # noqa: B008
) -> AsyncIterator[Sequence[Node]]:
    server.command("FLUSHALL")
    made = [await make(server, limits, options) for _ in range(count)]
    async with contextlib.AsyncExitStack() as stack:
        for one in made:
            await stack.enter_async_context(running(one))
        yield made


def expired(channel: EventChannel) -> bool:
    channel.log.expire()
    return channel.log.first == channel.log.end


def key(what: str) -> str:
    return f"headwater:{{events/{NAME}}}:{what}"


async def test_what_any_node_publishes_all_have_with_the_same_ids(redis_server: RedisServer) -> None:
    async with nodes(redis_server) as (one, other):
        assert one.channel.last_id == other.channel.last_id == "0-0"
        ids = await one.publish("zwölf\r\n", "b\ud800") + await other.publish("c")
        epoch = ids[0].partition("-")[0]
        assert ids == [f"{epoch}-1", f"{epoch}-2", f"{epoch}-3"]
        await until(lambda: len(one.shown()) == len(other.shown()) == 3)
        assert one.shown() == other.shown() == list(zip(ids, ["zwölf\n", "b?", "c"], strict=True))
        assert [event.time for event in one.channel.after(one.channel.since(None))] == [
            event.time for event in other.channel.after(other.channel.since(None))
        ]
        # Who was there before the first event, at whichever node, misses none.
        assert other.channel.since("0-0").sequence == 0
        with pytest.raises(ValueError, match="doesn't fit"):
            await one.publish("fits", "x" * (5 << 20))
        # Published side by side, each node has them in one order.
        pairs = [(f"{index} of {node.token}", f"{index}") for index in range(10) for node in (one, other)]
        told = await asyncio.gather(
            *(node.publish(*pair) for node, pair in zip((one, other) * 10, pairs, strict=True))
        )
        await until(lambda: one.channel.log.offset == other.channel.log.offset == 43)
        assert one.shown() == other.shown()
        # Each publisher was told the ids of its own events.
        given = {
            identity: text
            for ids, pair in zip(told, pairs, strict=True)
            for identity, text in zip(ids, pair, strict=True)
        }
        assert len(given) == 40
        assert one.shown() == [(identity, given[identity]) for identity, _ in one.shown()]
        assert len(one.shown()) == 5
        assert redis_server.command("XLEN", key("entries")) == b":5\r\n"
        # A node that comes later has what is kept.
        late = await make(redis_server)
        async with running(late):
            assert late.shown() == one.shown()
            for identity in (None, "0-0", ids[0], one.channel.last_id, f"{epoch}-44", "nonsense"):
                assert late.channel.since(identity) == replace(
                    one.channel.since(identity),
                    sequence=one.channel.since(identity).sequence - 38,
                ), identity
            assert await late.publish("later") == [f"{epoch}-44"]


async def test_a_reader_whose_id_another_node_told_is_waited_for(redis_server: RedisServer) -> None:
    async with nodes(redis_server) as (one, other):
        for number in range(20):
            (identity,) = await one.publish(str(number))
            # No news may have come here yet.
            await other.channel.catch_up(identity)
            resumption = other.channel.since(identity)
            assert resumption.complete
            assert other.channel.after(resumption) == []


async def test_numbers_go_on_and_never_back_when_redis_comes_back(redis_server: RedisServer) -> None:
    async with nodes(redis_server) as (one, other):
        before = await one.publish("a", "b")
        await until(lambda: len(other.shown()) == 2)
        waiting = asyncio.ensure_future(other.channel.news(2))
        redis_server.kill()
        await until(lambda: not one.connection.is_up and not other.connection.is_up)
        assert other.texts() == ["a", "b"]
        publishing = asyncio.ensure_future(one.publish("c"))
        redis_server.start()
        # Another server may have lost what it was told last: its numbers are of another epoch.
        after = await publishing
        await asyncio.wait_for(waiting, 60)
        assert after[0].endswith("-1")
        assert after[0].partition("-")[0] > before[0].partition("-")[0]
        await until(lambda: one.texts() == other.texts() == ["a", "b", "c"])
        for node in (one, other):
            resumption = node.channel.since(before[0])
            assert resumption.complete
            assert [event.data for event in node.channel.after(resumption)] == ["b", "c"]
        late = await make(redis_server)
        async with running(late):
            assert late.shown() == one.shown()
            assert [event.data for event in late.channel.after(late.channel.since(before[0]))] == ["b", "c"]
            redis_server.command("FLUSHALL")
            (emptied,) = await late.publish("d")
            assert emptied.partition("-")[0] > after[0].partition("-")[0]
            await until(lambda: one.texts() == other.texts() == ["a", "b", "c", "d"])
        # A node that has nothing of the earlier epochs tells their readers that events may be missing.
        empty = await make(redis_server)
        async with running(empty):
            assert empty.texts() == ["d"]
            assert empty.channel.since(before[0]).reason == "restart"


async def test_without_redis_events_are_refused_in_time(redis_server: RedisServer) -> None:
    limits = replace(LIMITS, publish_seconds=0.3, waiting_events=2)
    async with nodes(redis_server, 1, limits) as (one,):
        await one.publish("a")
        await until(lambda: one.texts() == ["a"])
        redis_server.kill()
        try:
            await until(lambda: not one.connection.is_up)
            with pytest.raises(NumberingUnavailableError, match="nothing was published") as refused:
                await one.publish("b")
            assert refused.value.retry_seconds > 0
            one.channel.publish_soon("c")
            one.channel.publish_soon("d")
            with pytest.raises(NumberingUnavailableError, match="too many"):
                await one.publish("e")
            assert one.texts() == ["a"]
            await until(lambda: one.shared.writer.refused == 4)
        finally:
            redis_server.start()
        await until(lambda: one.connection.is_up)
        await one.publish("f")
        await until(lambda: one.texts() == ["a", "f"])


async def test_of_what_redis_may_have_taken_it_is_not_said_that_it_was_not_published(
    redis_server: RedisServer,
) -> None:
    redis_server.command("FLUSHALL")
    redis = replace(REDIS, call_seconds=4.0)
    connection = await asyncio.to_thread(RedisConnection, redis_server.url, redis)
    async with running(Node(connection, replace(LIMITS, publish_seconds=2.0))) as one:
        await until(lambda: connection.is_up)
        told = "what was sent may have been published"
        with redis_server.stopped(), pytest.raises(NumberingUnavailableError, match=told):
            await one.publish("a")


async def test_an_answer_that_was_lost_publishes_nothing_twice(redis_server: RedisServer) -> None:
    async with nodes(redis_server, 1) as (one,):
        streams, kept = one.shared.reader._streams, one.channel.numbering.kept  # type: ignore[union-attr]
        first = await streams.append(NAME, 7, [b"a", b"b"], 0, kept)
        assert await streams.append(NAME, 7, [b"a", b"b"], 0, kept) == first
        assert first is not None
        assert await streams.append(NAME, 8, [b"c"], 0, kept) == first._replace(position=3)
        # What was given up may reach Redis behind what followed.
        assert await streams.append(NAME, 7, [b"a", b"b"], 0, kept) is None
        assert redis_server.command("XLEN", key("entries")) == b":3\r\n"


async def test_what_is_crafted_in_redis_harms_nobody(redis_server: RedisServer) -> None:
    encode = msgspec.msgpack.encode
    async with nodes(redis_server) as (one, other):
        (first,) = await one.publish("a")
        epoch = int(first.partition("-")[0], 16)
        add = ("XADD", key("entries"))
        for number, fields in (
            (f"{epoch}-2", ("time", "1", "event", b"\xc1")),
            (f"{epoch}-3", ("time", "1", "event", encode({"name": "x\nid: 1", "data": "x"}))),
            (f"{epoch}-4", ("time", "1", "event", encode({"name": "x", "data": "x\rdata: y"}))),
            (f"{epoch}-5", ("time", "1", "event", encode({"name": "x", "data": "x" * (5 << 20)}))),
            (f"{epoch}-6", ("time", "soon", "event", encode({"name": "x", "data": "x"}))),
            (f"{epoch}-7", ("something", "else")),
            ("18446744073709551615-18446744073709551615", ("time", "1", "event", b"x")),
        ):
            redis_server.command(*add, number, *fields)
        redis_server.command("XADD", NEWS, "*", "name", NAME, "number", "x")
        redis_server.command("XADD", NEWS, "*", "name", "unknown")
        redis_server.command("SET", key("readers"), "no hash")
        redis_server.command("HSET", key("state"), "offset", "1e300", "epochs", "9:9:9 x:1", "bytes", "-1")
        await until(lambda: one.shared.reader.unreadable > 0)
        (second,) = await other.publish("b")
        assert second > first
        await until(lambda: one.texts()[-1:] == other.texts()[-1:] == ["b"])
        for wrong in ("state", "entries"):
            redis_server.command("SET", key(wrong), "of another type")
            (later,) = await one.publish(wrong)
            assert later > second
            await until(lambda: one.texts()[-1:] == other.texts()[-1:] == [wrong])  # noqa: B023
        # An epoch of the future is gone on from.
        far = epoch + (1 << 40)
        redis_server.command("DEL", key("entries"))
        redis_server.command(*add, f"{far}-1", "time", "1", "event", encode({"name": "x", "data": "far"}))
        redis_server.command("XADD", NEWS, "*", "name", NAME, "number", "1")
        await until(lambda: "far" in one.texts() and "far" in other.texts())
        (last,) = await other.publish("behind")
        assert int(last.partition("-")[0], 16) > far
        await until(lambda: one.texts()[-1:] == other.texts()[-1:] == ["behind"])
        assert one.connection.lost == other.connection.lost == 0


async def test_a_node_that_missed_more_than_is_kept_tells_its_readers(redis_server: RedisServer) -> None:
    async with nodes(redis_server, 1) as (one,):
        late = await make(redis_server)
        async with running(late):
            (first,) = await one.publish("a")
            await until(lambda: late.texts() == ["a"])
        for number in range(8):
            await one.publish(str(number))
        async with background_task(late.connection.run()), background_task(late.shared.reader.run()):
            await until(lambda: late.texts() == ["3", "4", "5", "6", "7"])
            assert late.channel.since(first).lost == 3
            assert late.channel.last_id == one.channel.last_id


async def test_bytes_and_age_bound_what_lies_in_redis(redis_server: RedisServer) -> None:
    limits = ChannelLimits(history=100, history_bytes=4000, history_seconds=0.5)
    async with nodes(redis_server, 1, options=limits) as (one,):
        ids = await one.publish(*("x" * 1000 for _ in range(10)))
        published = time.time()
        assert redis_server.command("XLEN", key("entries")) == b":3\r\n"
        await until(lambda: one.channel.last_id == ids[-1])
        # On a slow machine they are too old already.
        assert len(one.shown()) <= 3
        # Redis counts in whole milliseconds: they are too old there up to one later than here.
        await until(lambda: expired(one.channel) and time.time() > published + 0.501)
        await one.publish("new")
        assert redis_server.command("XLEN", key("entries")) == b":1\r\n"


async def test_workers_of_a_node_follow_what_it_shares(redis_server: RedisServer) -> None:
    async with nodes(redis_server) as (one, other):
        served: dict[str, EventChannel] = {}
        log = ServedEventLog(other.channel)
        follower = FollowedEventLog(NAME, lambda epoch: EventChannel(NAME, epoch, ChannelLimits()), served)

        def send(entry: object) -> None:
            entries = log.snapshot() if log.begins_anew(entry) else [entry]  # type: ignore[arg-type]
            for each in entries:
                follower.fold(follower.read(log.encode(each))[1])  # type: ignore[arg-type]
            follower.offer()

        for entry in log.snapshot():
            send(entry)
        other.channel.on_entry = send
        # Who reads before anything was ever published stays, too.
        reader = served[NAME]
        assert reader.epoch == NO_EPOCH
        beginning = reader.since(None)
        ids = await one.publish("a")
        await until(lambda: other.texts() == ["a"])
        assert served[NAME] is reader
        assert [event.data for event in reader.after(beginning)] == ["a"]
        redis_server.command("FLUSHALL")
        ids += await one.publish("b", "c")
        await until(lambda: other.texts() == ["a", "b", "c"])
        assert served[NAME] is reader
        assert served[NAME].last_id == ids[-1]
        for identity in ids:
            assert served[NAME].since(identity) == other.channel.since(identity)
        epoch = int(ids[-1].partition("-")[0], 16)
        assert served[NAME].log.may_be_elsewhere(f"{epoch:x}-3")
        assert served[NAME].log.may_be_elsewhere(f"{epoch + 1:x}-1")
        assert not any(map(served[NAME].log.may_be_elsewhere, (ids[0], ids[-1], "other-1", "", "1-1")))


async def test_readers_of_all_nodes_are_counted_and_told_once(redis_server: RedisServer) -> None:
    async with nodes(redis_server, options=EventChannelOptions(presence=True, presence_seconds=0.0)) as every:
        one, other = every
        with one.channel.polling(), other.channel.polling():
            await until(lambda: all(node.channel.readers_of_cluster == 2 for node in every))
            assert one.channel.readers == 1
            await until(lambda: one.texts()[-1:] == other.texts()[-1:] == ['{"readers":2}'])
        await until(lambda: one.texts()[-1:] == ['{"readers":0}'])
        # Again only behind another node's, which came late.
        assert one.texts().count('{"readers":2}') <= 1 + one.texts().count('{"readers":1}')


async def test_a_number_of_readers_that_comes_late_is_set_right(redis_server: RedisServer) -> None:
    async with nodes(redis_server, options=EventChannelOptions(presence=True, presence_seconds=0.0)) as every:
        one, other = every
        with one.channel.polling(), other.channel.polling():
            await until(lambda: one.texts()[-1:] == other.texts()[-1:] == ['{"readers":2}'])
            # As of a node that told of its own readers, before others had any, and was held up.
            await one.channel.publish_all([("presence", '{"readers":1}')])
            await until(lambda: other.texts()[-2:] == ['{"readers":1}', '{"readers":2}'])


async def test_an_answer_goes_on_when_that_of_another_node_ends(redis_server: RedisServer) -> None:
    async with nodes(redis_server) as (one, other):
        await one.publish("old")
        one.channel.begin()
        one.channel.publish_soon("new")
        await until(lambda: len(other.shown()) == 2)
        assert [event.data for event in other.channel.after(other.channel.since(None))] == ["new"]
        numbering = other.channel.numbering
        await until(lambda: numbering._answers_elsewhere == 1)  # type: ignore[union-attr]
        other.channel.begin()
        other.channel.publish_soon("beside")
        other.channel.end()
        await until(lambda: one.texts() == ["old", "new", "beside"])
        assert not one.channel.ended
        await until(lambda: one.channel.numbering._answers_elsewhere == 0)  # type: ignore[union-attr]
        one.channel.end()
        await until(lambda: one.channel.ended and other.channel.ended)
