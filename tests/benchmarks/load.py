"""A load of HTTP requests by wrk, and what it costs a server, in rounds in which all servers take turns.

Other programs on the same cores add to a round's cost, and what they add differs from one round to the next;
so servers are compared within each short round, and the median of these ratios counts.
"""

from __future__ import annotations

import re
import statistics
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks import peers
from tests.benchmarks.peers import Peer

ROUNDS = 5
ROUND_SECONDS = 1
CONNECTIONS = 16

_SCRIPT = """
math.randomseed(1)
{request}
done = function(summary, latency, requests)
  print(string.format("requests=%d bytes=%d errors=%d", summary.requests, summary.bytes,
    summary.errors.status + summary.errors.read + summary.errors.timeout))
end
"""


@dataclass(frozen=True, slots=True)
class Figure:
    """One measurement: ``value`` in ``unit``, lower is better; perhaps its ``ratio`` to the first peer's.

    Attributes:
        kernel: share of the value that the kernel took, of CPU time.
    """

    benchmark: str
    server: str
    value: float
    unit: str
    ratio: float | None = None
    kernel: float | None = None


@dataclass(frozen=True, slots=True)
class Workload:
    """What wrk asks for.

    Attributes:
        name: for the table.
        request: Lua that defines ``request``.
        by_bytes: whether the cost is per gigabyte, not per request.
        connections: how many wrk keeps open.
        seconds: how long a round is for each server.
    """

    name: str
    request: str
    by_bytes: bool = False
    connections: int = CONNECTIONS
    seconds: int = ROUND_SECONDS

    @property
    def unit(self) -> str:
        """Of the figure."""
        return "CPU s/GB" if self.by_bytes else "CPU µs/request"


def measure(
    workload: Workload,
    servers: Sequence[Peer],
    folder: Path,
    beside: Callable[[Peer], None] | None = None,
    client: Callable[[Peer, Workload], tuple[int, int]] | None = None,
) -> Iterator[Figure]:
    """Give each server's usual cost of a workload, and how it compares with the first server's.

    Args:
        workload: what is asked.
        servers: who is asked, in turn.
        folder: where the client's script may lie.
        beside: called for each server while it is under load, at the end of its last round.
        client: loads a server, and gives the numbers of requests and of bytes; None: wrk.
    """
    script = write_script(folder, workload)

    def ask(server: Peer) -> tuple[int, int]:
        if client is not None:
            return client(server, workload)
        return run(server, script, workload.connections, workload.seconds)

    costs: dict[str, list[float]] = {server.name: [] for server in servers}
    shares: dict[str, list[float]] = {server.name: [] for server in servers}
    for server in servers:
        ask(server)  # page cache, imports
    for _ in range(ROUNDS):
        for server in servers:
            before = server.cpu_times()
            requests, sent = ask(server)
            own, kernel = (after - start for after, start in zip(server.cpu_times(), before, strict=True))
            used = own + kernel
            costs[server.name].append(used / sent * 1e9 if workload.by_bytes else used / requests * 1e6)
            shares[server.name].append(kernel / used)
            if beside is not None:
                beside(server)
    first = costs[servers[0].name]
    for server in servers:
        rounds = costs[server.name]
        ratio = statistics.median(cost / other for cost, other in zip(rounds, first, strict=True))
        share = statistics.median(shares[server.name])
        yield Figure(workload.name, server.name, statistics.median(rounds), workload.unit, ratio, share)


def write_script(folder: Path, workload: Workload) -> Path:
    """Write what wrk runs for a workload."""
    script = folder / "load.lua"
    script.write_text(_SCRIPT.format(request=workload.request))
    return script


def run(
    server: Peer,
    script: Path,
    connections: int,
    seconds: int,
    cores: str = peers.CLIENT_CORE,
    threads: int = 1,
) -> tuple[int, int]:
    """Load a server. Returns the numbers of requests and of bytes.

    Raises:
        RuntimeError: requests failed: the figure would mean nothing.
    """
    command = [
        "taskset",
        "-c",
        cores,
        "wrk",
        f"-t{threads}",
        f"-c{connections}",
        f"-d{seconds}s",
        "--timeout",
        "30s",
    ]
    output = subprocess.run(
        [*command, "-s", str(script), server.url], capture_output=True, text=True, check=True
    ).stdout
    match = re.search(r"requests=(\d+) bytes=(\d+) errors=(\d+)", output)
    if match is None or match.group(3) != "0" or match.group(1) == "0":
        raise RuntimeError(f"{server.name}: the client failed:\n{output}")
    return int(match.group(1)), int(match.group(2))
