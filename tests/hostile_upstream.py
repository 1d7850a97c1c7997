"""A server that sends what it was given, whatever is asked: in threads, whose own time doesn't count."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

OK = b"HTTP/1.1 200 OK\r\nConnection: close\r\n"


@dataclass
class HostileUpstream:
    """What is sent, and what became of it.

    Attributes:
        answers: by the path's last part, head and body; or by "" for all others.
        asked: the paths' last parts, in order.
        sent: those whose answers were sent whole.
    """

    answers: dict[str, bytes]
    url: str = ""
    asked: list[str] = field(default_factory=list)
    sent: list[str] = field(default_factory=list)

    def serve(self, connection: socket.socket) -> None:
        """Answer one request."""
        with connection, contextlib.suppress(OSError):
            connection.settimeout(60)
            head = b""
            while b"\r\n\r\n" not in head:
                data = connection.recv(4096)
                if not data:
                    return
                head += data
            name = head.split(b" ", 2)[1].rpartition(b"/")[2].decode()
            self.asked.append(name)
            connection.sendall(self.answers.get(name, self.answers.get("", b"HTTP/1.1 404 No\r\n\r\n")))
            self.sent.append(name)
            connection.shutdown(socket.SHUT_WR)
            # Unread bytes here would reset the connection, and the client would miss the end.
            while connection.recv(4096):
                pass


@contextlib.contextmanager
def hostile_upstream(answers: dict[str, bytes]) -> Iterator[HostileUpstream]:
    """Run one until the block ends."""
    upstream = HostileUpstream(answers)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        upstream.url = f"http://127.0.0.1:{listening.getsockname()[1]}"

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listening.accept()
                    threading.Thread(target=upstream.serve, args=(connection,), daemon=True).start()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield upstream
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join(60)


def answer(body: bytes, *fields: str) -> bytes:
    """Write an answer that ends with its connection."""
    return OK + b"".join(f"{one}\r\n".encode() for one in fields) + b"\r\n" + body


def in_chunks(body: bytes, *fields: str) -> bytes:
    """Write an answer in chunks of a byte each (RFC 9112 §7.1)."""
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body)
    return answer(chunks + b"0\r\n\r\n", *fields, "Transfer-Encoding: chunked")
