"""Carries commands to a channel, such as its end, to the node that owns its log, and the answers back.

A command lies in Redis under an ID, which waits in a list of the owner's. The owner deletes the command there
as it takes it, before anything is done: it is carried out once or never, also where its answer is lost.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any

import msgspec
import structlog
from msgspec import Meta

from media.errors import MalformedError
from packager.cluster.connection import RedisConnection, RedisUnavailableError
from packager.cluster.lease import PREFIX, LogKeys
from packager.cluster.limits import ClusterLimits
from packager.fair_queue import FairSemaphore, TooManyWaitingError
from packager.replication.live_log import LIVE
from packager.replication.log_entries import read_message

log = structlog.get_logger()

_SEND = """
local waiting, command = KEYS[1], KEYS[2]
local id, message, expiry, most = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
if redis.call('TYPE', waiting).ok ~= 'list' then
  redis.call('DEL', waiting)
end
if redis.call('LLEN', waiting) >= tonumber(most) then
  return 0
end
redis.call('SET', command, message, 'PX', expiry)
redis.call('RPUSH', waiting, id)
redis.call('PEXPIRE', waiting, expiry)
return 1
"""

_TAKE = """
local command, most = KEYS[1], tonumber(ARGV[1])
local message = false
if redis.call('TYPE', command).ok == 'string' and redis.call('STRLEN', command) <= most then
  message = redis.call('GET', command)
end
redis.call('DEL', command)
return message
"""

_PUSH = """
redis.call('RPUSH', KEYS[1], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
"""

_ID = re.compile(rb"[0-9a-f]{32}")
"""The pattern of a command's ID and of a node's token."""

MAX_COMMAND_BYTES = 80 << 10
"""Longest command, with its body."""

MAX_CLIENT_COMMANDS = 4
"""Most commands of one client that a node waits for."""

PAUSE_SECONDS = 0.01
"""Seconds between two commands that a node takes."""


@dataclass(frozen=True, slots=True)
class ChannelCommand:
    """A request that changes what a channel publishes; its ``repr`` shows no field that may hold a key.

    Attributes:
        path: relative to the channel's address.
        authorization: the header field; empty for none.
        client: the client's address; empty if unknown.
        method: of the request; nodes of earlier versions, which name none, carry POST.
    """

    channel: str
    path: str
    query: bytes = field(repr=False)
    authorization: bytes = field(repr=False)
    content_type: bytes
    client: Annotated[str, Meta(max_length=64)]
    body: bytes = field(repr=False)
    method: str = "POST"


@dataclass(frozen=True, slots=True)
class CommandAnswer:
    """The answer to a command.

    Attributes:
        fields: header fields by name, in lower case.
        delay_seconds: for how long the node that asked is to hold the answer back, as guessing keys is slow;
            the owner, whose commands wait for each other, has sent it at once.
    """

    status: Annotated[int, Meta(ge=200, le=599)]
    # Values from Redis can't end the line of a header field.
    fields: dict[str, Annotated[str, Meta(max_length=256, pattern=r"^[\x20-\x7e]*\Z")]]
    body: bytes
    delay_seconds: Annotated[float, Meta(ge=0, le=600)] = 0.0


_COMMANDS = msgspec.msgpack.Decoder(ChannelCommand)
_ANSWERS = msgspec.msgpack.Decoder(CommandAnswer)


class CommandOutcome(StrEnum):
    """The outcome of a command that is sent to a channel's owner."""

    ANSWERED = "answered"
    TOO_LONG = "too_long"
    BUSY = "busy"
    OWNER_BUSY = "owner_busy"
    NO_OWNER = "no_owner"
    REDIS_AWAY = "redis_away"
    UNANSWERED = "unanswered"
    UNREADABLE = "unreadable"


_TOLD = {
    CommandOutcome.BUSY: "too many requests wait for the owners of channels",
    CommandOutcome.OWNER_BUSY: "too many requests wait for the node that owns this channel",
    CommandOutcome.NO_OWNER: "no node owns this channel now",
    CommandOutcome.REDIS_AWAY: "the node that owns this channel can't be reached now",
    CommandOutcome.UNANSWERED: "no answer came in time, but what was asked for may have been done",
    CommandOutcome.UNREADABLE: "the answer can't be read",
}


class OwnerUnavailableError(Exception):
    """A command couldn't be carried to a channel's owner, or no answer came; says which in a sentence."""

    def __init__(self, outcome: CommandOutcome) -> None:
        super().__init__(_TOLD[outcome])
        self.outcome = outcome


class CommandTooLongError(Exception):
    """A command is longer than is carried."""


CarryOut = Callable[[ChannelCommand], Awaitable[CommandAnswer]]


class ClusterCommands:
    """Sends commands to the owners of live channels, and carries out those that reach this node.

    Args:
        token: identifies the leases of this node.

    Attributes:
        carry_out: carries out a command of another node; commands that come before it is set are lost.
        outcomes: how many commands of this node had each outcome.
    """

    def __init__(self, connection: RedisConnection, token: str, limits: ClusterLimits) -> None:
        self.limits = limits
        self.carry_out: CarryOut | None = None
        self.outcomes = Counter(dict.fromkeys(CommandOutcome, 0))
        self._connection = connection
        self._waiting = _waiting(token)
        self._places = FairSemaphore(limits.commands_at_once, MAX_CLIENT_COMMANDS, limits.waiting_commands)

    async def ask(self, command: ChannelCommand, network: str, kind: str = LIVE) -> CommandAnswer:
        """Have the owner of a channel carry out a command.

        Args:
            command: the request that the owner answers.
            kind: the kind of log that the channel has, such as ``live``.
            network: the client's; networks with commands at the same time take turns.

        Raises:
            CommandTooLongError: the encoded command is longer than the limit.
            OwnerUnavailableError: no owner answered in time.
        """
        message = msgspec.msgpack.encode(command)
        if len(message) > MAX_COMMAND_BYTES:
            self.outcomes[CommandOutcome.TOO_LONG] += 1
            raise CommandTooLongError
        try:
            answer = await self._ask(LogKeys(kind, command.channel), message, network)
        except OwnerUnavailableError as error:
            self.outcomes[error.outcome] += 1
            raise
        self.outcomes[CommandOutcome.ANSWERED] += 1
        return answer

    async def run(self) -> None:
        """Carry out the commands that come to this node, until cancelled."""
        places = asyncio.Semaphore(self.limits.commands_at_once)
        async with asyncio.TaskGroup() as group:
            while True:
                await self._connection.wait_until_up()
                await places.acquire()
                found = await self._next()
                if found is None or self.carry_out is None:
                    places.release()
                else:
                    task = group.create_task(self._handle(found, self.carry_out))
                    task.add_done_callback(lambda _: places.release())
                await asyncio.sleep(PAUSE_SECONDS)

    async def _ask(self, keys: LogKeys, message: bytes, network: str) -> CommandAnswer:
        try:
            async with asyncio.timeout(self.limits.answer_seconds) as turn, self._places.held(network):
                turn.reschedule(None)
                return await self._exchange(keys, message)
        except (TooManyWaitingError, TimeoutError) as error:
            raise OwnerUnavailableError(CommandOutcome.BUSY) from error
        except RedisUnavailableError as error:
            raise OwnerUnavailableError(CommandOutcome.REDIS_AWAY) from error

    async def _exchange(self, keys: LogKeys, message: bytes) -> CommandAnswer:
        limits, call = self.limits, self._connection.call
        owner = await call(lambda client: client.hget(keys.lease, "token"), {keys.lease: "hash"})
        if owner is None or not _ID.fullmatch(owner):
            raise OwnerUnavailableError(CommandOutcome.NO_OWNER)
        name = os.urandom(16).hex()
        waiting = _waiting(owner.decode())
        named = waiting, self._command(waiting, name)
        terms = name, message, _milliseconds(limits), limits.waiting_commands
        if not await call(lambda client: client.eval(_SEND, len(named), *named, *terms)):
            raise OwnerUnavailableError(CommandOutcome.OWNER_BUSY)
        found = await self._pop(_answer(name), limits.answer_seconds)
        if found is None:
            raise OwnerUnavailableError(CommandOutcome.UNANSWERED)
        if len(found) > limits.answer_bytes:
            raise OwnerUnavailableError(CommandOutcome.UNREADABLE)
        try:
            return read_message(_ANSWERS, found, "answer to a command")
        except MalformedError:
            raise OwnerUnavailableError(CommandOutcome.UNREADABLE) from None

    async def _next(self) -> bytes | None:
        """Wait for the ID of a command; None where nothing has come for a while."""
        try:
            found = await self._pop(self._waiting, self.limits.answer_seconds)
        except RedisUnavailableError:
            return None
        return found if found is not None and _ID.fullmatch(found) else None

    async def _handle(self, found: bytes, carry_out: CarryOut) -> None:
        """Carry out a command, unless somebody else has done that or it is too late."""
        name, limits, call = found.decode(), self.limits, self._connection.call
        key = self._command(self._waiting, name)
        try:
            async with asyncio.timeout(limits.answer_seconds):
                message = await call(lambda client: client.eval(_TAKE, 1, key, MAX_COMMAND_BYTES))
                if message is None:
                    return
                command = read_message(_COMMANDS, message, "command")
                answer = msgspec.msgpack.encode(await carry_out(command))
                await call(lambda client: _push(client, _answer(name), answer, _milliseconds(limits)))
        except MalformedError as error:
            log.warning("a command in Redis can't be read", command=name, reason=str(error))
        except (RedisUnavailableError, TimeoutError) as error:
            reason = str(error) or "its time is up"
            log.warning("a command of another node wasn't answered", command=name, reason=reason)

    def _command(self, waiting: str, name: str) -> str:
        """Return a command's key; in a Redis Cluster it shares the slot of the list that announces it."""
        return f"{PREFIX}:command:{{{waiting}}}:{name}" if self._connection.is_cluster else _command(name)

    async def _pop(self, key: str, seconds: float) -> bytes | None:
        found = await self._connection.wait(
            lambda client: client.blpop([key], timeout=seconds), seconds, {key: "list"}
        )
        return None if found is None else found[1]


def _waiting(token: str) -> str:
    """Name the list of the IDs of commands that wait for a node."""
    return f"{PREFIX}:node:{token}:commands"


def _command(name: str) -> str:
    return f"{PREFIX}:command:{name}"


def _answer(name: str) -> str:
    return f"{PREFIX}:command:{name}:answer"


def _milliseconds(limits: ClusterLimits) -> int:
    """Return the seconds after which a sent command expires in Redis."""
    return round(limits.answer_seconds * 1000)


async def _push(redis: Any, key: str, value: bytes, expiry: int) -> None:
    await redis.eval(_PUSH, 1, key, value, expiry)
