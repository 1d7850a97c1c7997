"""Messages of each node to all others, over a stream in Redis that has the latest ones."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping

from packager.cluster.connection import RedisConnection, RedisUnavailableError
from packager.cluster.lease import PREFIX
from packager.step_budget import StepBudget

READ_SECONDS = 5.0
"""Longest time that Redis waits for a message."""

READ_AT_ONCE = 100
"""Most messages that are read at once."""

MOST_MESSAGES = 256
"""Most messages that stay in Redis."""

KEPT_SECONDS = 300
"""How long messages stay in Redis behind the last one."""

MOST_BYTES = 256 << 10
"""Longest message that is read."""

_SEND = """
local key = KEYS[1]
if redis.call('TYPE', key).ok ~= 'stream' then
  redis.call('DEL', key)
end
redis.call('XADD', key, 'MAXLEN', '~', ARGV[3], '*', 'node', ARGV[1], 'message', ARGV[2])
redis.call('EXPIRE', key, ARGV[4])
"""


class Broadcast:
    """Sends what a node has to tell, and reads what the others tell.

    A message may be lost while Redis is away: who sends it says it again after a while.

    Args:
        token: tells this node's messages from those of others.
        topic: the last part of the key of the stream.
        next_message: waits for the next message.
        on_message: called with each message of another node.
    """

    def __init__(
        self,
        connection: RedisConnection,
        token: str,
        topic: str,
        next_message: Callable[[], Awaitable[bytes]],
        on_message: Callable[[bytes], None],
    ) -> None:
        self._connection = connection
        self._token = token
        self._key = f"{PREFIX}:{topic}"
        self._next_message = next_message
        self._on_message = on_message

    async def run(self) -> None:
        """Send and read until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._send())
            group.create_task(self._read())

    async def _send(self) -> None:
        while True:
            await self._connection.wait_until_up()
            terms = self._token, await self._next_message(), MOST_MESSAGES, KEPT_SECONDS
            with contextlib.suppress(RedisUnavailableError):
                await self._connection.call(lambda client: client.eval(_SEND, 1, self._key, *terms))  # noqa: B023

    async def _read(self) -> None:
        behind: str | bytes = "0-0"
        budget = StepBudget()
        while True:
            await self._connection.wait_until_up()
            try:
                found = await self._connection.read_streams(
                    {self._key.encode(): behind}, READ_AT_ONCE, READ_SECONDS
                )
            except RedisUnavailableError:
                continue
            for entry_id, fields in found[0][1] if found else ():
                behind = entry_id
                self._handle(fields)
                await budget.spend()

    def _handle(self, fields: Mapping[bytes, bytes]) -> None:
        message = fields.get(b"message")
        if message is not None and fields.get(b"node") != self._token.encode() and len(message) <= MOST_BYTES:
            self._on_message(message)
