"""Limits of connections and requests that the configuration sets, at a real server."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.raw import Client
from tests.conftest import ServerProcess, start_server
from tests.server_sockets import options_of
from tests.waiting import wait_for

CONNECTIONS = 24
UNACKNOWLEDGED_SECONDS = 77
CONFIG = f"""
[server]
port = 0

[library]
path = "library"

[limits]
header_bytes = 2000
header_fields = 5
target_bytes = 300
keep_alive_seconds = 1
connections = {CONNECTIONS}
unacknowledged_seconds = {UNACKNOWLEDGED_SECONDS}
"""
DEFAULT_KEEP_ALIVE_SECONDS = 30.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("limits")
    (folder / "library").mkdir()
    (folder / "headwater.toml").write_text(CONFIG)
    with start_server(cwd=folder) as server:
        yield server


def connected(server: ServerProcess) -> Client:
    host, _, port = server.url.removeprefix("http://").rpartition(":")
    return Client((host, int(port)))


def status(server: ServerProcess, target: str, *fields: str) -> int:
    with connected(server) as client:
        return client.ask(target, *fields).status


@pytest.mark.clause("RFC 6585 §5")
@pytest.mark.promise("limits.header_fields", "limits.header_bytes")
def test_a_header_of_more_fields_or_bytes_than_configured_is_refused(server: ServerProcess) -> None:
    # Host is one of five.
    assert status(server, "/health", *(f"X-{number}: a" for number in range(4))) == 200
    assert status(server, "/health", *(f"X-{number}: a" for number in range(5))) == 431
    assert status(server, "/health", f"X-A: {'a' * 1500}") == 200
    assert status(server, "/health", f"X-A: {'a' * 2500}") == 431


@pytest.mark.promise("limits.target_bytes")
def test_a_longer_target_than_configured_is_refused(server: ServerProcess) -> None:
    assert status(server, f"/health?{'a' * 200}") == 200
    # RFC 9110 §15.5.15
    assert status(server, f"/health?{'a' * 400}") == 414


@pytest.mark.promise("limits.keep_alive_seconds")
def test_a_connection_without_a_further_request_is_closed_after_the_configured_time(
    server: ServerProcess,
) -> None:
    with connected(server) as client:
        assert client.ask("/health").status == 200
        began = time.monotonic()
        assert client.is_closed()
        assert time.monotonic() - began < DEFAULT_KEEP_ALIVE_SECONDS / 2


@pytest.mark.promise("limits.connections")
def test_more_connections_than_configured_are_refused_until_others_go(server: ServerProcess) -> None:
    with contextlib.ExitStack() as stack:
        # They have sent half of a request, so that no time between two requests ends them.
        for _ in range(CONNECTIONS):
            stack.enter_context(connected(server)).send("GET /health HTTP/1.1\r\n")
        wait_for(lambda: status(server, "/health") == 503, "a refusal")
    wait_for(lambda: status(server, "/health") == 200, "the others' places")


@pytest.mark.skipif(
    Path("/proc/sys/kernel/yama/ptrace_scope").exists() and os.geteuid() != 0,
    reason="the kernel shows nobody the sockets of another process",
)
@pytest.mark.promise("limits.unacknowledged_seconds")
def test_the_kernel_gives_a_client_up_that_acknowledges_nothing_for_the_configured_time(
    server: ServerProcess,
) -> None:
    with connected(server) as client:
        assert client.ask("/health").status == 200
        port = client.socket.getsockname()[1]
        option = socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT
        found = options_of(server.process.pid, socket.SOCK_STREAM, *option, peer_port=port)
        assert found == [UNACKNOWLEDGED_SECONDS * 1000]
