"""One log in Redis: a stream of its newest entries, and a snapshot for those who begin to follow it.

A channel has one stream for all its renditions, since its log has one order; an entry's ID there is
EPOCH-POSITION. So Redis itself refuses what comes twice, late, or from an owner that has been replaced.

A node that doesn't serve a channel yet asks for a listing: a snapshot that lacks the bytes of segments. The
bytes follow in a stream of their own, so that even many segments can be listed at once.
"""

from __future__ import annotations

import asyncio
import os
import re
import struct
import time
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from media.errors import MalformedError
from packager.cluster.connection import RedisConnection
from packager.cluster.lease import AHEAD_SECONDS, LogKeys
from packager.cluster.limits import MAX_SNAPSHOT_BYTES, ClusterLimits
from packager.reader_guard import ReaderGuard

# An entry that is there already is repeated, as the answer to the first attempt was lost. An entry that is
# refused, and isn't there, follows an entry that no owner appended: nothing can be appended to such a stream.
# By the first line Redis refuses the script where its memory is full, or it takes no writes.
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

# Entries that no owner can have appended are passed over.
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

# A snapshot that stays for ever was written by no node, and would never make room for another one.
_LOOK = """
local entries, listing, snapshot, head_bytes = KEYS[1], KEYS[2], KEYS[3], ARGV[1]
local first = redis.call('XRANGE', entries, '-', '+', 'COUNT', 1)[1]
local function head_of(key)
  return redis.call('PTTL', key) < 0 and '' or redis.call('GETRANGE', key, 0, head_bytes - 1)
end
return {
  first and first[1] or '',
  head_of(listing), redis.call('STRLEN', listing),
  head_of(snapshot), redis.call('STRLEN', snapshot)
}
"""

# Nodes that ask for the same kind at the same time wait for the same snapshot.
_ASK = """#!lua
local wanted, what, remembered = KEYS[1], ARGV[1], ARGV[2]
for _, one in ipairs(redis.call('LRANGE', wanted, 0, 15)) do
  if one == what then
    return
  end
end
redis.call('RPUSH', wanted, what)
redis.call('EXPIRE', wanted, remembered)
"""

_ADD_MEDIA = """#!lua
local media, remembered = KEYS[1], ARGV[1]
for number = 2, #ARGV do
  redis.call('XADD', media, '*', 'entry', ARGV[number])
end
redis.call('EXPIRE', media, remembered)
"""

WHOLE, LISTING = b"1", b"2"
"""The kinds of snapshots: with the bytes of segments, or without them."""

LARGEST = 1 << 53
"""Numbers of Lua are exact below; what is larger in Redis wasn't written by a node."""

_HEAD = struct.Struct(">QQ")
_TOKEN_BYTES = 16
_ID = re.compile(rb"([0-9]{1,16})-([0-9]{1,16})")

SNAPSHOT_SECONDS = 5
"""Seconds for which a snapshot stays in Redis."""

MEDIA_SECONDS = 8
"""Seconds for which the bytes that a listing lacks stay in Redis after the last was added or read; longer
than listings.
"""

TRANSFER_SECONDS = 10.0
"""Seconds for which a snapshot may be on its way, beyond the limit of any answer."""


class EmptiedError(Exception):
    """A stream had an entry that no owner appended, behind which nothing could be; now it is empty."""


class EntryId(NamedTuple):
    """The ID of an entry: the epoch of the owner that appended it, and its position in the log."""

    epoch: int
    position: int

    def __str__(self) -> str:
        """Write the ID as Redis does."""
        return f"{self.epoch}-{self.position}"

    @classmethod
    def read(cls, data: bytes) -> EntryId:
        """Read what Redis has written.

        Raises:
            MalformedError: it is no ID.
        """
        found = _ID.fullmatch(data)
        if found is None:
            raise MalformedError(f"not an ID of an entry: {data!r:.100}")
        return _checked(cls(int(found[1]), int(found[2])))

    @classmethod
    def read_owned(cls, data: bytes) -> EntryId:
        """Read that of an entry whose owner took its epoch from the clock.

        Raises:
            MalformedError: it is no ID, or of an epoch that is yet to come.
        """
        return _owned(cls.read(data))

    @classmethod
    def read_head(cls, data: bytes) -> EntryId:
        """Read the one with which a snapshot begins: that of the entry up to which it goes.

        Raises:
            MalformedError: there is none, or one that no owner has given.
        """
        if len(data) < _HEAD.size:
            raise MalformedError(f"a snapshot of {len(data)} bytes is too short for its head")
        return _owned(_checked(cls(*_HEAD.unpack_from(data))))


def _checked(number: EntryId) -> EntryId:
    if max(number) >= LARGEST:
        raise MalformedError(f"the ID of an entry is too large: {number}")
    return number


def _owned(number: EntryId) -> EntryId:
    if number.epoch > 1000 * (time.time() + AHEAD_SECONDS):
        raise MalformedError(f"an entry's epoch lies in the future: {number}")
    return number


class Snapshot(NamedTuple):
    """The entries of a log up to a position.

    Attributes:
        data: entries, one behind the other.
        media: token of the stream in which the bytes of segments are that it lacks; empty where it has all.
    """

    last: EntryId
    data: bytes
    media: str = ""


class LogStream:
    """A log in Redis."""

    def __init__(self, connection: RedisConnection, keys: LogKeys, limits: ClusterLimits) -> None:
        self._connection = connection
        self._limits = limits
        self.keys = keys

    async def append(
        self, epoch: int, entries: Iterable[tuple[EntryId, bytes]], oldest: EntryId | None = None
    ) -> bool:
        """Append entries; False where another has a later epoch, and nothing was appended.

        Args:
            entries: the ID of each, of this epoch or an earlier one, and its bytes.
            oldest: earlier entries are removed; None keeps all.

        Raises:
            EmptiedError: nothing could be appended; the entries that were there have gone, too.
            RedisUnavailableError: Redis is away, here and in the methods below.
        """
        arguments: list[str | bytes] = [
            str(epoch),
            "" if oldest is None else str(oldest),
            str(self._limits.log_gone_seconds),
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
        """Return the ID of the newest entry of earlier owners; None where there is none.

        Args:
            following: the epoch of the next owner, which has appended nothing yet.
        """
        entries, mine = self.keys.entries, str(following)
        found = await self._connection.call(lambda client: client.eval(_LAST, 1, entries, mine))
        return None if found is None else EntryId.read(found)

    async def store_snapshot(
        self, last: EntryId, messages: Sequence[bytes], *, is_last: bool = False
    ) -> None:
        """Store a snapshot for nodes that begin to follow the log now.

        Args:
            last: the last entry of the snapshot.
            is_last: whether no other will follow, so that the snapshot stays as long as the log does.
        """
        seconds = self._limits.log_gone_seconds if is_last else SNAPSHOT_SECONDS
        await self._set(self.keys.snapshot, (_HEAD.pack(*last), *messages), seconds)

    async def store_listing(self, last: EntryId, messages: Sequence[bytes]) -> str:
        """Store a snapshot without the bytes of segments, which are to be added at once; return its token.

        Args:
            last: the last entry of the snapshot.
        """
        token = os.urandom(_TOKEN_BYTES)
        value = _HEAD.pack(*last), token, *messages
        await self._set(self.keys.listing, value, SNAPSHOT_SECONDS)
        return token.hex()

    async def _set(self, key: str, pieces: Iterable[bytes], seconds: int) -> None:
        value = b"".join(pieces)
        await self._connection.wait(lambda client: client.set(key, value, ex=seconds), TRANSFER_SECONDS)

    async def add_media(self, token: str, messages: Sequence[bytes]) -> None:
        """Add bytes of segments that a listing lacks."""
        key, seconds = self.keys.media(token), str(MEDIA_SECONDS)
        await self._connection.wait(
            lambda client: client.eval(_ADD_MEDIA, 1, key, seconds, *messages), TRANSFER_SECONDS
        )

    async def read_media(self, token: str, behind: bytes, count: int) -> list[tuple[bytes, bytes]]:
        """Wait for bytes of segments that a listing lacks, and return them; nothing if none come.

        Reading extends the time for which they stay in Redis.

        Args:
            behind: the ID of the last entry that was read.
            count: most entries.

        Returns:
            The ID of each entry, and its bytes.
        """
        key, limits = self.keys.media(token), self._limits
        found = await self._connection.read_streams({key.encode(): behind}, count, limits.read_seconds)
        if not found:
            return []
        await self._connection.call(lambda client: client.expire(key, MEDIA_SECONDS))
        return [(number, fields.get(b"entry", b"")) for _, entries in found for number, fields in entries]

    async def find_snapshot(self, wanted: bytes = WHOLE) -> Snapshot:
        """Return a snapshot from which the kept entries continue; request a new one if there is none.

        Args:
            wanted: ``LISTING`` where one without the bytes of segments is preferred.

        Raises:
            TimeoutError: nobody made one in time.
            MalformedError: it can't be read.
        """
        while True:
            async with asyncio.timeout(self._limits.wanted_seconds):
                key = await self._wait_for_snapshot(wanted)
            value = await self._get(key)
            begin = _HEAD.size + (_TOKEN_BYTES if key == self.keys.listing else 0)
            if value is not None and len(value) >= begin:
                token = value[_HEAD.size : begin].hex()
                return Snapshot(EntryId.read_head(value), value[begin:], token)

    async def _get(self, key: str) -> bytes | None:
        """Read a snapshot, which may have many megabytes: the network has its own time for them."""
        value: bytes | None = await self._connection.wait(lambda client: client.get(key), TRANSFER_SECONDS)
        return value

    async def _wait_for_snapshot(self, wanted: bytes) -> str:
        """Wait for a snapshot from which the kept entries continue, and return its key."""
        begun, asked = time.monotonic(), False
        while True:
            found = await self._look()
            if wanted == LISTING and self.keys.listing in found:
                return self.keys.listing
            is_late = time.monotonic() > begun + self._limits.listing_seconds
            if self.keys.snapshot in found and (wanted != LISTING or is_late):
                return self.keys.snapshot
            if not asked:
                asked = True
                await self._ask(wanted)
            await asyncio.sleep(self._limits.snapshot_look_seconds)

    async def _ask(self, wanted: bytes) -> None:
        key, seconds = self.keys.wanted, str(max(round(self._limits.wanted_seconds), 1))
        await self._connection.call(lambda client: client.eval(_ASK, 1, key, wanted, seconds), {key: "list"})

    async def _look(self) -> set[str]:
        """Return the keys of the snapshots from which the kept entries continue."""
        keys, most = self.keys, MAX_SNAPSHOT_BYTES
        asked = keys.entries, keys.listing, keys.snapshot
        found = await self._connection.call(
            lambda client: client.eval(_LOOK, len(asked), *asked, str(_HEAD.size)),
            {keys.entries: "stream", keys.listing: "string", keys.snapshot: "string"},
        )
        first = EntryId.read(found[0]) if found[0] else None
        fitting = set[str]()
        for key, head, size in ((keys.listing, *found[1:3]), (keys.snapshot, *found[3:])):
            try:
                with ReaderGuard("a log in Redis"):
                    last = EntryId.read_head(head)
            except MalformedError:
                continue  # the owner writes another one where this is all there is
            if first is None or first.position > last.position + 1:
                continue
            if size > most:
                raise MalformedError(f"a snapshot of more than {most} bytes")
            fitting.add(key)
        return fitting
