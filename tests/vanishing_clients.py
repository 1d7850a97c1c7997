"""Clients of HTTP/3 that vanish without a word, as a phone does whose network has gone."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from aioquic.h3.connection import H3Connection
from aioquic.h3.events import DataReceived, H3Event, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import HandshakeCompleted, ProtocolNegotiated

from tests.patience import CLIENT_SECONDS

Head = list[tuple[bytes, bytes]]
AUTHORIZATION = (b"authorization", b"Bearer who-publishes-events-5b1f")


def request(method: str, path: str, *fields: tuple[bytes, bytes]) -> Head:
    """Return the head of a request."""
    values = {":method": method, ":scheme": "https", ":authority": "127.0.0.1", ":path": path}
    return [*((name.encode(), value.encode()) for name, value in values.items()), *fields]


@dataclass(frozen=True)
class Stage:
    """How far a client gets before it vanishes.

    Attributes:
        head: of its request; None: it sends none.
        body: what it sends of the request's body, which doesn't end.
        shakes_hands: whether it gets behind its first datagram.
        least: bytes of the answer for which it waits.
    """

    head: Head | None = None
    body: bytes = b""
    shakes_hands: bool = True
    least: int = 0


STAGES = {
    "its first datagram": Stage(shakes_hands=False),
    "its handshake": Stage(),
    "the head of a stream of events": Stage(request("GET", "/events/news")),
    "the beginning of a download": Stage(request("GET", "/media/big.bin"), least=30_000),
    "half of its request": Stage(
        request("POST", "/events/news", (b"content-length", b"1000"), AUTHORIZATION), body=b"half of an event"
    ),
}


class VanishingClient:
    """One connection, which is driven by whoever calls `run`.

    Args:
        url: of the server.
        idle_seconds: after which both sides take a silent connection for gone (RFC 9000 §10.1).
    """

    def __init__(self, url: str, idle_seconds: float) -> None:
        parts = urlsplit(url)
        self._address = str(parts.hostname), int(parts.port or 443)
        configuration = QuicConfiguration(
            alpn_protocols=["h3"], idle_timeout=idle_seconds, verify_mode=ssl.CERT_NONE
        )
        self._quic = QuicConnection(configuration=configuration)
        self._http: H3Connection | None = None
        self._is_ready = False
        self.answered = 0

    def run(self, stage: Stage) -> None:
        """Get to a stage, and vanish."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", 0))
            self._quic.connect(self._address, time.monotonic())
            self._send(sock)
            if not stage.shakes_hands:
                return
            self._until(sock, lambda: self._is_ready)
            if stage.head is None or self._http is None:
                return
            number = self._quic.get_next_available_stream_id()
            self._http.send_headers(number, stage.head, end_stream=not stage.body)
            if stage.body:
                self._http.send_data(number, stage.body, end_stream=False)
                self._send(sock)
                return
            self._send(sock)
            self._until(sock, lambda: self.answered > stage.least)

    def _until(self, sock: socket.socket, is_done: Callable[[], bool]) -> None:
        """Exchange datagrams until something has happened."""
        end = time.monotonic() + CLIENT_SECONDS
        while not is_done():
            assert time.monotonic() < end
            due = self._quic.get_timer()
            sock.settimeout(max(0.001, (due or end) - time.monotonic()))
            try:
                self._quic.receive_datagram(sock.recv(65_535), self._address, time.monotonic())
            except TimeoutError:
                self._quic.handle_timer(time.monotonic())
            while (event := self._quic.next_event()) is not None:
                if isinstance(event, ProtocolNegotiated):
                    self._http = H3Connection(self._quic)
                elif isinstance(event, HandshakeCompleted):
                    self._is_ready = True
                if self._http is not None:
                    for found in self._http.handle_event(event):
                        self._note(found)
            self._send(sock)

    def _note(self, event: H3Event) -> None:
        if isinstance(event, HeadersReceived):
            self.answered += 1
        elif isinstance(event, DataReceived):
            self.answered += len(event.data)

    def _send(self, sock: socket.socket) -> None:
        for data, address in self._quic.datagrams_to_send(time.monotonic()):
            sock.sendto(data, address)
