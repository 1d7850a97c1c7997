"""A real Redis Cluster of three masters, each with a replica that takes its place."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from redis.crc import key_slot

from tests.ports import kept_port
from tests.redis_server import RedisServer, redis_running
from tests.waiting import wait_for

MASTERS = 3
NODE_TIMEOUT_MILLISECONDS = 1000
"""Without a sign of life for so long, a master counts as gone, and its replica is elected."""


@dataclass(frozen=True)
class RedisServers:
    """The servers of a Redis Cluster.

    Attributes:
        servers: masters and replicas.
    """

    servers: list[RedisServer]

    @property
    def url(self) -> str:
        """The address of two of them: clients learn of the others."""
        return "redis+cluster://" + ",".join(f"127.0.0.1:{one.port}" for one in self.servers[:2])

    def command(self, *words: str) -> None:
        """Give a command to each master."""
        for port in self.slots():
            next(one for one in self.servers if one.port == port).command(*words)

    def lose_master_of(self, key: str) -> None:
        """Kill the master that has a key, and wait until a replica has its place everywhere."""
        lost = self.master_of(key)
        lost.kill()
        wait_for(lambda: lost.port not in self.slots() and self.is_whole(), "a replica")

    def slots(self) -> dict[int, range]:
        """Give the slots of each master that runs, by its port, as one that runs tells them."""
        asked = next(one for one in self.servers if one.process is not None and one.process.poll() is None)
        found = {}
        for line in asked.command("CLUSTER", "NODES").decode().splitlines()[1:]:
            words = line.split()
            if len(words) > 8 and "master" in words[2] and "fail" not in words[2]:
                first, _, last = words[8].partition("-")
                port = int(words[1].partition("@")[0].rpartition(":")[2])
                found[port] = range(int(first), int(last or first) + 1)
        return found

    def master_of(self, key: str) -> RedisServer:
        """Give the master that has a key."""
        port = next(port for port, slots in self.slots().items() if key_slot(key.encode()) in slots)
        return next(one for one in self.servers if one.port == port)

    def is_whole(self) -> bool:
        """Tell whether all servers that run know a master of each slot."""
        running = [one for one in self.servers if one.process is not None and one.process.poll() is None]
        return all(b"cluster_state:ok" in one.command("CLUSTER", "INFO") for one in running)

    def has_replicas(self) -> bool:
        """Tell whether each master has a replica with all of its data."""
        told = [one.command("INFO", "replication") for one in self.servers]
        return sum(b"master_link_status:up" in one for one in told) == MASTERS


@contextlib.contextmanager
def redis_cluster_running(folder: Path) -> Iterator[RedisServers]:
    """Run a Redis Cluster, which is made by ``redis-cli``."""
    with contextlib.ExitStack() as stack:
        servers, places = [], []
        for number in range(2 * MASTERS):
            own = folder / str(number)
            own.mkdir()
            # That of a cluster's own messages would be 10000 above, where ports may end.
            bus = stack.enter_context(kept_port())
            words = ("--cluster-enabled", "yes", "--cluster-port", str(bus))
            times = ("--cluster-node-timeout", str(NODE_TIMEOUT_MILLISECONDS))
            copies = ("--repl-diskless-sync-delay", "0", "--cluster-replica-validity-factor", "0")
            server = stack.enter_context(redis_running(own, *words, *times, *copies))
            servers.append(server)
            places.append(f"127.0.0.1:{server.port}@{bus}")
        command = ["redis-cli", "--cluster", "create", *places, "--cluster-replicas", "1", "--cluster-yes"]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
        cluster = RedisServers(servers)
        wait_for(lambda: cluster.is_whole() and cluster.has_replicas(), "the Redis Cluster")
        yield cluster
