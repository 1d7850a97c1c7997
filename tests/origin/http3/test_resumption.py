"""Clients of QUIC that come back: with a session of before, or to a server that has forgotten them."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from aioquic.asyncio.client import connect
from aioquic.h3.connection import H3_ALPN
from aioquic.quic.configuration import QuicConfiguration
from aioquic.tls import CipherSuite, SessionTicket

from origin.http3.listener import Http3Listener
from origin.http3.session_tickets import TICKET_SECONDS, TICKETS, SessionTickets
from origin.http3.stateless_reset import (
    LEAST_BYTES,
    RESETS,
    TOKEN_BYTES,
    StatelessResets,
    reset_key,
)
from origin.tls.self_signed import make_certificate
from packager.safe_files import DataFolder
from tests.conftest import ServerProcess, start_server
from tests.fuzzing.http3 import certificates, protocol
from tests.http3_client import Http3Protocol
from tests.origin.http3.server import head, https_of, started
from tests.patience import CLIENT_SECONDS
from tests.ports import kept_port
from tests.waiting import until

SERVED = certificates()
ADDRESS = ("192.0.2.1", 4433)
ALL_EARLY = 0xFFFFFFFF
"""RFC 9001 §4.6.1: the only size of early data that QUIC knows."""


def session(number: int) -> SessionTicket:
    now = datetime.now(UTC)
    return SessionTicket(
        age_add=0,
        cipher_suite=CipherSuite.AES_128_GCM_SHA256,
        not_valid_after=now + timedelta(days=1),
        not_valid_before=now,
        resumption_secret=bytes(32),
        server_name="",
        ticket=number.to_bytes(64),
    )


def test_the_newest_sessions_are_kept_for_a_time() -> None:
    now = 0.0
    tickets, certificate = SessionTickets(lambda: now), object()
    for number in range(TICKETS + 10):
        tickets.keep(session(number), certificate)
    assert len(tickets) == TICKETS
    assert tickets.find(session(9).ticket, certificate) is None
    kept = tickets.find(session(10).ticket, certificate)
    assert kept is not None
    assert kept.ticket == session(10).ticket
    # Behind another certificate, the client has to see it.
    assert tickets.find(session(10).ticket, object()) is None
    now = TICKET_SECONDS
    assert tickets.find(session(10).ticket, certificate) is None
    tickets.keep(session(0), certificate)
    assert len(tickets) == 1


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    one = started(tmp_path_factory.mktemp("resumed"))
    yield one
    assert one.stop() == 0


@asynccontextmanager
async def connected(
    server: ServerProcess, ticket: SessionTicket | None = None, name: str = "localhost"
) -> AsyncIterator[tuple[Http3Protocol, list[SessionTicket]]]:
    """Connect, and return the connection with the tickets that come on it."""
    tickets: list[SessionTicket] = []
    configuration = QuicConfiguration(
        alpn_protocols=H3_ALPN, server_name=name, verify_mode=0, session_ticket=ticket
    )
    port = urlsplit(https_of(server)).port or 0
    async with connect(
        "127.0.0.1",
        port,
        configuration=configuration,
        create_protocol=Http3Protocol,
        session_ticket_handler=tickets.append,
    ) as one:
        assert isinstance(one, Http3Protocol)
        yield one, tickets


async def has_answered(one: Http3Protocol) -> None:
    """Ask for a short file, and wait until all of it is there."""
    number = one.request(head("/media/short.txt"))
    await until(lambda: number in one.complete, "the answer")
    found = one.answers[number]
    assert dict(found.get())[b":status"] == b"200"  # type: ignore[arg-type]
    assert found.get() == b"short\n"


@pytest.mark.clause("RFC 8446 §2.2")
async def test_a_client_that_comes_back_resumes_its_session(server: ServerProcess) -> None:
    async with connected(server) as (one, tickets):
        await has_answered(one)
        assert not one.quic.tls.session_resumed
        await until(lambda: tickets, "a ticket")
    # RFC 8446 §4.2.10: no early data is invited.
    assert tickets[0].max_early_data_size is None
    async with connected(server, tickets[0]) as (again, _):
        assert again.quic.tls.session_resumed
        await has_answered(again)


@pytest.mark.clause("RFC 8446 §8")
async def test_early_data_are_not_read_before_the_handshakes_end(server: ServerProcess) -> None:
    async with connected(server) as (_, tickets):
        await until(lambda: tickets, "a ticket")
    # A client that sends them all the same.
    tickets[0].max_early_data_size = ALL_EARLY
    async with connected(server, tickets[0]) as (eager, _):
        assert not eager.quic.tls.early_data_accepted
        assert not eager.quic.tls.session_resumed
        await has_answered(eager)


async def test_a_session_isnt_resumed_behind_a_renewed_certificate(tmp_path: Path) -> None:
    both = tmp_path / "both.pem"
    both.write_bytes(make_certificate(["localhost"]))
    one = started(tmp_path, certificate=str(both))
    try:
        async with connected(one) as (_, tickets):
            await until(lambda: tickets, "a ticket")
        both.write_bytes(make_certificate(["localhost"]))
        one.process.send_signal(signal.SIGHUP)
        await until(lambda: "certificates read again" in one.text(), "the renewed certificate")
        async with connected(one, tickets[0]) as (client, _):
            assert not client.quic.tls.session_resumed
            await has_answered(client)
    finally:
        assert one.stop() == 0


@pytest.fixture
async def sent() -> AsyncIterator[tuple[Http3Listener, list[bytes]]]:
    """A listener, and the datagrams that it sends."""
    found: list[bytes] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        listener = Http3Listener(sock, SERVED, lambda: protocol()[0])

        def send(datagrams: list[tuple[bytes, object]]) -> bool:
            found.extend(data for data, _ in datagrams)
            return True

        listener._send = send  # type: ignore[method-assign]
        yield listener, found


@pytest.mark.clause("RFC 9000 §10.3")
@pytest.mark.parametrize("size", [9, 21, 22, 40, 43, 44, 1200])
async def test_a_datagram_of_no_connection_is_answered_by_a_shorter_one(
    sent: tuple[Http3Listener, list[bytes]], size: int
) -> None:
    listener, found = sent
    connection_id = bytes(range(8))
    listener._handle_datagram(b"\x40" + connection_id + bytes(size - 9), ADDRESS)
    if size <= LEAST_BYTES:
        assert found == []
        return
    (answer,) = found
    # §10.3.3: one byte shorter at least, so that two servers come to an end.
    assert LEAST_BYTES <= len(answer) < size
    assert len(answer) == min(size - 1, 43)
    # §17.3.1: a short header with its fixed bit.
    assert answer[0] & 0xC0 == 0x40
    token = StatelessResets(SERVED.reset_key, listener._socket.getsockname()[1]).token(connection_id)
    assert answer[-TOKEN_BYTES:] == token
    # What such an answer brings about ends: each is shorter than the one before.
    for _ in range(43):
        listener._handle_datagram(found[-1], ADDRESS)
    assert len(found[-1]) == LEAST_BYTES


async def test_no_more_such_answers_are_sent_than_a_number(sent: tuple[Http3Listener, list[bytes]]) -> None:
    listener, found = sent
    listener._resets._allowed._clock = lambda: listener._resets._allowed._since  # time stands still
    for number in range(3 * RESETS):
        listener._handle_datagram(b"\x40" + number.to_bytes(8) + bytes(100), ADDRESS)
    assert len(found) == RESETS


def test_a_token_is_of_one_key_one_port_and_one_connection(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "data")
    key = reset_key(folder)
    assert (len(key), reset_key(folder)) == (32, key)
    assert (tmp_path / "data" / "quic-reset.key").stat().st_mode & 0o077 == 0
    assert reset_key(None) != key
    tokens = {
        StatelessResets(one, port).token(connection_id)
        for one in (key, bytes(32))
        for port in (443, 8443)
        for connection_id in (bytes(8), b"another1")
    }
    assert len(tokens) == 8


@pytest.mark.clause("RFC 9000 §10.3")
async def test_clients_learn_of_a_crash_from_the_next_server(tmp_path: Path) -> None:
    with kept_port() as port:
        data = f'data = "{tmp_path / "data"}"'
        folder = tmp_path / "first"
        folder.mkdir()
        first = started(folder, server=data)
        config = folder / "headwater.toml"
        before = '"self-signed"\nport = '
        config.write_text(config.read_text().replace(f"{before}0", f"{before}{port}"))
        assert first.stop() == 0
        first = start_server("--config", "headwater.toml", "--library", "library", cwd=folder)
        async with connected(first) as (client, _):
            await has_answered(client)
            # The tokens that the server has named, as the client keeps them.
            known = [client.quic._peer_cid, *client.quic._peer_cid_available]
            tokens = {one.stateless_reset_token for one in known}
            assert len(tokens) == len(known) > 1
            came: list[bytes] = []
            receive = client.datagram_received

            def note(data: bytes | str, address: tuple[str, int]) -> None:
                assert isinstance(data, bytes)
                came.append(data)
                receive(data, address)

            client.datagram_received = note  # type: ignore[method-assign,assignment]
            first.process.kill()
            await asyncio.to_thread(first.process.wait, CLIENT_SECONDS)
            second = start_server("--config", "headwater.toml", "--library", "library", cwd=folder)
            try:

                def is_told() -> bool:
                    client._quic.send_ping(1)
                    client.transmit()
                    return any(data[-TOKEN_BYTES:] in tokens for data in came)

                await until(is_told, "a stateless reset")
            finally:
                assert second.stop() == 0
