"""HTTP/3 of hostile clients: each flood ends its own connection, and others are answered meanwhile."""

from __future__ import annotations

import random
import select
import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from aioquic._buffer import Buffer
from aioquic.h3.connection import FrameType, H3Connection, Setting, encode_frame
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet import QuicPacketType, pull_quic_header
from aioquic.quic.rangeset import RangeSet
from aioquic.quic.stream import QuicStream

from origin.http3.engines import FRAMES, FRAMES_OF_A_DATAGRAM
from origin.http3.idle_datagrams import DATAGRAMS
from origin.http3.listener import RETRY_HANDSHAKES
from origin.http_streams.connection import RESETS
from tests.conftest import ServerProcess
from tests.http3_client import Http3Connection, Http3Protocol, Http3Transport
from tests.origin.http3.server import head, https_of, readers, send_frames, started
from tests.patience import CLIENT_SECONDS
from tests.waiting import wait_for

EXCESSIVE_LOAD, MESSAGE_ERROR, FRAME_UNEXPECTED, FRAME_ERROR, ID_ERROR = 0x107, 0x10E, 0x105, 0x106, 0x108
INTERNAL_ERROR, STREAM_LIMIT_ERROR = 0x1, 0x4
"""RFC 9000 §20.1."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    server = started(tmp_path_factory.mktemp("hostile"), limits="header_seconds = 1")
    yield server
    assert get(server) == "short\n"
    server.stop()


def get(server: ServerProcess) -> str:
    """Fetch a file on a connection of its own."""
    with httpx.Client(transport=Http3Transport(), timeout=CLIENT_SECONDS) as client:
        return client.get(f"{https_of(server)}/media/short.txt").text


def status_at(connection: Http3Connection) -> bytes:
    """Fetch a file on a connection that may have done other things; return the status."""
    number = connection.call(connection.protocol.request, head("/media/short.txt"))
    answer = connection.protocol.answers[number].get(timeout=CLIENT_SECONDS)
    assert isinstance(answer, list)
    return answer[0][1]


@pytest.fixture
def connection(server: ServerProcess) -> Iterator[Http3Connection]:
    connection = Http3Connection(https_of(server))
    yield connection
    connection.close()


@pytest.fixture
def first_connection(tmp_path: Path) -> Iterator[Http3Connection]:
    """A connection to a server of its own, on which no client has flooded."""
    server = started(tmp_path)
    connection = Http3Connection(https_of(server))
    yield connection
    connection.close()
    server.stop()


def ended(connection: Http3Connection) -> int:
    """Return the code by which the server has ended the connection."""
    wait_for(lambda: connection.protocol.end is not None, "the connection's end")
    assert connection.protocol.end is not None
    return int(connection.protocol.end.error_code)


def send(connection: Http3Connection, number: int, data: bytes, *, ends: bool = False) -> None:
    """Send bytes on a stream, whatever they are."""

    def run() -> None:
        connection.protocol.quic.send_stream_data(number, data, ends)
        connection.protocol.transmit()

    connection.call(run)


@pytest.mark.clause("CVE-2023-44487")
def test_requests_that_are_cancelled_at_once(server: ServerProcess, connection: Http3Connection) -> None:
    protocol = connection.protocol

    def ask_and_cancel() -> bool:
        while protocol.quic.get_next_available_stream_id() < 4 * protocol.quic._remote_max_streams_bidi:
            protocol.cancel(protocol.request(head("/events/news")))
        return protocol.end is not None

    wait_for(lambda: connection.call(ask_and_cancel), "the connection's end")
    assert ended(connection) == EXCESSIVE_LOAD
    wait_for(lambda: readers(server) == 0, "the end of all readers")


def _is_open(stream: QuicStream) -> bool:
    return not stream.is_blocked


def test_a_player_that_seeks_is_no_flood(first_connection: Http3Connection) -> None:
    protocol = first_connection.protocol
    for _ in range(150):
        number = first_connection.call(protocol.request, head("/events/news"))
        # A stream beyond those that the server allows can't be cancelled before it allows it.
        stream = protocol.quic._streams[number]
        wait_for(partial(_is_open, stream), "the stream")
        first_connection.call(protocol.cancel, number)
    assert status_at(first_connection) == b"200"


def test_a_head_that_is_too_long_or_never_ends(connection: Http3Connection) -> None:
    number = connection.protocol.quic.get_next_available_stream_id()
    send(connection, number, b"\x01\x80\x01\x00\x00" + bytes(100))
    assert ended(connection) == EXCESSIVE_LOAD


def test_a_table_that_the_server_has_not_allowed(connection: Http3Connection) -> None:
    """QPACK's table is what bombs of header fields are made with; the server has none."""
    settings = connection.protocol.http.received_settings or {}
    assert settings[Setting.QPACK_MAX_TABLE_CAPACITY] == 0
    # RFC 9204 §4.3: a capacity of 220 bytes, and a field for the table.
    encoder = connection.protocol.http._local_encoder_stream_id
    assert encoder is not None
    send(connection, encoder, b"\x3f\xbd\x01\xc0\x01a")
    assert ended(connection) == 0x201


def test_settings_that_are_too_long(server: ServerProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    many = {0x1000 + number: 1 for number in range(200)}
    monkeypatch.setattr(H3Connection, "_get_local_settings", lambda _: many)
    connection = Http3Connection(https_of(server))
    assert ended(connection) == EXCESSIVE_LOAD
    connection.close()


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (encode_frame(FrameType.DATA, b"before a head"), FRAME_UNEXPECTED),
        (encode_frame(FrameType.SETTINGS, b""), FRAME_UNEXPECTED),
        (encode_frame(FrameType.PUSH_PROMISE, b"\x00"), FRAME_UNEXPECTED),
        (encode_frame(0xF0700, b"\x00u=1"), FRAME_UNEXPECTED),
        (encode_frame(FrameType.HEADERS, b"\x00\x00\xd1"), MESSAGE_ERROR),
        (encode_frame(FrameType.HEADERS, b"\xff\xff\xff\xff\xff"), 0x200),
    ],
    ids=["data first", "settings", "push", "priority", "no authority", "no head"],
)
def test_frames_that_break_the_rules(connection: Http3Connection, data: bytes, code: int) -> None:
    send(connection, connection.protocol.quic.get_next_available_stream_id(), data)
    assert ended(connection) == code


@pytest.mark.clause("RFC 9218 §7.2")
@pytest.mark.parametrize(
    ("data", "code"),
    [
        (encode_frame(0xF0700, b""), FRAME_ERROR),
        (encode_frame(0xF0700, b"\x02u=1"), ID_ERROR),
        (encode_frame(0xF0700, b"\x80\x10\x00\x00u=1"), ID_ERROR),
        (encode_frame(0xF0701, b"\x00u=1"), ID_ERROR),
        (encode_frame(0xF0700, b"\x00u=1") * 5_000, EXCESSIVE_LOAD),
    ],
    ids=["of nothing", "of no request", "beyond all requests", "of a push", "flood"],
)
def test_priorities_that_break_the_rules(connection: Http3Connection, data: bytes, code: int) -> None:
    control = connection.protocol.http._local_control_stream_id
    assert control is not None
    send(connection, control, data)
    assert ended(connection) == code


def test_a_priority_that_is_too_long_is_skipped(connection: Http3Connection) -> None:
    control = connection.protocol.http._local_control_stream_id
    assert control is not None
    send(connection, control, encode_frame(0xF0700, bytes(100_000)) + encode_frame(0xF0700, b"\x02u=1"))
    assert ended(connection) == ID_ERROR


@pytest.mark.parametrize("start", [b"\x06", b"\x0e\x00"], ids=["CRYPTO", "STREAM"])
def test_streams_that_come_in_shreds(connection: Http3Connection, start: bytes) -> None:
    """Every second byte of a stream: the library looks at each piece when another one comes."""
    # RFC 9000 §16: two bytes hold an offset or a length.
    pieces = [start + (offset | 0x4000).to_bytes(2) + b"\x40\x01x" for offset in range(1, 801, 2)]
    send_frames(connection, pieces)
    assert ended(connection) == INTERNAL_ERROR


@pytest.mark.parametrize("kind", [b"\x01", b"\x1a" + bytes(8), b"\x10\x80\x10\x00\x00", b"\x0e\x00\x00\x00"])
def test_a_flood_of_frames_that_carry_nothing(
    server: ServerProcess, connection: Http3Connection, kind: bytes
) -> None:
    """Of PING, PATH_CHALLENGE, MAX_DATA and an empty STREAM frame (RFC 9000 §19)."""
    send_frames(connection, [kind] * 2 * FRAMES)
    assert ended(connection) == EXCESSIVE_LOAD
    assert get(server) == "short\n"


def test_some_small_frames_are_no_flood(connection: Http3Connection) -> None:
    send_frames(connection, [b"\x01"] * (FRAMES // 2))
    assert status_at(connection) == b"200"


@pytest.mark.parametrize("kind", [b"\x01", b"\x10\x80\x10\x00\x00", b"\x0e\x00\x00\x00"])
def test_datagrams_that_bring_nothing_are_lost_unread(
    first_connection: Http3Connection, kind: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has a few PING, MAX_DATA or empty STREAM frames; packets that are read are confirmed."""
    recovery, confirmed = first_connection.protocol.quic._loss, set[int]()
    note = recovery.on_ack_received

    def on_ack_received(*, ack_rangeset: RangeSet, **rest: Any) -> None:
        confirmed.update(number for one in ack_rangeset for number in one)
        note(ack_rangeset=ack_rangeset, **rest)

    monkeypatch.setattr(recovery, "on_ack_received", on_ack_received)
    for _ in range(30):
        send_frames(first_connection, [kind] * FRAMES_OF_A_DATAGRAM * 100, FRAMES_OF_A_DATAGRAM)
    wait_for(lambda: len(confirmed) >= DATAGRAMS, "the first ones' confirmation")
    assert len(confirmed) < 1_500


def test_a_client_that_has_flooded_begins_few_connections_and_others_go_on(tmp_path: Path) -> None:
    """Its next connections are begun one after the other, and a tenth is allowed on each at once."""
    server = started(tmp_path)
    player = Http3Connection(https_of(server))
    flooder = Http3Connection(https_of(server))
    send_frames(flooder, [b"\x01"] * 2 * FRAMES)
    assert ended(flooder) == EXCESSIVE_LOAD
    # On a slow machine all this takes longer than a connection may be idle.
    assert status_at(player) == b"200"
    again = Http3Connection(https_of(server))
    again.call(ask_and_cancel, again.protocol, RESETS // 2)
    assert ended(again) == EXCESSIVE_LOAD
    assert status_at(player) == b"200"
    player.call(ask_and_cancel, player.protocol, RESETS // 2)
    assert status_at(player) == b"200"
    for one in (player, flooder, again):
        one.close()
    server.stop()


def ask_and_cancel(protocol: Http3Protocol, count: int) -> None:
    """Send requests that are taken back at once."""
    for _ in range(count):
        protocol.cancel(protocol.request(head("/events/news")))


def test_more_streams_than_are_allowed(connection: Http3Connection) -> None:
    quic = connection.protocol.quic

    def open_many() -> None:
        quic._remote_max_streams_uni = 1000
        for _ in range(20):
            quic.send_stream_data(quic.get_next_available_stream_id(is_unidirectional=True), b"\x21")
        connection.protocol.transmit()

    connection.call(open_many)
    assert ended(connection) == STREAM_LIMIT_ERROR


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ([*head("media")], b"400"),
        ([*head("/ a")], b"400"),
        ([*head("/", "G T")], b"400"),
        ([*head("/" + "x" * 9_000)], b"414"),
        ([*head("/"), *((b"a", b"b"),) * 200], b"431"),
        ([(b":method", b"CONNECT"), (b":authority", b"a:1")], b"501"),
        ([*head("/"), (b"host", b"another.example")], b"400"),
        ([*head("/"), (b"host", b"127.0.0.1"), (b"host", b"127.0.0.1")], b"400"),
        ([*head("/"), (b"a", b"b\x01")], b"400"),
        ([*head("/"), (b"a", b"b\x7f")], b"400"),
        ([*head("/"), (b"a(b", b"c")], b"400"),
        ([*head("/"), (b"content-length", b"0_0")], b"400"),
        ([*head("/"), (b"content-length", b"+0")], b"400"),
        ([*head("/"), *((b"content-length", b"0"),) * 2], b"400"),
        ([*head("/"), (b"content-length", b"0" * 4_000)], b"400"),
    ],
)
def test_requests_that_are_refused(
    connection: Http3Connection, fields: list[tuple[bytes, bytes]], status: bytes
) -> None:
    number = connection.call(connection.protocol.request, fields)
    answer = connection.protocol.answers[number].get(timeout=CLIENT_SECONDS)
    assert isinstance(answer, list)
    assert answer[0] == (b":status", status)


def test_a_connection_without_requests_ends(connection: Http3Connection) -> None:
    # RFC 9114 §8.1: H3_NO_ERROR.
    assert ended(connection) == 0x100


def test_one_address_has_as_many_connections_as_it_may(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("few")
    server = started(folder, limits="connections_per_address = 2")
    try:
        connections = [Http3Connection(https_of(server)) for _ in range(3)]
        assert [status_at(one) for one in connections] == [b"200", b"200", b"429"]
        for one in connections:
            one.close()
        wait_for(lambda: get(server) == "short\n", "room for another connection")
    finally:
        server.stop()


# Datagrams


@pytest.fixture
def datagrams(server: ServerProcess) -> Iterator[socket.socket]:
    port = int(https_of(server).rpartition(":")[2])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", port))
        yield sock


def initial() -> bytes:
    """Return the first datagram of a client."""
    quic = QuicConnection(configuration=QuicConfiguration(alpn_protocols=["h3"]))
    quic.connect(("127.0.0.1", 1), 0.0)
    return quic.datagrams_to_send(0.0)[0][0]


def received(sock: socket.socket) -> Iterator[bytes]:
    """Yield what has come, and what comes until nothing more does."""
    while select.select([sock], [], [], 1)[0]:
        yield sock.recv(65_535)


@pytest.mark.clause("RFC 9000 §8.1")
def test_no_more_is_sent_to_an_address_than_three_times_what_came(
    server: ServerProcess, datagrams: socket.socket
) -> None:
    """Until the client proves that it gets it; the server repeats what isn't confirmed, but not beyond."""
    sent = initial()
    datagrams.send(sent)
    count = sum(len(data) for data in received(datagrams))
    assert 0 < count <= 3 * len(sent)


@pytest.mark.clause("RFC 9000 §8.1.2")
def test_addresses_are_proved_when_many_shake_hands(server: ServerProcess, datagrams: socket.socket) -> None:
    def kinds() -> set[QuicPacketType]:
        for _ in range(RETRY_HANDSHAKES + 20):
            datagrams.send(initial())
        return {pull_quic_header(Buffer(data=data), 8).packet_type for data in received(datagrams)}

    # A busy server may lose datagrams, or answer them when earlier handshakes have been given up.
    wait_for(lambda: QuicPacketType.RETRY in kinds(), "a server that wants a proof")
    # Whoever gets a token comes in with it.
    assert get(server) == "short\n"


def test_a_forged_token_is_no_proof(server: ServerProcess) -> None:
    connection = Http3Connection(https_of(server), token=b"forged" * 8)
    assert status_at(connection) == b"200"
    connection.close()


@pytest.mark.clause("RFC 9000 §6")
def test_versions_are_negotiated_once(datagrams: socket.socket) -> None:
    unknown = initial()
    unknown = unknown[:1] + b"\x0a\x0a\x0a\x0a" + unknown[5:]
    # Too short ones could make the server send more than came.
    datagrams.send(unknown[:1199])
    datagrams.send(unknown[:1] + bytes(4) + unknown[5:])
    datagrams.send(unknown)
    (answer,) = received(datagrams)
    assert answer[1:5] == bytes(4)
    assert (1).to_bytes(4) in answer


def test_noise_harms_nobody(server: ServerProcess, datagrams: socket.socket) -> None:
    rng = random.Random(7)
    first = initial()
    for _ in range(2_000):
        noise = bytearray(rng.choice((rng.randbytes(rng.randrange(1, 1500)), first)))
        for _ in range(rng.randrange(4)):
            noise[rng.randrange(len(noise))] = rng.randrange(256)
        datagrams.send(noise)
    assert get(server) == "short\n"
