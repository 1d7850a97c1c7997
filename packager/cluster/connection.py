"""The connection of a node to Redis, which everything that goes over it shares.

While Redis can't be reached, every call fails at once, and one task alone looks whether it is back: however
many logs a node has, Redis isn't asked more often for it.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from typing import Any

import structlog

from packager.cluster.limits import ClusterLimits
from packager.concurrency import wait_within
from packager.retry_policy import FailureCount

log = structlog.get_logger()

# Redis refuses a script with such a first line, whatever it does, while it takes no writes: it is a replica,
# its memory or its disk is full, or it lacks replicas. The script leaves out what nodes may not ask for.
_PROBE = """#!lua
local now, memory = redis.pcall('TIME'), redis.pcall('INFO', 'memory')
local told = type(memory) == 'string' and memory or ''
return now.err and told or 'time:' .. now[1] .. '.' .. string.format('%06d', now[2]) .. '\\n' .. told
"""
_TIME = re.compile(rb"^time:([0-9]{1,12}\.[0-9]{6})\r?$", re.MULTILINE)
_MOST_MEMORY = re.compile(rb"^maxmemory:([0-9]+)\r?$", re.MULTILINE)
_POLICY = re.compile(rb"^maxmemory_policy:([a-z-]{1,32})\r?$", re.MULTILINE)

Command = Callable[[Any], Awaitable[Any]]
"""Sends a command to a ``redis.asyncio.Redis`` or ``RedisCluster``; the answer depends on the command."""

MAX_CALLS = 16
"""Most commands that wait for their answers; further ones wait for a place."""

MAX_CLUSTER_CONNECTIONS = 1024
"""Most connections to each server of a Redis Cluster, where a waiting read has one log."""

CLOCK_SECONDS = 1.0
"""Difference between the clocks of this node and of Redis from which on a warning is logged."""

SLOTS_SECONDS = 0.05
"""Seconds between two checks which slots have logs to read."""

JITTER = 0.5
"""Largest part of itself by which a pause is shortened, so that nodes don't come all at once."""


SECRETS = "headwater:secret"
"""Beginning of the keys of secrets that nodes share."""

SECRET_SECONDS = 30 * 86_400
"""For how long Redis has a secret after the last start of a node that uses it."""

MOST_SECRET_CHARACTERS = 256


class RedisUnavailableError(Exception):
    """Redis can't be reached, or refuses a command."""


class RedisConnection:
    """A connection to Redis that reconnects by itself, and knows whether Redis can be reached.

    Args:
        url: as ``redis_client`` or ``redis_cluster_client`` takes it.
        clock: returns this node's date, in seconds since 1970.

    Attributes:
        is_cluster: whether it is a Redis Cluster, where a command can have keys of one slot alone.
        trouble: why Redis can't be used now, in one line; empty while it can.
        risk: the options of Redis that may lose entries, in one line; empty without any.
        clock_difference: by how much this node's clock differs from that of Redis, in one line; empty where
            it doesn't.
        lost: how often the connection was lost.
        up_since: since when Redis can be reached, by the monotonic clock.

    Raises:
        ModuleNotFoundError: the extra isn't installed.
        ValueError: the URL is wrong.
    """

    def __init__(self, url: str, limits: ClusterLimits, clock: Callable[[], float] = time.time) -> None:
        # Here and not above: it is an extra, and most servers don't have it.
        from packager.cluster.redis_client import CLUSTER, redis_client, redis_cluster_client

        self._limits = limits
        self._clock = clock
        self.is_cluster = CLUSTER in url
        connections = MAX_CLUSTER_CONNECTIONS if self.is_cluster else limits.redis_connections
        self._client: Any = (redis_cluster_client if self.is_cluster else redis_client)(
            url,
            connect_seconds=limits.connect_seconds,
            answer_seconds=None,  # some commands wait long in Redis
            connections=connections,
        )
        self._calls = asyncio.Semaphore(MAX_CALLS)
        self._waits = asyncio.Semaphore(connections - MAX_CALLS)
        self._is_up, self._is_down = asyncio.Event(), asyncio.Event()
        self.trouble = "Redis wasn't asked yet"
        self.risk = ""
        self.clock_difference = ""
        self.lost = 0
        self.up_since = 0.0

    @property
    def is_up(self) -> bool:
        """Whether the last command reached Redis."""
        return self._is_up.is_set()

    @property
    def told(self) -> str:
        """A warning about Redis for the operator, in one line; empty if all is well."""
        return self.trouble or self.risk or self.clock_difference

    async def run(self) -> None:
        """Connect to Redis, and reconnect with growing pauses whenever it is lost, until cancelled."""
        failures = FailureCount(self._limits.reconnects)
        try:
            while True:
                began = time.monotonic()
                if await self._answers():
                    self._came(failures)
                    await self._watch()
                    failures.succeeded(time.monotonic() - began)
                pause = failures.failed()
                if failures.failures <= failures.policy.quiet_after:
                    log.warning("Redis can't be used", reason=self.trouble, again_in=round(pause, 2))
                await asyncio.sleep(pause * (1 - JITTER * random.random()))  # noqa: S311  # no secret
        finally:
            self._is_up.clear()
            await self._client.aclose()

    async def wait_until_up(self) -> None:
        """Wait until Redis can be reached."""
        await self._is_up.wait()

    def slot(self, key: str) -> int:
        """Return the slot of a key in a Redis Cluster; a single server has all keys in one slot."""
        return self._client.keyslot(key) if self.is_cluster else 0

    async def for_each_slot(
        self, keys: Callable[[], Iterable[str]], work: Callable[[int], Coroutine[None, None, None]]
    ) -> None:
        """Run a task for each slot that has some of these keys, as long as the slot has any.

        Args:
            keys: returns the keys that need a task now.
            work: makes the task of a slot, which is cancelled once the slot has none of the keys.
        """
        if not self.is_cluster:
            await work(self.slot(""))
            return
        async with asyncio.TaskGroup() as group:
            working: dict[int, asyncio.Task[None]] = {}
            while True:
                slots = {self.slot(key) for key in keys()}
                for slot in working.keys() - slots:
                    working.pop(slot).cancel()
                for slot in slots - working.keys():
                    working[slot] = group.create_task(work(slot))
                await asyncio.sleep(SLOTS_SECONDS)

    async def read_streams(self, behind: Mapping[bytes, str | bytes], count: int, seconds: float) -> Any:
        """Wait for entries of streams whose keys share one slot, and return them as ``xread`` does.

        Args:
            behind: the ID behind which each stream is read.
            count: most entries of each.
            seconds: longest wait.

        Raises:
            RedisUnavailableError: as for ``call``.
        """
        streams = dict.fromkeys((name.decode() for name in behind), "stream")
        return await self.wait(lambda client: self.xread(client, behind, count, seconds), seconds, streams)

    def xread(
        self, client: Any, behind: Mapping[bytes, str | bytes], count: int, seconds: float
    ) -> Awaitable[Any]:
        """Make the command of ``read_streams``."""
        milliseconds = round(seconds * 1000)
        if not self.is_cluster:
            found: Awaitable[Any] = client.xread(behind, count, milliseconds)
            return found
        # By itself the client would ask Redis first which words of the command are keys.
        words = "XREAD", "COUNT", count, "BLOCK", milliseconds, "STREAMS", *behind, *behind.values()
        there = [client.get_node_from_key(next(iter(behind)).decode())]
        answer: Awaitable[Any] = client.execute_command(*words, target_nodes=there)
        return answer

    async def call(self, command: Command, types: Mapping[str, str] | None = None) -> Any:
        """Send a command, and wait for its answer.

        Args:
            types: of keys that it has; what is of another type wasn't written by a node, would fail each
                time, and is deleted.

        Raises:
            RedisUnavailableError: Redis is away, or refuses; whether the command was carried out isn't known.
        """
        async with self._calls:
            return await self._ask(command, self._limits.call_seconds, {} if types is None else types)

    async def wait(self, command: Command, seconds: float, types: Mapping[str, str] | None = None) -> Any:
        """Send a command that waits in Redis, such as a read of new entries.

        Args:
            seconds: for which it waits there.
            types: as for ``call``.

        Raises:
            RedisUnavailableError: as for ``call``.
        """
        async with self._waits:
            return await self._ask(
                command, seconds + self._limits.call_seconds, {} if types is None else types
            )

    async def _ask(self, command: Command, seconds: float, types: Mapping[str, str]) -> Any:
        if not self.is_up:
            raise RedisUnavailableError(self.trouble)
        lost = self.lost
        try:
            async with asyncio.timeout(seconds):
                try:
                    return await command(self._client)
                except Exception as error:
                    if not types or not str(error).startswith("WRONGTYPE"):
                        raise
                    await self._delete_others(types)
                    await asyncio.sleep(self._limits.reconnects.first_seconds)
                    raise RedisUnavailableError(_reason(error)) from error
        except Exception as error:
            # The client has no name for a reply that is none of Redis, nor, of a Redis Cluster, for a
            # connection that is closed while others read from it.
            if isinstance(error, RedisUnavailableError):
                raise
            # A call that began before the connection was lost says nothing of the new connection.
            if lost == self.lost:
                self._went(error)
            raise RedisUnavailableError(self.trouble or _reason(error)) from error

    async def _delete_others(self, types: Mapping[str, str]) -> None:
        """Delete keys that are of another type than they should be."""
        for key, kind in types.items():
            found = (await self._client.type(key)).decode()
            if found not in (kind, "none") and await self._client.delete(key):
                log.warning("a key in Redis wasn't written by a node: it was deleted", key=key, type=found)

    async def _watch(self) -> None:
        """Wait until Redis is lost, and check its configuration and clock at intervals meanwhile."""
        while self.is_up:
            await wait_within(self._limits.redis_look_seconds, self._is_down.wait())
            if self.is_up:
                try:
                    async with asyncio.timeout(self._limits.call_seconds):
                        await self._look()
                except Exception as error:  # noqa: BLE001  # as in `_ask`
                    self._went(error)

    async def _answers(self) -> bool:
        try:
            async with asyncio.timeout(self._limits.connect_seconds + self._limits.call_seconds):
                if self.is_cluster:
                    await self._look_for_servers()
                await self._look()
        except Exception as error:  # noqa: BLE001  # as in `_ask`
            self.trouble = _reason(error)
            return False
        return True

    async def _look(self) -> None:
        """Check whether Redis takes writes, which keys it evicts when its memory is full, and its date."""
        asked, began = ("EVAL", _PROBE, 0), self._clock()
        if self.is_cluster:
            there = self._client.get_primaries()
            told = await self._client.execute_command(*asked, target_nodes=there)
            told = told.values() if isinstance(told, dict) else [told]
        else:
            told = [await self._client.execute_command(*asked)]
        was, self.risk = self.risk, next(filter(None, map(_risk, told)), "")
        if self.risk and self.risk != was:
            log.warning("Redis may lose entries", reason=self.risk)
        was, self.clock_difference = self.clock_difference, self._compare(told, began)
        if self.clock_difference and not was:
            log.warning("the clocks of the cluster differ", reason=self.clock_difference)

    def _compare(self, told: Iterable[bytes], began: float) -> str:
        """Return a warning with the least difference of this node's clock from those of Redis, or "".

        Args:
            began: this node's date before the servers were asked.
        """
        ended = self._clock()
        times = [float(found[1]) for found in map(_TIME.search, told) if found is not None]
        # The servers read their clocks between those two dates.
        ahead = max((began - one for one in times), default=0.0)
        behind = max((one - ended for one in times), default=0.0)
        seconds, word = max((ahead, "ahead of"), (behind, "behind"))
        if seconds < CLOCK_SECONDS:
            return ""
        return (
            f"this node's clock is {seconds:.0f} s {word} that of Redis: numbers of segments come from clocks"
        )

    async def _look_for_servers(self) -> None:
        """Ask a Redis Cluster which servers have which slots now."""
        await self._client.aclose()
        # In another order each time: one that stands still takes all the time that there is.
        known = list(self._client.nodes_manager.startup_nodes.items())
        random.shuffle(known)
        self._client.nodes_manager.startup_nodes = dict(known)
        await self._client.initialize()

    def _came(self, failures: FailureCount) -> None:
        if failures.failures > failures.policy.quiet_after:
            log.info("Redis is back", failures=failures.failures)
        self.trouble, self.up_since = "", time.monotonic()
        self._is_down.clear()
        self._is_up.set()

    def _went(self, error: BaseException) -> None:
        if self.is_up:
            self.trouble = _reason(error)
            self.lost += 1
            self._is_up.clear()
            self._is_down.set()


def _risk(told: bytes) -> str:
    """Return a warning about the memory policy of Redis; empty if the policy isn't known."""
    most, policy = _MOST_MEMORY.search(told), _POLICY.search(told)
    if most is None or policy is None or not int(most[1]) or policy[1] == b"noeviction":
        return ""
    named = policy[1].decode()
    return f"Redis drops keys where its memory is full: its maxmemory-policy is {named}, and not noeviction"


def _reason(error: BaseException) -> str:
    text = " ".join(str(error).split())[:200]
    return f"Redis: {text or 'no answer in time'}"


async def shared_secret(url: str, name: str, own: str = "", limits: ClusterLimits | None = None) -> str:
    """Return a secret of a cluster; a node's own becomes the cluster's where there is none.

    Args:
        own: the node's own secret; empty to look alone.

    Returns:
        The cluster's; empty where there is none.

    Raises:
        RedisUnavailableError: Redis can't be asked; the text says why, without the URL.
    """
    # Here and not above: it is an extra, and most servers don't have it.
    try:
        from redis.exceptions import RedisError

        from packager.cluster.redis_client import CLUSTER, redis_client, redis_cluster_client
    except ModuleNotFoundError:
        raise RedisUnavailableError("the extra headwater[cluster] isn't installed") from None
    limits = limits or ClusterLimits()
    key = f"{SECRETS}:{name}"
    try:
        client: Any = (redis_cluster_client if CLUSTER in url else redis_client)(
            url,
            connect_seconds=limits.connect_seconds,
            answer_seconds=limits.call_seconds,
            connections=1,
        )
        try:
            if own:
                await client.set(key, own, nx=True, ex=SECRET_SECONDS)
                await client.expire(key, SECRET_SECONDS)
            found = await client.get(key)
        finally:
            await client.aclose()
    except (RedisError, OSError, ValueError) as error:
        raise RedisUnavailableError(str(error) or type(error).__name__) from None
    text = found.decode("utf-8", "replace") if isinstance(found, bytes) else ""
    return text if len(text) <= MOST_SECRET_CHARACTERS else ""
