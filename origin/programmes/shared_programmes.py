"""Programmes of channels on all nodes of a cluster: Redis has those of each channel, and each node a copy."""

from __future__ import annotations

import asyncio
import errno
import time
import zlib
from collections.abc import Callable, Iterable, Mapping
from functools import partial

import structlog

from packager.cluster.broadcast import Broadcast
from packager.cluster.connection import RedisUnavailableError
from packager.cluster.lease import PREFIX
from packager.cluster.node import ClusterNode
from packager.concurrency import wait_within
from packager.inflation import inflated
from packager.past.programmes import Schedule
from packager.programmes.store import (
    MAX_FILE_BYTES,
    ProgrammeStore,
    changed,
    decode_programmes,
    encode_programmes,
)
from packager.threads import SHARED_THREADS

log = structlog.get_logger()

LOOK_SECONDS = 1.0
"""How often it is looked which channels there are."""

EXCHANGE_SECONDS = 30.0
"""Pause between two exchanges of all programmes, where neither Redis nor a message was lost."""

KEPT_SECONDS = 30 * 86_400
"""How long programmes stay in Redis behind the last node that has read them."""

_VERSION_DIGITS = 20

# The version is the time of the change in milliseconds, and another one than before.
_WRITE = """
local there = redis.call('GETRANGE', KEYS[1], 0, 19)
if ARGV[2] ~= '*' and there ~= ARGV[2] then
  return ''
end
local now = redis.call('TIME')
local version = now[1] * 1000 + math.floor(now[2] / 1000)
local text = string.format('%020.0f', version)
if text == there then
  text = string.format('%020.0f', version + 1)
end
redis.call('SET', KEYS[1], text .. ARGV[1], 'EX', ARGV[3])
return text
"""
_ANY = b"*"

_READ = """
if redis.call('EXPIRE', KEYS[1], ARGV[2]) == 0 then
  return false
end
if redis.call('GETRANGE', KEYS[1], 0, 19) == ARGV[1] then
  return ''
end
if redis.call('STRLEN', KEYS[1]) > tonumber(ARGV[3]) then
  return redis.call('GETRANGE', KEYS[1], 0, 19)
end
return redis.call('GET', KEYS[1])
"""


class SharedProgrammes:
    """Shares the programmes of all channels that a node serves.

    A change is in Redis before the node that is asked for it has it. The other nodes get a message, and look
    besides at intervals. A Redis that has lost its data gets them from any node.

    Args:
        stores: the programmes of the channels that the node makes, by channel.
        recorded: returns the names of a channel's programmes that are recordings here.
        stations: names of the stations with a DVR that only other nodes make.

    Attributes:
        followed: the programmes of channels that other nodes make.
    """

    def __init__(
        self,
        node: ClusterNode,
        stores: Mapping[str, ProgrammeStore],
        recorded: Callable[[str], Iterable[str]],
        stations: frozenset[str] = frozenset(),
    ) -> None:
        self._stations = stations
        self.followed: dict[str, ProgrammeStore] = {}
        self._node = node
        self._own = stores
        self._recorded = recorded
        self._versions: dict[str, bytes] = {}
        self._untold: dict[str, None] = {}
        self._news = asyncio.Event()
        self._due: set[str] = set()
        self._wake = asyncio.Event()
        self._broadcast = Broadcast(
            node.connection, node.token, "programmes", self._next_message, self._take_message
        )
        for channel, store in stores.items():
            store.share = partial(self._share, channel)

    def store(self, channel: str) -> ProgrammeStore | None:
        """Return the programmes of a channel that other nodes make; None where there is none of the name."""
        store = self.followed.get(channel)
        if store is None and (channel in self._stations or self._node.is_owned_elsewhere(channel)):
            store = self.followed[channel] = ProgrammeStore(channel, None)
            store.share = partial(self._share, channel)
            self._look_soon(channel)
        return store

    async def run(self) -> None:
        """Share until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._broadcast.run())
            group.create_task(self._follow())

    async def _follow(self) -> None:
        connection = self._node.connection
        looked, lost = -EXCHANGE_SECONDS, -1
        while True:
            await connection.wait_until_up()
            self._wake.clear()
            is_due = lost != connection.lost or time.monotonic() - looked >= EXCHANGE_SECONDS
            if is_due:
                looked, lost = time.monotonic(), connection.lost
            try:
                await self._look(everywhere=is_due)
            except RedisUnavailableError:
                looked = -EXCHANGE_SECONDS
                await asyncio.sleep(LOOK_SECONDS)
                continue
            await wait_within(LOOK_SECONDS, self._wake.wait())

    async def _look(self, *, everywhere: bool) -> None:
        """Read what has changed in Redis, and write what it lacks.

        Raises:
            RedisUnavailableError: Redis is away.
        """
        there = self._node.followed | self._stations
        for channel in self.followed.keys() - there:
            del self.followed[channel]
            self._versions.pop(channel, None)
        for channel in there:
            self.store(channel)
        known = {**self.followed, **self._own}
        due, self._due = (set(known) if everywhere else self._due), set()
        for channel, store in known.items():
            # Programmes of the data folder come first, for which a channel may have to wait.
            is_readable = store.is_loaded or channel in self.followed
            if is_readable and (channel in due or channel not in self._versions):
                try:
                    await store.follow(partial(self._fetch, channel, store))
                except RedisUnavailableError:
                    self._due |= due
                    raise

    async def _fetch(self, channel: str, store: ProgrammeStore) -> Schedule | None:
        """Read the programmes of a channel from Redis; None where they are those that are known."""
        known, key = self._versions.get(channel, b""), _key(channel)
        terms = known, KEPT_SECONDS, MAX_FILE_BYTES
        found = await self._node.connection.call(
            lambda client: client.eval(_READ, 1, key, *terms), {key: "string"}
        )
        if found is None:
            if len(store.schedule) or known:
                await self._write(channel, store.schedule, b"")
            else:
                self._versions[channel] = b""
            return store.schedule
        if not found:
            return None
        version, data = found[:_VERSION_DIGITS], found[_VERSION_DIGITS:]
        self._versions[channel] = version
        read = await SHARED_THREADS.run(_unpacked, data)
        if read is None:
            log.warning("programmes in Redis can't be read", channel=channel)
            return store.schedule
        own = self._node.channels.get(channel) or self._node.simulcasts.get(channel)
        if own is None or not own.is_owner:
            return read
        # Programmes that are recordings stay as they are.
        made, stayed = await SHARED_THREADS.run(
            changed, store.schedule, list(read), set(self._recorded(channel))
        )
        if stayed and not await self._write(channel, made, version):
            self._look_soon(channel)
        return made

    async def _share(self, channel: str, schedule: Schedule) -> None:
        """Write programmes that were changed here, for all nodes.

        Raises:
            OSError: Redis is away.
        """
        try:
            await self._write(channel, schedule, _ANY)
        except RedisUnavailableError as error:
            raise OSError(errno.EAGAIN, f"Redis is away: {error}") from error

    async def _write(self, channel: str, schedule: Schedule, there: bytes) -> bool:
        """Write the programmes of a channel; return False where others are there than were known.

        Args:
            there: the version in Redis that is replaced; empty for none, `_ANY` for any.

        Raises:
            RedisUnavailableError: Redis is away.
        """
        key, data = _key(channel), await SHARED_THREADS.run(_packed, schedule)
        version = await self._node.connection.call(
            lambda client: client.eval(_WRITE, 1, key, data, there, KEPT_SECONDS), {key: "string"}
        )
        if version:
            self._versions[channel] = version
            self._untold[channel] = None
            self._news.set()
        return bool(version)

    async def _next_message(self) -> bytes:
        while not self._untold:
            self._news.clear()
            await self._news.wait()
        channel = next(iter(self._untold))
        del self._untold[channel]
        return channel.encode()

    def _take_message(self, message: bytes) -> None:
        channel = message.decode("utf-8", "replace")
        if channel in self._own or channel in self.followed:
            self._look_soon(channel)

    def _look_soon(self, channel: str) -> None:
        self._due.add(channel)
        self._wake.set()


def _key(channel: str) -> str:
    return f"{PREFIX}:programmes:{channel}"


def _packed(schedule: Schedule) -> bytes:
    return zlib.compress(encode_programmes(schedule), 1)


def _unpacked(data: bytes) -> Schedule | None:
    """Read what another node has written; None where it can't be read."""
    text = inflated(data, MAX_FILE_BYTES)
    found = None if text is None else decode_programmes(text)
    return None if found is None else Schedule(found)
