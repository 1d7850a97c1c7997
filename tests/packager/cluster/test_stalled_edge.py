"""An edge that stands still costs nobody else anything, and goes on behind it."""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
from collections.abc import AsyncIterator
from dataclasses import replace

from packager.cluster.lease import LogKeys
from tests.packager.cluster.live_nodes import LIMITS, Node, alike, clear, is_level, node, owner, playing
from tests.packager.cluster.sent_entries import is_sent
from tests.packager.made_channel import Maker, same
from tests.redis_server import RedisServer
from tests.waiting import until

KEPT_BYTES = 3000
SHORT = replace(
    LIMITS,
    # Only bytes count, however long a busy machine takes.
    kept_bytes=KEPT_BYTES,
    kept_seconds=600.0,
)
ENTRIES = LogKeys("live", "test").entries


@contextlib.asynccontextmanager
async def edge_in_a_thread(server: RedisServer) -> AsyncIterator[tuple[Node, asyncio.AbstractEventLoop]]:
    """Run an edge on an event loop of its own, which a test may block."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    stack = contextlib.AsyncExitStack()
    try:
        entering = asyncio.run_coroutine_threadsafe(stack.enter_async_context(node(server)), loop)
        yield await asyncio.wrap_future(entering), loop
    finally:
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(stack.aclose(), loop))
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(loop.shutdown_default_executor(), loop))
        loop.call_soon_threadsafe(loop.stop)
        await asyncio.to_thread(thread.join)
        loop.close()


def number_of(server: RedisServer, *words: str) -> int:
    """Give the number that is the answer to a command."""
    return int(server.command(*words).removeprefix(b":"))


def buffered(server: RedisServer) -> int:
    """Give the bytes that Redis keeps for clients that don't read."""
    return sum(int(one) for one in re.findall(rb"\bomem=(\d+)", server.command("CLIENT", "LIST")))


def lengths(one: Node, server: RedisServer) -> tuple[int, int, int]:
    """Give how many entries wait in an owner, are kept there for a Redis that is away, and are in Redis."""
    channel = one.node.channels["test"]
    return len(channel._waiting), len(channel._writer._kept), number_of(server, "XLEN", ENTRIES)


async def play(maker: Maker, packager: Node, edge: Node) -> None:
    """Publish some segments, each behind the arrival of the one before."""
    for _ in range(8):
        maker.act("segment")
        await until(lambda: is_level(maker, packager) and is_level(maker, edge), "a segment")
    await until(lambda: is_sent(packager), "Redis")


async def test_an_edge_that_stands_still_makes_nothing_grow_elsewhere(redis_server: RedisServer) -> None:
    clear(redis_server)
    maker, resumed = playing(), threading.Event()
    async with (
        node(redis_server, maker, limits=SHORT) as packager,
        node(redis_server) as edge,
        edge_in_a_thread(redis_server) as (stalled, loop),
    ):
        await until(lambda: owner(packager), "the lease")
        await until(lambda: is_level(maker, edge) and is_level(maker, stalled), "the edges")
        # Its read waits in Redis meanwhile, and is answered.
        loop.call_soon_threadsafe(resumed.wait)
        try:
            await play(maker, packager, edge)
            before = lengths(packager, redis_server)
            await play(maker, packager, edge)
            await play(maker, packager, edge)
            assert not is_level(maker, stalled)
            assert lengths(packager, redis_server) == before
            assert buffered(redis_server) <= KEPT_BYTES
            assert alike(packager, edge)
        finally:
            resumed.set()
        await until(lambda: is_level(maker, stalled), "what it missed")
        same(maker, stalled.streams["test"])


async def test_a_new_edge_has_its_playlists_before_anything_is_appended(redis_server: RedisServer) -> None:
    clear(redis_server)
    maker = playing(3)
    async with node(redis_server, maker, limits=SHORT) as packager:
        await until(lambda: owner(packager) and is_sent(packager), "the log")
        before = lengths(packager, redis_server)
        async with node(redis_server) as edge:
            await until(lambda: is_level(maker, edge), "the snapshot")
            same(maker, edge.streams["test"])
        assert lengths(packager, redis_server) == before
