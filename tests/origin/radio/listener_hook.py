"""A server that stations ask about their listeners and sources."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs


class Hook(ThreadingHTTPServer):
    """A server that is asked about listeners and sources, with the paths and fields of all requests."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.asked: list[tuple[str, dict[str, list[str]]]] = []

    def paths(self) -> list[str]:
        return [path for path, _ in self.asked]


class _Answer(BaseHTTPRequestHandler):
    server: Hook

    def do_POST(self) -> None:  # the base class's name
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        self.server.asked.append((self.path, parse_qs(body)))
        self.send_response(403 if self.path == "/no" else 200)
        self.send_header("icecast-auth-user", "1")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self) -> None:  # the base class's name
        self.server.asked.append((self.path, {}))
        self.send_error(404)

    def log_message(self, *_: object) -> None:
        """Say nothing."""
