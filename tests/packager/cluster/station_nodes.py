"""Nodes of a cluster in one process, each with a station's log."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator
from contextlib import aclosing

from packager.cluster.connection import RedisConnection
from packager.cluster.limits import ClusterLimits
from packager.cluster.shared_station import SharedStation
from packager.cluster.station_reader import StationLogs
from packager.concurrency import background_task
from packager.radio.audio_blocks import AudioBlock
from packager.radio.block_serialization import StationState
from packager.retry_policy import RetryPolicy
from tests.radio_server import Feed, numbers
from tests.redis_server import RedisServer

NAME = "one.mp3"

STATE = StationState(available=True, is_idle=False, trouble="", media_type="audio/mpeg", bitrate=128)

LIMITS = ClusterLimits(
    # Loading the client reads files.
    reconnects=RetryPolicy(0.01, 0.1),
    call_seconds=30.0,
    lease_seconds=1.0,
    renew_seconds=0.02,
    read_seconds=0.1,
    kept_seconds=600.0,
)


class Node:
    """A node with one station, and what it has played."""

    def __init__(
        self, connection: RedisConnection, feed: Feed | None, limits: ClusterLimits = LIMITS
    ) -> None:
        self.connection = connection
        self.feed = feed
        self.station = SharedStation(NAME, feed, STATE, connection, uuid.uuid4().hex, limits)
        self.logs = StationLogs(connection, [self.station], limits)
        self.played: list[AudioBlock] = []

    async def play(self) -> None:
        async with aclosing(self.station.blocks()) as blocks:
            async for block in blocks:
                self.played.append(block)

    def heard(self) -> list[int]:
        """Give the number of each block's first frame."""
        return [numbers(one.data)[0] for one in self.played]


@contextlib.asynccontextmanager
async def node(server: RedisServer, feed: Feed | None, limits: ClusterLimits = LIMITS) -> AsyncIterator[Node]:
    one = Node(await asyncio.to_thread(RedisConnection, server.url, limits), feed, limits)
    async with (
        background_task(one.connection.run()),
        background_task(one.logs.run()),
        background_task(one.play()),
    ):
        yield one
