"""A server that is asked to end serves on for a while, and says meanwhile that it isn't ready."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from tests.conftest import STOP_SECONDS, ServerProcess
from tests.origin.workers.asking import exchange, workers_of
from tests.origin.workers.conftest import started
from tests.waiting import wait_for

HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
RANGE = b"GET /media/film.mp4 HTTP/1.1\r\nHost: localhost\r\nRange: bytes=0-9\r\nConnection: close\r\n\r\n"
LONG = 600


def is_draining(server: ServerProcess) -> bool:
    """Tell whether a server answers that it isn't ready, as a balancer's probe sees it."""
    return exchange(server, HEALTH).startswith(b"HTTP/1.1 503 ")


@pytest.mark.parametrize("workers", [1, 2])
def test_who_comes_while_it_drains_is_served(library: Path, tmp_path: Path, workers: int) -> None:
    server = started(tmp_path, library, workers, f"[limits]\ndrain_seconds = {LONG}\n")
    assert not is_draining(server)
    # systemd tells all processes of a service.
    for pid in (server.process.pid, *(workers_of(server) if workers > 1 else ())):
        os.kill(pid, signal.SIGTERM)
    wait_for(lambda: is_draining(server), "the answer that it isn't ready")
    for _ in range(20):
        assert exchange(server, RANGE).startswith(b"HTTP/1.1 206 ")
    report = json.loads(exchange(server, HEALTH).partition(b"\r\n\r\n")[2])
    assert (report["live"], report["ready"]) == (True, False)
    # Whoever doesn't want to wait asks again.
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(STOP_SECONDS) == 0


@pytest.mark.promise("limits.drain_seconds")
def test_it_ends_by_itself_once_it_has_drained(library: Path, tmp_path: Path) -> None:
    server = started(tmp_path, library, 2, "[limits]\ndrain_seconds = 0.5\n")
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(STOP_SECONDS) == 0


ENDS = 3


def test_an_orderly_end_is_no_trouble_in_the_log(library: Path, tmp_path: Path) -> None:
    for _ in range(ENDS):
        server = started(tmp_path, library, 2)
        assert server.stop() == 0
        assert "was lost" not in server.text()
