"""A hundred thousand short connections from one address: what they cost beside nginx, and what they leave.

Each is one request for a small file, and its client closes. So nothing of it may stay with the server: no
descriptor, and no port in TIME_WAIT, which is the closer's; and no connection may wait long to be accepted.
"""

from __future__ import annotations

import os
import socket
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks import peers
from tests.benchmarks.load import ROUNDS, Figure
from tests.benchmarks.peers import Peer

NAME = "short connections"
CONNECTIONS = 100_000
"""To ours, or as many of them as go in `SECONDS`; nginx gets a fifth, to compare with."""

SECONDS = 20.0
BODY = bytes(range(256)) * 8
PATIENCE = 10.0

_REQUEST = b"GET /media/small.mp4 HTTP/1.1\r\nHost: origin\r\n\r\n"
_TIME_WAIT = "06"


def run(words: tuple[str, ...] = ()) -> Iterator[Figure]:
    """Measure it, unless the words name something else."""
    if words and not any(word in NAME for word in words):
        return
    peers.require("nginx", "taskset")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        library = folder / "library"
        library.mkdir()
        (library / "small.mp4").write_bytes(BODY)
        os.utime(library / "small.mp4", (1_700_000_000, 1_700_000_000))
        with peers.nginx(library, folder) as nginx, peers.headwater(library) as headwater:
            yield from _measure((nginx, headwater))


def _measure(servers: tuple[Peer, ...]) -> Iterator[Figure]:
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {int(peers.CLIENT_CORE)})
    try:
        costs: dict[str, list[float]] = {server.name: [] for server in servers}
        made, longest = dict.fromkeys(costs, 0), dict.fromkeys(costs, 0.0)
        descriptors = {server.name: _descriptors(server) for server in servers}
        for _ in range(ROUNDS):
            for server, part in zip(servers, (1 / 5, 1), strict=True):
                before = server.cpu_seconds()
                count, slowest = _connect(server, part / ROUNDS)
                costs[server.name].append((server.cpu_seconds() - before) / count * 1e6)
                made[server.name] += count
                longest[server.name] = max(longest[server.name], slowest)
    finally:
        os.sched_setaffinity(0, cores)
    # A file that is kept open for a moment is none of theirs.
    time.sleep(1)
    first = costs[servers[0].name]
    for server in servers:
        rounds = costs[server.name]
        ratio = statistics.median(cost / other for cost, other in zip(rounds, first, strict=True))
        yield Figure(NAME, server.name, statistics.median(rounds), "CPU µs/connection", ratio)
    for server in servers:
        yield Figure(f"{NAME}: longest", server.name, longest[server.name] * 1e3, "ms")
        yield Figure(f"{NAME}: made", server.name, made[server.name], "connections", 1.0)
    for server in servers:
        left = _in_time_wait(server) + _descriptors(server) - descriptors[server.name]
        yield Figure(f"{NAME}: left", server.name, left, "ports, files", 1.0)


def _connect(server: Peer, part: float) -> tuple[int, float]:
    """Make a part of the connections, one after the other. Returns how many, and the longest time of one.

    Raises:
        RuntimeError: one wasn't answered: the figure would mean nothing.
    """
    host, _, port = server.url.removeprefix("http://").rpartition(":")
    longest, count = 0.0, 0
    ends = time.monotonic() + SECONDS * part
    while count < CONNECTIONS * part and (began := time.monotonic()) < ends:
        with socket.create_connection((host, int(port)), PATIENCE) as client:
            client.sendall(_REQUEST)
            answer = b""
            while not answer.endswith(BODY):
                more = client.recv(1 << 16)
                if not more:
                    raise RuntimeError(f"{server.name}: closed after {answer[:100]!r}")
                answer += more
        longest, count = max(longest, time.monotonic() - began), count + 1
    return count, longest


def _descriptors(server: Peer) -> int:
    return sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in server.pids)


def _in_time_wait(server: Peer) -> int:
    """How many connections the kernel keeps in that state with the server's port as their own."""
    port = int(server.url.rpartition(":")[2])
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[3] == _TIME_WAIT and int(row[1].partition(":")[2], 16) == port for row in rows)
