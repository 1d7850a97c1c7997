"""gRPC's calls that are cancelled at once: others are answered meanwhile, and the event loop goes first."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from origin.grpc.call_turns import BEGINNING
from origin.grpc.limits import GrpcLimits
from origin.server.services.limits import Limits
from tests.benchmarks import floods
from tests.conftest import ServerProcess, start_server
from tests.event_server import LIMIT
from tests.http2_frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    RST_STREAM,
    SETTINGS,
    FrameClient,
    block,
    frame,
    head_frames,
    literal,
)
from tests.patience import program
from tests.ports import kept_port, listens
from tests.waiting import wait_for

NICENESS = 7


def head_of(path: str) -> bytes:
    """Return the head of a call of a method."""
    return block(
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "localhost"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
    )


CALL = head_of("/headwater.events.v1.Events/Subscribe")
CHECK = head_of("/grpc.health.v1.Health/Check")
NO_MESSAGE = bytes(5)
"""A message without fields, behind its prefix."""

NUMBERS = range(1, 200, 2)
BOMBS = range(1, 40, 2)

EXHAUSTED = b"\x0bgrpc-status\x018"
"""RESOURCE_EXHAUSTED in a block of header fields, as the core writes it."""

SETTINGS_TIMEOUT = 0x4
"""RFC 9113 §7."""

MEBIBYTE = 1 << 20


@pytest.fixture(scope="module")
def flooded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServerProcess, int]]:
    folder = tmp_path_factory.mktemp("flooded")
    (folder / "library").mkdir()
    limits = Limits(grpc=GrpcLimits(unanswered_calls=5, unanswered_calls_a_second=0.01, niceness=NICENESS))
    with kept_port() as port:
        env = {"HEADWATER_GRPC_PORT": str(port)}
        server = start_server("--port", "0", cwd=folder, env=env, program=program(limits))
        wait_for(lambda: f"gRPC is at 127.0.0.1:{port}" in server.text(), "the announcement")
        # What is announced is the configuration; the core listens a moment later on a busy machine.
        wait_for(lambda: listens(port), "a listening core")
        yield server, port
        server.stop()


@pytest.mark.clause("CVE-2023-44487")
def test_calls_that_are_cancelled_at_once_keep_no_others_from_an_answer(
    flooded: tuple[ServerProcess, int],
) -> None:
    server, port = flooded

    def is_slow() -> bool:
        with FrameClient(f"http://127.0.0.1:{port}") as client:
            client.shake_hands()
            client.send(b"".join(frame(HEADERS, number, CALL, END_HEADERS) for number in NUMBERS))
            # Those that come together with their end are hardly ever seen outside of the core.
            client.send(frame(PING, 0, bytes(8)))
            assert client.next_of(PING) is not None
            client.send(b"".join(frame(RST_STREAM, number, (8).to_bytes(4)) for number in NUMBERS))
        return "grpc accepts calls slowly" in server.text()

    wait_for(is_slow, "a line in the log")
    with grpc.insecure_channel(f"127.0.0.1:{port}", [("grpc.use_local_subchannel_pool", 1)]) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for _ in range(3):
            answer = health.Check(health_pb2.HealthCheckRequest(), timeout=LIMIT, wait_for_ready=True)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a server with the limits that people have."""
    folder = tmp_path_factory.mktemp("served")
    (folder / "library").mkdir()
    with kept_port() as port:
        server = start_server("--port", "0", cwd=folder, env={"HEADWATER_GRPC_PORT": str(port)})
        wait_for(lambda: listens(port), "a listening core")
        yield port
        assert server.stop() == 0


def is_well(port: int) -> bool:
    """Return whether a client of another address is answered."""
    with grpc.insecure_channel(f"127.0.0.1:{port}", [("grpc.use_local_subchannel_pool", 1)]) as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=LIMIT)
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def test_a_clients_calls_that_dont_begin_hold_up_its_own_alone(served: int) -> None:
    silent = range(1, 2 * BEGINNING, 2)
    number = silent[-1] + 2
    with FrameClient(f"http://127.0.0.1:{served}") as client:
        client.shake_hands()
        client.send(b"".join(frame(HEADERS, one, CALL, END_HEADERS) for one in silent))
        client.send(frame(HEADERS, number, CHECK, END_HEADERS) + frame(DATA, number, NO_MESSAGE, END_STREAM))
        for _ in range(3):
            assert is_well(served)
            client.send(frame(PING, 0, bytes(8)))
            found = client.next_of(PING, HEADERS)
            assert found is not None
            assert found.kind == PING
        client.send(frame(RST_STREAM, silent[0], (8).to_bytes(4)))
        found = client.next_of(HEADERS)
        assert found is not None
        assert found.stream == number


@pytest.mark.parametrize("kind", [floods.GRPC_RESETS, floods.GRPC_CALLS, floods.GRPC_STREAMS])
def test_others_are_answered_while_a_client_floods_on_many_connections(served: int, kind: str) -> None:
    """Each of its connections brings more calls than the core lets wait by default."""
    flood = f"from tests.benchmarks import floods; floods.flood({kind!r}, {served}, 600.0)"
    flooding = subprocess.Popen([sys.executable, "-c", flood], cwd=Path(__file__).parents[3])
    try:
        wait_for(lambda: has_connection_from(floods.FLOODER[0]), "the flood")
        for _ in range(20):
            assert is_well(served)
    finally:
        flooding.kill()
        flooding.wait()


def has_connection_from(host: str) -> bool:
    """Return whether there is a connection from an address of this machine (proc(5), net/tcp)."""
    local = socket.inet_aton(host)[::-1].hex().upper()
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return any(line.split()[1].startswith(f"{local}:") and line.split()[3] == "01" for line in lines)


METADATA = {
    "one long field": literal(b"a", b"b" * 200_000, 0),
    "many short fields": b"".join(literal(b"n%d" % number, b"v", 0) for number in range(10_000)),
    "references to the static table": b"\x90" * 14_000,
    "references to a long field": literal(b"a", b"b" * 4_000, 0x40) + b"\xbe" * 10_000,
}


@pytest.mark.clause("CWE-409")
@pytest.mark.parametrize("confirms", [False, True], ids=["before the limit is confirmed", "after it"])
@pytest.mark.parametrize("name", METADATA)
def test_too_many_metadata_end_their_call_and_take_no_memory_or_time_of_others(
    flooded: tuple[ServerProcess, int], name: str, confirms: bool
) -> None:
    server, port = flooded
    data = b"".join(head_frames(number, CALL + METADATA[name]) for number in BOMBS)
    with (
        FrameClient(f"http://127.0.0.1:{port}") as client,
        grpc.insecure_channel(f"127.0.0.1:{port}", [("grpc.use_local_subchannel_pool", 1)]) as channel,
    ):
        health = health_pb2_grpc.HealthStub(channel)
        health.Check(health_pb2.HealthCheckRequest(), timeout=LIMIT, wait_for_ready=True)
        before = resident(server.process.pid)
        client.shake_hands()
        if confirms:
            client.send(frame(SETTINGS, 0, b"", ACK))
        client.send(data)
        for _ in range(5):
            answer = health.Check(health_pb2.HealthCheckRequest(), timeout=LIMIT)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        ended = set[int]()
        while len(ended) < len(BOMBS):
            head = client.next_of(HEADERS)
            assert head is not None
            ended.add(head.stream)
            # Later ones may refer to the first one in the table of fields.
            assert EXHAUSTED in head.payload or len(ended) > 1
        assert ended == set(BOMBS)
    # By the references to a long field, 800 MB were to be made of 280 KB.
    assert resident(server.process.pid) - before < 400 * MEBIBYTE
    assert "grpc accepts calls slowly" in server.text() or confirms


def resident(pid: int) -> int:
    """Return how many bytes of memory a process has."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


@pytest.mark.parametrize("confirms", [False, True], ids=["unconfirmed settings", "unanswered pings"])
def test_a_head_without_an_end_ends_its_connection(tmp_path: Path, confirms: bool) -> None:
    (tmp_path / "library").mkdir()
    short = GrpcLimits(handshake_seconds=600.0 if confirms else 1.0, ping_seconds=1.0 if confirms else 600.0)
    with kept_port() as port:
        env = {"HEADWATER_GRPC_PORT": str(port)}
        server = start_server("--port", "0", cwd=tmp_path, env=env, program=program(Limits(grpc=short)))
        wait_for(lambda: listens(port), "a listening core")
        with FrameClient(f"http://127.0.0.1:{port}") as client:
            client.shake_hands()
            if confirms:
                client.send(frame(SETTINGS, 0, b"", ACK))
            client.send(frame(HEADERS, 1, CALL, 0) + frame(CONTINUATION, 1, literal(b"a", b"b", 0)) * 100)
            end = client.next_of(GOAWAY)
            if not confirms:
                assert end is not None
                assert end.code == SETTINGS_TIMEOUT
            while client.read() is not None:
                pass
        assert server.stop() == 0


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere threads have no priority of their own")
def test_the_cores_threads_yield_to_the_event_loop(flooded: tuple[ServerProcess, int]) -> None:
    server, _ = flooded
    wait_for(lambda: list(priorities(server.process.pid, "event_engine")), "a thread of the core")
    nice = min(os.getpriority(os.PRIO_PROCESS, server.process.pid) + NICENESS, 19)
    assert set(priorities(server.process.pid, "event_engine")) <= {(nice, os.SCHED_BATCH)}


def priorities(pid: int, name: str) -> Iterator[tuple[int, int]]:
    """Yield how nice each thread with a name is, and its policy (proc(5), fields 19 and 41 of stat)."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        # A thread may end before it is looked at.
        with contextlib.suppress(OSError):
            command, _, fields = (thread / "stat").read_text().partition("(")[2].rpartition(")")
            if command == name:
                yield int(fields.split()[16]), int(fields.split()[38])
