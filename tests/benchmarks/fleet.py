"""A cluster on this machine, each part of it a real process: Redis, packagers, edges, and nginx in front."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tests.cdn.caches import running
from tests.conftest import ServerProcess, start_server
from tests.origin.workers.asking import workers_of
from tests.ports import kept_port
from tests.redis_server import RedisServer, redis_running
from tests.waiting import wait_for

CHANNEL, RENDITIONS = "shared", ("240p", "audio")
FILM, FILM_BYTES = "film.bin", 1 << 20
ANSWER_SECONDS = 30.0
WORKERS = (1, 2, 1, 1)
"""Of each edge."""

OWNER = f'headwater_cluster_owner{{channel="{CHANNEL}"}} 1.0'

CONFIG = """
[cluster]
url = "{url}"

[library]
path = "library"

[limits]
drain_seconds = {drain_seconds}
shutdown_seconds = 20

[[live]]
name = "{channel}"
source = "testsrc"
ladder = ["{rendition}"]
"""


@dataclass
class FleetNode:
    """A node, which can end and come again at its address.

    Attributes:
        name: of it.
        role: as in ``cluster.role``.
        port: where it listens.
        folder: where its configuration is.
        workers: as in ``server.workers``.
        runs: its processes, one behind the other.
    """

    name: str
    role: str
    port: int
    folder: Path
    workers: int = 1
    runs: list[ServerProcess] = field(default_factory=list)

    @property
    def server(self) -> ServerProcess:
        """Its newest process."""
        return self.runs[-1]

    @property
    def is_owner(self) -> bool:
        """Whether it appends to the channel's log."""
        return OWNER in self._asked("/metrics")

    @property
    def plays(self) -> bool:
        """Whether it has the channel."""
        return bool(self._asked(f"/live/{CHANNEL}/master.m3u8"))

    def _asked(self, path: str) -> str:
        try:
            answer = httpx.get(f"{self.server.url}{path}", timeout=ANSWER_SECONDS)
        except httpx.TransportError:  # it doesn't run now
            return ""
        return answer.text if answer.status_code == 200 else ""

    def start(self) -> None:
        """Start it, and wait until it has the channel."""
        env = {"HEADWATER_CLUSTER_ROLE": self.role, "HEADWATER_SERVER_WORKERS": str(self.workers)}
        words = ("--config", "headwater.toml", "--port", str(self.port))
        self.runs.append(start_server(*words, cwd=self.folder, env=env))
        wait_for(lambda: self.plays, f"the channel at {self.name}")

    def restart(self) -> None:
        """End it as an upgrade does, wait for that, and start it again."""
        if status := self.server.stop():
            raise RuntimeError(f"{self.name} ended with {status}")
        self.start()

    def kill(self) -> None:
        """End it at once, and nothing that it has started."""
        self.server.process.kill()
        self.server.process.wait()

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """Let it and its workers stand still: what they are asked isn't answered."""
        pids = [self.server.process.pid, *workers_of(self.server)]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)

    def end(self) -> None:
        """End it, however it is."""
        if self.runs and self.server.process.poll() is None:
            self.kill()


@dataclass
class Fleet:
    """The cluster.

    Attributes:
        url: of nginx.
        redis: what all nodes share.
        packagers: two, one of which owns the channel's log.
        edges: those that nginx asks; the last one isn't started.
    """

    url: str
    redis: RedisServer
    packagers: list[FleetNode]
    edges: list[FleetNode]

    @property
    def late(self) -> FleetNode:
        """The edge that comes in mid-stream."""
        return self.edges[-1]

    def owner(self) -> FleetNode:
        """Give the packager that owns the channel's log, once there is one."""
        return wait_for(lambda: [one for one in self.packagers if one.is_owner], "an owner")[0]

    def in_order_of_upgrades(self) -> list[FleetNode]:
        """Give the nodes that run: the edges, the standby, and last the owner."""
        owner = self.owner()
        standbys = [one for one in self.packagers if one is not owner]
        return [*(one for one in self.edges if one.runs), *standbys, owner]

    def log(self) -> str:
        """Give what all nodes have written."""
        nodes = [*self.packagers, *self.edges]
        return "".join(f"--- {one.name}\n{run.text()}" for one in nodes for run in one.runs)


@contextlib.contextmanager
def fleet_running(
    folder: Path, workers: Sequence[int] = WORKERS, *, drain_seconds: float = 3.0
) -> Iterator[Fleet]:
    """Run two packagers, and nginx before edges of which the last one isn't started.

    Args:
        folder: an empty one, for all that they write.
        workers: of each edge.
        drain_seconds: for how long a node that is to end serves on.
    """
    for name in ("redis", "nginx", "library"):
        (folder / name).mkdir()
    (folder / "library" / FILM).write_bytes(bytes(range(256)) * (FILM_BYTES // 256))
    with contextlib.ExitStack() as stack:
        redis = stack.enter_context(redis_running(folder / "redis"))
        values = {"channel": CHANNEL, "rendition": RENDITIONS[0], "drain_seconds": drain_seconds}
        text = CONFIG.format(url=redis.url, **values)
        (folder / "headwater.toml").write_text(text)

        def node(name: str, role: str, count: int = 1) -> FleetNode:
            made = FleetNode(name, role, stack.enter_context(kept_port()), folder, count)
            stack.callback(made.end)
            return made

        packagers = [node(f"packager {number}", "packager") for number in (1, 2)]
        edges = [node(f"edge {number}", "edge", count) for number, count in enumerate(workers, 1)]
        for one in (*packagers, *edges[:-1]):
            one.start()
        addresses = ",".join(f"127.0.0.1:{one.port}" for one in edges)
        proxy = stack.enter_context(running("fleet", f"http://{addresses}", folder / "nginx"))
        yield Fleet("http://{}:{}".format(*proxy.address), redis, packagers, edges)
