"""gRPC's calls that are cancelled at once: others are answered meanwhile, and the event loop goes first."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from origin.grpc.limits import GrpcLimits
from origin.server.services.limits import Limits
from tests.conftest import ServerProcess, start_server
from tests.event_server import LIMIT
from tests.http2_frames import END_HEADERS, HEADERS, PING, RST_STREAM, FrameClient, block, frame
from tests.patience import program
from tests.ports import kept_port, listens
from tests.waiting import wait_for

NICENESS = 7
CALL = block(
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/headwater.events.v1.Events/Subscribe"),
    (":authority", "localhost"),
    ("te", "trailers"),
    ("content-type", "application/grpc"),
)
NUMBERS = range(1, 200, 2)


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
