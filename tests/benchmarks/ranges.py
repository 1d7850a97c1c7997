"""Random ranges of a large file: CPU time of the server per request and per gigabyte, beside the peers."""

from __future__ import annotations

import contextlib
import re
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks import peers
from tests.benchmarks.peers import Peer

FILE_BYTES = 1 << 30
SECONDS = 5
CONNECTIONS = 16

SCRIPT = """
math.randomseed(1)
request = function()
  local start = math.random(0, {blocks} - 1) * {length}
  wrk.headers["Range"] = "bytes=" .. start .. "-" .. (start + {length} - 1)
  return wrk.format("GET", "/media/large.mp4")
end
done = function(summary, latency, requests)
  print(string.format("requests=%d bytes=%d errors=%d", summary.requests, summary.bytes,
    summary.errors.status + summary.errors.read + summary.errors.timeout))
end
"""


@dataclass(frozen=True, slots=True)
class Figure:
    """One measurement: ``value`` in ``unit``, lower is better."""

    benchmark: str
    server: str
    value: float
    unit: str


def run() -> Iterator[Figure]:
    """Measure every server at each length, in turn."""
    peers.require("wrk", "nginx", "taskset")
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o755)
        library = folder / "library"
        library.mkdir()
        _make_file(library / "large.mp4")
        running = [
            stack.enter_context(peers.nginx(library, folder)),
            stack.enter_context(peers.file_response(library)),
            stack.enter_context(peers.headwater(library)),
        ]
        for label, length in (("1 MiB ranges", 1 << 20), ("64 KiB ranges", 64 << 10)):
            for peer in running:
                yield _measure(peer, label, length, folder)


def _make_file(path: Path) -> None:
    block = bytes(range(256)) * 4096
    with path.open("wb") as file:
        for _ in range(FILE_BYTES // len(block)):
            file.write(block)


def _measure(peer: Peer, label: str, length: int, folder: Path) -> Figure:
    script = folder / "ranges.lua"
    script.write_text(SCRIPT.format(length=length, blocks=FILE_BYTES // length))
    command = ["taskset", "-c", peers.CLIENT_CORE, "wrk", "-t1", f"-c{CONNECTIONS}"]
    _wrk([*command, "-d1s", "-s", str(script), peer.url])  # page cache, connections, imports
    before = peer.cpu_seconds()
    requests, sent = _wrk([*command, f"-d{SECONDS}s", "-s", str(script), peer.url])
    used = peer.cpu_seconds() - before
    if length >= 1 << 20:
        return Figure(label, peer.name, used / (sent / 1e9), "CPU s/GB")
    return Figure(label, peer.name, used / requests * 1e6, "CPU µs/request")


def _wrk(command: list[str]) -> tuple[int, int]:
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    match = re.search(r"requests=(\d+) bytes=(\d+) errors=(\d+)", output)
    if match is None or match.group(3) != "0":
        raise RuntimeError(f"the client failed:\n{output}")
    return int(match.group(1)), int(match.group(2))
