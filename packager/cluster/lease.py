"""Leases: at most one node appends to a log, and another takes over when that node is gone.

A lease is a key that expires unless it is renewed. The node that takes it gets an *epoch*, larger than all
before, and Redis compares the epoch of each append. So a node that stood still, and wakes up when another has
the lease, is refused, even if it still believes to be the owner.

The comparison (fencing) is part of the script that appends, in `packager.cluster.log_stream`.

Leases are alike for all kinds of logs: live channels, stations and event channels.
"""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass
from typing import Any

from packager.cluster.connection import RedisConnection
from packager.cluster.limits import LONGEST_LEASES, ClusterLimits

PREFIX = "headwater"

AHEAD_SECONDS = 3600.0
"""How far an epoch may be ahead of a clock: one beyond wasn't given by Redis to any node."""

# A lease is a hash: the owner's token, and whether the owner has something to append.
_ACQUIRE = """
local lease, epoch, reached = KEYS[1], KEYS[2], KEYS[3]
local token, expiry, has_media, remembered = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local ahead, longest = tonumber(ARGV[5]), tonumber(ARGV[6])
local held, left = redis.call('HMGET', lease, 'token', 'has_media'), redis.call('PTTL', lease)
local is_ours = left >= 0 and left <= longest
if is_ours and held[1] and held[1] ~= token and (held[2] == '1' or has_media == '0') then
  return {'0', ''}
end
-- From the clock, too: a Redis that has lost its data gives no epoch a second time.
local now = redis.call('TIME')
local milliseconds = now[1] * 1000 + math.floor(now[2] / 1000)
local following, last = milliseconds, tonumber(redis.call('GET', epoch) or '0')
if last and last >= following and last <= milliseconds + ahead then
  following = math.floor(last) + 1
end
redis.call('SET', epoch, string.format('%d', following), 'EX', remembered)
redis.call('HSET', lease, 'token', token, 'has_media', has_media)
redis.call('PEXPIRE', lease, expiry)
return {string.format('%d', following), redis.call('GET', reached) or ''}
"""

_RENEW = """
local lease, epoch, reached = KEYS[1], KEYS[2], KEYS[3]
local token, expiry, has_media, remembered, mine = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
if redis.call('GET', epoch) ~= mine then
  return 0
end
redis.call('EXPIRE', epoch, remembered)
redis.call('HSET', lease, 'token', token, 'has_media', has_media)
redis.call('PEXPIRE', lease, expiry)
if ARGV[6] ~= '' then
  redis.call('SET', reached, ARGV[6], 'EX', remembered)
end
return 1
"""

_RELEASE = """
if redis.call('GET', KEYS[2]) == ARGV[1] then
  redis.call('DEL', KEYS[1])
end
"""


_REACHED = re.compile(rb"([0-9]{1,15}) ([0-9]{1,15})")

EPOCH_SECONDS = 86_400
"""Seconds for which the epoch of a log without an owner is remembered; by then Redis's clock is beyond it."""


@dataclass(frozen=True, slots=True)
class Reached:
    """The end of a live channel's log, behind which a new owner continues that has read none of the log.

    Attributes:
        number: the media sequence number behind all segments.
        discontinuity_sequence: the discontinuity sequence number of the newest one.
    """

    number: int
    discontinuity_sequence: int


@dataclass(frozen=True, slots=True)
class LogKeys:
    """The names of a log's keys, which Redis keeps on one server of several.

    Attributes:
        kind: such as ``live``; separates what has the same name.
        name: of the channel or station.
    """

    kind: str
    name: str

    def key(self, what: str) -> str:
        """Name one of the log's keys."""
        return f"{PREFIX}:{{{self.kind}/{self.name}}}:{what}"

    @property
    def lease(self) -> str:
        """The key of the lease: which node appends to the log."""
        return self.key("lease")

    @property
    def entries(self) -> str:
        """The key of the log's newest entries, a stream."""
        return self.key("entries")

    @property
    def snapshot(self) -> str:
        """The key of the snapshot of the folded log."""
        return self.key("snapshot")

    @property
    def listing(self) -> str:
        """The key of the snapshot without the bytes of segments."""
        return self.key("listing")

    def media(self, token: str) -> str:
        """Name the key of a stream with the bytes of segments that a listing lacks."""
        return self.key(f"media:{token}")

    @property
    def wanted(self) -> str:
        """The key of a list of the kinds of snapshots for which nodes wait."""
        return self.key("wanted")

    @property
    def epoch(self) -> str:
        """The key of the newest owner's epoch: milliseconds of Redis's clock at its taking, or more."""
        return self.key("epoch")

    @property
    def publisher(self) -> str:
        """The key of which node has the channel's publisher."""
        return self.key("publisher")

    @property
    def reached(self) -> str:
        """The key of how far the log had come when its owner last renewed the lease."""
        return self.key("reached")


class Lease:
    """The lease of one log, as one node sees it.

    Args:
        token: identifies this node among all that want the lease.

    Attributes:
        epoch: the epoch of this node's appends; 0 while it doesn't have the lease.
        reached: the end of the log when this node took the lease; None where no owner has reported it.
    """

    def __init__(self, connection: RedisConnection, keys: LogKeys, token: str, limits: ClusterLimits) -> None:
        self._connection = connection
        self._keys = keys
        self._token = token
        self._limits = limits
        self._certain_until = 0.0
        # So that none is renewed with an epoch that was replaced meanwhile.
        self._changing = asyncio.Lock()
        self.epoch = 0
        self.reached: Reached | None = None

    @property
    def is_certain(self) -> bool:
        """Whether no other node can have the lease: it was renewed, and hasn't expired since."""
        return self.epoch > 0 and time.monotonic() < self._certain_until

    async def acquire(self, *, has_media: bool) -> bool:
        """Take a free lease, or that of an owner without anything to append; return whether it was taken.

        Args:
            has_media: whether this node has something to append now.

        Raises:
            RedisUnavailableError: Redis is away, here and in the methods below.
        """
        async with self._changing:
            asked = time.monotonic()
            ahead = str(round(AHEAD_SECONDS * 1000))
            longest = str(round(self._limits.lease_seconds * 1000 * LONGEST_LEASES))
            terms = *self._terms(has_media=has_media), ahead, longest
            given, told = await self._eval(_ACQUIRE, *terms)
            epoch = int(given)
            if epoch:
                self.epoch, self._certain_until = epoch, asked + self._limits.lease_seconds
                found = _REACHED.fullmatch(told)
                self.reached = None if found is None else Reached(int(found[1]), int(found[2]))
            return epoch > 0

    async def is_free(self) -> bool:
        """Return whether no node has the lease."""
        left = int(await self._connection.call(lambda client: client.pttl(self._keys.lease)))
        return not 0 <= left <= self._limits.lease_seconds * 1000 * LONGEST_LEASES

    async def renew(self, *, has_media: bool, reached: Reached | None = None) -> bool:
        """Renew the lease, even after its end if nobody took it; return whether this node still has it.

        Args:
            has_media: as for ``acquire``.
            reached: the end of the log; None leaves the former report.
        """
        async with self._changing:
            asked = time.monotonic()
            epoch = self.epoch
            told = "" if reached is None else f"{reached.number} {reached.discontinuity_sequence}"
            kept = bool(await self._eval(_RENEW, *self._terms(has_media=has_media), str(epoch), told))
            if kept:
                self._certain_until = asked + self._limits.lease_seconds
            elif self.epoch == epoch:
                self.epoch = 0
            return kept

    async def release(self) -> None:
        """Release the lease, so that another node needn't wait for its end."""
        epoch, self.epoch = self.epoch, 0
        if epoch:
            await self._eval(_RELEASE, str(epoch))

    def lose(self) -> None:
        """Note that another node has the lease, as Redis refused an append."""
        self.epoch = 0

    def _terms(self, *, has_media: bool) -> tuple[str, ...]:
        limits = self._limits
        expiry = str(round(limits.lease_seconds * 1000))
        return self._token, expiry, "1" if has_media else "0", str(EPOCH_SECONDS)

    async def _eval(self, script: str, *arguments: str) -> Any:
        keys = self._keys.lease, self._keys.epoch, self._keys.reached
        types = dict(zip(keys, ("hash", "string", "string"), strict=True))
        return await self._connection.call(
            lambda client: client.eval(script, len(keys), *keys, *arguments), types
        )
