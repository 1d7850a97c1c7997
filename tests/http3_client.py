"""A client of HTTP/3 by aioquic, as a transport of httpx; its connection runs in a thread of its own."""

from __future__ import annotations

import asyncio
import queue
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TypeVar, cast

import httpx
from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.buffer import encode_uint_var
from aioquic.h3.connection import ErrorCode, H3Connection, encode_frame
from aioquic.h3.events import DataReceived, H3Event, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import ConnectionTerminated, QuicEvent, StreamReset
from aioquic.quic.packet import QuicPacketType
from aioquic.quic.packet_builder import QuicPacketBuilder
from aioquic.tls import Epoch

from tests.patience import CLIENT_SECONDS

T = TypeVar("T")

Found = list[tuple[bytes, bytes]] | bytes | Exception | None
"""The head of an answer, bytes of its body, why there is no more, or None at its end."""


class _Http3(H3Connection):
    """HTTP/3 without a check that knows neither HEAD nor 304 (RFC 9110 §8.6)."""

    def _check_content_length(self, stream: Any) -> None:
        pass


class Http3Protocol(QuicConnectionProtocol):
    """One connection.

    Attributes:
        answers: what has come on each stream.
        complete: the streams whose answers have come to their end, in this order.
        end: how the server has ended the connection.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.http = _Http3(self._quic)
        self.quic = self._quic
        self.answers: dict[int, queue.Queue[Found]] = {}
        self.complete: list[int] = []
        self.end: ConnectionTerminated | None = None

    def quic_event_received(self, event: QuicEvent) -> None:
        if isinstance(event, ConnectionTerminated):
            self.end = event
            for answer in self.answers.values():
                answer.put(httpx.ReadError(f"the connection has ended: {event}"))
        elif isinstance(event, StreamReset):
            self._put(event.stream_id, httpx.ReadError(f"the stream was reset: {event.error_code:#x}"))
        for found in self.http.handle_event(event):
            self._on_http(found)

    def _on_http(self, event: H3Event) -> None:
        if isinstance(event, HeadersReceived):
            self._put(event.stream_id, event.headers)
        elif isinstance(event, DataReceived):
            self._put(event.stream_id, event.data)
        else:
            return
        if event.stream_ended:
            self.complete.append(event.stream_id)
            self._put(event.stream_id, None)

    def _put(self, number: int, found: Found) -> None:
        self.answers.setdefault(number, queue.Queue()).put(found)

    def request(self, headers: list[tuple[bytes, bytes]], body: bytes = b"", *, ends: bool = True) -> int:
        """Send a request, and return the number of its stream."""
        number = self.quic.get_next_available_stream_id()
        self.answers.setdefault(number, queue.Queue())
        self.http.send_headers(number, headers, end_stream=ends and not body)
        if body:
            self.http.send_data(number, body, end_stream=ends)
        self.transmit()
        return number

    def change_priority(self, number: int, value: bytes) -> None:
        """Send a PRIORITY_UPDATE frame for the request on a stream (RFC 9218 §7.2)."""
        control = self.http._local_control_stream_id
        assert control is not None
        self.quic.send_stream_data(control, encode_frame(0xF0700, encode_uint_var(number) + value))
        self.transmit()

    def cancel(self, number: int) -> None:
        """Take a request back."""
        self.quic.stop_stream(number, ErrorCode.H3_REQUEST_CANCELLED)
        self.quic.reset_stream(number, ErrorCode.H3_REQUEST_CANCELLED)
        self.transmit()


def frame_datagrams(quic: QuicConnection, frames: Sequence[bytes], most: int = 10_000) -> list[bytes]:
    """Return frames of QUIC, whatever they are, in as few datagrams as they take.

    Args:
        quic: the client's connection, whose handshake is over; it counts the packets.
        frames: each with its type, which has one byte.
        most: frames in a datagram.
    """
    builder = QuicPacketBuilder(
        host_cid=quic.host_cid,
        peer_cid=quic._peer_cid.cid,
        version=quic._version or 0,
        is_client=True,
        max_datagram_size=1200,
        packet_number=quic._packet_number,
    )
    builder.start_packet(QuicPacketType.ONE_RTT, quic._cryptos[Epoch.ONE_RTT])
    for index, one in enumerate(frames):
        if builder.remaining_buffer_space < len(one) or (index and not index % most):
            builder.start_packet(QuicPacketType.ONE_RTT, quic._cryptos[Epoch.ONE_RTT])
        builder.start_frame(one[0], capacity=len(one)).push_bytes(one[1:])
    datagrams, _ = builder.flush()
    quic._packet_number = builder.packet_number
    return datagrams


class Http3Connection:
    """A connection in a thread.

    Args:
        trusted: file with the certificates that are trusted; None: all are.
    """

    def __init__(self, url: str, trusted: Path | None = None, **options: Any) -> None:
        self._url = httpx.URL(url)
        self._configuration = QuicConfiguration(alpn_protocols=["h3"], is_client=True, **options)
        if trusted is None:
            self._configuration.verify_mode = ssl.CERT_NONE
        else:
            self._configuration.load_verify_locations(str(trusted))
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._stack = AsyncExitStack()
        self._thread.start()
        try:
            self.protocol = self.wait_for(self._connect())
        except BaseException:
            self._end_thread()
            raise

    async def _connect(self) -> Http3Protocol:
        made = connect(
            self._url.host,
            self._url.port or 443,
            configuration=self._configuration,
            create_protocol=Http3Protocol,
        )
        return cast(Http3Protocol, await self._stack.enter_async_context(made))

    def wait_for(self, waited: Awaitable[T]) -> T:
        """Wait for something of the connection's loop."""

        async def run() -> T:
            return await waited

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(CLIENT_SECONDS)

    def call(self, function: Callable[..., T], *arguments: Any, **options: Any) -> T:
        """Call a function in the connection's thread."""

        async def run() -> T:
            return function(*arguments, **options)

        return self.wait_for(run())

    def close(self) -> None:
        """End the connection."""
        try:
            self.wait_for(self._close())
        finally:
            self._end_thread()

    async def _close(self) -> None:
        await self._stack.aclose()
        # A client that has moved has another one than the library closes.
        if self.protocol._transport is not None:
            self.protocol._transport.close()
        await asyncio.sleep(0)

    def _end_thread(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(CLIENT_SECONDS)
        self.loop.close()


class _Body(httpx.SyncByteStream):
    def __init__(self, connection: Http3Connection, number: int) -> None:
        self._connection = connection
        self._number = number
        self._answer = connection.protocol.answers[number]
        self._is_over = False

    def __iter__(self) -> Iterator[bytes]:
        while (found := self._answer.get(timeout=CLIENT_SECONDS)) is not None:
            if isinstance(found, Exception):
                self._is_over = True
                raise found
            if isinstance(found, bytes):
                yield found
        self._is_over = True

    def close(self) -> None:
        if not self._is_over and self._connection.protocol.end is None:
            self._connection.call(self._connection.protocol.cancel, self._number)


class Http3Transport(httpx.BaseTransport):
    """Sends the requests of an ``httpx.Client`` by HTTP/3, all on one connection.

    Args:
        trusted: file with the certificates that are trusted; None: all are.
    """

    def __init__(self, trusted: Path | None = None, **options: Any) -> None:
        self._trusted = trusted
        self._options = options
        self._lock = threading.Lock()
        self._connection: Http3Connection | None = None

    def connection(self, url: str) -> Http3Connection:
        """Return the connection, which is made when it is first needed."""
        with self._lock:
            if self._connection is None or self._connection.protocol.end is not None:
                if self._connection is not None:
                    self._connection.close()
                self._connection = Http3Connection(url, self._trusted, **self._options)
            return self._connection

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        connection = self.connection(str(request.url))
        fields = [(name.lower(), value) for name, value in request.headers.raw]
        fields = [one for one in fields if one[0] not in (b"host", b"connection", b"transfer-encoding")]
        pseudo = [
            (b":method", request.method.encode()),
            (b":scheme", b"https"),
            (b":authority", request.url.netloc),
            (b":path", request.url.raw_path),
        ]
        number = connection.call(connection.protocol.request, pseudo + fields, request.read())
        while True:
            head = connection.protocol.answers[number].get(timeout=CLIENT_SECONDS)
            if isinstance(head, Exception):
                raise head
            if not isinstance(head, list):
                raise httpx.RemoteProtocolError("there is no head")
            status = int(head[0][1])
            if status >= 200:
                break
        return httpx.Response(
            status,
            headers=head[1:],
            stream=_Body(connection, number),
            extensions={"http_version": b"HTTP/3"},
        )

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
