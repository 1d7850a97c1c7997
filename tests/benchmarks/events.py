"""Event channels beside sse-starlette and nchan: CPU of a delivered event, its delay, memory of a reader.

Each is measured in turns, in several rounds. What else runs on the machine only adds to a cost or a time, so
of each figure the best counts. Where more is asked for than a server can do, ``delivered`` tells how much it
did.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks import peers
from tests.benchmarks.event_servers import NCHAN, SERVERS, EventServer
from tests.benchmarks.load import Figure
from tests.benchmarks.peers import Peer

CROWDS = ((1000, 1), (5000, 1), (1000, 1000), (5000, 1000), (1000, 5), (5000, 20), (100, 1000))
"""Readers, and events a second. No server can do 5,000 times 1,000, so there are some that all can do."""

DELIVERED = "events/s"
"""Unit of the one figure of which more is better."""

ROUNDS = 2
WITNESSES = 50
JOIN_PER_SECOND = 1000
SETTLE_SECONDS = 2.0
SECONDS = 5.0
SECONDS_OF_FEW = 15.0
"""The same where an event comes every second."""


@dataclass(frozen=True, slots=True)
class Crowd:
    """Two processes of readers, which come in between each other.

    Attributes:
        readers: most of them.
        witnesses: those that note how late events are.
    """

    readers: subprocess.Popen[str]
    witnesses: subprocess.Popen[str]

    def note(self, seconds: float) -> tuple[dict[str, float], dict[str, float]]:
        """Tell what came within a time, to the readers and to the witnesses."""
        for process in (self.readers, self.witnesses):
            print(seconds, file=process.stdin, flush=True)
        return _answer(self.readers), _answer(self.witnesses)


def run(words: tuple[str, ...] = ()) -> Iterator[Figure]:
    """Measure all servers with each crowd whose name has one of the words, or with all."""
    wanted = [crowd for crowd in CROWDS if not words or any(word in _name(*crowd) for word in words)]
    if not wanted:
        return
    peers.require("taskset", "nginx")
    if not NCHAN.exists():
        sys.exit("the benchmark of events needs nchan: apt-get install libnginx-mod-nchan")
    if importlib.util.find_spec("sse_starlette") is None:
        sys.exit("the benchmark of events needs sse-starlette: make bench installs it")
    for crowd in wanted:
        best: dict[tuple[str, str], Figure] = {}
        for _ in range(ROUNDS):
            for server in SERVERS:
                for figure in _costs(server, *crowd):
                    key = (figure.benchmark, figure.server)
                    best[key] = _better(figure, best.get(key, figure))
        for name in dict.fromkeys(name for name, _ in best):
            yield from (figure for (benchmark, _), figure in best.items() if benchmark == name)


def _better(figure: Figure, other: Figure) -> Figure:
    choose = max if figure.unit == DELIVERED else min
    return choose(figure, other, key=lambda one: one.value)


def _name(count: int, rate: int) -> str:
    return f"events, {count:,} readers, {rate:,}/s"


def _costs(server: EventServer, count: int, rate: int) -> Iterator[Figure]:
    seconds = SECONDS_OF_FEW if rate == 1 else SECONDS
    with tempfile.TemporaryDirectory() as name, server.running(Path(name)) as peer:
        time.sleep(SETTLE_SECONDS)
        empty = peer.resident_bytes()
        with (
            crowd(peer, server.read_path, count, count / JOIN_PER_SECOND) as readers_of_it,
            _publisher(server, peer, rate),
        ):
            time.sleep(SETTLE_SECONDS)
            before = peer.cpu_times()
            used, began = peer.scheduled_seconds(), time.monotonic()
            readers, witnesses = readers_of_it.note(seconds)
            used, elapsed = peer.scheduled_seconds() - used, time.monotonic() - began
            own, kernel = (now - then for now, then in zip(peer.cpu_times(), before, strict=True))
            full = peer.resident_bytes()
    if readers["ended"] or witnesses["ended"]:
        raise RuntimeError(f"{peer.name}: {readers['ended'] + witnesses['ended']} readers were sent away")
    name, got = _name(count, rate), readers["events"] + witnesses["events"]
    share = kernel / (own + kernel) if own + kernel else None
    yield Figure(f"{name}: CPU", peer.name, 1e6 * used / max(got, 1), "µs/event", kernel=share)
    yield Figure(f"{name}: delivered", peer.name, got / elapsed, DELIVERED)
    if witnesses["events"]:
        yield Figure(f"{name}: delay p50", peer.name, 1e3 * witnesses["delay_p50"], "ms")
        yield Figure(f"{name}: delay p99", peer.name, 1e3 * witnesses["delay_p99"], "ms")
    yield Figure(f"{name}: server busy", peer.name, 100 * used / elapsed, "% of a core")
    yield Figure(f"{name}: crowd busy", peer.name, 100 * (readers["busy"] + witnesses["busy"]), "% of a core")
    if rate == 1:
        yield Figure(f"{name}: RSS", peer.name, (full - empty) / count / 1024, "KiB each")


@contextlib.contextmanager
def crowd(peer: Peer, path: str, count: int, seconds: float, *words: str) -> Iterator[Crowd]:
    """Let readers in, within some seconds.

    Args:
        words: further ones of `tests.benchmarks.event_readers`.
    """
    command = ["tests.benchmarks.event_readers", peer.url.rpartition(":")[2], path]
    with (
        _python([*command, str(count - WITNESSES), str(seconds), *words]) as readers,
        _python([*command, str(WITNESSES), str(seconds), "witnesses", *words]) as witnesses,
    ):
        for process in (readers, witnesses):
            if process.stdout is None or process.stdout.readline().strip() != "joined":
                raise RuntimeError(f"{peer.name}: the readers couldn't come in")
        yield Crowd(readers, witnesses)


def _publisher(server: EventServer, peer: Peer, rate: int) -> contextlib.AbstractContextManager[object]:
    port = peer.url.rpartition(":")[2]
    return _python(["tests.benchmarks.event_publisher", port, server.publish_path, str(rate), server.way])


@contextlib.contextmanager
def _python(words: list[str]) -> Iterator[subprocess.Popen[str]]:
    """Run a module of ours beside the server, on the clients' core."""
    command = ["taskset", "-c", peers.CLIENT_CORE, sys.executable, "-m", *words]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def _answer(process: subprocess.Popen[str]) -> dict[str, float]:
    if process.stdout is None:
        raise RuntimeError("a process of readers has no output")
    answer: dict[str, float] = json.loads(process.stdout.readline())
    return answer
