"""A server with HTTP/3 for tests, a small library and an event channel."""

from __future__ import annotations

import functools
import random
import re
from collections.abc import Sequence
from pathlib import Path

import httpx

from tests.conftest import ServerProcess, start_server
from tests.http3_client import Http3Connection, frame_datagrams
from tests.waiting import wait_for

TOKEN = "who-publishes-events-5b1f"
BIG = 3_000_000


@functools.cache
def big() -> bytes:
    """Return the bytes of the library's large file."""
    return random.Random(5).randbytes(BIG)


def configuration(certificate: str, server: str, limits: str) -> str:
    """Return a configuration with further lines of two of its tables."""
    return f"""
[server]
port = 0
{server}

[tls]
certificate = "{certificate}"
port = 0
http3 = true

[limits]
stalled_seconds = 2
body_seconds = 2
{limits}

[[events]]
name = "news"
publish_token = "{TOKEN}"
"""


def started(
    folder: Path, *, certificate: str = "self-signed", server: str = "", limits: str = ""
) -> ServerProcess:
    """Start the server in a folder."""
    (folder / "library").mkdir()
    (folder / "library" / "big.bin").write_bytes(big())
    (folder / "library" / "short.txt").write_text("short\n")
    (folder / "headwater.toml").write_text(configuration(certificate, server, limits))
    return start_server("--config", "headwater.toml", "--library", "library", cwd=folder)


def https_of(server: ServerProcess) -> str:
    """Return the server's address of HTTPS."""
    found = wait_for(lambda: re.search(r"and at (https://\S+)/", server.text()), "the line about HTTPS")
    assert found is not None
    return found[1]


def readers(server: ServerProcess) -> int:
    """Return how many readers the event channel has."""
    lines = httpx.get(f"{server.url}/metrics").text.splitlines()
    line = next(one for one in lines if one.startswith("headwater_events_readers{"))
    return int(float(line.split()[-1]))


def head(path: str, method: str = "GET") -> list[tuple[bytes, bytes]]:
    """Return the pseudo-header fields of a request."""
    values = {":method": method, ":scheme": "https", ":authority": "127.0.0.1", ":path": path}
    return [(name.encode(), value.encode()) for name, value in values.items()]


def send_frames(connection: Http3Connection, frames: Sequence[bytes], most: int = 10_000) -> None:
    """Send frames of QUIC, each with its type, in as few datagrams as they take with so many at most."""

    def send_all() -> None:
        protocol = connection.protocol
        assert protocol._transport is not None
        for data in frame_datagrams(protocol.quic, frames, most):
            protocol._transport.sendto(data, protocol.quic._network_paths[0].addr)

    connection.call(send_all)
