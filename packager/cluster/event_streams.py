"""Event channels in Redis streams: Redis orders and numbers the events of all nodes.

Any node appends to any channel: there is no owner that could be lost, and a node costs nothing for channels
on which nothing is published. An event's ID is EPOCH-NUMBER. A channel begins another epoch, named by the
clock, whenever Redis isn't the same server as before: the last events of a server may have died with it, and
no number is used twice. One more stream, which all nodes read, lists the channels that have news.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from media.errors import MalformedError
from packager.cluster.connection import RedisConnection
from packager.cluster.lease import PREFIX, LogKeys
from packager.cluster.limits import ClusterLimits
from packager.cluster.log_stream import LARGEST, EntryId
from packager.reader_guard import ReaderGuard

EVENTS = "events"
"""The kind of these logs: what their names begin with."""

NEWS = f"{PREFIX}:events:news"
"""The key of the stream that lists channels with news, each with a number that counts up."""

NEWS_COUNT = f"{PREFIX}:events:news:count"

# A key of another type than it should be, which would fail each time, is deleted.
KEEP_TYPE = """
local function keep(key, kind)
  local found = redis.call('TYPE', key).ok
  if found ~= kind and found ~= 'none' then
    redis.call('DEL', key)
  end
end
local function number(text)
  local found = tonumber(text)
  if found and found >= 0 and found < 9007199254740992 and found % 1 == 0 then
    return found
  end
end
"""

# Parts of the scripts below: what finds the record of a channel that was made at run time, whose name has the
# channel's number; what adds events to a stream, and counts their bytes; and what tells all nodes.
_RECORD = """
local function record_of(records, stream)
  local channel, own_number = stream:match('^(.*)@(.*)$')
  keep(records, 'hash')
  local is_read, record = pcall(cjson.decode, channel and redis.call('HGET', records, channel) or '')
  if is_read and type(record) == 'table' and record.number == own_number then
    return record
  end
end
"""

_ADD = """
if redis.call('EXISTS', entries) == 0 then
  bytes = 0
end
for index = from, #ARGV do
  offset = offset + 1
  local id, message = string.format('%d-%d', epoch, offset), ARGV[index]
  local added = redis.pcall('XADD', entries, id, 'time', milliseconds, 'event', message)
  if type(added) == 'table' and added.err then
    if not (added.err:find('equal or smaller', 1, true) or added.err:find('exhausted', 1, true)) then
      return added
    end
    -- What is there wasn't put there by a node.
    redis.call('DEL', entries)
    bytes = 0
    redis.call('XADD', entries, id, 'time', milliseconds, 'event', message)
  end
  bytes = bytes + #message + 64
end
local length = redis.call('XLEN', entries)
while length > 1 and trimmed > 0 do
  local oldest = redis.call('XRANGE', entries, '-', '+', 'COUNT', 1)[1]
  local fields = oldest[2]
  local too_old = seconds > 0 and (number(fields[2]) or 0) < milliseconds - 1000 * seconds
  if length <= tonumber(most) and bytes <= tonumber(most_bytes) and not too_old then
    break
  end
  redis.call('XDEL', entries, oldest[1])
  length, trimmed = length - 1, trimmed - 1
  bytes = math.max(bytes - #(fields[4] or '') - 64, 0)
end
local last = {'epoch', string.format('%d', epoch), 'offset', string.format('%d', offset)}
redis.call('HSET', state, 'bytes', string.format('%d', bytes), unpack(last))
redis.call('EXPIRE', state, remembered)
-- Nothing older than that is read again.
local lifetime = 1000 * remembered
if seconds > 0 then
  lifetime = math.min(lifetime, math.ceil(1000 * seconds))
end
redis.call('PEXPIRE', entries, string.format('%d', lifetime))
if sizes then
  keep(sizes, 'hash') keep(kept, 'zset')
  local total = (number(redis.call('HGET', sizes, '') or '0') or 0) + bytes
  total = math.max(total - (number(redis.call('HGET', sizes, name) or '0') or 0), 0)
  redis.call('HSET', sizes, '', string.format('%d', total), name, string.format('%d', bytes))
  redis.call('ZADD', kept, string.format('%.3f', (milliseconds + lifetime) / 1000), name)
  redis.call('EXPIRE', sizes, remembered_sizes)
  redis.call('EXPIRE', kept, remembered_sizes)
end
"""

_TELL = """
if not number(redis.call('GET', count) or '0') then
  redis.call('DEL', count)
end
local note = {'number', redis.call('INCR', count), 'name', name}
local noted = redis.pcall('XADD', news, 'MAXLEN', '~', most_news, '*', unpack(note))
if type(noted) == 'table' and noted.err then
  redis.call('DEL', news)
  redis.call('XADD', news, '*', unpack(note))
end
redis.call('EXPIRE', news, remembered)
"""

# By the first line Redis refuses all where its memory is full, or it takes no writes: what would be refused
# in the middle is no sign of what no node has put there.
_APPEND = (
    "#!lua\n"
    + KEEP_TYPE
    + _RECORD
    + """
local entries, state, sent, news, count = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local batch, repeated, most, most_bytes, seconds = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local remembered, known, epochs_kept, name, most_news = ARGV[6], ARGV[7], ARGV[8], ARGV[9], ARGV[10]
local trimmed, remembered_sizes = tonumber(ARGV[11]), ARGV[12]
local sizes, kept = KEYS[6], KEYS[7]
keep(entries, 'stream') keep(state, 'hash') keep(sent, 'string') keep(news, 'stream') keep(count, 'string')
-- The answer to a batch may have been lost, and one that was given up may come late.
local done = redis.call('GET', sent)
if done then
  local last, epoch, first = done:match('^(%d+) (%d+) (%d+)$')
  if last == batch then
    return {epoch, first}
  elseif last and tonumber(last) > tonumber(batch) then
    return false
  end
end
-- Nothing would remove the events of a channel that is gone.
local record = KEYS[8] and record_of(KEYS[8], name)
if record and record.type == 'gone' then
  return false
end
local now = redis.call('TIME')
local milliseconds = now[1] * 1000 + math.floor(now[2] / 1000)
-- Where nodes aren't allowed to ask for it, every server counts as the same.
local info = redis.pcall('INFO', 'server')
local run = type(info) == 'string' and info:match('run_id:(%w+)') or ''
local held = redis.call('HMGET', state, 'epoch', 'offset', 'run', 'bytes', 'epochs')
local epoch, offset, bytes = number(held[1]), number(held[2]), number(held[4]) or 0
if not epoch or not offset or held[3] ~= run or tonumber(known) > epoch then
  local epochs = {}
  for one in (held[5] or ''):gmatch('%d+:%d+') do
    epochs[#epochs + 1] = one
  end
  if epoch and offset and offset > 0 then
    epochs[#epochs + 1] = string.format('%d:%d', epoch, offset)
  end
  while #epochs > tonumber(epochs_kept) do
    table.remove(epochs, 1)
  end
  epoch, offset = math.max(milliseconds, (epoch or 0) + 1, tonumber(known) + 1), 0
  redis.call('HSET', state, 'epochs', table.concat(epochs, ' '), 'run', run)
end
local first, from = offset + 1, 13
"""
    + _ADD
    + """
local answer = {string.format('%d', epoch), string.format('%d', first)}
redis.call('SET', sent, batch .. ' ' .. answer[1] .. ' ' .. answer[2], 'EX', repeated)
"""
    + _TELL
    + """
return answer
"""
)

# The one node that publishes numbers these events itself, and sends them until Redis has them: those that are
# there already are passed over, and where some before are missing, their number is the answer. A channel that
# was deleted meanwhile gets none: nothing would remove them.
_PUT = (
    "#!lua\n"
    + KEEP_TYPE
    + _RECORD
    + """
local entries, state, news, count, sizes, kept, records = unpack(KEYS)
local own_epoch, own_first, is_last = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3] == '1'
local most, most_bytes, seconds, remembered = ARGV[4], ARGV[5], tonumber(ARGV[6]), ARGV[7]
local name, most_news, trimmed, remembered_sizes = ARGV[8], ARGV[9], tonumber(ARGV[10]), ARGV[11]
keep(entries, 'stream') keep(state, 'hash') keep(news, 'stream') keep(count, 'string')
local record = record_of(records, name)
if not record or record.type ~= 'made' then
  return {'unknown', '0'}
end
local held = redis.call('HMGET', state, 'epoch', 'offset', 'bytes', 'ended')
local epoch, offset, bytes = number(held[1]), number(held[2]), number(held[3]) or 0
if held[4] then
  return {'ended', '0'}
end
local is_lost = offset and offset > 0 and redis.call('EXISTS', entries) == 0
if not offset or epoch ~= own_epoch or is_lost then
  redis.call('DEL', entries)
  epoch, offset, bytes = own_epoch, is_last and own_first - 1 or 0, 0
end
if own_first > offset + 1 or (is_last and own_first < offset + 1) then
  return {'behind', string.format('%d', offset + 1)}
end
local now = redis.call('TIME')
local milliseconds = now[1] * 1000 + math.floor(now[2] / 1000)
local from = 12 + offset + 1 - own_first
if from > #ARGV then
  return {'done', string.format('%d', offset + 1)}
end
"""
    + _ADD
    + """
if is_last then
  redis.call('HSET', state, 'ended', '1')
end
"""
    + _TELL
    + """
return {'done', string.format('%d', offset + 1)}
"""
)

# Few entries at once, as each may be long.
_READ = """
local most, size, found = tonumber(ARGV[1]), 0, {}
for index, key in ipairs(KEYS) do
  local from, entries, whole = '(' .. ARGV[index + 1], {}, false
  while not whole and size < most do
    local some = redis.pcall('XRANGE', key, from, '+', 'COUNT', 8)
    if some.err then
      some = {}
    end
    for _, entry in ipairs(some) do
      entries[#entries + 1] = entry
      from = '(' .. entry[1]
      for _, field in ipairs(entry[2]) do
        size = size + #field
      end
    end
    whole = #some < 8
  end
  found[index] = {whole and 1 or 0, entries}
end
return found
"""

_STATES = (
    KEEP_TYPE
    + """
local found = {}
for index, key in ipairs(KEYS) do
  keep(key, 'hash')
  found[index] = redis.call('HMGET', key, 'epoch', 'offset', 'epochs')
end
return found
"""
)

# Nodes with readers: the number of each, whether the node publishes an answer, and when the entry expires.
_REPORT = (
    KEEP_TYPE
    + """
local readers, state = KEYS[1], KEYS[2]
local node, here, answers, forget, presence = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5]
local seen, again = ARGV[6], tonumber(ARGV[7])
keep(readers, 'hash') keep(state, 'hash')
local now = redis.call('TIME')
local milliseconds = now[1] * 1000 + math.floor(now[2] / 1000)
local until_then = string.format('%d', milliseconds + forget)
redis.call('HSET', readers, node, here .. ' ' .. answers .. ' ' .. until_then)
redis.call('PEXPIRE', readers, forget)
-- One node tells of all, so that what it tells has an order.
local others, answering, is_first = 0, 0, true
local all = redis.call('HGETALL', readers)
for index = 1, #all, 2 do
  local there, busy, expiry = all[index + 1]:match('^(%d+) ([01]) (%d+)$')
  if not there or tonumber(expiry) < milliseconds then
    redis.call('HDEL', readers, all[index])
  elseif all[index] ~= node then
    others = others + tonumber(there)
    answering = answering + tonumber(busy)
    is_first = is_first and node < all[index]
  end
end
local total, tells = string.format('%d', others + tonumber(here)), 0
if presence ~= '' and is_first then
  local told = redis.call('HMGET', state, 'presence', 'presence_at')
  local since = milliseconds - (number(told[2]) or 0)
  -- What another node told before may have come behind it, or it was lost on its way.
  local is_outdone = seen ~= '' and seen ~= total and since >= again
  if ((told[1] or '0') ~= total or is_outdone) and since >= tonumber(presence) then
    redis.call('HSET', state, 'presence', total, 'presence_at', string.format('%d', milliseconds))
    tells = 1
  end
end
return {math.min(others, 2147483647), answering, tells}
"""
)

_READERS = """
local now, found = redis.call('TIME'), {}
local milliseconds = now[1] * 1000 + math.floor(now[2] / 1000)
for number, key in ipairs(KEYS) do
  local others, all = 0, redis.pcall('HGETALL', key)
  for index = 1, #all, 2 do
    local there, _, expiry = all[index + 1]:match('^(%d+) ([01]) (%d+)$')
    if there and tonumber(expiry) >= milliseconds and all[index] ~= ARGV[1] then
      others = others + tonumber(there)
    end
  end
  found[number] = math.min(others, 2147483647)
end
return found
"""

_EPOCHS = re.compile(rb"(?<![0-9])([0-9]{1,16}):([0-9]{1,16})")
_NUMBER = re.compile(rb"[0-9]{1,16}")

REPEAT_SECONDS = 60
"""Seconds for which Redis knows a node's last events, which are then not appended twice; longer than a
publication is tried.
"""

REMEMBERED_SECONDS = 7 * 86_400
"""Seconds for which a channel's events stay in Redis when nothing is published."""

MAX_EPOCHS = 16
"""Most earlier epochs of a channel that are remembered."""

TRIMMED_AT_ONCE = 1000
"""Most old events of a channel that go when others are appended."""

MAX_NEWS = 10_000
"""Most notes in Redis of which channels have news; a node that is further behind looks at all channels."""

MAX_READ_NEWS = 1000
"""Most notes of news that are read at once."""

NEWS_SECONDS = 0.5
"""Seconds for which a read waits for news."""

FORGET_SECONDS = 5.0
"""A node without a report for so long has no readers."""

PUBLISHING_SECONDS = 3.0
"""A node that hasn't told for so long that it publishes is gone, and what it published has ended."""

TELL_AGAIN_SECONDS = 2.0
"""Seconds for which an event with the number of readers may be on its way; afterwards a wrong number is sent
again.
"""


@dataclass(frozen=True, slots=True)
class EventRetention:
    """How much Redis keeps of an event channel.

    Attributes:
        events: most events.
        size: most bytes of these events.
        seconds: how long; 0 for no such limit.
        remembered_seconds: for how long they stay in Redis when nothing more is published.
        is_counted: whether their bytes are counted with those of other channels that were made at run time.
    """

    events: int
    size: int
    seconds: float
    remembered_seconds: int = REMEMBERED_SECONDS
    is_counted: bool = False


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event as Redis has it.

    Attributes:
        number: ID of the event, from 1.
        time: when it was published, in seconds since the epoch of Unix.
    """

    number: EntryId
    time: float
    message: bytes


@dataclass(frozen=True, slots=True)
class StreamState:
    """The state of a channel in Redis beside its events.

    Attributes:
        last: ID of the newest event, which may be gone.
        epochs: the earlier ones, in order, each with the number of its last event.
    """

    last: EntryId
    epochs: tuple[EntryId, ...]


@dataclass(frozen=True, slots=True)
class EventsRead:
    """The events and the position that one read returned of a channel.

    Attributes:
        events: the events behind a position, in order.
        unreadable: entries that no node has written.
        last: ID of the last entry, whatever it is; None for none.
        whole: whether there are no more.
    """

    events: tuple[StoredEvent, ...]
    unreadable: int
    last: bytes | None
    whole: bool


class PutOutcome(StrEnum):
    """Answers of Redis to events that their node has numbered."""

    DONE = "done"
    """Redis has them."""
    BEHIND = "behind"
    """Some before them are missing."""
    ENDED = "ended"
    """Another node has ended the channel, as this one seemed to be gone."""
    UNKNOWN = "unknown"
    """There is no such channel, or Redis has lost it."""


@dataclass(frozen=True, slots=True)
class EntryPlace:
    """Which events Redis has of those that a node numbers itself.

    Attributes:
        following: number of the next event in its epoch.
    """

    outcome: PutOutcome
    following: int


@dataclass(frozen=True, slots=True)
class OtherNodes:
    """Reports of the other nodes about a channel.

    Attributes:
        answers: how many of them publish an answer of a relay there.
        tells: whether this node is to publish the number of all readers as an event.
    """

    readers: int
    answers: int
    tells: bool


class EventStreams:
    """The event channels of a cluster, as Redis has them.

    Args:
        token: by which this node is known.
    """

    def __init__(self, connection: RedisConnection, token: str, limits: ClusterLimits) -> None:
        self._connection = connection
        self.token = token
        self._limits = limits

    @property
    def name_parts(self) -> tuple[str, str]:
        """The texts around a channel's name in its keys: before the name, and between the name and a word."""
        # A Redis Cluster has all channels on one server, as their news are one.
        before, _, middle = LogKeys(EVENTS, "\n").key("").partition("\n")
        return (f"{{{NEWS}}}:", ":") if self._connection.is_cluster else (before, middle)

    @property
    def size_keys(self) -> tuple[str, str]:
        """The keys of the bytes of channels that were made at run time, and of when these bytes expire."""
        return self.created_key("sizes"), self.created_key("kept")

    def created_key(self, what: str) -> str:
        """Name a key of the channels made at run time; a Redis Cluster has it where all events are."""
        tag = f"{{{NEWS}}}" if self._connection.is_cluster else PREFIX
        return f"{tag}:created:{what}"

    def _key(self, name: str, what: str) -> str:
        """Name a key of a channel."""
        before, middle = self.name_parts
        return f"{before}{name}{middle}{what}"

    async def append(
        self, name: str, batch: int, messages: Sequence[bytes], known: int, kept: EventRetention
    ) -> EntryId | None:
        """Append events to a channel, and return the ID of the first.

        None where a later batch has come, or the channel was made at run time and is gone.

        Args:
            batch: larger than that of all earlier ones of this node and channel; a repeated one is appended
                once.
            known: the largest epoch of the channel that this node has met.
            kept: limits within which the newest events stay.

        Raises:
            RedisUnavailableError: Redis is away, here and in the methods below.
        """
        key = self._key
        own = key(name, "entries"), key(name, "state"), key(name, f"sent:{self.token}")
        named: tuple[str, ...] = (
            *own,
            NEWS,
            f"{{{NEWS}}}:count" if self._connection.is_cluster else NEWS_COUNT,
        )
        if kept.is_counted:
            named = *named, *self.size_keys, self.created_key("records")
        terms = (
            *(batch, REPEAT_SECONDS, kept.events, kept.size, kept.seconds),
            *(
                kept.remembered_seconds,
                known,
                MAX_EPOCHS,
                name,
                MAX_NEWS,
                TRIMMED_AT_ONCE,
                REMEMBERED_SECONDS,
            ),
        )
        found = await self._connection.call(
            lambda client: client.eval(_APPEND, len(named), *named, *map(str, terms), *messages)
        )
        return None if found is None else EntryId(int(found[0]), int(found[1]))

    async def put(
        self, name: str, first: EntryId, messages: Sequence[bytes], kept: EventRetention, *, is_last: bool
    ) -> EntryPlace:
        """Add events that this node has numbered, unless they are there.

        Args:
            name: of the channel's events, which has the channel's number.
            first: ID of the first event.
            is_last: whether they end what another node has published that is gone; nothing follows them then.
        """
        key = self._key
        count = f"{{{NEWS}}}:count" if self._connection.is_cluster else NEWS_COUNT
        own = key(name, "entries"), key(name, "state")
        named = *own, NEWS, count, *self.size_keys, self.created_key("records")
        terms = (
            *(first.epoch, first.position, int(is_last), kept.events, kept.size, kept.seconds),
            *(kept.remembered_seconds, name, MAX_NEWS, TRIMMED_AT_ONCE, REMEMBERED_SECONDS),
        )
        found, following = await self._connection.call(
            lambda client: client.eval(_PUT, len(named), *named, *map(str, terms), *messages)
        )
        return EntryPlace(PutOutcome(found.decode()), int(following))

    def _publishing_key(self, token: str) -> str:
        """Name the key that says that a node still publishes what it numbers itself."""
        tag = f"{{{NEWS}}}" if self._connection.is_cluster else PREFIX
        return f"{tag}:publishing:{token}"

    async def note_publishing(self) -> None:
        """Publish that this node is there, for a while, and so are the channels whose events it numbers."""
        key, milliseconds = self._publishing_key(self.token), round(PUBLISHING_SECONDS * 1000)
        await self._connection.call(lambda client: client.set(key, "1", px=milliseconds))

    async def is_publishing(self, token: str) -> bool:
        """Return whether a node has lately told that it still publishes."""
        key = self._publishing_key(token)
        return bool(await self._connection.call(lambda client: client.exists(key)))

    async def states(self, names: Sequence[str]) -> list[StreamState | None]:
        """Return the state of each of some channels; None for a channel on which nothing was published."""
        keys = [self._key(name, "state") for name in names]
        found = await self._connection.call(lambda client: client.eval(_STATES, len(keys), *keys))
        return [self._state(*one) for one in found]

    def _state(self, epoch: bytes | None, offset: bytes | None, epochs: bytes | None) -> StreamState | None:
        if epoch is None or offset is None or not (_is_number(epoch) and _is_number(offset)):
            return None
        earlier = tuple(EntryId(int(one[1]), int(one[2])) for one in _EPOCHS.finditer(epochs or b""))
        return StreamState(EntryId(int(epoch), int(offset)), earlier[-MAX_EPOCHS:])

    async def read(self, behind: Mapping[str, bytes]) -> dict[str, EventsRead]:
        """Read the events behind an ID in each of several channels, up to a number of bytes of all."""
        names = list(behind)
        keys = [self._key(name, "entries") for name in names]
        terms = self._limits.event_read_bytes, *behind.values()
        found = await self._connection.call(lambda client: client.eval(_READ, len(keys), *keys, *terms))
        return {name: self._found(*one) for name, one in zip(names, found, strict=True)}

    def _found(self, whole: int, entries: Sequence[Any]) -> EventsRead:
        events, unreadable = [], 0
        for number, fields in entries:
            try:
                with ReaderGuard("an event in Redis"):
                    events.append(self._event(number, fields))
            except MalformedError:
                unreadable += 1
        return EventsRead(tuple(events), unreadable, entries[-1][0] if entries else None, bool(whole))

    def _event(self, number: bytes, fields: Sequence[bytes]) -> StoredEvent:
        found = EntryId.read(number)
        is_ours = len(fields) == 4 and (fields[0], fields[2]) == (b"time", b"event")
        if not is_ours or not _NUMBER.fullmatch(fields[1]) or not found.position:
            raise MalformedError("the entry of an event channel in Redis isn't an event")
        if len(fields[3]) > self._limits.message_bytes:
            raise MalformedError(
                f"an event of {len(fields[3])} bytes: more than {self._limits.message_bytes}"
            )
        return StoredEvent(found, int(fields[1]) / 1000, fields[3])

    async def report(
        self, name: str, readers: int, presence: float | None, seen: int | None, *, answers: bool
    ) -> OtherNodes:
        """Publish the number of a channel's readers here, and read their number on the other nodes.

        Args:
            presence: least seconds between two events with the number of readers; None for no such events.
            seen: the number in the newest of these events that this node has read; None before the first.
            answers: whether this node publishes an answer of a relay there.
        """
        named = self._key(name, "readers"), self._key(name, "state")
        forget = round(FORGET_SECONDS * 1000)
        due = "" if presence is None else str(round(presence * 1000))
        again = str(round(TELL_AGAIN_SECONDS * 1000))
        told = "" if seen is None else str(seen)
        terms = self.token, str(readers), "1" if answers else "0", str(forget), due, told, again
        found = await self._connection.call(lambda client: client.eval(_REPORT, len(named), *named, *terms))
        return OtherNodes(int(found[0]), int(found[1]), bool(found[2]))

    async def readers(self, names: Sequence[str]) -> list[int]:
        """Return how many readers each of some channels has on other nodes; none are reported here."""
        keys = [self._key(name, "readers") for name in names]
        found = await self._connection.call(
            lambda client: client.eval(_READERS, len(keys), *keys, self.token)
        )
        return list(map(int, found))

    async def newest_news(self) -> bytes:
        """Return the position behind which news are to be waited for."""
        return await self._connection.call(_newest) or b"0-0"

    async def wait_for_news(self, behind: bytes) -> list[tuple[bytes, int, str]]:
        """Wait a while for news, and return the position, number and channel of each note."""
        found = await self._connection.read_streams({NEWS.encode(): behind}, MAX_READ_NEWS, NEWS_SECONDS)
        notes = []
        for position, fields in found[0][1] if found else ():
            number, name = fields.get(b"number", b""), fields.get(b"name", b"")
            count = int(number) if _NUMBER.fullmatch(number) else -1
            notes.append((position, count, name.decode("utf-8", "replace")))
        return notes


def _is_number(text: bytes) -> bool:
    return _NUMBER.fullmatch(text) is not None and int(text) < LARGEST


async def _newest(redis: Any) -> bytes | None:
    if await redis.type(NEWS) not in (b"stream", b"none"):
        await redis.delete(NEWS)
    found = await redis.xrevrange(NEWS, count=1)
    return found[0][0] if found else None
