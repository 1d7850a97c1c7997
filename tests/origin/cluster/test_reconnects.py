"""While Redis is away, a node tries to reach it as often as its retry policy says, however much it shares."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from packager.cluster.connection import JITTER
from packager.cluster.limits import ClusterLimits
from tests.origin.cluster.nodes import get, nodes
from tests.redis_server import RedisServer
from tests.waiting import wait_for

LOGS = 6
"""Live channels, stations and event channels of each kind."""

SHARED = """
[[live]]
name = "live{n}"
source = "publish"

[[radio]]
name = "radio{n}"
source = "publish"

[[events]]
name = "events{n}"
"""
ROLES = ("all", "edge")
UNDER_WAY_SECONDS = 2.0
"""Behind this no command is under way that was given while Redis was there."""

ATTEMPTS = 16


class InItsPlace:
    """Listens in the place of Redis, and closes each connection at once.

    Attributes:
        moments: when each of them came.
    """

    def __init__(self, port: int) -> None:
        self.moments: list[float] = []
        self._socket = socket.create_server(("127.0.0.1", port), backlog=1024)
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self._socket.accept()[0].close()
                self.moments.append(time.monotonic())

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()


@contextlib.contextmanager
def away(redis: RedisServer) -> Iterator[InItsPlace]:
    """Kill Redis, and have its place taken meanwhile."""
    redis.kill()
    other = InItsPlace(redis.port)
    try:
        yield other
    finally:
        other.close()
        redis.start()


def most_attempts(seconds: float) -> int:
    """Give how often one node may try within some seconds, where its pauses are as short as may be."""
    end, count = 0.0, 1
    for pause in ClusterLimits().reconnects.pauses():
        end += pause * (1 - JITTER)
        if end > seconds:
            return count
        count += 1
    raise AssertionError("it gives up")


def test_nodes_that_share_much_ask_for_a_redis_that_is_away_no_more_often(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    shared = "".join(SHARED.format(n=number) for number in range(LOGS))
    with nodes(tmp_path, redis_server, *ROLES, channels=shared) as running:

        def all_see(status: str) -> bool:
            return all(get(one, "/health").json()["status"] == status for one in running)

        wait_for(lambda: all_see("ok"), "both nodes")
        with away(redis_server) as other:
            wait_for(lambda: all_see("degraded"), "the news that Redis is away")
            began = time.monotonic() + UNDER_WAY_SECONDS
            wait_for(lambda: sum(one > began for one in other.moments) >= ATTEMPTS, "attempts")
            seconds = time.monotonic() - began
            attempts = sum(began < one < began + seconds for one in other.moments)
        assert attempts <= len(running) * most_attempts(seconds)
        wait_for(lambda: all_see("ok"), "Redis's return")
