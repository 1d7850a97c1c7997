"""One log in Redis: a stream of its newest entries, and a snapshot for those who begin to follow it.

A channel has one stream for all its renditions, since its log has one order; an entry's ID there is
EPOCH-POSITION. So Redis itself refuses what comes twice, late, or from an owner that has been replaced.
"""

from __future__ import annotations

import asyncio
import re
import struct
import time
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from media.errors import MalformedError
from packager.cluster.connection import RedisConnection
from packager.cluster.lease import AHEAD_SECONDS, LogKeys
from packager.cluster.limits import LogStreamLimits

# An entry that is there already isn't one too many: the answer to who appended it was lost. One that is
# refused, and isn't there, stands behind what no owner appended: nothing can be appended to such a stream.
# By the first line Redis refuses all where its memory is full, or it takes no writes.
_APPEND = """#!lua
local entries, epoch = KEYS[1], KEYS[2]
local mine, oldest, remembered = ARGV[1], ARGV[2], ARGV[3]
if redis.call('GET', epoch) ~= mine then
  return 0
end
local function is_blocked(id, error)
  if error:find('equal or smaller', 1, true) then
    return #redis.call('XRANGE', entries, id, id) == 0
  end
  return error:find('exhausted', 1, true) or error:find('WRONGTYPE', 1, true)
end
for number = 4, #ARGV, 2 do
  local id = ARGV[number]
  local added = redis.pcall('XADD', entries, id, 'entry', ARGV[number + 1])
  if type(added) == 'table' and added.err then
    if is_blocked(id, added.err) then
      redis.call('DEL', entries)
      return 2
    elseif not added.err:find('equal or smaller', 1, true) then
      return added
    end
  end
end
if oldest ~= '' then
  redis.call('XTRIM', entries, 'MINID', oldest)
end
redis.call('EXPIRE', entries, remembered)
return 1
"""
_FENCED, _EMPTIED = 0, 2

# What no owner can have appended is passed over.
_LAST = """
local entries, following = KEYS[1], ARGV[1]
if redis.call('TYPE', entries).ok ~= 'stream' then
  return false
end
local before = '(' .. following .. '-0'
for _ = 1, 64 do
  local found = redis.call('XREVRANGE', entries, before, '-', 'COUNT', 1)[1]
  if not found or tonumber(found[1]:match('-(%d+)')) < 9007199254740992 then
    return found and found[1]
  end
  before = '(' .. found[1]
end
return false
"""

LARGEST = 1 << 53
"""Numbers of Lua are exact below; what is larger in Redis wasn't written by a node."""

_HEAD = struct.Struct(">QQ")
_ID = re.compile(rb"([0-9]{1,16})-([0-9]{1,16})")


class EmptiedError(Exception):
    """A stream had an entry that no owner appended, behind which nothing could be; now it is empty."""


class EntryId(NamedTuple):
    """The ID of an entry: the epoch of the owner that appended it, and its position in the log."""

    epoch: int
    position: int

    def __str__(self) -> str:
        """Write it as Redis does."""
        return f"{self.epoch}-{self.position}"

    @classmethod
    def read(cls, data: bytes) -> EntryId:
        """Read what Redis has written.

        Raises:
            MalformedError: it is no ID.
        """
        found = _ID.fullmatch(data)
        number = None if found is None else cls(int(found[1]), int(found[2]))
        if number is None or max(number) >= LARGEST:
            raise MalformedError(f"no ID of an entry: {data!r:.100}")
        return number

    @classmethod
    def read_owned(cls, data: bytes) -> EntryId:
        """Read that of an entry whose owner took its epoch from the clock.

        Raises:
            MalformedError: it is no ID, or of an epoch that is yet to come.
        """
        number = cls.read(data)
        if number.epoch > 1000 * (time.time() + AHEAD_SECONDS):
            raise MalformedError(f"an entry of an epoch that is yet to come: {number}")
        return number


class Snapshot(NamedTuple):
    """What a log has given up to an entry.

    Attributes:
        last: that entry.
        data: entries, one behind the other.
    """

    last: EntryId
    data: bytes


class LogStream:
    """A log in Redis.

    Args:
        connection: to Redis.
        keys: the log's.
        limits: of it.
    """

    def __init__(self, connection: RedisConnection, keys: LogKeys, limits: LogStreamLimits) -> None:
        self._connection = connection
        self._limits = limits
        self.keys = keys

    async def append(
        self, epoch: int, entries: Iterable[tuple[EntryId, bytes]], oldest: EntryId | None = None
    ) -> bool:
        """Append entries; False where another has a later epoch, and nothing was appended.

        Args:
            epoch: of who appends.
            entries: the ID of each, of this epoch or an earlier one, and its bytes.
            oldest: what is before this one goes; None keeps all.

        Raises:
            EmptiedError: nothing could be appended; the entries that were there have gone, too.
            RedisUnavailableError: Redis is away; likewise below.
        """
        arguments: list[str | bytes] = [
            str(epoch),
            "" if oldest is None else str(oldest),
            str(self._limits.gone_seconds),
        ]
        for number, data in entries:
            arguments += (str(number), data)
        keys = self.keys.entries, self.keys.epoch
        done = await self._connection.call(
            lambda client: client.eval(_APPEND, len(keys), *keys, *arguments), {self.keys.epoch: "string"}
        )
        if done == _EMPTIED:
            raise EmptiedError
        return bool(done != _FENCED)

    async def last(self, following: int) -> EntryId | None:
        """Give the ID of the newest entry of earlier owners; None where there is none.

        Args:
            following: the epoch of the owner behind them, who has appended nothing yet.
        """
        entries, mine = self.keys.entries, str(following)
        found = await self._connection.call(lambda client: client.eval(_LAST, 1, entries, mine))
        return None if found is None else EntryId.read(found)

    async def first(self) -> EntryId | None:
        """Give the ID of the oldest entry that is kept.

        Raises:
            MalformedError: no owner has written it.
        """
        entries = self.keys.entries
        found = await self._connection.call(
            lambda client: client.xrange(entries, count=1), {entries: "stream"}
        )
        return EntryId.read(found[0][0]) if found else None

    async def store_snapshot(
        self, last: EntryId, messages: Sequence[bytes], *, is_last: bool = False
    ) -> None:
        """Keep a snapshot for whoever begins to follow the log now.

        Args:
            last: the entry up to which it goes.
            messages: its entries.
            is_last: whether nobody will write another one, so that it stays as long as the log does.
        """
        value = b"".join((_HEAD.pack(*last), *messages))
        seconds = self._limits.gone_seconds if is_last else self._limits.snapshot_seconds
        await self._connection.wait(
            lambda client: client.set(self.keys.snapshot, value, ex=seconds),
            self._limits.transfer_seconds,
        )

    async def find_snapshot(self) -> Snapshot:
        """Give a snapshot from which the entries that are kept go on; have one made where there is none.

        Raises:
            TimeoutError: nobody made one in time.
            MalformedError: it can't be read.
        """
        key = self.keys.snapshot
        while True:
            async with asyncio.timeout(self._limits.wanted_seconds):
                await self._wait_for_snapshot()
            # It may have many megabytes: the network has its own time for them.
            value: bytes | None = await self._connection.wait(
                lambda client: client.get(key), self._limits.transfer_seconds
            )
            if value is not None and len(value) >= _HEAD.size:
                return Snapshot(EntryId(*_HEAD.unpack_from(value)), value[_HEAD.size :])

    async def _wait_for_snapshot(self) -> None:
        asked = False
        while not await self._has_snapshot():
            if not asked:
                asked = True
                await self._connection.call(self._ask, {self.keys.wanted: "list"})
            await asyncio.sleep(self._limits.look_seconds)

    async def _ask(self, redis: Any) -> None:
        # Who asks at the same time waits for the same one.
        if not await redis.llen(self.keys.wanted):
            await redis.rpush(self.keys.wanted, b"1")
        await redis.expire(self.keys.wanted, max(round(self._limits.wanted_seconds), 1))

    async def _has_snapshot(self) -> bool:
        """Tell whether there is a snapshot from which the entries that are kept go on."""
        key, most = self.keys.snapshot, self._limits.snapshot_bytes
        head: bytes = await self._connection.call(
            lambda client: client.getrange(key, 0, _HEAD.size - 1), {key: "string"}
        )
        if len(head) < _HEAD.size:
            return False
        first = await self.first()
        if first is None or first.position > _HEAD.unpack(head)[1] + 1:
            return False
        if await self._connection.call(lambda client: client.strlen(key)) > most:
            raise MalformedError(f"a snapshot of more than {most} bytes")
        return True
