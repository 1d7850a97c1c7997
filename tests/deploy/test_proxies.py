"""Proxies that keep nothing, as `deploy/` configures them, in front of an upstream in this process."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.cdn.caches import Cache, running

FILM = bytes(range(256)) * 40
PATIENCE_SECONDS = 120


class Upstream(http.server.ThreadingHTTPServer):
    """Tells what it was asked; its stream goes on only when the client has its beginning.

    Attributes:
        has_begun: set by the client once it has the stream's first event.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.has_begun = threading.Event()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/events/chat":
            self._stream()
        elif self.path == "/media/film.mp4":
            self._answer(206, FILM[100:200], ("Content-Range", f"bytes 100-199/{len(FILM)}"))
        else:
            told = {"fields": {name.lower(): value for name, value in self.headers.items()}}
            self._answer(200, json.dumps(told).encode())

    do_PUT = do_HEAD = do_GET  # noqa: N815  # http.server's names

    def _answer(self, status: int, body: bytes, *fields: tuple[str, str]) -> None:
        self.send_response(status)
        for name, value in (*fields, ("Content-Length", str(len(body)))):
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _stream(self) -> None:
        server = self.server
        assert isinstance(server, Upstream)
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("X-Accel-Buffering", "no")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(b"d\r\ndata: first\n\n\r\n")
        self.wfile.flush()
        if server.has_begun.wait(PATIENCE_SECONDS):
            self.wfile.write(b"c\r\ndata: last\n\n\r\n0\r\n\r\n")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@dataclass(frozen=True)
class Proxied:
    proxy: Cache
    upstream: Upstream

    @contextlib.contextmanager
    def ask(self, method: str, target: str, **fields: str) -> Iterator[http.client.HTTPResponse]:
        connection = http.client.HTTPConnection(*self.proxy.address, timeout=PATIENCE_SECONDS)
        with contextlib.closing(connection):
            connection.request(method, target, headers={"Host": "stream.example", **fields})
            yield connection.getresponse()


@pytest.fixture(scope="module", params=["plain", "caddy", "haproxy", "fleet"])
def proxied(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxied]:
    with Upstream() as upstream:
        serving = threading.Thread(target=upstream.serve_forever)
        serving.start()
        try:
            address = f"http://127.0.0.1:{upstream.server_address[1]}"
            with running(request.param, address, tmp_path_factory.mktemp(request.param)) as proxy:
                yield Proxied(proxy, upstream)
        finally:
            upstream.shutdown()
            serving.join()


@pytest.mark.clause("RFC 9110 §15.3.7")
def test_a_range_goes_through_as_it_is(proxied: Proxied) -> None:
    with proxied.ask("GET", "/media/film.mp4", Range="bytes=100-199") as answer:
        assert (answer.status, answer.headers["Content-Range"]) == (206, f"bytes 100-199/{len(FILM)}")
        assert answer.read() == FILM[100:200]


def test_an_event_is_there_before_the_next_one_is_sent(proxied: Proxied) -> None:
    proxied.upstream.has_begun.clear()
    with proxied.ask("GET", "/events/chat") as answer:
        assert answer.readline() == b"data: first\n"
        proxied.upstream.has_begun.set()
        assert answer.read() == b"\ndata: last\n\n"


def test_the_server_is_told_who_asks_and_under_which_name(proxied: Proxied) -> None:
    if proxied.proxy.kind == "plain":
        pytest.skip("the simplest nginx tells nothing")
    forged = {"Forwarded": "for=203.0.113.7"}
    with proxied.ask("GET", "/live/demo/master.m3u8", Range="bytes=0-", **forged) as answer:
        fields = json.loads(answer.read())["fields"]
    assert (fields["host"], fields["x-forwarded-for"]) == ("stream.example", "127.0.0.1")
    assert fields.get("forwarded", "") == ""
    assert (fields["x-forwarded-proto"], fields["range"]) == ("http", "bytes=0-")


def test_nothing_but_reading_goes_through(proxied: Proxied) -> None:
    if proxied.proxy.kind not in ("caddy", "haproxy"):
        pytest.skip("these two refuse nothing")
    with proxied.ask("PUT", "/live/demo/ingest") as answer:
        assert answer.status == 403
    with proxied.ask("GET", "/admin/metadata") as answer:
        assert answer.status == 403
    with proxied.ask("HEAD", "/media/film.mp4") as answer:
        assert answer.status == 206
