"""What a client that floods does to its neighbours: how long a small file takes them over plain HTTP/1.1.

The flood is a process of its own, which sends as fast as it can, and opens a new connection whenever the
server ends one. It has the measuring client's core, and the server has the other one. A flood also costs its
neighbours the kernel's work, and the scheduler's; so the peer is the same server while the same flood goes to
a process on its core that reads and does nothing else.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import os
import select
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from tests import http2_frames
from tests.benchmarks import peers
from tests.benchmarks.load import Figure
from tests.http2_frames import END_HEADERS, END_STREAM, HEADERS, RST_STREAM, block, frame, settings

NAME = "floods"
SECONDS, WARM_SECONDS = 4.0, 0.5
PAUSE = 0.002
ROUNDS = 3
BURST_BYTES, BURSTS = 1 << 14, 256
FLOODER = ("127.0.0.2", 0)
"""The flood's address, which isn't the neighbour's."""
SINK = """
import socket, sys
with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as listener:
    while True:
        with listener.accept()[0] as client:
            left = int(sys.argv[2])
            while left > 0 and (data := client.recv(1 << 18)):
                left -= len(data)
"""
SINK_BYTES = 1 << 14
"""Bytes of a connection after which the sink closes it: those of as many frames as the server accepts."""

REQUEST = block((":method", "GET"), (":scheme", "http"), (":path", "/media/small.mp4"), (":authority", "a"))
GRPC = "gRPC resets"
CALLS = {
    "resets": REQUEST,
    GRPC: block(
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/headwater.events.v1.Events/Subscribe"),
        (":authority", "a"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
    ),
}
"""The requests of those that are cancelled at once."""

LONG = b"\x40\x01a\x7f\x81\x1e" + b"b" * 4_000


def bursts(kind: str) -> Iterator[bytes]:
    """Yield what a connection sends, without end."""
    yield http2_frames.PREFACE + settings()
    repeated = {
        "PING": frame(http2_frames.PING, 0, bytes(8)),
        "SETTINGS": settings(),
        "PRIORITY": frame(http2_frames.PRIORITY, 1, bytes(4) + b"\x01"),
        "unknown frames": frame(0x77),
    }
    if kind in repeated:
        while True:
            yield repeated[kind] * (BURST_BYTES // len(repeated[kind]))
    if kind == "CONTINUATION":
        yield frame(HEADERS, 1, REQUEST, END_STREAM)
        while True:
            yield frame(http2_frames.CONTINUATION, 1, b"\x00\x01a\x01b" * 3) * 1_000
    for start in range(1, 1 << 30, 512):
        numbers = range(start, start + 512, 2)
        if kind in CALLS:
            yield b"".join(
                frame(HEADERS, n, CALLS[kind], END_HEADERS) + frame(RST_STREAM, n, (8).to_bytes(4))
                for n in numbers
            )
        else:
            # One long field in the table, and references to it.
            bomb = REQUEST + (LONG if start == 1 else b"") + b"\xbe" * 14
            yield b"".join(frame(HEADERS, n, bomb, END_STREAM | END_HEADERS) for n in numbers)


KINDS = ("PING", "SETTINGS", "PRIORITY", "unknown frames", "resets", "HPACK bombs", "CONTINUATION", GRPC)


def flood(kind: str, port: int, seconds: float) -> int:
    """Flood a port for some seconds, on one connection after the other, and return how many there were."""
    end, count, address = time.monotonic() + seconds, 0, ("127.0.0.1", port)
    made = b"".join(itertools.islice(bursts(kind), BURSTS))
    while time.monotonic() < end:
        count += 1
        with (
            contextlib.suppress(OSError),
            socket.create_connection(address, 10, FLOODER) as client,
        ):
            _send_until_ended(client, made, end)
    return count


def _send_until_ended(client: socket.socket, data: bytes, end: float) -> None:
    """Send bytes, unless the other side ends its own before, or the time is over."""
    client.setblocking(False)
    view = memoryview(data)
    while view and (now := time.monotonic()) < end:
        able, ready, _ = select.select([client], [client], [], end - now)
        if able and not client.recv(1 << 18):
            return
        if ready:
            view = view[client.send(view[:BURST_BYTES]) :]


def watch(port: int, seconds: float) -> float:
    """Return the 95th percentile of the seconds in which a neighbour gets a small file."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    times: list[float] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(PAUSE)
        began = time.perf_counter()
        connection.request("GET", "/media/small.mp4")
        answer = connection.getresponse()
        if answer.status != http.client.OK or not answer.read():
            raise RuntimeError(f"a neighbour was answered by {answer.status}")
        times.append(time.perf_counter() - began)
    connection.close()
    return statistics.quantiles(times, n=20)[-1]


def run(words: tuple[str, ...] = ()) -> Iterator[Figure]:
    """Watch a neighbour while nobody floods, while others are flooded, and while the server is."""
    if words and not any(word in NAME for word in words):
        return
    peers.require("taskset")
    os.sched_setaffinity(0, {int(peers.CLIENT_CORE)})
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        library = Path(name)
        (library / "small.mp4").write_bytes(bytes(2048))
        sink, grpc = peers.free_port(), peers.free_port()
        options = {"HEADWATER_GRPC_PORT": str(grpc)}
        server = stack.enter_context(peers.headwater(library, environment=options))
        port = int(server.url.rpartition(":")[2])
        command = ["taskset", "-c", peers.SERVER_CORE, sys.executable, "-c", SINK, str(sink), str(SINK_BYTES)]
        process = stack.enter_context(subprocess.Popen(command))
        stack.callback(process.terminate)
        # A flood comes from another machine: it doesn't take the processor from the neighbour.
        processes = stack.enter_context(ProcessPoolExecutor(1, initializer=os.nice, initargs=(10,)))
        watch(port, WARM_SECONDS)
        for kind in KINDS:
            times: dict[str, list[float]] = {"no flood": [], "a sink": [], "headwater": []}
            for _ in range(ROUNDS):
                times["no flood"].append(watch(port, SECONDS / ROUNDS))
                for flooded, name_of in ((sink, "a sink"), (grpc if kind == GRPC else port, "headwater")):
                    flooding = processes.submit(flood, kind, flooded, WARM_SECONDS + SECONDS / ROUNDS)
                    time.sleep(WARM_SECONDS)
                    times[name_of].append(watch(port, SECONDS / ROUNDS - 0.2))
                    flooding.result()
            for name_of, found in times.items():
                yield Figure(f"{NAME}: {kind}, p95", name_of, 1e3 * statistics.median(found), "ms")
