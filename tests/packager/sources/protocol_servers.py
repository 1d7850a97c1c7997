"""Servers of live protocols, started as child processes."""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.programs import program

UNPRIVILEGED = 65534


@contextlib.contextmanager
def child(argv: Sequence[str], **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, **environment}
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@functools.cache
def own_ports() -> Iterator[int]:
    """Give this worker's ports, below those that Linux gives by itself (ip_local_port_range)."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    return iter(range(20_000 + 1000 * (worker % 12), 21_000 + 1000 * (worker % 12)))


def free_port(kind: socket.SocketKind) -> int:
    """Find a port that nobody else gets before it is bound: not from the system, nor in another worker."""
    for port in own_ports():
        with socket.socket(socket.AF_INET, kind) as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")


@contextlib.contextmanager
def rtsp_by_vlc(film: Path) -> Iterator[str]:
    """Serve a film in a loop, which anybody may read."""
    program("cvlc", "vlc-bin")
    url, home = f"rtsp://127.0.0.1:{free_port(socket.SOCK_STREAM)}/live", film.parent / "home"
    home.mkdir()
    words = f"cvlc -I dummy --no-dbus --loop --sout-keep --sout=#rtp{{sdp={url}}} {film}"
    user = ""
    if os.geteuid() == 0:
        # It refuses to run as root.
        home.chmod(0o777)
        user = f"setpriv --reuid={UNPRIVILEGED} --regid={UNPRIVILEGED} --clear-groups "
    with child((user + words).split(), HOME=str(home)):
        yield url
