"""Options of the sockets of a running server, as its kernel has them."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
from collections.abc import Iterator

PIDFD_GETFD = 438
"""Number of the call of pidfd_getfd(2), the same on all machines."""


def options_of(
    pid: int, kind: socket.SocketKind, level: int, option: int, *, peer_port: int | None = None
) -> list[int]:
    """Return an option of each socket of a kind that a process has over IPv4, or of those to a port."""
    return [
        theirs.getsockopt(level, option)
        for theirs in _sockets_of(pid)
        if theirs.family == socket.AF_INET and theirs.type == kind
        if peer_port is None or _peer_port(theirs) == peer_port
    ]


def _peer_port(theirs: socket.socket) -> int | None:
    with contextlib.suppress(OSError):
        port: int = theirs.getpeername()[1]
        return port
    return None


def _sockets_of(pid: int) -> Iterator[socket.socket]:
    process = os.pidfd_open(pid)
    try:
        for descriptor in map(int, os.listdir(f"/proc/{pid}/fd")):
            copy = ctypes.CDLL(None).syscall(PIDFD_GETFD, process, descriptor, 0)
            if copy < 0:
                continue
            try:
                theirs = socket.socket(fileno=copy)
            except OSError:
                os.close(copy)
                continue
            with theirs:
                yield theirs
    finally:
        os.close(process)
