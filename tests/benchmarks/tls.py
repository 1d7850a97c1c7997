"""HTTPS: ranges of a large file, a small one, and handshakes, beside nginx with the same certificate."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tests.benchmarks import load, peers
from tests.benchmarks.load import Figure, Workload
from tests.benchmarks.peers import Peer
from tests.benchmarks.ranges import make_library, ranges_of
from tests.certificates import self_signed

_SMALL = 'request = function() return wrk.format("GET", "/media/small.mp4", {headers}) end'

WORKLOADS = (
    ranges_of("TLS, 1 MiB ranges", 1 << 20),
    ranges_of("TLS, 64 KiB ranges", 64 << 10),
    ranges_of("TLS, 16 KiB ranges", 16 << 10),
    Workload("TLS, 2 KB file", _SMALL.format(headers="{}")),
    Workload("TLS, a handshake each", _SMALL.format(headers='{Connection = "close"}'), seconds=3),
)


def run(words: tuple[str, ...] = ()) -> Iterator[Figure]:
    """Measure both servers under each workload whose name has one of the words, or under all."""
    wanted = [
        one for one in WORKLOADS if not words or any(word in one.name or word == "tls" for word in words)
    ]
    if not wanted:
        return
    with serving() as (servers, folder):
        for workload in wanted:
            yield from load.measure(workload, servers, folder)


@contextlib.contextmanager
def serving() -> Iterator[tuple[list[Peer], Path]]:
    """Run both servers over one library until the block ends, and have a folder for scripts."""
    peers.require("wrk", "nginx", "taskset")
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o755)
        library, certificate, port = make_library(folder), self_signed(folder), peers.free_port()
        options = {
            "HEADWATER_TLS_CERTIFICATE": str(certificate.chain),
            "HEADWATER_TLS_KEY": str(certificate.key),
            "HEADWATER_TLS_PORT": str(port),
        }
        own = stack.enter_context(peers.headwater(library, environment=options))
        servers = [
            stack.enter_context(peers.nginx(library, folder, certificate=certificate)),
            replace(own, url=f"https://127.0.0.1:{port}"),
        ]
        yield servers, folder
