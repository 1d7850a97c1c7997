"""HTTP/3: ranges and a small file, beside Caddy, and beside hypercorn on the same library for QUIC."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import httpx

from tests.benchmarks import http2, load, peers
from tests.benchmarks.load import Figure, Workload
from tests.benchmarks.peers import Peer
from tests.benchmarks.ranges import make_library
from tests.certificates import self_signed
from tests.http3_client import Http3Transport

STREAMS = 4
"""Requests at once, on one connection: the client is slower than the servers."""

WORKLOADS = (
    Workload("HTTP/3, 1 MiB ranges", "large.mp4 bytes=7340033-8388608", by_bytes=True),
    Workload("HTTP/3, 2 KB file", "small.mp4"),
)
REQUESTS = {WORKLOADS[0].name: 16, WORKLOADS[1].name: 400}
"""Requests in a round."""

CADDY = """
{{
  admin off
  auto_https off
  default_sni 127.0.0.1
  servers {{
    protocols h1 h2 h3
  }}
}}
https://127.0.0.1:{port} {{
  tls {chain} {key}
  root * {library}
  file_server
}}
"""


def run(words: tuple[str, ...] = ()) -> Iterator[Figure]:
    """Measure the servers under each workload whose name has one of the words, or under all."""
    wanted = [one for one in WORKLOADS if not words or any(word in one.name for word in words)]
    if not wanted:
        return
    peers.require("caddy", "taskset")
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        library, certificate = make_library(folder), self_signed(folder)
        own_port, caddys_port = peers.free_port(), peers.free_port()
        options = {
            "HEADWATER_TLS_CERTIFICATE": str(certificate.chain),
            "HEADWATER_TLS_KEY": str(certificate.key),
            "HEADWATER_TLS_PORT": str(own_port),
            "HEADWATER_TLS_HTTP3": "true",
        }
        own = stack.enter_context(peers.headwater(library, environment=options))
        (folder / "media").symlink_to(library)
        (folder / "Caddyfile").write_text(
            CADDY.format(port=caddys_port, library=folder, chain=certificate.chain, key=certificate.key)
        )
        command = [shutil.which("caddy") or "caddy", "run", "--config", str(folder / "Caddyfile")]
        caddy = stack.enter_context(peers.running("Caddy", command, caddys_port))
        servers = [
            replace(caddy, url=f"https://127.0.0.1:{caddys_port}"),
            replace(own, url=f"https://127.0.0.1:{own_port}"),
            stack.enter_context(http2.hypercorn(library, folder, certificate, is_http3=True)),
        ]
        for workload in wanted:
            yield from load.measure(workload, servers, folder, client=ask)


def ask(server: Peer, workload: Workload) -> tuple[int, int]:
    """Load a server. Returns the numbers of requests and of bytes."""
    file, _, field = workload.request.partition(" ")
    url, headers = f"{server.url}/media/{file}", {"range": field} if field else {}
    with (
        httpx.Client(transport=Http3Transport(), timeout=60, headers=headers) as client,
        ThreadPoolExecutor(STREAMS) as threads,
    ):
        answers = threads.map(lambda _: client.get(url).raise_for_status(), range(REQUESTS[workload.name]))
        sizes = [len(answer.content) for answer in answers]
    return len(sizes), sum(sizes)
