"""A cluster on this machine, all of it real processes: Redis, S3, packagers, edges, and nginx in front."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import obstore

from tests.cdn.caches import running
from tests.conftest import ServerProcess, start_server
from tests.origin.workers.asking import workers_of
from tests.packager import films
from tests.ports import kept_port
from tests.redis_server import RedisServer, redis_running
from tests.s3_server import BUCKET, S3Server, s3_server_running
from tests.waiting import wait_for

CHANNEL, RENDITIONS = "shared", ("240p", "audio")
FILM, FILM_BYTES = "film.bin", 1 << 20
VOD_FILM = "film.mp4"
UNREAD, UNREAD_COUNT, UNREAD_BYTES = "unread/{}.bin", 1500, 4096
"""Files that nobody has read yet, and no cache has."""

ANSWER_SECONDS = 30.0
WORKERS = (1, 2, 1, 1)
"""Of each edge."""

OWNER = f'headwater_cluster_owner{{channel="{CHANNEL}"}} 1.0'

CONFIG = """
[cluster]
url = "{url}"

[library]
path = "{library}"

[limits]
drain_seconds = {drain_seconds}
shutdown_seconds = 20

[[live]]
name = "{channel}"
source = "{source}"
ladder = ["{rendition}"]
"""

DVR = f"""
dvr = "5m"

[server]
dvr_path = "s3://{BUCKET}/dvr"
"""
"""What is added where there is an S3 server."""


@dataclass
class FleetNode:
    """A node, which can end and come again at its address.

    Attributes:
        name: of it.
        role: as in ``cluster.role``.
        port: where it listens.
        folder: where its configuration is.
        workers: as in ``server.workers``.
        environment: more variables that it has.
        runs: its processes, one behind the other.
    """

    name: str
    role: str
    port: int
    folder: Path
    workers: int = 1
    environment: Mapping[str, str] = field(default_factory=dict)
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

    @property
    def troubles(self) -> str:
        """What it can't do now, by its own words; empty for nothing. That the machine is busy isn't told."""
        answer = json.loads(self._asked("/health") or '{"troubles": {"health": "no answer came"}}')
        return "; ".join(told for name, told in answer.get("troubles", {}).items() if name != "server")

    def _asked(self, path: str) -> str:
        try:
            answer = httpx.get(f"{self.server.url}{path}", timeout=ANSWER_SECONDS)
        except httpx.TransportError:  # it doesn't run now
            return ""
        return answer.text if answer.status_code == 200 else ""

    def start(self) -> None:
        """Start it, and wait until it has the channel."""
        own = {"HEADWATER_CLUSTER_ROLE": self.role, "HEADWATER_SERVER_WORKERS": str(self.workers)}
        env = {**self.environment, **own}
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
        s3: where the library and the DVR are; None: the library is a folder, and there is no DVR.
    """

    url: str
    redis: RedisServer
    packagers: list[FleetNode]
    edges: list[FleetNode]
    s3: S3Server | None = None

    @property
    def late(self) -> FleetNode:
        """The edge that comes in mid-stream."""
        return self.edges[-1]

    def owner(self) -> FleetNode:
        """Give the packager that owns the channel's log, once there is one."""
        return wait_for(lambda: [one for one in self.packagers if one.is_owner], "an owner")[0]

    def troubles(self) -> dict[str, str]:
        """Give what nodes tell that they can't do now, by their names."""
        nodes = [one for one in (*self.packagers, *self.edges) if one.runs]
        return {one.name: told for one in nodes if (told := one.troubles)}

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
    folder: Path,
    workers: Sequence[int] = WORKERS,
    *,
    drain_seconds: float = 3.0,
    with_s3: bool = False,
    film: Path | None = None,
) -> Iterator[Fleet]:
    """Run two packagers, and nginx before edges of which the last one isn't started.

    Args:
        folder: an empty one, for all that they write.
        workers: of each edge.
        drain_seconds: for how long a node that is to end serves on.
        with_s3: whether the library and the DVR are in S3.
        film: what the channel shows as it is; None: a test picture, which is encoded.
    """
    for name in ("redis", "nginx", "s3", "library"):
        (folder / name).mkdir()
    (folder / "library" / FILM).write_bytes(bytes(range(256)) * (FILM_BYTES // 256))
    with contextlib.ExitStack() as stack:
        redis = stack.enter_context(redis_running(folder / "redis"))
        s3 = stack.enter_context(s3_server_running(folder / "s3")) if with_s3 else None
        library = "library" if s3 is None else _fill(s3, folder / "library")
        source, rendition = ("testsrc", RENDITIONS[0]) if film is None else (film, "source")
        values = {
            "channel": CHANNEL,
            "source": source,
            "rendition": rendition,
            "drain_seconds": drain_seconds,
        }
        text = CONFIG.format(url=redis.url, library=library, **values)
        (folder / "headwater.toml").write_text(text if s3 is None else text + DVR)
        environment = {} if s3 is None else s3.environment()

        def node(name: str, role: str, count: int = 1) -> FleetNode:
            made = FleetNode(name, role, stack.enter_context(kept_port()), folder, count, environment)
            stack.callback(made.end)
            return made

        packagers = [node(f"packager {number}", "packager") for number in (1, 2)]
        edges = [node(f"edge {number}", "edge", count) for number, count in enumerate(workers, 1)]
        for one in (*packagers, *edges[:-1]):
            one.start()
        addresses = ",".join(f"127.0.0.1:{one.port}" for one in edges)
        proxy = stack.enter_context(running("fleet", f"http://{addresses}", folder / "nginx"))
        yield Fleet("http://{}:{}".format(*proxy.address), redis, packagers, edges, s3)


def _fill(s3: S3Server, folder: Path) -> str:
    """Put a library into S3, which has more than the folder; give its address."""
    picture = "testsrc2=size=320x180:rate=25:duration=60"
    coded = ("-c:v", "libx264", "-preset", "ultrafast", "-g", "50", "-movflags", "+faststart")
    films.run_ffmpeg("-f", "lavfi", "-i", picture, *coded, folder / VOD_FILM)
    address = s3.put_folder(folder, "library")
    store = s3.store("library")
    with ThreadPoolExecutor(8) as pool:
        names = map(UNREAD.format, range(UNREAD_COUNT))
        for done in [pool.submit(obstore.put, store, name, bytes(UNREAD_BYTES)) for name in names]:
            done.result()
    return address
