"""What floods by gRPC: its connection ends, and others are answered meanwhile."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from origin.grpc.limits import GrpcLimits
from origin.http2.header_block import encoded_field
from origin.server.services.limits import Limits
from tests.benchmarks import floods, peers
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

BOMBS = 10

EXHAUSTED = encoded_field(b"grpc-status", b"8")
"""RESOURCE_EXHAUSTED in a block of header fields."""

CANCEL = (8).to_bytes(4)
ENHANCE_YOUR_CALM = 0xB
"""RFC 9113 §7."""

MEBIBYTE = 1 << 20


@pytest.fixture(scope="module")
def server_and_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServerProcess, int]]:
    """A server with the limits that people have, and its port for gRPC."""
    folder = tmp_path_factory.mktemp("served")
    (folder / "library").mkdir()
    with kept_port() as port:
        server = start_server("--port", "0", cwd=folder, env={"HEADWATER_GRPC_PORT": str(port)})
        wait_for(lambda: listens(port), "a listening port")
        yield server, port
        assert server.stop() == 0


@pytest.fixture
def served(server_and_port: tuple[ServerProcess, int]) -> int:
    return server_and_port[1]


def is_well(port: int) -> bool:
    """Return whether a client of another address is answered."""
    with grpc.insecure_channel(f"127.0.0.1:{port}", [("grpc.use_local_subchannel_pool", 1)]) as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=LIMIT)
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


@pytest.mark.clause("CVE-2023-44487")
def test_calls_that_are_cancelled_at_once_end_their_connection(served: int) -> None:
    with FrameClient(f"http://127.0.0.1:{served}") as client:
        client.shake_hands()
        for number in range(1, 2_000, 2):
            client.send(frame(HEADERS, number, CALL, END_HEADERS) + frame(RST_STREAM, number, CANCEL))
        end = client.next_of(GOAWAY)
        assert end is not None
        assert end.code == ENHANCE_YOUR_CALM
        assert is_well(served)


def test_calls_that_dont_begin_hold_up_no_others(served: int) -> None:
    silent = range(1, 2 * 60, 2)
    number = silent[-1] + 2
    with FrameClient(f"http://127.0.0.1:{served}") as client:
        client.shake_hands()
        client.send(b"".join(frame(HEADERS, one, CALL, END_HEADERS) for one in silent))
        client.send(frame(HEADERS, number, CHECK, END_HEADERS) + frame(DATA, number, NO_MESSAGE, END_STREAM))
        found = client.next_of(HEADERS)
        assert found is not None
        assert found.stream == number
        assert is_well(served)


@pytest.mark.parametrize("kind", [floods.GRPC_RESETS, floods.GRPC_CALLS, floods.GRPC_STREAMS])
def test_others_are_answered_while_a_client_floods_on_many_connections(served: int, kind: str) -> None:
    """Each of its connections brings more calls than the core lets wait by default."""
    flood = f"from tests.benchmarks import floods; floods.flood({kind!r}, {served}, 600.0)"
    flooding = subprocess.Popen([sys.executable, "-c", flood], cwd=Path(__file__).parents[3])
    try:
        wait_for(lambda: has_connection_from(peers.FLOODER[0]), "the flood")
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
def test_too_many_metadata_end_their_connection_and_take_no_memory_or_time_of_others(
    server_and_port: tuple[ServerProcess, int], name: str, confirms: bool
) -> None:
    server, port = server_and_port
    bomb = head_frames(1, CALL + METADATA[name])
    assert is_well(port)
    before = resident(server.process.pid)
    for _ in range(BOMBS):
        with FrameClient(f"http://127.0.0.1:{port}") as client:
            client.shake_hands()
            if confirms:
                client.send(frame(SETTINGS, 0, b"", ACK))
            client.send(bomb)
            end = client.next_of(GOAWAY)
            assert end is not None
            assert end.code == ENHANCE_YOUR_CALM
    assert is_well(port)
    # By the references to a long field, 40 MB were to be made of each 14 KB.
    assert resident(server.process.pid) - before < 16 * MEBIBYTE


@pytest.mark.parametrize("size", [9_000, 20_000])
def test_metadata_that_are_somewhat_too_long_end_their_call_alone(served: int, size: int) -> None:
    number = 3
    with FrameClient(f"http://127.0.0.1:{served}") as client:
        client.shake_hands()
        client.send(head_frames(1, CALL + literal(b"a", b"b" * size, 0)))
        head, trailers = client.next_of(HEADERS), client.next_of(HEADERS)
        assert head is not None
        assert trailers is not None
        assert EXHAUSTED in trailers.payload
        client.send(frame(HEADERS, number, CHECK, END_HEADERS) + frame(DATA, number, NO_MESSAGE, END_STREAM))
        found = client.next_of(HEADERS)
        assert found is not None
        assert found.stream == number


def resident(pid: int) -> int:
    """Return how many bytes of memory a process has."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def test_a_head_without_an_end_ends_its_connection(tmp_path: Path) -> None:
    (tmp_path / "library").mkdir()
    short = GrpcLimits(handshake_seconds=1.0)
    with kept_port() as port:
        env = {"HEADWATER_GRPC_PORT": str(port)}
        server = start_server("--port", "0", cwd=tmp_path, env=env, program=program(Limits(grpc=short)))
        wait_for(lambda: listens(port), "a listening port")
        with FrameClient(f"http://127.0.0.1:{port}") as client:
            client.shake_hands()
            client.send(frame(HEADERS, 1, CALL, 0) + frame(CONTINUATION, 1, literal(b"a", b"b", 0)) * 100)
            while client.read() is not None:
                pass
        assert server.stop() == 0
