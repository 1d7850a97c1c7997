"""How many handshakes a listener of QUIC has under way, of one client and of all."""

from __future__ import annotations

import asyncio
import math
import os
import socket
from collections.abc import AsyncIterator

import pytest
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection

from origin.http3.listener import (
    HANDSHAKES,
    HANDSHAKES_OF_A_CLIENT,
    RETRY_HANDSHAKES,
    WAITING_RUNS,
    Http3Listener,
)
from tests.fuzzing.http3 import certificates, protocol

SERVED = certificates()


@pytest.fixture
async def listener() -> AsyncIterator[Http3Listener]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        listener = Http3Listener(sock, SERVED, lambda: protocol()[0])
        listener._send_on = lambda: True  # type: ignore[method-assign]
        yield listener
        for connection in list(listener._ids):
            connection.abort()
        assert (listener._by_id, listener._handshakes, dict(listener._shaking)) == ({}, {}, {})


async def begin(listener: Http3Listener, host: str, *, is_proved: bool) -> None:
    """Begin a handshake, with a token of the listener's if the address is proved."""
    address = (host, 4433)
    quic = QuicConnection(configuration=QuicConfiguration(alpn_protocols=["h3"]))
    if is_proved:
        quic._peer_token = listener._tokens.create_token(
            address=address,
            original_destination_connection_id=os.urandom(8),
            retry_source_connection_id=quic.original_destination_connection_id,
            now=asyncio.get_running_loop().time(),
        )
    quic.connect(("127.0.0.1", 1), 0.0)
    ((datagram, _),) = quic.datagrams_to_send(0.0)
    listener._handle_datagram(datagram, address)
    # A turn for each, as on a real socket.
    await asyncio.sleep(0)


@pytest.mark.clause("RFC 9000 §8.1.2")
async def test_beyond_some_handshakes_an_address_has_to_be_proved(listener: Http3Listener) -> None:
    for number in range(RETRY_HANDSHAKES + 5):
        await begin(listener, f"192.0.2.{number}", is_proved=False)
    assert len(listener._handshakes) == RETRY_HANDSHAKES
    await begin(listener, "192.0.2.1", is_proved=True)
    assert len(listener._handshakes) == RETRY_HANDSHAKES + 1


@pytest.mark.realtime  # The first handshakes must not be over, by their limit of time, before the last begin.
@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8:1:2:{number:x}::"])
async def test_one_client_cannot_have_all_handshakes(listener: Http3Listener, host: str) -> None:
    for number in range(HANDSHAKES_OF_A_CLIENT + 5):
        await begin(listener, host.format(number=number), is_proved=True)
    assert len(listener._handshakes) == HANDSHAKES_OF_A_CLIENT
    for number in range(HANDSHAKES):
        await begin(listener, f"198.51.100.{number}", is_proved=True)
    assert len(listener._handshakes) == HANDSHAKES


async def test_clients_that_have_flooded_begin_one_connection_at_a_time(listener: Http3Listener) -> None:
    listener._turns.suspect("192.0.2.1")
    now = asyncio.get_running_loop().time()
    await begin(listener, "192.0.2.1", is_proved=False)
    assert listener._suspects_turn > now
    # However slow this machine is.
    listener._suspects_turn = math.inf
    for _ in range(5):
        await begin(listener, "192.0.2.1", is_proved=False)
    assert len(listener._handshakes) == 1
    await begin(listener, "198.51.100.1", is_proved=False)
    assert len(listener._handshakes) == 2


async def test_a_suspect_that_has_to_prove_its_address_keeps_its_turn(
    listener: Http3Listener,
) -> None:
    for number in range(RETRY_HANDSHAKES):
        await begin(listener, f"198.51.100.{number}", is_proved=False)
    listener._turns.suspect("192.0.2.1")
    await begin(listener, "192.0.2.1", is_proved=False)
    assert len(listener._handshakes) == RETRY_HANDSHAKES
    await begin(listener, "192.0.2.1", is_proved=True)
    assert len(listener._handshakes) == RETRY_HANDSHAKES + 1


async def test_a_token_of_another_address_proves_nothing(listener: Http3Listener) -> None:
    for number in range(RETRY_HANDSHAKES):
        await begin(listener, f"192.0.2.{number}", is_proved=False)
    stolen = listener._tokens.create_token(
        address=("192.0.2.1", 4433),
        original_destination_connection_id=bytes(8),
        retry_source_connection_id=bytes(8),
        now=asyncio.get_running_loop().time(),
    )
    configuration = QuicConfiguration(alpn_protocols=["h3"], token=stolen)
    quic = QuicConnection(configuration=configuration)
    quic.connect(("127.0.0.1", 1), 0.0)
    ((datagram, _),) = quic.datagrams_to_send(0.0)
    listener._handle_datagram(datagram, ("203.0.113.9", 4433))
    assert len(listener._handshakes) == RETRY_HANDSHAKES


async def test_answers_that_the_kernel_does_not_take_are_dropped_beyond_a_number(
    listener: Http3Listener,
) -> None:
    address = ("192.0.2.1", 4433)
    for _ in range(WAITING_RUNS + 5):
        listener._send([(b"x", address)])
    assert len(listener._unsent) == WAITING_RUNS
