"""Asks a server with workers by a connection at a time, and reads its metrics."""

from __future__ import annotations

import json
import socket
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.conftest import ServerProcess
from tests.waiting import wait_for

CLIENT_SECONDS = 60.0

SIGNING_KEY = "2026-11:a-secret-of-november"
"""``access.keys`` of the servers."""


def address_of(server: ServerProcess) -> tuple[str, int]:
    parts = urlsplit(server.url)
    assert parts.hostname is not None
    assert parts.port is not None
    return parts.hostname, parts.port


def exchange(server: ServerProcess, *pieces: bytes) -> bytes:
    """Send pieces of requests, the last of which closes the connection; give all that comes back."""
    with socket.create_connection(address_of(server), CLIENT_SECONDS) as client:
        for piece in pieces:
            client.sendall(piece)
        received = bytearray()
        while data := client.recv(1 << 16):
            received += data
    return bytes(received)


def asked(server: ServerProcess, path: str) -> str:
    with urllib.request.urlopen(server.url + path, timeout=CLIENT_SECONDS) as answer:
        text: str = answer.read().decode()
        return text


def health(server: ServerProcess) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(asked(server, "/health"))
    return found


def ready(server: ServerProcess, count: int) -> None:
    """Wait until all workers serve."""
    wanted = {str(number): "ready" for number in range(1, count + 1)}
    wait_for(lambda: health(server).get("workers") == wanted, "all workers")


def metric(server: ServerProcess, name: str) -> float:
    """Give a metric's value, by its name with its labels."""
    lines = asked(server, "/metrics").splitlines()
    return float(next(line for line in lines if line.startswith(f"{name} ")).rpartition(" ")[2])


def workers_of(server: ServerProcess) -> list[int]:
    """Give the process ids of its workers, but for the spare one."""
    return sorted(pid for pid in server.children() if name_of(pid).startswith("worker "))


def spare_of(server: ServerProcess) -> int:
    """Wait until a spare worker has imported everything; give its process id."""

    def spares() -> list[int]:
        return [pid for pid in server.children() if name_of(pid) == "spare worker"]

    return wait_for(spares, "a spare worker")[0]


def name_of(pid: int) -> str:
    """Give the name that a process has given itself; empty where it has ended."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""
