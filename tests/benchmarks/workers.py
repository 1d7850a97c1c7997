"""Several worker processes: requests for files beside as many processes of nginx, and listeners of a station.

Of requests it is the time of the wall and of processors that counts; of listeners what each costs, and how
late the last one hears. With one and two, the client has two cores of its own; with three it has one, which
is enough for answers of several ranges only; with four, they share all of them.

Of workers that are killed it is the time until the one in its place answers for a live channel by itself.

One, two and three are measured in turn, in the same rounds, and compared: requests a second, which other
programs on these cores disturb, and CPU time for each request, which they disturb less. Where that stays what
it was, more workers do what more cores of the machine can.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import signal
import statistics
import sys
import tempfile
import time
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from origin.server.services.limits import WORKER_RESTARTS, Limits, ServerLimits
from tests.benchmarks import load, peers, radio
from tests.benchmarks.load import Figure, Workload
from tests.benchmarks.peers import Peer
from tests.benchmarks.ranges import WORKLOADS, make_library
from tests.conftest import ServerProcess, start_server
from tests.origin.workers import asking
from tests.origin.workers.connections import connections
from tests.patience import program
from tests.waiting import wait_for

CORES = {1: ("0", "2,3"), 2: ("0,1", "2,3"), 3: ("0-2", "3"), 4: ("0-3", "0-3")}
"""On which cores so many workers are, and on which the client is."""

COUNTS = ((1, 2, 3), (4,))
"""How many workers there are, of servers that take turns."""

LISTENERS = 1000

MEASURED = ("64 KiB ranges", "2 KB file", "8 ranges of 4 KiB")
CONNECTIONS = 64
ROUNDS = 7


KILLED = "2 workers, one killed"
KILLS = 10
LIVE = """
[server]
workers = 2

[[live]]
name = "test"
source = "testsrc"
ladder = ["240p"]
part_duration = 0.25
segment_duration = 1.0
"""


def run(words: tuple[str, ...] = ()) -> Iterator[Figure]:
    """Measure each number of workers whose name has one of the words, or all."""
    workloads = [replace(one, connections=CONNECTIONS) for one in WORKLOADS if one.name in MEASURED]
    for counts in COUNTS:
        wanted = [one for one in counts if not words or any(word in f"{one} workers" for word in words)]
        if not wanted:
            continue
        peers.require("wrk", "nginx", "taskset")
        with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
            folder = Path(name)
            folder.chmod(0o755)
            library = make_library(folder)
            servers = {one: _servers(stack, folder, library, one) for one in wanted}
            for workload in workloads:
                yield from _figures(workload, servers, folder)
            for one in wanted:
                stations = folder / f"stations-{one}"
                stations.mkdir()
                yield from _of_listeners(stations, one, *CORES[one])
    if not words or any(word in KILLED for word in words):
        yield from _of_killed()


def _of_killed() -> Iterator[Figure]:
    """Measure how long a killed worker is missed: the median and the most of some kills."""
    with tempfile.TemporaryDirectory() as name:
        config = Path(name, "headwater.toml")
        config.write_text(LIVE)
        # Another one may be killed as soon as it has come: what a pause grows to isn't what is measured.
        limits = Limits(server=ServerLimits(restarts=replace(WORKER_RESTARTS, growth=1.0)))
        options = ("--config", str(config), "--library", name, "--port", "0")
        server = start_server(*options, program=program(limits))
        try:
            asking.ready(server, 2)
            wait_for(lambda: asking.health(server)["services"]["live/test"] == "live", "the channel")
            taken = [_seconds_without_it(server) for _ in range(KILLS)]
        finally:
            server.stop()
    yield Figure(f"{KILLED}, median", "headwater", statistics.median(taken) * 1000, "ms")
    yield Figure(f"{KILLED}, most", "headwater", max(taken) * 1000, "ms")


def _seconds_without_it(server: ServerProcess) -> float:
    """Kill a worker; give the seconds until another one answers in its place."""
    spare, workers = asking.spare_of(server), asking.workers_of(server)
    began = time.monotonic()
    os.kill(random.choice(workers), signal.SIGKILL)
    with connections(server, [spare], "/live/test/240p/media.m3u8"):
        return time.monotonic() - began


def _servers(stack: contextlib.ExitStack, folder: Path, library: Path, count: int) -> list[Peer]:
    """Run nginx and ours, with so many processes that serve."""
    cores, _ = CORES[count]
    own = folder / f"nginx-{count}"
    own.mkdir(mode=0o755)
    return [
        stack.enter_context(peers.nginx(library, own, count, cores)),
        stack.enter_context(headwater(library, count, cores)),
    ]


def _of_listeners(folder: Path, count: int, cores: str, clients: str) -> Iterator[Figure]:
    """Measure listeners of a station."""
    radio.write_numbers(folder)
    port = peers.free_port()
    with _workers(radio.serving_numbers(folder, port), port, count, cores) as server:
        for figure in radio.listening_costs(server, "/radio/numbers", LISTENERS, False, clients):
            yield replace(figure, benchmark=f"{count} workers, {figure.benchmark}")


@contextlib.contextmanager
def headwater(library: Path, count: int, cores: str) -> Iterator[Peer]:
    """Ours with a library and so many processes that serve."""
    port = peers.free_port()
    command = [str(Path(sys.executable).parent / "headwater")]
    command += ["serve", "--library", str(library), "--port", str(port)]
    with _workers(command, port, count, cores) as peer:
        yield peer


@contextlib.contextmanager
def _workers(command: list[str], port: int, count: int, cores: str) -> Iterator[Peer]:
    """Run ours with so many processes that serve."""
    command = ["env", f"HEADWATER_SERVER_WORKERS={count}", *command]
    with peers.running("headwater", command, port, cores) as peer:
        if count == 1:
            yield peer
            return
        while "starting" in _health(peer)["workers"].values():
            time.sleep(0.1)
        yield Peer(peer.name, peer.url, (*peer.pids, *peers.children(peer.pids[0], count)))


def _health(peer: Peer) -> dict[str, Any]:
    with urllib.request.urlopen(f"{peer.url}/health", timeout=peers.START_SECONDS) as answer:
        found: dict[str, Any] = json.load(answer)
        return found


def _figures(workload: Workload, servers: dict[int, list[Peer]], folder: Path) -> Iterator[Figure]:
    """Measure all servers in turn, and compare each with nginx, and several workers with one."""
    script = load.write_script(folder, workload)
    taken: dict[tuple[int, str], list[tuple[float, float]]] = defaultdict(list)
    for round_ in range(ROUNDS + 1):
        for count, some in servers.items():
            for server in some:
                costs = _round(server, script, workload, CORES[count][1])
                if round_:  # behind the one that fills caches
                    taken[count, server.name].append(costs)
    for place, unit in enumerate(("µs/request", "CPU µs/request")):

        def ratio(one: tuple[int, str], other: tuple[int, str], place: int = place) -> float:
            rounds = zip(taken[one], taken[other], strict=True)
            return statistics.median(value[place] / of[place] for value, of in rounds)

        for (count, name), values in taken.items():
            first = count, servers[count][0].name
            usual = statistics.median(one[place] for one in values)
            yield Figure(f"{count} workers, {workload.name}", name, usual, unit, ratio((count, name), first))
        for count, server in itertools.product(servers.keys() - {1}, servers.get(1, ())):
            change = ratio((count, server.name), (1, server.name))
            of, value, told = f"{count} workers beside 1", change, "of its CPU/request"
            if not place:
                value, told = 1 / change, "of its requests/s"
            yield Figure(f"{of}, {workload.name}", server.name, value, told, value)


def _round(server: Peer, script: Path, workload: Workload, clients: str) -> tuple[float, float]:
    """Load a server; give microseconds of the wall and of processors for a request."""
    began, before = time.monotonic(), server.cpu_seconds()
    requests, _ = load.run(server, script, workload.connections, workload.seconds, clients, 2)
    used, wall = server.cpu_seconds() - before, time.monotonic() - began
    return wall / requests * 1e6, used / requests * 1e6
