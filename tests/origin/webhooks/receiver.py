"""A server that webhooks send to: it keeps what comes, and answers as it is asked to."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@dataclass
class Message:
    """A message that came, and the status with which it was answered."""

    fields: dict[str, str]
    body: bytes
    status: int

    @property
    def event(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found


@dataclass
class Receiver:
    """What came, in its order.

    Attributes:
        statuses: of the next answers; 200 where none is left.
    """

    url: str
    messages: list[Message] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)

    def events(self, subject: str = "") -> list[dict[str, Any]]:
        """Return the events that were taken."""
        taken = [one.event for one in tuple(self.messages) if one.status == 200]
        return [one for one in taken if subject in ("", one["subject"])]

    def kinds(self, subject: str) -> list[str]:
        return [one["type"] for one in self.events(subject)]


@contextmanager
def receiving(port: int = 0) -> Iterator[Receiver]:
    """Receive messages while the block runs."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            status = receiver.statuses.pop(0) if receiver.statuses else 200
            fields = {name.lower(): value for name, value in self.headers.items()}
            receiver.messages.append(Message(fields, body, status))
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    receiver = Receiver(f"http://127.0.0.1:{server.server_address[1]}/hook")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
