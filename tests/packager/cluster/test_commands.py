"""Commands to a channel reach the node that owns its log once or never, and what is crafted harms nobody."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace

import msgspec
import pytest

from packager.cluster.commands import (
    MAX_COMMAND_BYTES,
    ChannelCommand,
    ClusterCommands,
    CommandAnswer,
    CommandTooLongError,
    OwnerUnavailableError,
)
from packager.cluster.connection import RedisConnection
from packager.cluster.lease import Lease, LogKeys
from packager.cluster.limits import ClusterLimits
from packager.concurrency import background_task
from packager.retry_policy import RetryPolicy
from tests.redis_server import RedisServer
from tests.waiting import until

LIMITS = ClusterLimits(answer_seconds=30.0)
SHORT = replace(LIMITS, answer_seconds=0.3)
OWNER, ASKING = uuid.uuid4().hex, uuid.uuid4().hex
WAITING = f"headwater:node:{OWNER}:commands"
KEY = b"key=of-the-channel"
NETWORK = "192.0.2.7"


@dataclass
class Nodes:
    """A node that owns a channel, and one that asks it."""

    channel: str
    connection: RedisConnection
    asking: ClusterCommands
    owner: ClusterCommands
    taken: list[ChannelCommand] = field(default_factory=list)

    def command(self, body: bytes = b"{}") -> ChannelCommand:
        return ChannelCommand(self.channel, "metadata", KEY, b"", b"application/json", "192.0.2.7", body)

    async def carry_out(self, command: ChannelCommand) -> CommandAnswer:
        self.taken.append(command)
        return CommandAnswer(201, {"content-type": "text/plain"}, command.body)


@contextlib.asynccontextmanager
async def nodes(
    server: RedisServer,
    limits: ClusterLimits = LIMITS,
    carry_out: Callable[[ChannelCommand], Awaitable[CommandAnswer]] | None = None,
    *,
    runs: bool = True,
) -> AsyncIterator[Nodes]:
    server.command("FLUSHALL")
    # Loading the client reads files.
    patient = ClusterLimits(reconnects=RetryPolicy(0.01, 0.1), call_seconds=30.0)
    connection = await asyncio.to_thread(RedisConnection, server.url, patient)
    one = Nodes(
        uuid.uuid4().hex,
        connection,
        ClusterCommands(connection, ASKING, limits),
        ClusterCommands(connection, OWNER, limits),
    )
    one.owner.carry_out = carry_out or one.carry_out
    async with background_task(connection.run()):
        await connection.wait_until_up()
        keys = LogKeys("live", one.channel)
        lease = Lease(connection, keys, OWNER, ClusterLimits(lease_seconds=600.0))
        assert await lease.acquire(has_media=True)
        async with background_task(one.owner.run()) if runs else contextlib.nullcontext():
            yield one


def left(server: RedisServer) -> bytes:
    return server.command("KEYS", "headwater:*command*")


async def test_a_command_is_carried_out_by_the_owner_once_and_leaves_nothing(
    redis_server: RedisServer,
) -> None:
    async with nodes(redis_server) as one:
        asked = [one.command(b"%d" % number) for number in range(10)]
        answers = await asyncio.gather(*(one.asking.ask(command, NETWORK) for command in asked))
        assert [answer.body for answer in answers] == [command.body for command in asked]
        assert {answer.status for answer in answers} == {201}
        assert +one.asking.outcomes == {"answered": 10}
        assert sorted(one.taken, key=lambda command: command.body) == asked
        assert left(redis_server) == b"*0\r\n"


async def test_a_command_that_was_taken_is_not_taken_again(redis_server: RedisServer) -> None:
    async with nodes(redis_server, runs=False) as one:
        asking = asyncio.create_task(one.asking.ask(one.command(), NETWORK))
        await until(lambda: b":0" not in redis_server.command("LLEN", WAITING), "the command")
        name = redis_server.command("LINDEX", WAITING, "0").split(b"\r\n")[1]
        # Its ID comes twice, as it would where somebody sent it again.
        redis_server.command("RPUSH", WAITING, name)
        async with background_task(one.owner.run()):
            assert (await asking).status == 201
            await until(lambda: redis_server.command("LLEN", WAITING) == b":0\r\n", "the second ID")
            assert (await one.asking.ask(one.command(), NETWORK)).status == 201
        assert len(one.taken) == 2


async def test_who_does_not_come_in_time_is_answered_and_nothing_stays(redis_server: RedisServer) -> None:
    async with nodes(redis_server, SHORT, runs=False) as one:
        with pytest.raises(OwnerUnavailableError, match="in time"):
            await one.asking.ask(one.command(), NETWORK)
        await until(lambda: left(redis_server) == b"*0\r\n", "the expiry")
        async with background_task(one.owner.run()):
            await asyncio.sleep(0)
            nobody = replace(one.command(), channel="unowned")
            with pytest.raises(OwnerUnavailableError, match="no node owns"):
                await one.asking.ask(nobody, NETWORK)
        assert one.taken == []
        assert +one.asking.outcomes == {"unanswered": 1, "no_owner": 1}


async def test_there_are_only_so_many_commands_at_once_and_of_such_a_length(
    redis_server: RedisServer,
) -> None:
    began, finish = 0, asyncio.Event()

    async def wait(_: ChannelCommand) -> CommandAnswer:
        nonlocal began
        began += 1
        await finish.wait()
        return CommandAnswer(200, {}, b"")

    few = replace(LIMITS, commands_at_once=2, waiting_commands=1)
    async with nodes(redis_server, few, wait) as one:
        with pytest.raises(CommandTooLongError):
            await one.asking.ask(one.command(bytes(MAX_COMMAND_BYTES)), NETWORK)
        waiting = [asyncio.create_task(one.asking.ask(one.command(), NETWORK)) for _ in range(2)]
        await until(lambda: began == 2, "both")
        third = asyncio.create_task(one.asking.ask(one.command(), NETWORK))
        await asyncio.sleep(0)
        with pytest.raises(OwnerUnavailableError, match="too many requests wait for the owners"):
            await one.asking.ask(one.command(), NETWORK)
        third.cancel()
        other = ClusterCommands(one.connection, uuid.uuid4().hex, few)
        waiting.append(asyncio.create_task(other.ask(one.command(), NETWORK)))
        await until(lambda: redis_server.command("LLEN", WAITING) == b":1\r\n", "the third")
        with pytest.raises(OwnerUnavailableError, match="too many requests wait for the node"):
            await other.ask(one.command(), NETWORK)
        assert began == 2
        finish.set()
        assert {answer.status for answer in await asyncio.gather(*waiting)} == {200}
        assert +one.asking.outcomes == {"too_long": 1, "busy": 1, "answered": 2}
        assert +other.outcomes == {"owner_busy": 1, "answered": 1}


@pytest.mark.parametrize("token", ["", "a:b", "\xff" * 9, "0" * 1_000_000])
async def test_an_owner_that_is_no_node_is_none(redis_server: RedisServer, token: str) -> None:
    async with nodes(redis_server) as one:
        redis_server.command("HSET", LogKeys("live", one.channel).lease, "token", token.encode("latin-1"))
        with pytest.raises(OwnerUnavailableError, match="no node owns"):
            await one.asking.ask(one.command(), NETWORK)
        assert one.taken == []
        assert redis_server.command("KEYS", "headwater:node:*") == b"*0\r\n"


async def test_without_redis_nobody_waits(redis_server: RedisServer) -> None:
    async with nodes(redis_server) as one:
        one.connection._went(OSError("a moment's loss"))
        with pytest.raises(OwnerUnavailableError, match="can't be reached"):
            await one.asking.ask(one.command(), NETWORK)
        await one.connection.wait_until_up()
        assert (await one.asking.ask(one.command(), NETWORK)).status == 201
        assert +one.asking.outcomes == {"redis_away": 1, "answered": 1}


def crafted_commands() -> list[bytes]:
    whole = ChannelCommand("test", "end", b"", b"", b"", "", b"")
    return [
        b"",
        b"\xff" * 100,
        b"\xa1\xff",
        b"\x91" * 100_000,
        msgspec.msgpack.encode({"channel": b"\xff"}),
        msgspec.msgpack.encode(replace(whole, client="9" * 1000)),
        msgspec.msgpack.encode(replace(whole, body=bytes(MAX_COMMAND_BYTES))),
    ]


async def test_what_is_no_command_in_redis_harms_nobody(redis_server: RedisServer) -> None:
    async with nodes(redis_server) as one:
        lost = one.connection.lost
        for message in crafted_commands():
            name = uuid.uuid4().hex
            redis_server.command("SET", f"headwater:command:{name}", message, "EX", "60")
            redis_server.command("RPUSH", WAITING, name)
        name = uuid.uuid4().hex
        redis_server.command("RPUSH", f"headwater:command:{name}", "a list")
        redis_server.command("RPUSH", WAITING, name, "no ID", b"\xff" * 100_000, uuid.uuid4().hex)
        assert (await one.asking.ask(one.command(), NETWORK)).status == 201
        assert one.taken == [one.command()]
        assert left(redis_server) == b"*0\r\n"
        assert one.connection.lost == lost


async def test_what_is_no_list_of_commands_is_replaced(redis_server: RedisServer) -> None:
    async with nodes(redis_server, runs=False) as one:
        redis_server.command("SET", WAITING, "no list")
        async with background_task(one.owner.run()):
            await until(lambda: redis_server.command("EXISTS", WAITING) == b":0\r\n", "its end")
        redis_server.command("SET", WAITING, "no list")
        asking = asyncio.create_task(one.asking.ask(one.command(), NETWORK))
        await until(lambda: redis_server.command("TYPE", WAITING) == b"+list\r\n", "the list")
        async with background_task(one.owner.run()):
            assert (await asking).status == 201
        assert one.connection.lost == 0


@pytest.mark.parametrize(
    "answer",
    [
        b"\xff",
        msgspec.msgpack.encode({"status": 99, "fields": {}, "body": b""}),
        msgspec.msgpack.encode({"status": 200, "fields": {"content-type": "a\r\nx: y"}, "body": b""}),
        msgspec.msgpack.encode({"status": 200, "fields": {}, "body": bytes(LIMITS.answer_bytes)}),
    ],
    ids=["nothing", "status", "line", "length"],
)
async def test_what_is_no_answer_is_not_handed_on(redis_server: RedisServer, answer: bytes) -> None:
    async with nodes(redis_server, runs=False) as one:
        asking = asyncio.create_task(one.asking.ask(one.command(), NETWORK))
        await until(lambda: b":0" not in redis_server.command("LLEN", WAITING), "the command")
        name = redis_server.command("LINDEX", WAITING, "0").split(b"\r\n")[1].decode()
        redis_server.command("RPUSH", f"headwater:command:{name}:answer", answer)
        with pytest.raises(OwnerUnavailableError, match="can't be read"):
            await asking
        assert +one.asking.outcomes == {"unreadable": 1}


def test_a_command_is_shown_without_what_may_hold_a_key() -> None:
    secret = ChannelCommand("test", "end", b"key=SECRET", b"Bearer SECRET", b"", "", b"SECRET")
    assert "SECRET" not in repr(secret)
