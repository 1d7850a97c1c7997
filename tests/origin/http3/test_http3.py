"""HTTP/3 as clients use it: streams side by side, windows, priorities, bodies, WebSocket, and the end."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from cryptography import x509

from origin.http1 import websocket
from origin.tls.self_signed import make_certificate
from tests.conftest import ServerProcess
from tests.fork_server import HEADWATER
from tests.http3_client import Http3Connection, Http3Transport
from tests.origin.http3.server import TOKEN, big, head, https_of, readers, started
from tests.patience import CLIENT_SECONDS
from tests.ports import kept_port
from tests.waiting import wait_for


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    server = started(tmp_path_factory.mktemp("http3"))
    yield server
    server.stop()


@pytest.fixture
def client(server: ServerProcess) -> Iterator[httpx.Client]:
    with httpx.Client(
        transport=Http3Transport(), base_url=https_of(server), timeout=CLIENT_SECONDS
    ) as client:
        yield client


def connection_of(client: httpx.Client) -> Http3Connection:
    transport = client._transport
    assert isinstance(transport, Http3Transport)
    return transport.connection(str(client.base_url))


@pytest.mark.promise("tls.http3")
@pytest.mark.clause("RFC 7838 §3")
def test_https_leads_to_http_3(server: ServerProcess) -> None:
    port = https_of(server).rpartition(":")[2]
    wait_for(lambda: f"HTTP/3 is at UDP port {port}" in server.text(), "the line of the start")
    for is_2 in (False, True):
        with httpx.Client(verify=False, http2=is_2) as client:
            for path in ("/media/short.txt", "/", "/media/short.txt"):
                answer = client.get(f"{https_of(server)}{path}")
                assert answer.headers["alt-svc"] == f'h3=":{port}"; ma=86400'
    # A proxy in front of the plain port has wires of its own.
    for path in ("/media/short.txt", "/"):
        assert "alt-svc" not in httpx.get(f"{server.url}{path}").headers


def test_a_hundred_readers_and_a_download_share_a_connection(
    server: ServerProcess, client: httpx.Client
) -> None:
    with ThreadPoolExecutor(101) as threads:

        def read() -> str:
            with client.stream("GET", "/events/news", headers={"accept": "application/x-ndjson"}) as answer:
                return next(line for line in answer.iter_lines() if "to all" in line)

        reading = [threads.submit(read) for _ in range(100)]
        wait_for(lambda: readers(server) == 100, "all readers")
        assert client.get("/media/big.bin").content == big()
        assert client.get("/api/library").status_code == 200
        published = client.post(
            "/events/news", json={"data": "to all"}, headers={"authorization": f"Bearer {TOKEN}"}
        )
        assert published.status_code == 200
        assert all("to all" in one.result(CLIENT_SECONDS) for one in reading)
    wait_for(lambda: readers(server) == 0, "the end of all readers")


@pytest.mark.clause("RFC 9218 §4")
def test_what_is_urgent_goes_before_a_download(server: ServerProcess) -> None:
    """The client takes few bytes at first, so that all requests are there before the rest is sent."""
    connection = Http3Connection(https_of(server), max_data=200_000)
    protocol = connection.protocol
    try:

        def ask() -> list[int]:
            wanted = [("/media/big.bin", b"u=3"), ("/media/big.bin", b"u=7")]
            wanted += [("/media/short.txt", b"u=1"), ("/api/library", b"u=3, i")]
            return [protocol.request([*head(path), (b"priority", value)]) for path, value in wanted]

        big_one, late, *early = connection.call(ask)
        wait_for(lambda: len(protocol.complete) == 4, "all answers")
        assert set(protocol.complete[:2]) == set(early)
        assert protocol.complete[2:] == [big_one, late]
    finally:
        connection.close()


@pytest.mark.clause("RFC 9218 §7.2")
@pytest.mark.parametrize("is_early", [False, True], ids=["behind", "before"])
def test_a_priority_is_changed_by_a_frame(server: ServerProcess, is_early: bool) -> None:
    """The frame comes behind the request or before it, and all of them before most of the answers."""
    connection = Http3Connection(https_of(server), max_data=200_000)
    protocol = connection.protocol

    def ask() -> None:
        if is_early:
            protocol.change_priority(4, b"u=0")
        for number in (0, 4):
            assert protocol.request(head("/media/big.bin")) == number
        if not is_early:
            protocol.change_priority(4, b"u=0")

    try:
        connection.call(ask)
        wait_for(lambda: len(protocol.complete) == 2, "both answers")
        assert protocol.complete == [4, 0]
    finally:
        connection.close()


def test_a_body_is_read_within_the_windows(server: ServerProcess, client: httpx.Client) -> None:
    fields = {"authorization": f"Bearer {TOKEN}"}
    # Together far more than what may be unread on a connection.
    for _ in range(40):
        published = client.post("/events/news", json={"data": "x" * 60_000}, headers=fields)
        assert published.status_code == 200
    wrong = {"authorization": "Bearer a-key-that-is-wrong"}
    refused = client.post("/events/news", content=b"{}", headers=wrong)
    assert refused.status_code == 401


def test_a_body_that_nobody_reads_stops_at_its_window(server: ServerProcess, client: httpx.Client) -> None:
    connection = connection_of(client)
    protocol = connection.protocol
    fields = [*head("/events/news", "POST"), (b"authorization", b"Bearer a-key-that-is-wrong")]
    numbers = [connection.call(protocol.request, fields, bytes(400_000), ends=False) for _ in range(10)]
    for number in numbers:
        answer = protocol.answers[number].get(timeout=CLIENT_SECONDS)
        assert isinstance(answer, list)
        assert answer[0] == (b":status", b"401")
    # What the answered ones had sent takes no room from others.
    assert client.post("/events/news", content=bytes(300_000)).status_code == 401
    assert client.get("/media/short.txt").text == "short\n"


def test_trailers_behind_an_answer_are_no_request(server: ServerProcess, client: httpx.Client) -> None:
    connection = connection_of(client)
    protocol = connection.protocol

    def ask() -> int:
        number = protocol.request(head("/events/news", "POST"), b"{}", ends=False)
        # The server will want no more of the request, and the client sends it nevertheless.
        protocol.quic._streams[number].sender.reset = lambda error_code: None  # type: ignore[method-assign]
        return number

    number = connection.call(ask)
    answer = protocol.answers[number].get(timeout=CLIENT_SECONDS)
    assert isinstance(answer, list)
    while protocol.answers[number].get(timeout=CLIENT_SECONDS) is not None:
        pass

    def end() -> None:
        protocol.http.send_headers(number, [(b"x-end", b"1")], end_stream=True)
        protocol.transmit()

    connection.call(end)
    assert client.get("/media/short.txt").text == "short\n"
    assert "failed" not in server.text()


def test_a_body_that_does_not_come_is_answered(server: ServerProcess, client: httpx.Client) -> None:
    connection = connection_of(client)
    fields = [*head("/events/news", "POST"), (b"authorization", f"Bearer {TOKEN}".encode())]
    number = connection.call(connection.protocol.request, fields, ends=False)
    answer = connection.protocol.answers[number].get(timeout=CLIENT_SECONDS)
    assert isinstance(answer, list)
    assert answer[0] == (b":status", b"408")
    assert client.get("/media/short.txt").text == "short\n"


def test_a_stream_whose_window_stays_shut_ends_alone(server: ServerProcess) -> None:
    connection = Http3Connection(https_of(server), max_stream_data=40_000)
    protocol = connection.protocol
    try:
        # The client's library opens a window as bytes come; this one doesn't.
        connection.call(setattr, protocol.quic, "_write_stream_limits", lambda **_: None)
        number = connection.call(protocol.request, head("/media/big.bin"))
        found: object = b""
        while not isinstance(found, Exception):
            found = protocol.answers[number].get(timeout=CLIENT_SECONDS)
        # RFC 9114 §8.1: H3_REQUEST_CANCELLED.
        assert "0x10c" in str(found)
        other = connection.call(protocol.request, head("/media/short.txt"))
        assert isinstance(protocol.answers[other].get(timeout=CLIENT_SECONDS), list)
    finally:
        connection.close()


@pytest.mark.clause("RFC 8441 §4")
def test_a_websocket_is_opened_by_extended_connect(server: ServerProcess, client: httpx.Client) -> None:
    connection = connection_of(client)
    protocol = connection.protocol
    fields = [*head("/events/news", "CONNECT"), (b":protocol", b"websocket")]
    fields += [(b"sec-websocket-version", b"13"), (b"authorization", f"Bearer {TOKEN}".encode())]
    number = connection.call(protocol.request, fields, ends=False)
    answer = protocol.answers[number].get(timeout=CLIENT_SECONDS)
    assert isinstance(answer, list)
    assert answer[0] == (b":status", b"200")
    assert b"sec-websocket-accept" not in dict(answer)
    text, mask = json.dumps({"data": "by a socket"}).encode(), b"\x01\x02\x03\x04"
    frame = bytes((0x81, 0x80 | len(text))) + mask + websocket.unmasked(text, mask)

    def send(data: bytes, *, ends: bool) -> None:
        protocol.http.send_data(number, data, end_stream=ends)
        protocol.transmit()

    connection.call(send, frame, ends=False)
    body = b""
    while b"by a socket" not in body:
        found = protocol.answers[number].get(timeout=CLIENT_SECONDS)
        assert isinstance(found, bytes)
        body += found
    wait_for(lambda: readers(server) == 1, "a reader")
    connection.call(send, b"", ends=True)
    wait_for(lambda: readers(server) == 0, "the reader's end")


@pytest.mark.clause("RFC 9000 §9")
def test_a_client_that_changes_its_network_goes_on_reading(
    server: ServerProcess, client: httpx.Client
) -> None:
    connection = connection_of(client)
    protocol = connection.protocol

    async def move() -> int:
        """Use another port from now on, as a phone that leaves its network."""
        loop = asyncio.get_running_loop()
        before = protocol._transport
        sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind(("::", 0))
        transport, _ = await loop.create_datagram_endpoint(lambda: protocol, sock=sock)
        if before is not None:
            before.close()
        protocol.quic.change_connection_id()
        protocol.quic.send_ping(1)
        protocol.transmit()
        return int(transport.get_extra_info("sockname")[1])

    with client.stream("GET", "/media/big.bin") as answer:
        body = answer.iter_raw()
        found = next(body)
        assert connection.wait_for(move())
        found += b"".join(body)
    assert found == big()
    assert readers(server) == 0


def test_certificates_are_chosen_by_name(tmp_path: Path) -> None:
    (tmp_path / "certificates").mkdir()
    for name in ("first", "second"):
        certificate, begin, key = make_certificate([f"{name}.example"]).rpartition(b"-----BEGIN PRIV")
        (tmp_path / "certificates" / f"{name}.key").write_bytes(begin + key)
        (tmp_path / "certificates" / f"{name}.pem").write_bytes(certificate)
    server = started(tmp_path, certificate="certificates")
    try:
        for asked, served in (("first", "first"), ("second", "second"), ("third", "first")):
            connection = Http3Connection(https_of(server), server_name=f"{asked}.example")
            found = connection.protocol.quic.tls._peer_certificate
            connection.close()
            pem = (tmp_path / "certificates" / f"{served}.pem").read_bytes()
            assert found == x509.load_pem_x509_certificate(pem)
    finally:
        server.stop()


def test_the_servers_end_lets_a_download_end(tmp_path: Path) -> None:
    server = started(tmp_path, limits="shutdown_seconds = 60")
    try:
        with httpx.Client(transport=Http3Transport(), base_url=https_of(server)) as client:
            with client.stream("GET", "/media/big.bin") as answer:
                body = answer.iter_raw()
                found = next(body)
                server.process.send_signal(signal.SIGTERM)
                found += b"".join(body)
            assert found == big()
            assert server.process.wait(CLIENT_SECONDS) == 0
            end = connection_of_ended(client)
            # RFC 9114 §8.1: H3_NO_ERROR.
            assert end == 0x100
    finally:
        server.stop()


def connection_of_ended(client: httpx.Client) -> int:
    transport = client._transport
    assert isinstance(transport, Http3Transport)
    assert transport._connection is not None
    protocol = transport._connection.protocol
    wait_for(lambda: protocol.end is not None, "the connection's end")
    assert protocol.end is not None
    return protocol.end.error_code


def test_workers_leave_it_to_the_first_process(tmp_path: Path) -> None:
    server = started(tmp_path, server="workers = 2")
    try:
        with httpx.Client(transport=Http3Transport(), base_url=https_of(server)) as client:
            assert (
                client.get("/media/big.bin", headers={"range": "bytes=7-2000000"}).content
                == big()[7:2_000_001]
            )
    finally:
        server.stop()


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    (tmp_path / "library").mkdir()
    # The server takes the port for TCP first.
    with kept_port() as port, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", port))
        (tmp_path / "headwater.toml").write_text(
            f'[server]\nport = 0\n[tls]\ncertificate = "self-signed"\nport = {port}\nhttp3 = true\n'
        )
        done = subprocess.run(
            [HEADWATER, "serve", "--config", "headwater.toml", "--library", "library"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=CLIENT_SECONDS,
        )
        assert done.returncode != 0
        told = f"127.0.0.1:{port} (UDP): Address already in use; stop what uses it or set tls.http3 to false"
        assert told in done.stderr
