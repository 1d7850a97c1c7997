"""Which packager of a cluster has the publisher of a channel, so that ``takeover`` is one rule for all.

The packager whose publisher is on air holds a claim in Redis, which expires unless it is renewed. Redis
decides between two that claim a channel at the same time. While Redis is away each packager decides alone.
"""

from __future__ import annotations

import contextlib
import re
import time

from packager.cluster.connection import RedisConnection, RedisUnavailableError
from packager.cluster.lease import LogKeys
from packager.cluster.limits import LONGEST_LEASES, ClusterLimits
from packager.sources.publication import Publication
from packager.sources.published_source import PublishedSource, Takeover

_CLAIM = """
local claim, mine, wish, expiry, longest = KEYS[1], ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local held, left = redis.call('GET', claim), redis.call('PTTL', claim)
if held and held ~= mine and wish ~= 'replace' and left >= 0 and left <= longest then
  return held
end
if wish ~= 'none' then
  redis.call('SET', claim, mine, 'PX', expiry)
elseif held then
  redis.call('DEL', claim)
end
return ''
"""

_HOLDER = re.compile(rb"[0-9a-f]{32} ([\x21-\x7e]{1,64})")


class PublisherClaim:
    """Claims a channel for this node while its publisher is on air, and notes another node's claim.

    Args:
        source: the channel's publishers at this node.
        token: identifies this node in Redis.
        name: of this node, for people.
        limits: how long a claim lasts without being renewed.
    """

    def __init__(
        self,
        source: PublishedSource,
        connection: RedisConnection,
        token: str,
        name: str,
        limits: ClusterLimits,
    ) -> None:
        self._source = source
        self._connection = connection
        self._key = LogKeys("live", source.channel).publisher
        self._value = f"{token} {name}"
        self._limits = limits
        # The publication for which this node claimed the channel last.
        self._claimed: Publication | None = None

    async def run(self) -> None:
        """Claim and look until cancelled; the claim is given back then."""
        source, limits = self._source, self._limits
        told_at = time.monotonic()
        try:
            while True:
                live = self._live
                try:
                    holder = await self._exchange(live)
                except RedisUnavailableError:
                    if time.monotonic() - told_at > limits.lease_seconds:
                        source.note_elsewhere("")
                else:
                    told_at = time.monotonic()
                    if self._live is live:
                        self._claimed = live
                        source.note_elsewhere(holder)
                if self._live is live:
                    await source.wait_for_change(limits.renew_seconds)
        finally:
            with contextlib.suppress(RedisUnavailableError):
                await self._exchange(None)

    @property
    def _live(self) -> Publication | None:
        return self._source.live if self._source.has_publisher else None

    async def _exchange(self, live: Publication | None) -> str:
        """Claim the channel for a publication, or release the claim; return its other holder, or ""."""
        is_newer = live is not self._claimed and self._source.takeover is Takeover.REPLACE
        wish = "none" if live is None else "replace" if is_newer else "keep"
        expiry = round(self._limits.lease_seconds * 1000)
        terms = self._value, wish, str(expiry), str(expiry * LONGEST_LEASES)
        held = await self._connection.call(
            lambda client: client.eval(_CLAIM, 1, self._key, *terms), {self._key: "string"}
        )
        found = _HOLDER.fullmatch(held)
        return "" if found is None else found[1].decode()
