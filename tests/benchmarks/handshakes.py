"""Handshakes of TLS 1.3, full and resumed by a ticket, each with a small file behind it, beside nginx.

``python -m tests.benchmarks.handshakes HOST PORT TARGET SECONDS [resumed]`` is the client, which is a process
of its own: it makes one connection after the other, and prints their number.
"""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

from tests.benchmarks import load, peers, tls
from tests.benchmarks.load import Figure, Workload
from tests.benchmarks.peers import Peer
from tests.benchmarks.ranges import SMALL_BYTES

SECONDS = 3
RECEIVE_BYTES = 1 << 16
RESUMED = "resumed"
WORKLOADS = (
    Workload("TLS, full handshakes", "", seconds=SECONDS),
    Workload("TLS, resumed handshakes", RESUMED, seconds=SECONDS),
)


def run(words: tuple[str, ...] = ()) -> Iterator[Figure]:
    """Measure both servers under each workload whose name has one of the words, or under all."""
    wanted = [one for one in WORKLOADS if not words or any(word in one.name for word in words)]
    if not wanted:
        return
    with tls.serving() as (servers, folder):
        for workload in wanted:
            yield from load.measure(workload, servers, folder, client=ask)


def ask(server: Peer, workload: Workload) -> tuple[int, int]:
    """Connect to a server again and again. Returns the numbers of connections and of bytes."""
    address = urlsplit(server.url)
    command = ["taskset", "-c", peers.CLIENT_CORE, sys.executable, "-m", __name__, str(address.hostname)]
    command += [str(address.port), "/media/small.mp4", str(workload.seconds), workload.request]
    count = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return count, count * SMALL_BYTES


def connect(address: tuple[str, int], target: str, seconds: float, *, resumes: bool) -> int:
    """Connect, fetch and close for so long; return how often.

    Raises:
        RuntimeError: a session wasn't resumed, or an answer wasn't whole.
    """
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    request = f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
    count, session, end = 0, None, time.monotonic() + seconds
    while time.monotonic() < end:
        with context.wrap_socket(socket.create_connection(address), session=session) as connection:
            connection.sendall(request)
            length = 0
            while data := connection.recv(RECEIVE_BYTES):
                length += len(data)
            if length < SMALL_BYTES or connection.session_reused != (session is not None):
                raise RuntimeError(
                    f"connection {count}: {length} bytes, resumed: {connection.session_reused}"
                )
            # RFC 8446 §4.6.1: tickets come behind the handshake, before the answer.
            session = connection.session if resumes else None
        count += 1
    return count


if __name__ == "__main__":
    host, port, path, lasts, kind = sys.argv[1:]
    print(connect((host, int(port)), path, float(lasts), resumes=kind == RESUMED))  # noqa: T201  # its result
