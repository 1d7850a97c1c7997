"""Publishes at a rate until it is ended: ``python -m tests.benchmarks.event_publisher PORT PATH RATE WAY``.

Each event is a line as of a chat, with ``@`` and the wall clock's time at which it is sent. The way is the
one that costs a server least: ``lines``, one POST whose body is NDJSON, or ``socket``, messages on a
WebSocket.
"""

from __future__ import annotations

import itertools
import socket
import sys
import threading
import time
from collections.abc import Callable

from websockets.sync.client import connect

TOKEN = "benchmark-token-0"
TEXT = "so many readers of one channel, and each of them gets this line"


def main() -> None:
    """Send on time; what is late because the server didn't take it is sent as soon as it does."""
    port, path, rate, way = int(sys.argv[1]), sys.argv[2], float(sys.argv[3]), sys.argv[4]
    send = {"lines": by_lines, "socket": by_socket}[way](port, path)
    began = time.monotonic()
    for number in itertools.count():
        pause = began + number / rate - time.monotonic()
        if pause > 0:
            time.sleep(pause)
        send(f"@{time.time():.6f} {number} {TEXT}")


def by_lines(port: int, path: str) -> Callable[[str], None]:
    """Begin a POST; each event is a chunk of it."""
    connection = socket.create_connection(("127.0.0.1", port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    lines = [f"POST {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", f"Authorization: Bearer {TOKEN}"]
    lines += ["Content-Type: application/x-ndjson", "Transfer-Encoding: chunked", "", ""]
    connection.sendall("\r\n".join(lines).encode())

    def send(text: str) -> None:
        line = f'{{"data": "{text}"}}\n'.encode()
        connection.sendall(b"%x\r\n%b\r\n" % (len(line), line))

    return send


def by_socket(port: int, path: str) -> Callable[[str], None]:
    """Open a WebSocket, whose answers are read and thrown away."""
    connection = connect(f"ws://127.0.0.1:{port}{path}", compression=None, proxy=None)

    def read() -> None:
        for _ in connection:
            pass

    threading.Thread(target=read, daemon=True).start()
    return connection.send


if __name__ == "__main__":
    main()
