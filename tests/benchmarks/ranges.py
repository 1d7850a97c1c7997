"""Files: ranges of a large one, whole ones, a small one; CPU per unit and memory, beside the peers."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks import load, peers
from tests.benchmarks.load import Figure, Workload
from tests.benchmarks.peers import Peer

LARGE_BYTES = 1 << 30
WHOLE_BYTES = 20 * 1000 * 1000
SMALL_BYTES = 2048
MANY_CONNECTIONS = 1000

_RANGE = """
request = function()
  local start = math.random(0, {last})
  return wrk.format("GET", "/media/large.mp4", {{Range = "bytes=" .. start .. "-" .. (start + {length} - 1)}})
end
"""
_EIGHT_RANGES = """
request = function()
  local ranges = {}
  for i = 1, 8 do
    local start = math.random(0, 16000) * 65536 + math.random(0, 61440)
    ranges[i] = start .. "-" .. (start + 4095)
  end
  return wrk.format("GET", "/media/large.mp4", {Range = "bytes=" .. table.concat(ranges, ",")})
end
"""
_PLAIN = 'request = function() return wrk.format("GET", "/media/{name}") end'


def ranges_of(
    name: str, length: int, connections: int = load.CONNECTIONS, seconds: int = load.ROUND_SECONDS
) -> Workload:
    """Ask for ranges of the large file that begin at any byte."""
    script = _RANGE.format(length=length, last=LARGE_BYTES - length)
    return Workload(name, script, length >= 1 << 20, connections, seconds)


WORKLOADS = (
    ranges_of("1 MiB ranges", 1 << 20),
    ranges_of("64 KiB ranges", 64 << 10),
    ranges_of("16 KiB ranges", 16 << 10),
    Workload("20 MB files", _PLAIN.format(name="whole.mp4"), by_bytes=True, seconds=3),
    Workload("2 KB file", _PLAIN.format(name="small.mp4")),
    Workload("8 ranges of 4 KiB", _EIGHT_RANGES),
    ranges_of("64 KiB, 1 client", 64 << 10, 1),
    # Long enough that connecting isn't most of it.
    ranges_of("64 KiB, 1,000 clients", 64 << 10, MANY_CONNECTIONS, 4),
)

FLOOR = Workload("2 KB file, floor", _PLAIN.format(name="small.mp4"))
"""Beside a protocol of the same loop that answers without reading."""

FLOOR_OF_RANGES = ranges_of("1 MiB ranges, floor", 1 << 20)
"""Beside a loop of nothing but sendfile."""


@contextlib.contextmanager
def running() -> Iterator[tuple[list[Peer], Path]]:
    """Run every server over one library; gives them, the first to compare with, and a folder for scripts."""
    peers.require("wrk", "nginx", "taskset")
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o755)
        library = make_library(folder)
        servers = [
            stack.enter_context(peers.nginx(library, folder)),
            stack.enter_context(peers.file_response(library)),
            stack.enter_context(peers.headwater_by_asgi(library)),
            stack.enter_context(peers.headwater(library)),
        ]
        yield servers, folder


def make_library(folder: Path) -> Path:
    """Make the files that are asked for."""
    library = folder / "library"
    library.mkdir()
    for file, size in (("large", LARGE_BYTES), ("whole", WHOLE_BYTES), ("small", SMALL_BYTES)):
        _make_file(library / f"{file}.mp4", size)
    return library


def run(words: tuple[str, ...] = ()) -> Iterator[Figure]:
    """Measure every server under each workload whose name has one of the words, or under all."""
    with running() as (servers, folder):
        for workload in WORKLOADS:
            if not words or any(word in workload.name for word in words):
                yield from _costs(workload, servers, folder)
        if not words or any(word in FLOOR.name for word in words):
            with peers.constant(peers.recorded(servers[-1], "/media/small.mp4"), folder) as floor:
                yield from _costs(FLOOR, [servers[0], servers[-1], floor], folder)
        if not words or any(word in FLOOR_OF_RANGES.name for word in words):
            with peers.sendfile(folder / "library" / "large.mp4", 1 << 20) as floor:
                yield from _costs(FLOOR_OF_RANGES, [servers[0], servers[-1], floor], folder)


def _costs(workload: Workload, servers: list[Peer], folder: Path) -> Iterator[Figure]:
    memory: dict[str, float] = {}

    def weigh(server: Peer) -> None:
        memory[server.name] = max(memory.get(server.name, 0), server.resident_bytes() / 1e6)

    yield from load.measure(workload, servers, folder, weigh)
    if workload.connections != load.CONNECTIONS:
        for server in servers:
            yield Figure(f"{workload.name}: RSS", server.name, memory[server.name], "MB")


def _make_file(path: Path, size: int) -> None:
    block = bytes(range(256)) * 4096
    with path.open("wb") as file:
        while (left := size - file.tell()) > 0:
            file.write(block[:left])
