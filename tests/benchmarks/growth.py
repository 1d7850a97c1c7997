"""How cost grows with size: eleven kinds of load at four sizes each, and what a neighbour meets meanwhile.

Of each kind the last figure is the exponent of all it costs by its size: 1 where twice as much costs twice as
much. The neighbour asks for a small thing all the time, on a connection that is kept and on new ones; its
worst answer counts. Memory is compared before, during and after, and over five rounds.
"""

from __future__ import annotations

import math
import statistics
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks import growth_loads as loads
from tests.benchmarks import peers
from tests.benchmarks.growth_loads import Sample
from tests.benchmarks.load import Figure

NAME = "growth"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of load, which is measured at several sizes.

    Attributes:
        unit: of the cost.
        scale: units of that in a second of processor time, for one unit of a sample.
        measure: puts a load of a size on a server, and tells what it did.
        needs: programs without which it can't be measured.
    """

    name: str
    sizes: tuple[int, ...]
    unit: str
    scale: float
    measure: Callable[[Path, int], dict[str, Sample]]
    needs: tuple[str, ...] = ()


KINDS = (
    Kind(
        "connections", (256, 1024, 4096, 8000), "CPU µs/answer", 1e6, loads.of_connections, ("wrk", "nginx")
    ),
    Kind("listeners", (500, 1000, 2000, 4000), "CPU µs/s each", 1e6, loads.of_listeners, ("ffmpeg",)),
    Kind("readers", (500, 1000, 2000, 4000), "CPU µs/s each", 1e6, loads.of_readers),
    Kind("viewers", (100, 300, 1000, 2000), "CPU µs/s each", 1e6, loads.of_viewers),
    Kind("channels", (5, 10, 20, 40), "CPU ms/s each", 1e3, loads.of_channels, ("ffmpeg",)),
    Kind("idle channels", (500, 1000, 2000, 5000), "CPU µs each", 1e6, loads.of_idle_channels),
    Kind("library", (1000, 4000, 16000, 64000), "CPU µs/file", 1e6, loads.of_library),
    Kind("minutes of film", (15, 60, 240, 960), "CPU ms/min", 1e3, loads.of_films),
    Kind("hours of DVR", (1, 4, 12, 24), "CPU ms", 1e3, loads.of_dvr),
    Kind("workers", (1, 2, 3, 4), "CPU µs/answer", 1e6, loads.of_workers, ("wrk",)),
    Kind("rounds", (1, 2, 3, 5), "CPU s/round", 1.0, loads.of_rounds, ("ffmpeg",)),
)


def run(words: tuple[str, ...] = ()) -> Iterator[Figure]:
    """Measure all kinds, or those whose names have one of the words; only where they are asked for."""
    wanted = [kind for kind in KINDS if any(word in f"{NAME}: {kind.name}" for word in words)]
    if not wanted:
        return
    peers.require("taskset", *{program for kind in wanted for program in kind.needs})
    for kind in wanted:
        found: dict[str, list[tuple[int, Sample]]] = {}
        for size in kind.sizes:
            with tempfile.TemporaryDirectory() as name:
                samples = kind.measure(Path(name), size)
            for server, sample in samples.items():
                found.setdefault(server, []).append((size, sample))
                yield from _figures(f"{NAME}: {size:,} {kind.name}", server, sample, kind)
        for server, row in found.items():
            yield Figure(f"{NAME}: {kind.name}: exponent", server, exponent(row), "", 1.0)


def exponent(row: list[tuple[int, Sample]]) -> float:
    """Return by which power of the size all that it costs grows."""
    sizes = [math.log(size) for size, _ in row]
    costs = [math.log(max(one.cost / one.over, 1e-9)) for _, one in row]
    return statistics.linear_regression(sizes, costs).slope


def _figures(name: str, server: str, sample: Sample, kind: Kind) -> Iterator[Figure]:
    yield Figure(name, server, sample.cost / sample.units * kind.scale, kind.unit, 1.0)
    if sample.memory:
        yield Figure(f"{name}: memory", server, sample.memory / 2**20, "MiB", 1.0)
    if sample.left:
        yield Figure(f"{name}: memory left", server, sample.left / 2**20, "MiB", 1.0)
    if sample.neighbour:
        yield Figure(f"{name}: neighbour's worst", server, sample.neighbour * 1e3, "ms", 1.0)
