"""Which channels on demand are asked for at any node of a cluster, so that packagers make those.

Nodes note the names in one set in Redis, with the time. A channel that nobody asks for costs nothing there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from media.hls.date_range import DateRange
from packager.cluster.connection import RedisConnection, RedisUnavailableError
from packager.cluster.lease import PREFIX
from packager.cluster.limits import ClusterLimits
from packager.concurrency import background_task

ASKED = f"{PREFIX}:asked"
"""The key of the names of channels that somebody asked for lately, each with the time."""

_TELL = """
local asked, remembered = KEYS[1], ARGV[1]
if redis.call('TYPE', asked).ok ~= 'zset' then
  redis.call('DEL', asked)
end
local now = redis.call('TIME')[1]
for number = 2, #ARGV do
  redis.call('ZADD', asked, now, ARGV[number])
end
redis.call('ZREMRANGEBYSCORE', asked, '-inf', now - remembered)
redis.call('EXPIRE', asked, remembered)
"""

_LOOK = """
local asked, remembered, most = KEYS[1], ARGV[1], ARGV[2]
if redis.call('TYPE', asked).ok ~= 'zset' then
  return {}
end
local now = redis.call('TIME')[1]
return redis.call('ZREVRANGEBYSCORE', asked, '+inf', now - remembered, 'LIMIT', 0, most)
"""

REMEMBERED_SECONDS = 5
"""Seconds for which Redis remembers that a channel was asked for."""

MAX_CHANNELS = 4096
"""Most channels that a packager learns of at once."""


class MadeOnDemand(Protocol):
    """A channel that a packager makes while it has viewers."""

    def note_viewer(self) -> None:
        """Begin or continue the channel, as a viewer asks for it."""

    def note_unknown_viewers(self) -> None:
        """Continue the channel if it runs, as it may have viewers that aren't known here."""


class OnDemand(MadeOnDemand, Protocol):
    """A station's live channel, as a node shares it."""

    @property
    def has_media(self) -> bool:
        """Whether the channel delivers media now."""

    @property
    def is_idle(self) -> bool:
        """Whether the channel isn't made now."""

    @property
    def is_postponed(self) -> bool:
        """Whether the channel doesn't begin now although it has viewers."""

    def ranges_behind(self, tags: Sequence[DateRange]) -> Iterable[DateRange]:
        """Return the date ranges to append where this packager continues after another one.

        Args:
            tags: the date ranges that the shared log lists.
        """

    def serve_own(self) -> None:
        """Serve this packager's own log, since Redis can't be reached to follow another node's."""


class Demand:
    """Publishes to a cluster's packagers the channels wanted at this node, and reads those of other nodes.

    Args:
        limits: how often, and for how long it is remembered.

    Attributes:
        made: the channels on demand that this node makes, by name.
    """

    def __init__(self, connection: RedisConnection, limits: ClusterLimits) -> None:
        self.made: dict[str, MadeOnDemand] = {}
        self._connection = connection
        self._limits = limits
        self._asked: set[str] = set()
        self._news = asyncio.Event()

    def note(self, name: str) -> None:
        """Note a viewer's request for a channel at this node."""
        self._asked.add(name)
        self._news.set()

    async def run(self) -> None:
        """Publish and read demand until cancelled."""
        async with background_task(self._publish()):
            while True:
                await self._look()
                await asyncio.sleep(self._limits.demand_look_seconds)

    async def _publish(self) -> None:
        while True:
            await self._news.wait()
            await self._connection.wait_until_up()
            names, self._asked = self._asked, set()
            self._news.clear()
            try:
                await self._exchange(_TELL, *names)
            except RedisUnavailableError:
                self._asked |= names
                self._news.set()
            else:
                await asyncio.sleep(self._limits.tell_seconds)

    async def _look(self) -> None:
        if not self.made:
            return
        try:
            found = await self._exchange(_LOOK, str(MAX_CHANNELS))
        except RedisUnavailableError:
            for one in self.made.values():
                one.note_unknown_viewers()
            return
        for name in found:
            channel = self.made.get(name.decode("utf-8", "replace"))
            if channel is not None:
                channel.note_viewer()

    async def _exchange(self, script: str, *terms: str) -> Any:
        remembered = str(REMEMBERED_SECONDS)
        return await self._connection.call(lambda client: client.eval(script, 1, ASKED, remembered, *terms))
