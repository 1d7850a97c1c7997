"""The records of event channels that are made at run time, in Redis: the same on all nodes, changed at any.

A hash has a line of JSON for each channel, and for each that is gone as long as that is answered. Each change
is one script, which Redis orders: it counts the channels of each creator, and adds the new line to a stream
that all nodes read. A node that begins, or has missed changes, reads the whole hash, and what has changed
meanwhile. Where Redis has lost changes, nodes give it what they know again.

Channels that have ended go by themselves: each node regularly lets Redis remove them, and without nodes all
keys expire.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import structlog

from media.errors import MalformedError
from packager.cluster.connection import RedisConnection, RedisUnavailableError
from packager.cluster.event_streams import KEEP_TYPE, EventStreams
from packager.cluster.limits import ClusterLimits
from packager.concurrency import wait_within
from packager.reader_guard import ReaderGuard

log = structlog.get_logger()

# Changes are repeated where their answer was lost: Redis knows them by the channel's number and revision.
_CHANGE = (
    "#!lua\n"
    + KEEP_TYPE
    + """
local records, ends, counts, changes, sizes, kept = unpack(KEYS)
local operation, before, middle, most_gone = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local most_changes, remembered = ARGV[5], ARGV[6]
keep(records, 'hash') keep(ends, 'zset') keep(counts, 'hash') keep(changes, 'stream')
keep(sizes, 'hash') keep(kept, 'zset')
local now = redis.call('TIME')
local seconds = now[1] + now[2] / 1000000
local function decoded(line)
  local done, found = pcall(cjson.decode, line or '')
  if not done or type(found) ~= 'table' or type(found.number) ~= 'string' or type(found.name) ~= 'string' then
    return
  end
  local is_made = found.type == 'made' and type(found.creator) == 'string' and type(found.settings) == 'table'
  local moment, revision = type(found.expires), type(found.revision)
  if is_made and (moment == 'nil' or moment == 'number') and (revision == 'nil' or revision == 'number') then
    return found
  end
  if found.type == 'gone' and type(found['until']) == 'number' then
    return found
  end
end
local function add(key, field, by)
  local left = (number(redis.call('HGET', key, field) or '0') or 0) + by
  if left > 0 then
    redis.call('HSET', key, field, string.format('%d', left))
  else
    redis.call('HDEL', key, field)
  end
  return math.max(left, 0)
end
local function forget_size(stream)
  local size = number(redis.call('HGET', sizes, stream) or '')
  redis.call('HDEL', sizes, stream)
  redis.call('ZREM', kept, stream)
  if size then
    add(sizes, '', -size)
  end
end
local function put(name, line, moment)
  redis.call('HSET', records, name, line)
  if moment then
    redis.call('ZADD', ends, string.format('%.6f', moment), name)
  else
    redis.call('ZREM', ends, name)
  end
end
local function tell(name, line)
  local version = add(counts, '#version', 1)
  local words = {'version', string.format('%d', version), 'name', name, 'line', line}
  local told = redis.pcall('XADD', changes, 'MAXLEN', '~', most_changes, '*', unpack(words))
  if type(told) == 'table' and told.err then
    redis.call('DEL', changes)
    redis.call('XADD', changes, '*', unpack(words))
  end
  return string.format('%d', version)
end
local function finish(name, held, moment)
  add(counts, held.creator, -1)
  add(counts, '', -1)
  local stream = name .. '@' .. held.number
  for _, what in ipairs({'entries', 'state', 'readers'}) do
    redis.call('DEL', before .. stream .. middle .. what)
  end
  forget_size(stream)
  local line = cjson.encode({type = 'gone', name = name, ['until'] = moment, number = held.number})
  if redis.call('HLEN', records) > most_gone + (number(redis.call('HGET', counts, '') or '0') or 0) then
    redis.call('HDEL', records, name)
    redis.call('ZREM', ends, name)
  else
    put(name, line, moment)
  end
  return line
end
local function begin(name, line, made)
  add(counts, made.creator, 1)
  add(counts, '', 1)
  put(name, line, made.expires)
  return tell(name, line)
end
local name, line = ARGV[7], ARGV[8]
local held = name and decoded(redis.call('HGET', records, name))
local is_made = held and held.type == 'made'
if operation == 'create' then
  local made = decoded(line)
  if is_made and held.number == made.number then
    return {'done', redis.call('HGET', counts, '#version')}
  end
  if is_made and (not held.expires or held.expires > seconds) then
    return {'exists'}
  end
  if is_made then
    finish(name, held, seconds)
  end
  if (number(redis.call('HGET', counts, '') or '0') or 0) >= tonumber(ARGV[9]) then
    return {'full'}
  end
  local of_creator = number(redis.call('HGET', counts, made.creator) or '0') or 0
  if ARGV[10] ~= '' and of_creator >= tonumber(ARGV[10]) then
    return {'creator'}
  end
  return {'done', begin(name, line, made)}
elseif operation == 'change' then
  local made = decoded(line)
  if not is_made or held.number ~= made.number then
    return {'gone'}
  end
  local was = held.revision or 0
  if was == made.revision and redis.call('HGET', records, name) == line then
    return {'done', redis.call('HGET', counts, '#version')}
  end
  if was ~= made.revision - 1 then
    return {'conflict'}
  end
  put(name, line, made.expires)
  return {'done', tell(name, line)}
elseif operation == 'delete' then
  if not is_made or held.number ~= line then
    return {'done', redis.call('HGET', counts, '#version') or '0'}
  end
  return {'done', tell(name, finish(name, held, tonumber(ARGV[9])))}
elseif operation == 'restore' then
  for index = 7, #ARGV do
    local given = decoded(ARGV[index])
    if given then
      held = decoded(redis.call('HGET', records, given.name))
      local is_same = held and held.number == given.number
      if given.type == 'made' and not held and (not given.expires or given.expires > seconds) then
        begin(given.name, ARGV[index], given)
      elseif given.type == 'gone' and is_same and held.type == 'made' then
        tell(given.name, finish(given.name, held, given['until']))
      elseif given.type == 'gone' and not held and given['until'] > seconds then
        put(given.name, ARGV[index], given['until'])
        tell(given.name, ARGV[index])
      elseif given.type == 'made' and is_same and held.type == 'made'
        and (given.revision or 0) > (held.revision or 0) then
        put(given.name, ARGV[index], given.expires)
        tell(given.name, ARGV[index])
      end
    end
  end
  return {'done'}
end
local until_now = string.format('%.6f', seconds)
for _, one in ipairs(redis.call('ZRANGEBYSCORE', ends, '-inf', until_now, 'LIMIT', 0, 200)) do
  local over = decoded(redis.call('HGET', records, one))
  if over and over.type == 'made' and over.expires and over.expires <= seconds then
    local kept_for = math.max(tonumber(over.settings.keep_for) or 0, tonumber(over.settings.history) or 0)
    finish(one, over, over.expires + (kept_for > 0 and kept_for or tonumber(ARGV[7])))
  elseif over and over.type == 'made' then
    put(one, redis.call('HGET', records, one), over.expires)
  else
    redis.call('HDEL', records, one)
    redis.call('ZREM', ends, one)
  end
end
for _, one in ipairs(redis.call('ZRANGEBYSCORE', kept, '-inf', until_now, 'LIMIT', 0, 200)) do
  forget_size(one)
end
for _, key in ipairs(KEYS) do
  redis.call('EXPIRE', key, remembered)
end
return {'done', redis.call('HGET', sizes, '') or '0'}
"""
)

_STATE = """
local info = redis.pcall('INFO', 'server')
local run = type(info) == 'string' and info:match('run_id:(%w+)') or ''
local newest = redis.pcall('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)
local version = redis.pcall('HGET', KEYS[1], '#version')
return {run, type(version) == 'string' and version or '0', newest[1] and newest[1][1] or '0-0'}
"""

_NUMBER = re.compile(rb"[0-9]{1,16}")


class RecordRefusedError(Exception):
    """A change of a record isn't made.

    Attributes:
        reason: ``exists``, ``full``, ``creator`` (has so many), ``gone``, or ``conflict`` with a change.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class RecordConsumer(Protocol):
    """Keeps the records at a node."""

    def note(self, name: str, line: bytes) -> None:
        """Note the line of a channel, as it is now."""

    async def note_all(self, lines: Mapping[str, bytes]) -> None:
        """Note the lines of all channels; there are no others."""

    def lines(self) -> Iterable[bytes]:
        """Return the lines of all channels that are known, and of those that are gone."""


@dataclass(frozen=True, slots=True)
class _ChangesState:
    """How far the changes in Redis have come.

    Attributes:
        run: names the run of the server.
        version: number of the newest change.
        position: ID of it in the stream.
    """

    run: str
    version: int
    position: bytes


class SharedRecords:
    """The records of channels that all nodes share, as this node changes and follows them.

    Args:
        consumer: keeps the records here, as they change.

    Attributes:
        event_bytes: bytes of all events of such channels in Redis.
        is_level: set once all that was in Redis at the start is known.
        unreadable: changes that no node has written.
    """

    def __init__(
        self,
        connection: RedisConnection,
        streams: EventStreams,
        consumer: RecordConsumer,
        limits: ClusterLimits,
    ) -> None:
        self._consumer = consumer
        self._connection = connection
        self._limits = limits
        self._streams = streams
        self._keys = [streams.created_key(one) for one in ("records", "ends", "counts", "changes")]
        self._keys += streams.size_keys
        self._records, _, self._counts, self._changes = self._keys[:4]
        self._run: str | None = None
        self._version, self._position = 0, b"0-0"
        self._moved = asyncio.Event()
        self._lost = -1
        # Channels of which nobody knows whether they were made, by name: nobody has their tokens.
        self._undone: dict[str, str] = {}
        self.is_level = asyncio.Event()
        self.event_bytes = self.unreadable = 0

    # Changing

    async def create(
        self,
        name: str,
        number: str,
        line: bytes,
        most: int,
        most_of_creator: int | None,
        *,
        is_repeated: bool = False,
    ) -> None:
        """Make a channel.

        Args:
            number: tells the channel from others of this name.
            most: largest number of channels of the cluster.
            is_repeated: whether the caller tries again where Redis is away; otherwise the channel is undone.

        Raises:
            RecordRefusedError: it isn't made.
            RedisUnavailableError: Redis is away; the text says what is known.
        """
        terms = name, line, str(most), "" if most_of_creator is None else str(most_of_creator)
        try:
            await self._insist("create", *terms)
        except RedisUnavailableError:
            if not is_repeated:
                self.undo(name, number)
            raise

    def undo(self, name: str, number: str) -> None:
        """Delete a channel of which nobody knows, soon."""
        if len(self._undone) < self._limits.undone:
            self._undone[name] = number

    async def change(self, name: str, line: bytes) -> None:
        """Change a channel, whose line has the next revision.

        Raises:
            RecordRefusedError: it is gone, or another node has changed it.
            RedisUnavailableError: Redis is away; the text says what is known.
        """
        await self._insist("change", name, line)

    async def delete(self, name: str, number: str, until: float) -> None:
        """Delete a channel, which counts as gone until a time.

        Raises:
            RedisUnavailableError: Redis is away; the text says what is known.
        """
        await self._insist("delete", name, number, f"{until:.6f}")

    async def catch_up(self) -> None:
        """Wait until this node knows all that was changed before.

        Raises:
            RedisUnavailableError: Redis is away, or the changes don't come.
        """
        state = await self._state()
        if self._run is None or state.version != self._version:
            await self._reach(state.version)

    async def _insist(self, operation: str, *terms: str | bytes) -> None:
        """Carry out a change, again and again until it is known to be, or its time is over."""
        deadline, was_sent = time.monotonic() + self._limits.change_seconds, False
        while (left := deadline - time.monotonic()) > 0:
            await wait_within(left, self._connection.wait_until_up())
            if not self._connection.is_up:
                continue
            was_sent = True
            try:
                with ReaderGuard("an answer of Redis"):
                    answer = await self._eval(operation, *terms)
                    refusal = "" if answer[0] == b"done" else answer[0].decode()
                    version = 0 if refusal else int(answer[1])
            except RedisUnavailableError:
                continue
            except MalformedError:
                await asyncio.sleep(self._limits.pause_seconds)
                continue
            if refusal:
                raise RecordRefusedError(refusal)
            with contextlib.suppress(RedisUnavailableError):
                await self._reach(version)
            return
        told = "nobody knows whether it is" if was_sent else "it isn't"
        raise RedisUnavailableError(
            f"Redis, which has the channels of a cluster, can't be reached: {told} done"
        )

    async def _reach(self, version: int) -> None:
        """Wait a while until a change has come back."""
        try:
            async with asyncio.timeout(self._limits.follow_seconds):
                while self._run is None or self._version < version:
                    self._moved.clear()
                    await self._moved.wait()
        except TimeoutError:
            raise RedisUnavailableError("the changes of channels are late") from None

    async def _eval(self, operation: str, *terms: str | bytes) -> Any:
        limits = self._limits
        common = str(limits.gone_channels), str(limits.changes), str(limits.remembered_seconds)
        words = operation, *self._streams.name_parts, *common, *terms
        return await self._connection.call(
            lambda client: client.eval(_CHANGE, len(self._keys), *self._keys, *words)
        )

    # Following

    async def run(self) -> None:
        """Follow the changes until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._tidy_up())
            while True:
                await self._connection.wait_until_up()
                try:
                    if self._run is None or self._lost != self._connection.lost:
                        await self._go_on()
                    if not await self._follow():
                        self._run = None
                except RedisUnavailableError:
                    await asyncio.sleep(self._limits.pause_seconds)

    async def _go_on(self) -> None:
        """Continue behind the known changes, or begin anew where Redis hasn't those."""
        lost, state = self._connection.lost, await self._state()
        if self.is_level.is_set() and (state.run != self._run or state.version < self._version):
            await self._restore()
            self._run = None
        if self._run is None:
            await self._begin(await self._state())
        self._lost = lost

    async def _begin(self, state: _ChangesState) -> None:
        """Read all records, and the changes since ``state``."""
        found = await self._scan()
        reached = await self._state()
        version, position = state.version, state.position
        while version < reached.version:
            changes = await self._read(position, 0.0)
            for position, number, name, line in changes:  # noqa: B007  # the last one is where to go on
                if number != version + 1:
                    raise RedisUnavailableError("changes of channels are gone")
                version = number
                found[name] = line
            if not changes:
                raise RedisUnavailableError("changes of channels are gone")
        await self._consumer.note_all(found)
        self._run, self._version, self._position = state.run, version, position
        self.is_level.set()
        self._moved.set()

    async def _scan(self) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        cursor: Any = 0
        most = self._limits.scanned
        while True:
            at = cursor

            def scan(client: Any, at: Any = at) -> Any:
                return client.hscan(self._records, at, count=self._limits.scanned_at_once)

            cursor, some = await self._connection.call(scan, {self._records: "hash"})
            found |= {name.decode("utf-8", "replace"): line for name, line in some.items()}
            if not int(cursor) or len(found) > most:
                return found

    async def _follow(self) -> bool:
        """Wait for changes, and note them; return whether there are none between that are gone."""
        for position, number, name, line in await self._read(self._position, self._limits.wait_seconds):
            if number != self._version + 1:
                return False
            self._consumer.note(name, line)
            self._position, self._version = position, number
        self._moved.set()
        return True

    async def _read(self, behind: bytes, seconds: float) -> list[tuple[bytes, int, str, bytes]]:
        key = self._changes.encode()
        # Redis takes a wait of 0 for one without an end.
        found = await self._connection.read_streams(
            {key: behind}, self._limits.read_changes, seconds or 0.001
        )
        changes = []
        for position, fields in found[0][1] if found else ():
            number, line = fields.get(b"version", b""), fields.get(b"line")
            if not _NUMBER.fullmatch(number) or line is None:
                self.unreadable += 1
                continue
            changes.append((position, int(number), fields.get(b"name", b"").decode("utf-8", "replace"), line))
        return changes

    async def _state(self) -> _ChangesState:
        keys = self._counts, self._changes
        run, version, position = await self._connection.call(
            lambda client: client.eval(_STATE, len(keys), *keys)
        )
        known = int(version) if _NUMBER.fullmatch(version) else 0
        return _ChangesState(run.decode("ascii", "replace"), known, position)

    async def _restore(self) -> None:
        """Write to Redis the records that it may have lost."""
        # A hundred thousand lines at a time would hold the loop for seconds.
        lines, count = (line.rstrip(b"\n") for line in self._consumer.lines()), 0
        while some := list(itertools.islice(lines, self._limits.restored_at_once)):
            await self._eval("restore", *some)
            count += len(some)
        log.info("Redis is another run: it was given the created event channels", count=count)

    async def _tidy_up(self) -> None:
        """Let Redis remove what is over, and keep the rest."""
        while True:
            await asyncio.sleep(self._limits.tidy_seconds)
            await self._connection.wait_until_up()
            with contextlib.suppress(RedisUnavailableError):
                for name, number in tuple(self._undone.items()):
                    await self._eval("delete", name, number, f"{time.time():.6f}")
                    del self._undone[name]
                size = (await self._eval("tidy", str(self._limits.gone_seconds)))[1]
                self.event_bytes = int(size) if _NUMBER.fullmatch(size) else 0
