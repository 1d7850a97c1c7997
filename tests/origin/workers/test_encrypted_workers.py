"""Workers answer HTTPS and HTTP/2 as one process does, and relay what the started process answers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from origin.server.services.limits import Limits
from tests.certificates import careless, self_signed
from tests.conftest import STOP_SECONDS, ServerProcess, start_server
from tests.descriptors import descriptors
from tests.origin.workers.asking import CLIENT_SECONDS, exchange, metric, workers_of
from tests.origin.workers.conftest import PATIENT, started
from tests.patience import program
from tests.waiting import wait_for

pytestmark = pytest.mark.timeout(600)

VARYING = {"date", "connection", "transfer-encoding", "keep-alive"}
TLS = '\n[tls]\ncertificate = "{folder}/chain.pem"\nkey = "{folder}/key.pem"\nport = 0\n'
PUBLISH = {"authorization": "Bearer token", "content-type": "text/plain"}
SERVICE_RESTART = 1012
AT_ONCE = 20
"""Connections that are opened at once, until each of two workers has had some."""


class Https:
    """A server with TLS, and clients of it that trust nobody."""

    def __init__(self, server: ServerProcess) -> None:
        self.server = server
        found = wait_for(lambda: re.search(r"and at (https://\S+)/", server.text()), "the line about HTTPS")
        assert found is not None
        self.url = str(found[1])
        self.port = int(self.url.rpartition(":")[2])

    def client(self, *, is_2: bool, plain: bool = False) -> httpx.Client:
        base = self.server.url if plain else self.url
        return httpx.Client(
            base_url=base, http1=not is_2, http2=is_2, verify=careless(), timeout=CLIENT_SECONDS
        )

    def connection(self) -> ssl.SSLSocket:
        raw = socket.create_connection(("127.0.0.1", self.port), CLIENT_SECONDS)
        return careless().wrap_socket(raw, server_hostname="localhost")

    def fingerprint(self) -> bytes:
        with self.connection() as client:
            return client.getpeercert(binary_form=True) or b""


@pytest.fixture(scope="module")
def one(library: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Https]:
    folder = tmp_path_factory.mktemp("one")
    self_signed(folder)
    server = started(folder, library, 1, TLS.format(folder=folder))
    yield Https(server)
    assert server.stop() == 0


@pytest.fixture(scope="module")
def two(library: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Https]:
    folder = tmp_path_factory.mktemp("two")
    self_signed(folder)
    server = started(folder, library, 2, TLS.format(folder=folder))
    yield Https(server)
    assert server.stop() == 0


REQUESTS = {
    "a file": ("GET", "/media/film.mp4", {}, None),
    "a range": ("GET", "/media/film.mp4", {"range": "bytes=100-199"}, None),
    "the head of a file": ("HEAD", "/media/film.mp4", {}, None),
    "an unchanged file": (
        "GET",
        "/media/film.mp4",
        {"if-modified-since": "Tue, 14 Nov 2023 22:13:20 GMT"},
        None,
    ),
    "a playlist": ("GET", "/vod/film.mp4/master.m3u8", {}, None),
    "a segment": ("GET", "/vod/film.mp4/v1/0.m4s", {}, None),
    "small pictures": ("GET", "/vod/film.mp4/thumbnails.vtt", {}, None),
    "the page": ("GET", "/", {}, None),
    "a list": ("GET", "/api/radio", {}, None),
    "the head of a list": ("HEAD", "/api/radio", {}, None),
    "a list for a strange host": ("GET", "/api/events", {"host": "evil.example"}, None),
    "an unknown address": ("GET", "/nothing", {}, None),
    "a preflight": (
        "OPTIONS",
        "/media/film.mp4",
        {"origin": "http://a", "access-control-request-method": "GET"},
        None,
    ),
    "a wrong token": ("POST", "/events/news", {"authorization": "Bearer x"}, b"hi"),
    "a file that is posted to": ("POST", "/media/film.mp4", {}, b"hello"),
    "a list that is posted to": ("POST", "/api/radio", {}, b"hello"),
}


@pytest.mark.parametrize("name", REQUESTS)
@pytest.mark.parametrize("wire", ["HTTP/1.1 with TLS", "HTTP/2 with TLS", "HTTP/2"])
def test_an_address_answers_as_with_one_process(one: Https, two: Https, name: str, wire: str) -> None:
    method, target, fields, body = REQUESTS[name]

    def shown(server: Https) -> tuple[int, list[tuple[str, str]], bytes]:
        with server.client(is_2="2" in wire, plain="TLS" not in wire) as client:
            answer = client.request(method, target, headers=fields, content=body)
            assert answer.http_version == wire.partition(" ")[0]
            kept = [(key, value) for key, value in answer.headers.multi_items() if key not in VARYING]
            return answer.status_code, sorted(kept), answer.content

    wanted = shown(one)
    for _ in range(2):
        assert shown(two) == wanted


@pytest.mark.parametrize("is_2", [False, True])
def test_a_body_of_unknown_length_is_relayed(two: Https, is_2: bool) -> None:
    with two.client(is_2=is_2) as client:
        before = client.get("/events/news?poll&since=0", headers={"accept": "application/json"})
        for _ in range(3):  # on one connection
            pieces = (piece for piece in (b"in ", b"three ", b"pieces"))
            answer = client.post("/events/news", headers=PUBLISH, content=pieces)
            assert answer.status_code == 200, answer.text
        assert client.get("/media/film.mp4", headers={"range": "bytes=0-9"}).status_code == 206
        assert before.status_code in (200, 204, 410, 400)


def test_a_long_body_waits_for_its_sign_and_is_refused_unsent(two: Https) -> None:
    with two.connection() as client:
        # RFC 9110 §10.1.1: who mayn't publish isn't asked for the body.
        head = b"POST /events/news HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900000\r\n"
        client.sendall(head + b"Authorization: Bearer x\r\nExpect: 100-continue\r\n\r\n")
        assert client.recv(1000).startswith(b"HTTP/1.1 401 ")
    with two.connection() as client:
        head = b"POST /events/news HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n"
        head += b"Content-Type: text/plain\r\nAuthorization: Bearer token\r\nExpect: 100-continue\r\n\r\n"
        client.sendall(head)
        assert client.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"hello")
        assert client.recv(1000).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("is_2", [False, True])
def test_a_relayed_stream_comes_as_it_is_made_and_ends_with_its_client(two: Https, is_2: bool) -> None:
    def opened() -> int:
        return sum(descriptors(pid) for pid in (two.server.process.pid, *workers_of(two.server)))

    with two.client(is_2=False) as publisher:
        assert publisher.post("/events/news", headers=PUBLISH, content=b"before").status_code == 200
        before = opened()
        client = two.client(is_2=is_2)
        # Several channels over one connection are the started process's.
        with client.stream("GET", "/events?channel=news") as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            lines = answer.iter_lines()
            next(lines)
            assert publisher.post("/events/news", headers=PUBLISH, content=b"meanwhile").status_code == 200
            assert any("meanwhile" in line for line in lines)
            client.close()
    wait_for(lambda: opened() <= before + 2, "the end of what was relayed")


@contextlib.contextmanager
def websocket(server: Https) -> Iterator[Callable[[], str]]:
    """Read a channel of a server's by WebSocket; gives what returns the next message.

    Not by the client with threads: it reads in one of them and writes in another, which Python's TLS isn't
    made for before 3.13. One request in a hundred was never sent.
    """
    url = server.url.replace("https:", "wss:") + "/events?channel=news"

    async def opened() -> ClientConnection:
        return await connect(url, ssl=careless(), open_timeout=CLIENT_SECONDS, proxy=None)

    async def received() -> str:
        async with asyncio.timeout(CLIENT_SECONDS):
            return str(await connection.recv())

    with asyncio.Runner() as runner:
        connection = runner.run(opened())
        yield lambda: runner.run(received())
        runner.run(connection.close())


def test_a_websocket_of_the_started_process_is_relayed(two: Https) -> None:
    with two.client(is_2=False) as publisher, websocket(two) as received:
        answer = publisher.post("/events/news", headers=PUBLISH, content=b"by a socket")
        assert answer.status_code == 200
        while "by a socket" not in received():
            pass


def ending(folder: Path, library: Path) -> tuple[ServerProcess, Https]:
    """Start a server with two workers, which drains until it is told to end a second time."""
    self_signed(folder)
    server = started(folder, library, 2, TLS.format(folder=folder), "[limits]\ndrain_seconds = 600\n")
    return server, Https(server)


def drain(server: ServerProcess) -> None:
    """Have all processes drain, as systemd does."""
    for pid in (server.process.pid, *workers_of(server)):
        os.kill(pid, signal.SIGTERM)
    head = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    wait_for(lambda: exchange(server, head).startswith(b"HTTP/1.1 503 "), "the answer that it isn't ready")


@pytest.mark.parametrize("is_2", [False, True])
def test_a_relayed_stream_goes_on_while_the_server_drains_and_comes_to_its_end_with_it(
    library: Path, tmp_path: Path, is_2: bool
) -> None:
    server, https = ending(tmp_path, library)

    def publish(text: str) -> None:
        with https.client(is_2=False) as publisher:
            answer = publisher.post("/events/news", headers=PUBLISH, content=text.encode())
            assert answer.status_code == 200

    version, read = "--http2" if is_2 else "--http1.1", tmp_path / "read"
    command = ("curl", "-sS", "-k", "-N", version, "-o", str(read), f"{https.url}/events?channel=news")
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as curl:
        wait_for(lambda: read.exists() and read.read_text(), "the answer's begin")
        publish("before")
        wait_for(lambda: "before" in read.read_text(), "the first event")
        drain(server)
        publish("meanwhile")
        wait_for(lambda: "meanwhile" in read.read_text(), "the event that comes meanwhile")
        server.process.send_signal(signal.SIGTERM)
        # RFC 9112 §8, RFC 9113 §8.1: an answer that is cut would be an error, such as 18 or 92.
        _, errors = curl.communicate(timeout=CLIENT_SECONDS)
        assert (curl.returncode, errors) == (0, "")
    assert server.process.wait(STOP_SECONDS) == 0


def test_a_relayed_websocket_goes_on_while_the_server_drains_and_is_closed_with_it(
    library: Path, tmp_path: Path
) -> None:
    server, https = ending(tmp_path, library)
    with websocket(https) as received:
        drain(server)
        with https.client(is_2=False) as publisher:
            answer = publisher.post("/events/news", headers=PUBLISH, content=b"meanwhile")
            assert answer.status_code == 200
        while "meanwhile" not in received():
            pass
        server.process.send_signal(signal.SIGTERM)
        with pytest.raises(ConnectionClosed) as end:
            _read_to_its_end(received)
        # IANA's registry of RFC 6455 §11.7: the service restarts.
        assert end.value.rcvd is not None
        assert end.value.rcvd.code == SERVICE_RESTART
    assert server.process.wait(STOP_SECONDS) == 0


def _read_to_its_end(received: Callable[[], str]) -> None:
    while True:
        received()


def test_all_workers_accept_encrypted_connections(two: Https) -> None:
    def in_workers() -> bool:
        with ThreadPoolExecutor(AT_ONCE) as threads:
            clients = list(threads.map(lambda _: two.connection(), range(AT_ONCE)))
        try:
            for client in clients:
                client.sendall(b"GET /media/film.mp4 HTTP/1.1\r\nHost: a\r\nRange: bytes=0-9\r\n\r\n")
                assert client.recv(2000).startswith(b"HTTP/1.1 206 ")
            name = 'headwater_worker_connections{worker="%d"}'
            found = [metric(two.server, name % number) for number in (1, 2)]
            assert sum(found) >= AT_ONCE
            return all(found)
        finally:
            for client in clients:
                client.close()

    wait_for(in_workers, "connections in each worker")


def test_the_client_of_a_relayed_request_is_known(library: Path, tmp_path: Path) -> None:
    self_signed(tmp_path)
    log = '\n[log]\nrequests = true\nformat = "json"\n'
    server = started(tmp_path, library, 2, TLS.format(folder=tmp_path) + log)
    try:
        with Https(server).client(is_2=True) as client:
            assert client.get("/api/radio?relayed").status_code == 200

        def logged() -> list[dict[str, object]]:
            lines = [one for one in server.text().splitlines() if one.startswith("{")]
            return [one for one in map(json.loads, lines) if one.get("path") == "/api/radio"]

        (line,) = wait_for(logged, "the line about the request")
        assert (line["client"], line["status"]) == ("127.0.0.1", 200)
        # It is the started process's line, and the only one.
        assert "worker" not in line
    finally:
        assert server.stop() == 0


def ask_for_ten_bytes(client: ssl.SSLSocket) -> None:
    client.sendall(b"GET /media/film.mp4 HTTP/1.1\r\nHost: localhost\r\nRange: bytes=0-9\r\n\r\n")
    answer = b""
    while len(answer.partition(b"\r\n\r\n")[2]) < 10:
        piece = client.recv(2000)
        assert piece
        answer += piece
    assert answer.startswith(b"HTTP/1.1 206 ")


@pytest.mark.clause("A renewed certificate is served without a dropped connection")
def test_a_renewed_certificate_comes_to_all_workers_without_a_drop(library: Path, tmp_path: Path) -> None:
    self_signed(tmp_path)
    server = started(tmp_path, library, 2, TLS.format(folder=tmp_path))
    try:
        one = Https(server)
        first = one.fingerprint()
        kept = [one.connection() for _ in range(10)]
        self_signed(tmp_path)
        server.process.send_signal(signal.SIGHUP)
        with ThreadPoolExecutor(4) as threads:

            def is_renewed() -> bool:
                # Idle ones would be closed where the machine is slow.
                for client in kept:
                    ask_for_ten_bytes(client)
                found = set(threads.map(lambda _: one.fingerprint(), range(20)))
                return len(found) == 1 and first not in found

            wait_for(is_renewed, "the renewed certificate in all workers")
        for client in kept:
            ask_for_ten_bytes(client)
            client.close()
        # A worker that takes a dead one's place has the new one, too.
        one_of_them = workers_of(server)[0]
        os.kill(one_of_them, signal.SIGKILL)
        wait_for(lambda: one_of_them not in workers_of(server) and len(workers_of(server)) == 2, "a new one")
        assert all(one.fingerprint() != first for _ in range(20))
    finally:
        assert server.stop() == 0


def test_plain_http_leads_to_https_from_workers_too(library: Path, tmp_path: Path) -> None:
    self_signed(tmp_path)
    config = tmp_path / "headwater.toml"
    config.write_text("[server]\nworkers = 2\n" + TLS.format(folder=tmp_path) + "redirect = true\n")
    options = ("--config", str(config), "--library", str(library), "--port", "0")
    server = start_server(*options, program=program(Limits(server=PATIENT)))
    try:
        https = Https(server)
        with https.client(is_2=False) as client:
            wanted = {"1": "ready", "2": "ready"}
            wait_for(lambda: client.get("/health").json().get("workers") == wanted, "both workers")
        for target in ("/", "/media/film.mp4", "/vod/film.mp4/master.m3u8", "/api/radio"):
            answer = httpx.get(f"{server.url}{target}", timeout=CLIENT_SECONDS)
            assert (answer.status_code, answer.headers["location"]) == (308, f"{https.url}{target}")
    finally:
        assert server.stop() == 0
