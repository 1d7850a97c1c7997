"""Slow readers of a 4 GiB file: what each costs a server in memory, and how fast others are served beside."""

from __future__ import annotations

import contextlib
import socket
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks import peers
from tests.benchmarks.load import Figure
from tests.benchmarks.peers import Peer

CLIENTS = 1000
FILE_BYTES = 4 << 30
ROUNDS = 5
BYTES_PER_ROUND = 1000
REQUESTS = 20


def run(words: tuple[str, ...] = ()) -> Iterator[Figure]:
    """Measure nginx, FileResponse and ours, unless the words ask for something else."""
    if words and not any(word in "slow readers" for word in words):
        return
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o755)
        library = folder / "library"
        library.mkdir()
        (library / "small.mp4").write_bytes(bytes(2048))
        with (library / "huge.mp4").open("wb") as file:
            file.truncate(FILE_BYTES)
        for server in (
            stack.enter_context(peers.nginx(library, folder)),
            stack.enter_context(peers.file_response(library)),
            stack.enter_context(peers.headwater(library)),
        ):
            yield from _measure(server)


def _measure(server: Peer) -> Iterator[Figure]:
    _served(server)
    before = server.resident_bytes()
    host, _, port = server.url.removeprefix("http://").rpartition(":")
    with contextlib.ExitStack() as stack:
        clients = []
        for _ in range(CLIENTS):
            client = stack.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.settimeout(30)
            client.connect((host, int(port)))
            client.sendall(b"GET /media/huge.mp4 HTTP/1.1\r\nHost: a\r\n\r\n")
            clients.append(client)
        for _ in range(ROUNDS):
            time.sleep(1)
            for client in clients:
                client.recv(BYTES_PER_ROUND)
        grown = server.resident_bytes() - before
        slowest = max(_served(server) for _ in range(REQUESTS))
    yield Figure("slow readers: RSS", server.name, grown / CLIENTS / 1024, "KiB/client")
    yield Figure("slow readers: others", server.name, slowest * 1000, "ms, slowest")


def _served(server: Peer) -> float:
    """Seconds in which a small file is there."""
    started = time.perf_counter()
    with urllib.request.urlopen(f"{server.url}/media/small.mp4", timeout=60) as answer:
        answer.read()
    return time.perf_counter() - started
