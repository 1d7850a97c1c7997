"""Ports for servers that come, and that go and come again: nobody else gets them meanwhile."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator


@contextlib.contextmanager
def kept_port() -> Iterator[int]:
    """Keep a TCP port of 127.0.0.1 for servers that set SO_REUSEADDR, as most do, while the block lasts.

    A socket that is bound and doesn't listen lets them in and keeps all others out: Linux gives the port to
    nobody who asks for any. Who connects while no server is there is refused, as ever.
    """
    with socket.socket() as keeper:
        keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        keeper.bind(("127.0.0.1", 0))
        port: int = keeper.getsockname()[1]
        yield port


def listens(port: int) -> bool:
    """Return whether somebody accepts connections on a port of this machine."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
