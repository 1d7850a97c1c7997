"""What a client that floods does to its neighbours: how long a small file takes them over plain HTTP/1.1.

Where gRPC or HTTP/3 is flooded, a second neighbour asks by it: for the server's health, or for the file.

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
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from functools import partial
from pathlib import Path

import grpc
import httpx
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests import http2_frames
from tests.benchmarks import http3_floods, peers
from tests.benchmarks.load import Figure
from tests.certificates import self_signed
from tests.http2_frames import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    RST_STREAM,
    block,
    frame,
    head_frames,
    literal,
    settings,
)
from tests.http3_client import Http3Transport

NAME = "floods"
SECONDS, WARM_SECONDS = 4.0, 0.5
PAUSE = 0.002
ROUNDS = 3
BURST_BYTES, BURSTS = 1 << 14, 256
SINK = """
import socket, sys
with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as listener:
    while True:
        with listener.accept()[0] as client:
            left = int(sys.argv[2])
            while left > 0 and (data := client.recv(1 << 18)):
                left -= len(data)
"""
DATAGRAM_SINK = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sink:
    sink.bind(("127.0.0.1", int(sys.argv[1])))
    while True:
        sink.recv(1 << 16)
"""
SINK_BYTES = 1 << 14
"""Bytes of a connection after which the sink closes it: those of as many frames as the server accepts."""

REQUEST = block((":method", "GET"), (":scheme", "http"), (":path", "/media/small.mp4"), (":authority", "a"))
CALL = block(
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/headwater.events.v1.Events/Subscribe"),
    (":authority", "a"),
    ("te", "trailers"),
    ("content-type", "application/grpc"),
)
SUBSCRIBE = b"\x00\x00\x00\x00\x06\n\x04news"
"""A message that asks for the events of a channel that there isn't, with its prefix."""

GRPC_RESETS, GRPC_STREAMS, GRPC_CALLS = "gRPC resets", "gRPC streams", "gRPC calls"
GRPC_METADATA = {
    "gRPC long metadata": literal(b"a", b"b" * 200_000, 0),
    "gRPC many metadata": b"".join(literal(b"n%d" % number, b"v", 0) for number in range(10_000)),
    "gRPC metadata bombs": literal(b"a", b"b" * 4_000, 0x40) + b"\xbe" * 10_000,
}
GRPC = (GRPC_RESETS, GRPC_STREAMS, GRPC_CALLS, *GRPC_METADATA)
CALLS = {"resets": REQUEST, GRPC_RESETS: CALL}
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
        if kind in GRPC_METADATA:
            # As a client that has confirmed no settings, which may send more.
            yield b"".join(head_frames(n, CALL + GRPC_METADATA[kind]) for n in numbers[:8])
        elif kind == GRPC_STREAMS:
            yield b"".join(frame(HEADERS, n, CALL, END_HEADERS) for n in numbers)
        elif kind == GRPC_CALLS:
            yield b"".join(
                frame(HEADERS, n, CALL, END_HEADERS) + frame(DATA, n, SUBSCRIBE, END_STREAM) for n in numbers
            )
        elif kind in CALLS:
            yield b"".join(
                frame(HEADERS, n, CALLS[kind], END_HEADERS) + frame(RST_STREAM, n, (8).to_bytes(4))
                for n in numbers
            )
        else:
            # One long field in the table, and references to it.
            bomb = REQUEST + (LONG if start == 1 else b"") + b"\xbe" * 14
            yield b"".join(frame(HEADERS, n, bomb, END_STREAM | END_HEADERS) for n in numbers)


KINDS = (
    "PING",
    "SETTINGS",
    "PRIORITY",
    "unknown frames",
    "resets",
    "HPACK bombs",
    "CONTINUATION",
    *GRPC,
    *http3_floods.KINDS,
)


def flood(kind: str, port: int, seconds: float) -> int:
    """Flood a port for some seconds, on one connection after the other, and return how many there were."""
    end, count, address = time.monotonic() + seconds, 0, ("127.0.0.1", port)
    made = b"".join(itertools.islice(bursts(kind), BURSTS))
    while time.monotonic() < end:
        count += 1
        with (
            contextlib.suppress(OSError),
            socket.create_connection(address, 10, peers.FLOODER) as client,
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

    def ask() -> None:
        connection.request("GET", "/media/small.mp4")
        answer = connection.getresponse()
        if answer.status != http.client.OK or not answer.read():
            raise RuntimeError(f"a neighbour was answered by {answer.status}")

    with contextlib.closing(connection):
        return _percentile(ask, seconds)


def watch_health(port: int, seconds: float) -> float:
    """Return the 95th percentile of the seconds in which a neighbour learns the server's health by gRPC."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(f"127.0.0.1:{port}", options) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        question = health_pb2.HealthCheckRequest()
        health.Check(question, timeout=60, wait_for_ready=True)
        return _percentile(lambda: health.Check(question, timeout=60), seconds)


def watch_file(port: int, seconds: float) -> float:
    """Return the 95th percentile of the seconds in which a neighbour gets a small file by HTTP/3."""
    with httpx.Client(transport=Http3Transport(), timeout=60) as client:
        address = f"https://127.0.0.1:{port}/media/small.mp4"
        client.get(address).raise_for_status()
        return _percentile(lambda: client.get(address).raise_for_status(), seconds)


def _percentile(ask: Callable[[], object], seconds: float) -> float:
    """Ask again and again, and return the 95th percentile of the seconds that an answer takes."""
    times: list[float] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(PAUSE)
        began = time.perf_counter()
        ask()
        times.append(time.perf_counter() - began)
    return statistics.quantiles(times, n=20)[-1]


def run(words: tuple[str, ...] = ()) -> Iterator[Figure]:
    """Watch a neighbour while nobody floods, while others are flooded, and while the server is."""
    kinds = [one for one in KINDS if not words or any(word in f"{NAME}: {one}" for word in words)]
    by_http3 = [one for one in kinds if one in http3_floods.KINDS]
    yield from _run([one for one in kinds if one not in by_http3], is_http3=False)
    yield from _run(by_http3, is_http3=True)


def _run(kinds: Sequence[str], *, is_http3: bool) -> Iterator[Figure]:
    """Run some kinds against one server, whose gRPC is in the clear or which speaks HTTP/3."""
    if not kinds:
        return
    peers.require("taskset")
    os.sched_setaffinity(0, {int(peers.CLIENT_CORE)})
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        library = Path(name)
        (library / "small.mp4").write_bytes(bytes(2048))
        certificate, other_port = self_signed(library), peers.free_port()
        options = {"HEADWATER_GRPC_PORT": str(other_port)}
        if is_http3:
            options = {
                "HEADWATER_TLS_CERTIFICATE": str(certificate.chain),
                "HEADWATER_TLS_KEY": str(certificate.key),
                "HEADWATER_TLS_PORT": str(other_port),
                "HEADWATER_TLS_HTTP3": "true",
            }
        server = stack.enter_context(peers.headwater(library, environment=options))
        port = int(server.url.rpartition(":")[2])
        sink = _sink(stack, DATAGRAM_SINK if is_http3 else SINK)
        processes = stack.enter_context(ProcessPoolExecutor(1, initializer=_yield_to_the_neighbour))
        watch(port, WARM_SECONDS)
        for kind in kinds:
            flooded, flooding = port, flood
            watches = {"p95": partial(watch, port)}
            if kind in GRPC:
                flooded = other_port
                watches["p95 by gRPC"] = partial(watch_health, other_port)
            elif is_http3:
                flooded, flooding = other_port, partial(http3_floods.flood, other_port)
                watches["p95 by HTTP/3"] = partial(watch_file, other_port)
            for what, watching in watches.items():
                targets = {"no flood": None, "a sink": sink, "headwater": flooded}
                begin = partial(processes.submit, partial(flooding, kind))
                for target, seconds in _watched(begin, targets, watching).items():
                    yield Figure(f"{NAME}: {kind}, {what}", target, 1e3 * seconds, "ms")


def _yield_to_the_neighbour() -> None:
    """Run while the neighbour doesn't: a flood comes from another machine, and doesn't take its processor."""
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def _sink(stack: contextlib.ExitStack, code: str) -> int:
    """Start what reads a flood and does nothing else, on the server's core, and return its port."""
    port = peers.free_port()
    command = ["taskset", "-c", peers.SERVER_CORE, sys.executable, "-c", code, str(port), str(SINK_BYTES)]
    stack.callback(stack.enter_context(subprocess.Popen(command)).terminate)
    return port


def _watched(
    begin: Callable[..., Future[int]],
    targets: Mapping[str, int | None],
    watching: Callable[[float], float],
) -> dict[str, float]:
    """Return what a neighbour waits while each port is flooded, or none, in turns."""
    times: dict[str, list[float]] = {name: [] for name in targets}
    for _ in range(ROUNDS):
        for name, port in targets.items():
            if port is None:
                times[name].append(watching(SECONDS / ROUNDS))
                continue
            flooding = begin(port, WARM_SECONDS + SECONDS / ROUNDS)
            time.sleep(WARM_SECONDS)
            times[name].append(watching(SECONDS / ROUNDS - 0.2))
            flooding.result()
    return {name: statistics.median(found) for name, found in times.items()}
