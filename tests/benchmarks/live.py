"""A thousand players blocked on the next part: how late its bytes come, and what a player costs.

The server publishes parts when all players wait, without an encoder, and says when it did, by the clock that
all processes of a machine share. Each player asks for the playlist with the next part, in one scenario for
the hinted part too, and asks on when it has all bytes, as hls.js does. What single requests cost is compared
with nginx and files of the same size.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tests.benchmarks import load, peers
from tests.benchmarks.live_origin import FIRST_NUMBER, PART_SECONDS, PARTS_OF_SEGMENT
from tests.benchmarks.load import Figure, Workload
from tests.benchmarks.peers import CLIENT_CORE, SERVER_CORE, Peer
from tests.benchmarks.players import Crowd, Position
from tests.certificates import Certificate

PLAYERS = 1000
PARTS = 24
"""How many parts are followed; the first ones warm up."""

WARM_UP = 6
PART_BYTES = 33_000
HOT_BYTES = 64 << 10

PLAYLIST = "/live/test/360p/media.m3u8"
BLOCKING = PLAYLIST + "?_HLS_msn={number}&_HLS_part={index}"
PART = "/live/test/360p/{number}.{index}.m4s"
HOT = (FIRST_NUMBER - 1, 2)


@dataclass(frozen=True, slots=True)
class Scenario:
    """What a player asks for; ``paths`` by number and index of the part."""

    name: str
    paths: Sequence[str]


SCENARIOS = (
    Scenario("live: 1000 playlists", (BLOCKING,)),
    Scenario("live: 1000 delta playlists", (BLOCKING + "&_HLS_skip=YES",)),
    Scenario("live: 1000 lists and parts", (BLOCKING, PART)),
)


def after(position: Position) -> Position:
    """Name the part that follows."""
    number, index = position
    return (number, index + 1) if index < PARTS_OF_SEGMENT - 1 else (number + 1, 0)


@contextlib.contextmanager
def serving(
    waiting: int, part_bytes: int, certificate: Certificate | None = None
) -> Iterator[tuple[Peer, subprocess.Popen[bytes]]]:
    """Run the server on its core until the block ends; with a certificate the address is one of HTTPS."""
    command = ["taskset", "-c", SERVER_CORE, sys.executable, "-m", "tests.benchmarks.live_origin"]
    files = () if certificate is None else (str(certificate.chain), str(certificate.key))
    process = subprocess.Popen(
        [*command, str(waiting), str(part_bytes), *files],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
        bufsize=0,
    )
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline().split()[-1])
        scheme = "http" if certificate is None else "https"
        yield Peer("headwater", f"{scheme}://127.0.0.1:{port}", (process.pid,)), process
    finally:
        process.kill()
        process.wait()


class Published(NamedTuple):
    """What the server says of a part.

    Attributes:
        moment: when it was published, by the monotonic clock.
        release: seconds of CPU until all who waited had been written to.
        others: seconds for which others had its core meanwhile.
    """

    position: Position
    moment: float
    release: float
    others: float


def read_report(process: subprocess.Popen[bytes]) -> list[Published]:
    """Return what the server has said of its parts so far."""
    assert process.stdout is not None
    os.set_blocking(process.stdout.fileno(), False)
    lines = (line.split() for line in process.stdout.read().decode().splitlines())
    return [
        Published((int(number), int(index)), float(when), float(release), float(others))
        for number, index, when, release, others in lines
    ]


def follow(scenario: Scenario, peer: Peer, process: subprocess.Popen[bytes]) -> Iterator[Figure]:
    """Let all players follow, and give the figures."""
    crowd = Crowd(("127.0.0.1", int(peer.url.rpartition(":")[2])), after)
    memory = peer.resident_bytes()
    for _ in range(PLAYERS):
        for path in scenario.paths:
            crowd.join(path, (FIRST_NUMBER, 0))
    awaited = PLAYERS * len(scenario.paths)
    crowd.follow(lambda: len(crowd.received) >= WARM_UP * awaited)
    used = peer.cpu_seconds()
    crowd.follow(lambda: len(crowd.received) >= PARTS * awaited)
    # Of the time that such parts last: where the machine is busy with other things they come later.
    cpu, seconds = peer.cpu_seconds() - used, (PARTS - WARM_UP) * float(PART_SECONDS)
    grown = peer.resident_bytes() - memory
    crowd.leave()
    report = read_report(process)
    published = {one.position: one.moment for one in report}
    without = {one.position: one.others for one in report}
    releases = [one.release for one in report]
    late: dict[Position, list[float]] = {position: [] for position in sorted(published)[WARM_UP:PARTS]}
    for position, moment in crowd.received:
        if position in late:
            late[position].append(moment - published[position])
    # While others have the server's core nobody gets anything, so that the last ones wait for all of it.
    alone = [[each - without[position] for each in late[position]] for position in late]
    figures = {
        "p50": (_typical(late.values(), 50) * 1e3, "ms"),
        "p99": (_typical(late.values(), 99) * 1e3, "ms"),
        "p99 on a core of its own": (_typical(alone, 99) * 1e3, "ms"),
        "CPU of a release": (statistics.median(releases[WARM_UP:]) * 1e3, "ms"),
        "CPU": (cpu / seconds / PLAYERS * 1e5, "% / 1000"),
        "RSS": (grown / PLAYERS / 1024, "KiB / player"),
    }
    for name, (value, unit) in figures.items():
        yield Figure(f"{scenario.name}: {name}", peer.name, value, unit)


def _typical(parts: Iterable[list[float]], percent: int) -> float:
    """A percentile of all players, of the median part: what else the machine does hits some parts."""
    return statistics.median(sorted(late)[len(late) * percent // 100] for late in parts)


COSTS = (
    ("live: hot 64 KiB part", PART.format(number=HOT[0], index=HOT[1]), ""),
    ("live: playlist", PLAYLIST, ""),
    ("live: playlist by number", BLOCKING.format(number=HOT[0], index=HOT[1]), ""),
    ("live: playlist, gzip", PLAYLIST.replace("360p", "audio"), "gzip"),
)
"""Name, target and Accept-Encoding of the requests whose costs are compared."""


def costs(words: Sequence[str]) -> Iterator[Figure]:
    """Give what single requests cost, beside nginx and files of the same size, and the floor of the loop."""
    chosen = [cost for cost in COSTS if not words or any(word in cost[0] for word in words)]
    if not chosen:
        return
    peers.require("wrk", "nginx", "taskset")
    with tempfile.TemporaryDirectory() as name, serving(0, HOT_BYTES) as (ours, _):
        folder = Path(name)
        folder.chmod(0o755)
        with peers.nginx(folder, folder) as nginx:
            for workload, target, coding in chosen:
                request = urllib.request.Request(ours.url + target, headers={"Accept-Encoding": coding})
                path = folder / target.partition("?")[0].strip("/")
                path.parent.mkdir(parents=True, exist_ok=True)
                with urllib.request.urlopen(request, timeout=30) as answer:
                    path.write_bytes(answer.read())
                fields = f'{{["Accept-Encoding"] = "{coding}"}}'
                script = f'request = function() return wrk.format("GET", "{target}", {fields}) end'
                answer = peers.recorded(ours, target, f"Accept-Encoding: {coding}")
                with peers.constant(answer, folder) as floor:
                    yield from load.measure(
                        Workload(workload, script, seconds=3), [nginx, ours, floor], folder
                    )


def run(words: Sequence[str] = ()) -> Iterator[Figure]:
    """Give the figures of all scenarios, or of those whose names have one of the words."""
    yield from costs(words)
    allowed = os.sched_getaffinity(0)
    for scenario in SCENARIOS:
        if not words or any(word in scenario.name for word in words):
            with serving(PLAYERS * len(scenario.paths), PART_BYTES) as (peer, process):
                os.sched_setaffinity(0, {int(CLIENT_CORE)})
                try:
                    yield from follow(scenario, peer, process)
                finally:
                    os.sched_setaffinity(0, allowed)


if __name__ == "__main__":
    for figure in run(tuple(sys.argv[1:])):
        print(f"{figure.benchmark:36} {figure.server:12} {figure.value:10.2f} {figure.unit}")  # noqa: T201  # its purpose
