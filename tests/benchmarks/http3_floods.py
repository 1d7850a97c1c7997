"""Floods of HTTP/3: frames that carry nothing, requests that are taken back, handshakes that are left."""

from __future__ import annotations

import contextlib
import itertools
import os
import select
import socket
import ssl
import time
from collections.abc import Iterator

from aioquic.h3.connection import ErrorCode, H3Connection
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import HandshakeCompleted

from tests.benchmarks import peers
from tests.http3_client import frame_datagrams

BURST = 200
"""Datagrams that are made at a time."""

CONNECTION_SECONDS = 0.5
"""Time after which a client that floods comes with a new connection, as if it had been sent away."""

FRAMES = {
    "HTTP/3 PING": [b"\x01"],
    "HTTP/3 MAX_DATA": [b"\x10\x80\x10\x00\x00"],
    "HTTP/3 empty STREAM": [b"\x0e\x00\x00\x00"],
    "HTTP/3 PATH_CHALLENGE": [b"\x1a" + bytes(8)],
    "HTTP/3 eight PING": [b"\x01"] * 8,
    "HTTP/3 datagrams of PING": [b"\x01"] * 1100,
}
"""The frames of each datagram."""
RESETS, HANDSHAKES, NOISE = "HTTP/3 resets", "HTTP/3 handshakes", "HTTP/3 noise"
KINDS = (*FRAMES, RESETS, HANDSHAKES, NOISE)


def flood(server: int, kind: str, port: int, seconds: float) -> int:
    """Flood a port for some seconds, and return how many datagrams were sent.

    Args:
        server: port of the server with which connections are made, whichever port has the flood.
    """
    end, sent = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.bind(peers.FLOODER)
            client.setblocking(False)
            try:
                bursts = _bursts(kind, client, ("127.0.0.1", server))
                stop = min(end, time.monotonic() + CONNECTION_SECONDS)
                for data in itertools.chain.from_iterable(bursts):
                    with contextlib.suppress(OSError):
                        client.sendto(data, ("127.0.0.1", port))
                    sent += 1
                    if time.monotonic() >= stop:
                        break
            except TimeoutError:
                # A server that is flooded may shake no hands.
                continue
    return sent


def _bursts(kind: str, client: socket.socket, server: tuple[str, int]) -> Iterator[list[bytes]]:
    """Yield what a connection sends, without end."""
    if kind == NOISE:
        while True:
            yield [b"\x40" + os.urandom(1199) for _ in range(BURST)]
    if kind == HANDSHAKES:
        while True:
            yield [data for _ in range(BURST // 10) for data in _first(server)]
    quic = _connected(client, server)
    if kind in FRAMES:
        while True:
            yield frame_datagrams(quic, FRAMES[kind] * BURST, len(FRAMES[kind]))
    http = H3Connection(quic)
    while True:
        # Whatever the server allows.
        quic._remote_max_streams_bidi = 1 << 30
        quic._remote_max_data = 1 << 40
        for _ in range(16):
            number = quic.get_next_available_stream_id()
            head = {":method": "GET", ":scheme": "https", ":authority": "a", ":path": "/media/small.mp4"}
            http.send_headers(number, [(name.encode(), value.encode()) for name, value in head.items()])
            quic.reset_stream(number, ErrorCode.H3_REQUEST_CANCELLED)
        made = [data for data, _ in quic.datagrams_to_send(time.monotonic())]
        if not made:
            # The server has ended the connection.
            return
        yield made
        with contextlib.suppress(BlockingIOError):
            while True:
                quic.receive_datagram(client.recv(1 << 16), server, time.monotonic())


def _new() -> QuicConnection:
    configuration = QuicConfiguration(alpn_protocols=["h3"], is_client=True, verify_mode=ssl.CERT_NONE)
    return QuicConnection(configuration=configuration)


def _first(server: tuple[str, int]) -> list[bytes]:
    """Return the first datagrams of a client."""
    quic = _new()
    quic.connect(server, 0.0)
    return [data for data, _ in quic.datagrams_to_send(0.0)]


def _connected(client: socket.socket, server: tuple[str, int]) -> QuicConnection:
    """Shake hands with the server.

    Raises:
        TimeoutError: it hasn't answered in time.
    """
    quic, end = _new(), time.monotonic() + 2
    quic.connect(server, time.monotonic())
    while True:
        _send(quic, client, server)
        ready, _, _ = select.select([client], [], [], max(0.0, end - time.monotonic()))
        if not ready:
            raise TimeoutError("the server has shaken no hands")
        quic.receive_datagram(client.recv(1 << 16), server, time.monotonic())
        while (event := quic.next_event()) is not None:
            if isinstance(event, HandshakeCompleted):
                _send(quic, client, server)
                return quic


def _send(quic: QuicConnection, client: socket.socket, server: tuple[str, int]) -> None:
    for data, _ in quic.datagrams_to_send(time.monotonic()):
        client.sendto(data, server)
