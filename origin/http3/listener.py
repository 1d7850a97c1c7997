"""Receives QUIC's datagrams on a UDP socket, and begins connections (RFC 9000 §5.2, §8.1)."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
from collections import Counter, deque
from collections.abc import Callable
from typing import TYPE_CHECKING

import structlog
from aioquic._buffer import Buffer
from aioquic.quic import events
from aioquic.quic.configuration import SMALLEST_MAX_DATAGRAM_SIZE
from aioquic.quic.packet import (
    QuicPacketType,
    encode_quic_retry,
    encode_quic_version_negotiation,
    pull_quic_header,
)
from aioquic.quic.retry import QuicRetryTokenHandler

from origin.http.client_limits import network_of
from origin.http1.protocol import HttpProtocol
from origin.http1.shared_turns import turns_of
from origin.http3.connection import Http3Connection
from origin.http3.engines import QuicEngine
from origin.http3.flood_filter import FloodFilter
from origin.http3.stateless_reset import StatelessResets
from origin.http3.transport import QuicTransport

if TYPE_CHECKING:
    from aioquic.quic.connection import NetworkAddress
    from aioquic.quic.events import QuicEvent
    from aioquic.quic.packet import QuicHeader

    from origin.http3.certificates import QuicCertificates

log = structlog.get_logger()

# The library logs each fault of each client.
logging.getLogger("quic").setLevel(logging.CRITICAL)

SUSPECT_SECONDS = 0.1
"""Time from one connection that suspect clients begin to the next one, of all of them together."""

MOST_DATAGRAM_BYTES = 65_535

SOCKET_BYTES = 4 << 20
"""Bytes that the kernel keeps of datagrams that come, and of those that are sent."""

RETRY_HANDSHAKES = 32
"""Handshakes under way from which on a client has to prove its address first (RFC 9000 §8.1.2)."""

HANDSHAKES = 256
"""Most handshakes under way; what comes beyond is left unanswered, and clients try again."""

HANDSHAKES_OF_A_CLIENT = 64
"""Most handshakes under way of one client, which is an IPv4 address or an IPv6 /64."""

SEGMENTS = 32
"""Most datagrams that the kernel gets as one (udp(7), UDP_SEGMENT)."""

WAITING_RUNS = 1024
"""Most runs of datagrams that wait for the kernel; later ones are dropped, as a network would drop them."""

UNSPLIT = (errno.EINVAL, errno.EIO, errno.ENOPROTOOPT, errno.EOPNOTSUPP)
"""Errors of a kernel or a network card that splits no datagrams."""

_SEGMENT_SIZE = 103


class Http3Listener:
    """The connections of one UDP socket; see `ConnectionAcceptor`.

    Args:
        sock: a bound socket, which is closed behind the last connection.
        protocol: makes what counts a client.
    """

    def __init__(
        self,
        sock: socket.socket,
        certificates: QuicCertificates,
        protocol: Callable[[], HttpProtocol],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._socket = sock
        self._protocol = protocol
        self._certificates = certificates
        self._by_id: dict[bytes, Http3Connection] = {}
        self._ids: dict[Http3Connection, set[bytes]] = {}
        # Whose handshake is under way, with the network of its client.
        self._handshakes: dict[Http3Connection, str] = {}
        self._shaking = Counter[str]()
        self._tokens = QuicRetryTokenHandler()
        self._turns = turns_of(self._loop)
        # When the next suspect client may begin a connection.
        self._suspects_turn = 0.0
        self._resets = StatelessResets(certificates.reset_key, sock.getsockname()[1])
        self._flood_filter = FloodFilter(sock, self._loop)
        self._unsent: deque[tuple[bytes, int, NetworkAddress]] = deque()
        self._is_closing = self._is_over = False
        self._has_segments = True

    def start(self) -> None:
        """Begin to read datagrams."""
        self._socket.setblocking(False)
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            self._socket.setsockopt(socket.SOL_SOCKET, option, SOCKET_BYTES)
        self._loop.add_reader(self._socket.fileno(), self._read)

    async def close(self) -> None:
        """Accept no more connections."""
        self._is_closing = True
        self._end_if_unused()

    @property
    def is_over(self) -> bool:
        """Whether all connections have ended, once the listener is closed."""
        return self._is_over

    def _end_if_unused(self) -> None:
        if self._is_closing and not self._ids and not self._is_over:
            self._is_over = True
            self._loop.remove_reader(self._socket.fileno())
            self._loop.remove_writer(self._socket.fileno())
            self._flood_filter.close()
            self._socket.close()

    # Reading

    def _read(self) -> None:
        while not self._is_over:
            try:
                data, address = self._socket.recvfrom(MOST_DATAGRAM_BYTES)
            except OSError:
                # There is none, or an error of one that was sent before.
                return
            self._handle_datagram(data, address)
            if not self._turns.has_time():
                return

    def _handle_datagram(self, data: bytes, address: NetworkAddress) -> None:
        """Pass a datagram on to its connection."""
        buffer = Buffer(data=data)
        try:
            header = pull_quic_header(buffer, host_cid_length=self._certificates.default.connection_id_length)
        except ValueError:
            return
        connection = self._by_id.get(header.destination_cid)
        if connection is None:
            if header.version is None:
                self._reset(header.destination_cid, len(data), address)
                return
            connection = self._begin(header, len(data), address)
        if connection is not None:
            lost_until = connection.receive_datagram(data, address)
            if lost_until:
                self._flood_filter.drop(self._ids.get(connection, ()), lost_until)

    def _begin(self, header: QuicHeader, size: int, address: NetworkAddress) -> Http3Connection | None:
        """Begin a connection, if the datagram is the first of one and there is room."""
        if self._is_closing or size < SMALLEST_MAX_DATAGRAM_SIZE:
            return None
        versions = self._certificates.default.supported_versions
        if header.packet_type != QuicPacketType.VERSION_NEGOTIATION and header.version not in versions:
            answer = encode_quic_version_negotiation(header.destination_cid, header.source_cid, versions)
            self._send([(answer, address)])
            return None
        if header.packet_type != QuicPacketType.INITIAL or len(self._handshakes) >= HANDSHAKES:
            return None
        if self._shaking[network_of(address[0])] >= HANDSHAKES_OF_A_CLIENT:
            return None
        is_suspect = self._turns.is_suspect(address[0])
        if is_suspect and self._loop.time() < self._suspects_turn:
            return None
        original, retry_source = header.destination_cid, None
        if header.token:
            try:
                original = self._tokens.validate_token(
                    address=address,
                    destination_cid=header.destination_cid,
                    token=header.token,
                    now=self._loop.time(),
                )
                retry_source = header.destination_cid
            except ValueError:
                # A token that proves nothing is none.
                original = header.destination_cid
        if retry_source is None and len(self._handshakes) >= RETRY_HANDSHAKES:
            self._send_retry(header, address)
            return None
        if is_suspect:
            self._suspects_turn = self._loop.time() + SUSPECT_SECONDS
        return self._make(address, header.destination_cid, original, retry_source)

    def _reset(self, connection_id: bytes, size: int, address: NetworkAddress) -> None:
        """Answer a datagram of an unknown connection by a stateless reset (RFC 9000 §10.3)."""
        answer = self._resets.datagram(connection_id, size)
        if answer is not None:
            self._send([(answer, address)])

    def _send_retry(self, header: QuicHeader, address: NetworkAddress) -> None:
        """Have a client send its first packet again, with a proof that its address is its own."""
        source = os.urandom(self._certificates.default.connection_id_length)
        token = self._tokens.create_token(
            address=address,
            original_destination_connection_id=header.destination_cid,
            retry_source_connection_id=source,
            now=self._loop.time(),
        )
        answer = encode_quic_retry(
            version=header.version or 0,
            source_cid=source,
            destination_cid=header.source_cid,
            original_destination_cid=header.destination_cid,
            retry_token=token,
        )
        self._send([(answer, address)])

    def _make(
        self, address: NetworkAddress, destination: bytes, original: bytes, retry_source: bytes | None
    ) -> Http3Connection | None:
        quic = QuicEngine(
            self._certificates.choose, self._certificates.tickets, self._resets, original, retry_source
        )
        first = self._protocol()
        facts = {"peername": address, "sockname": self._socket.getsockname(), "sslcontext": True}
        transport = QuicTransport(facts, lambda: None if connection is None else connection.abort())
        connection: Http3Connection | None = None
        first.connection_made(transport)
        if transport.is_closing():
            first.connection_lost(None)
            return None
        first.step_aside()
        connection = Http3Connection(first, quic, self._send, self._on_event)
        self._ids[connection] = {destination, quic.host_cid}
        for one in self._ids[connection]:
            self._by_id[one] = connection
        network = self._handshakes[connection] = network_of(address[0])
        self._shaking[network] += 1
        return connection

    def _on_event(self, connection: Http3Connection, event: QuicEvent) -> None:
        """Note what a connection says about itself."""
        if isinstance(event, events.ConnectionIdIssued):
            self._ids[connection].add(event.connection_id)
            self._by_id[event.connection_id] = connection
        elif isinstance(event, events.ConnectionIdRetired):
            self._ids[connection].discard(event.connection_id)
            self._by_id.pop(event.connection_id, None)
        elif isinstance(event, events.HandshakeCompleted):
            self._end_handshake(connection)
        elif isinstance(event, events.ConnectionTerminated):
            self._end_handshake(connection)
            for one in self._ids.pop(connection, ()):
                self._by_id.pop(one, None)
            self._end_if_unused()

    def _end_handshake(self, connection: Http3Connection) -> None:
        network = self._handshakes.pop(connection, None)
        if network is not None:
            self._shaking[network] -= 1
            if not self._shaking[network]:
                del self._shaking[network]

    # Sending

    def _send(self, datagrams: list[tuple[bytes, NetworkAddress]]) -> bool:
        """Send datagrams, those of one size together; return whether there is room for more."""
        if self._is_over or len(self._unsent) >= WAITING_RUNS:
            return False
        start = 0
        while start < len(datagrams):
            data, address = datagrams[start]
            end, size = start + 1, len(data)
            while end < min(len(datagrams), start + SEGMENTS) and self._has_segments:
                following, other = datagrams[end]
                if other != address or len(following) > size or len(datagrams[end - 1][0]) < size:
                    break
                end += 1
            run = [one for one, _ in datagrams[start:end]]
            self._unsent.append((b"".join(run), size, address))
            start = end
        return self._send_on()

    def _send_on(self) -> bool:
        while self._unsent:
            data, size, address = self._unsent[0]
            try:
                if len(data) > size:
                    segment = size.to_bytes(2, "little")
                    self._socket.sendmsg([data], [(socket.IPPROTO_UDP, _SEGMENT_SIZE, segment)], 0, address)
                else:
                    self._socket.sendto(data, address)
            except BlockingIOError:
                self._loop.add_writer(self._socket.fileno(), self._go_on)
                return False
            except OSError as error:
                self._on_error(error)
                continue
            self._unsent.popleft()
        return True

    def _on_error(self, error: OSError) -> None:
        """Send a run one by one, where the kernel doesn't split it; what can't be sent at all is lost."""
        data, size, address = self._unsent.popleft()
        if len(data) > size and error.errno in UNSPLIT:
            log.debug("the kernel splits no datagrams", reason=error.strerror)
            self._has_segments = False
            pieces = [data[start : start + size] for start in range(0, len(data), size)]
            self._unsent.extendleft((piece, size, address) for piece in reversed(pieces))

    def _go_on(self) -> None:
        self._loop.remove_writer(self._socket.fileno())
        if self._send_on():
            for connection in list(self._ids):
                connection.resume()
