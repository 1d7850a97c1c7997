"""Nodes of a cluster in one process, each with a live channel's log."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from packager.cluster.connection import RedisConnection
from packager.cluster.limits import ClusterLimits
from packager.cluster.node import ClusterNode, NodeOptions
from packager.publish.live_stream import FoldedLog, LiveStream
from packager.retry_policy import RetryPolicy
from packager.window.limits import DEFAULT_LIMITS
from packager.window.log import Entry, Log
from tests.origin.live.served_log import NoCommands
from tests.packager.made_channel import Maker, answers
from tests.redis_server import RedisServer

LIMITS = ClusterLimits(
    reconnects=RetryPolicy(0.01, 0.1),
    lease_seconds=2.0,
    renew_seconds=0.05,
    list_seconds=0.02,
    snapshot_look_seconds=0.01,
)


class HasUrl(Protocol):
    """What a node connects to."""

    @property
    def url(self) -> str: ...


class Shareable(Protocol):
    """What makes a channel's log: a node can share it."""

    @property
    def clock(self) -> Callable[[], float]: ...

    @property
    def folded(self) -> FoldedLog: ...

    @property
    def log(self) -> Log: ...


@dataclass
class Relayed:
    """What is handed on to workers."""

    entries: list[Entry] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)

    def fold(self, stream: LiveStream, entry: Entry) -> None:
        self.entries.append(entry)

    def withdraw(self, name: str) -> None:
        self.gone.append(name)


@dataclass
class Node:
    """A node, with the packager's channel that it shares."""

    node: ClusterNode
    streams: dict[str, LiveStream]
    relayed: Relayed
    task: asyncio.Task[None] | None = None
    has_media: bool = True

    async def kill(self) -> None:
        """End it as kill -9 would: it tells nobody."""
        self.node.connection._went(OSError("killed"))  # nothing is sent any more
        await self.stop()

    async def stop(self) -> None:
        assert self.task is not None
        self.task.cancel()
        await asyncio.wait([self.task])


@contextlib.asynccontextmanager
async def node(
    server: HasUrl,
    *makers: Shareable,
    limits: ClusterLimits = LIMITS,
    follows_all: bool = True,
    names: Sequence[str] = ("test",),
) -> AsyncIterator[Node]:
    connection = await asyncio.to_thread(RedisConnection, server.url, limits)
    streams: dict[str, LiveStream] = {}
    relayed = Relayed()
    made = ClusterNode(
        connection, streams, relayed, limits, DEFAULT_LIMITS, NodeOptions("one", follows_all=follows_all)
    )
    one = Node(made, streams, relayed)
    for name, maker in zip(names, makers, strict=False):
        own = LiveStream(name, NoCommands(), clock=maker.clock)
        own.adopt(maker.folded)
        maker.log.add_follower(made.share(own, lambda: one.has_media, lambda: "live"))
    one.task = asyncio.create_task(made.run())
    try:
        yield one
    finally:
        await one.stop()
        made.close()


def playing(acts: int = 1) -> Maker:
    maker = Maker(dvr=False)
    for _ in range(acts):
        maker.act("segment")
    return maker


def is_level(maker: Shareable, one: Node, channel: str = "test") -> bool:
    stream = one.streams.get(channel)
    is_whole = stream is not None and not stream.awaits_media
    return (
        stream is not None
        and is_whole
        and all(
            mine.window.next_part == stream.renditions[name].window.next_part
            for name, mine in maker.folded.renditions.items()
        )
    )


def owner(*nodes: Node) -> Node | None:
    return next((one for one in nodes if one.node.channels["test"].is_owner), None)


def alike(one: Node, other: Node) -> bool:
    """Tell whether both serve the channel, and with the same answers."""
    mine, its = one.streams.get("test"), other.streams.get("test")
    return mine is not None and its is not None and [*answers(mine)] == [*answers(its)]


def clear(server: RedisServer) -> None:
    server.command("FLUSHALL")
