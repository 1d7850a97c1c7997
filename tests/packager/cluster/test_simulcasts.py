"""A station's live channel that nodes share over a real Redis: it is made only while it is asked for."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace

from media.hls.date_range import DateRange
from packager.cluster.connection import RedisConnection
from packager.cluster.limits import ClusterLimits
from packager.cluster.node import ClusterNode, NodeOptions
from packager.publish.live_stream import LiveStream
from packager.window.limits import DEFAULT_LIMITS
from packager.window.log import GapEntry
from tests.origin.live.served_log import NoCommands
from tests.packager.cluster.live_nodes import LIMITS, Relayed
from tests.packager.made_channel import Maker, answers
from tests.redis_server import RedisServer
from tests.waiting import until

SHORT = replace(LIMITS, log_gone_seconds=2)


@dataclass
class Made:
    """What a packager makes on demand, and what its cluster has asked of it."""

    is_idle: bool = True
    has_media: bool = True
    is_postponed: bool = False
    serves_own: bool = False
    viewers: int = 0
    maker: Maker = field(default_factory=lambda: Maker(dvr=False))

    def note_viewer(self) -> None:
        self.viewers += 1

    def note_unknown_viewers(self) -> None:
        """Do nothing: the test says when it ends."""

    def ranges_behind(self, tags: Sequence[DateRange]) -> Sequence[DateRange]:
        del tags
        return ()

    def serve_own(self) -> None:
        self.serves_own = True

    def own(self) -> LiveStream:
        stream = LiveStream("test", NoCommands(), clock=self.maker.clock)
        stream.adopt(self.maker.folded)
        return stream


@dataclass
class Node:
    node: ClusterNode
    streams: dict[str, LiveStream]
    relayed: Relayed
    made: Made
    task: asyncio.Task[None] | None = None

    @property
    def stream(self) -> LiveStream:
        return self.streams["test"]

    @property
    def owns(self) -> bool:
        return self.node.simulcasts["test"].is_owner

    async def begin(self, passed: int = 0) -> None:
        """Make the channel from now on, with so many numbers that have passed and are nowhere."""
        maker = self.made.maker = Maker(dvr=False)
        maker.log.add_follower(self.node.simulcasts["test"].follow(self.made.own()))
        for act in (*passed * ("segment",), "day", "segment", "segment"):
            maker.act(act)
            await asyncio.sleep(0)
        self.made.is_idle = False

    async def kill(self) -> None:
        """End it as kill -9 would: it tells nobody."""
        self.node.connection._went(OSError("killed"))
        await self.stop()

    async def stop(self) -> None:
        assert self.task is not None
        self.task.cancel()
        await asyncio.wait([self.task])


@contextlib.asynccontextmanager
async def node(server: RedisServer, *, makes: bool, limits: ClusterLimits = LIMITS) -> AsyncIterator[Node]:
    connection = await asyncio.to_thread(RedisConnection, server.url, limits)
    streams: dict[str, LiveStream] = {}
    cluster = ClusterNode(
        connection,
        streams,
        relayed := Relayed(),
        limits,
        DEFAULT_LIMITS,
        NodeOptions("one", follows_all=True),
    )
    one = Node(cluster, streams, relayed, Made())
    if makes:
        cluster.share_simulcast(one.made.own(), one.made, one.made.maker.folded.entry)
    else:
        cluster.follow_simulcast("test", one.made.maker.folded.entry)
    one.task = asyncio.create_task(cluster.run())
    try:
        yield one
    finally:
        await one.stop()
        cluster.close()


def alike(one: Node, other: Node) -> bool:
    return one.stream.ready and [*answers(one.stream)] == [*answers(other.stream)]


async def test_nobody_owns_what_nobody_asks_for_and_all_wait_for_what_comes_next(
    redis_server: RedisServer,
) -> None:
    redis_server.command("FLUSHALL")
    async with node(redis_server, makes=True) as one, node(redis_server, makes=False) as edge:
        await until(lambda: one.node.connection.is_up and edge.node.connection.is_up, "Redis")
        waited_at = edge.stream
        assert not waited_at.ready
        edge.stream.commands.note_viewer()
        await until(lambda: one.made.viewers, "what the edge asks for")
        await one.begin()
        await until(lambda: alike(one, edge), "the channel")
        sequence = edge.stream.renditions["240p"].window.newest_discontinuity_sequence
        one.made.is_idle = True
        await until(lambda: not one.owns and not edge.stream.ready, "the end")
        assert edge.stream is waited_at
        # Who comes meanwhile waits, too, and needs no owner for that.
        async with node(redis_server, makes=False) as late:
            # Numbers come from the clock: meanwhile many have passed, for which nobody needs gaps.
            await one.begin(20)
            await until(lambda: alike(one, edge) and alike(one, late), "the next run")
        window = edge.stream.renditions["240p"].window
        assert window.newest_discontinuity_sequence > sequence
        assert not any(isinstance(entry, GapEntry) for entry in edge.relayed.entries)
        assert not one.made.serves_own
        assert edge.stream is waited_at


async def test_an_edge_waits_again_for_what_is_gone_with_its_packager(redis_server: RedisServer) -> None:
    redis_server.command("FLUSHALL")
    async with node(redis_server, makes=False, limits=SHORT) as edge:
        async with node(redis_server, makes=True) as one:
            await until(lambda: one.node.connection.is_up and edge.node.connection.is_up, "Redis")
            await one.begin()
            await until(lambda: alike(one, edge), "the channel")
            last = edge.stream.renditions["240p"].window.next_number
            await one.kill()
        assert edge.stream.ready
        await until(lambda: not edge.stream.ready, "its log's end")
        assert edge.relayed.gone == ["test"]
        assert edge.stream.renditions["240p"].window.next_number >= last
        async with node(redis_server, makes=True) as other:
            # Numbers come from the clock, and go on behind those of the one that is gone.
            await other.begin(20)
            await until(lambda: other.stream.ready and alike(other, edge), "another packager's")


async def test_a_packager_without_redis_serves_what_it_makes(redis_server: RedisServer) -> None:
    redis_server.command("FLUSHALL")
    redis_server.kill()
    try:
        async with node(redis_server, makes=True) as one:
            await one.begin()
            await until(lambda: one.made.serves_own, "its own")
            assert not one.stream.ready
            await asyncio.to_thread(redis_server.start)
            await until(lambda: one.owns and one.stream.ready, "the shared one")
    finally:
        if redis_server.process is None or redis_server.process.poll() is not None:
            redis_server.start()
