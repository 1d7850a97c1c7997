"""An RTSP relay between ffmpeg and a server, so that ffmpeg connects to this machine only.

ffmpeg would follow RTSP redirects to any host, and send UDP to any host that a response names. So it gets a
URL of this relay, which connects to the server through an ``AddressGuard`` and follows redirects (RFC 2326
§11.3). Media that a server sends over UDP only are received here and interleaved into TCP (§10.12).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import secrets
import socket
from collections.abc import AsyncGenerator, Iterable
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import SplitResult, urljoin, urlsplit

from media.errors import MalformedError, MediaError
from media.rtsp import messages
from media.rtsp.messages import RtspMessage, RtspReader
from packager.concurrency import running_tasks
from packager.reader_guard import ReaderGuard
from packager.sources.limits import DEFAULT_LIMITS, SourceLimits
from packager.sources.pullers.address_guard import LARGEST_PORT, AddressGuard
from packager.sources.retries import PullError
from packager.step_budget import StepBudget

HOST = "127.0.0.1"
DEFAULT_PORT = 554
READ_BYTES = 1 << 16
MAX_DIGITS = 9
"""Most digits of a CSeq (RFC 2326 §12.17)."""

TRANSPORT_WORDS = frozenset(("udp", "tcp", "multicast"))
"""Options of ffmpeg in a URL's query, which aren't sent to the server."""

BAD_GATEWAY = ("RTSP/1.0", "502", "Bad Gateway")

# RFC 3550 §5.1, §6.4.2: empty RTP and RTCP packets, which open NAT mappings as ffmpeg's do.
_HOLE_PUNCHES = (b"\x80" + bytes(11), b"\x80\xc9\x00\x01" + bytes(4))


class RtspRelay:
    """Relays one configured URL to local RTSP clients.

    Args:
        url: the URL, with its user and password.
        limits: the limits of the source.

    Attributes:
        trouble: why the last connection failed, if the relay knows; otherwise empty.
    """

    def __init__(self, url: str, limits: SourceLimits = DEFAULT_LIMITS) -> None:
        self._limits = limits
        self._parts = urlsplit(url)
        self._guard = AddressGuard(self._parts.hostname or "", limits=limits.guard)
        # A secret path, so that other users of this machine can't use the relay.
        self._path = f"/{secrets.token_urlsafe(16)}"
        self._connections: set[asyncio.Task[None]] = set()
        self._local = ""
        self.trouble = ""

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncGenerator[str]:
        """Listen while the context is open; yields the URL for ffmpeg."""

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.ensure_future(self._serve(reader, writer))
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)
            # However early it was cancelled.
            task.add_done_callback(lambda _: _close_gracefully(writer, self._limits.rtsp_last_seconds))

        server = await asyncio.start_server(accept, HOST, 0)
        place = f"{HOST}:{server.sockets[0].getsockname()[1]}"
        self._local = f"rtsp://{place}{self._path}"
        user, at, _ = self._parts.netloc.rpartition("@")
        try:
            yield f"rtsp://{user}{at}{place}{self._path}"
        finally:
            server.close()
            tasks = list(self._connections)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if len(self._connections) <= self._limits.rtsp_connections:
                self.trouble = ""
                with ReaderGuard("RTSP"):
                    await _Connection(
                        self._guard, self._parts, self._local, reader, writer, self._limits
                    ).run()
        except (PullError, MediaError) as error:
            self.trouble = str(error)
        except ConnectionResetError:
            pass  # an ordinary end; ffmpeg reports what is missing
        except OSError as error:
            self.trouble = error.strerror or "it doesn't answer"


@dataclass(slots=True)
class _PendingRequest:
    """A request that waits for its response.

    Attributes:
        message: the request as ffmpeg sent it.
        ports: the UDP ports for its media, if UDP was requested from the server.
    """

    message: RtspMessage
    ports: list[_UdpPort] = field(default_factory=list)


class _UdpPort(asyncio.DatagramProtocol):
    """Receives one interleaved channel's media over UDP, from one address."""

    def __init__(self, channel: int, sender: str, client: asyncio.StreamWriter, behind_bytes: int) -> None:
        self._behind_bytes = behind_bytes
        self.channel = channel
        self.remote: tuple[str, int] | None = None
        self.transport: asyncio.DatagramTransport | None = None
        self._sender = sender
        self._client = client

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's isn't an instance of asyncio's.
        self.transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        behind = self._client.transport.get_write_buffer_size() > self._behind_bytes
        if addr[0] == self._sender and not behind and not self._client.is_closing():
            self._client.write(messages.frame(self.channel, data))

    def send(self, data: bytes) -> None:
        if self.transport is not None and self.remote is not None:
            self.transport.sendto(data, self.remote)

    def close(self) -> None:
        if self.transport is not None:
            self.transport.close()


class _Connection:
    """A connection of ffmpeg, with its connection to the server.

    Args:
        local: the URL that ffmpeg requests, without user and password.
        reader: reads from ffmpeg.
    """

    def __init__(
        self,
        guard: AddressGuard,
        parts: SplitResult,
        local: str,
        reader: asyncio.StreamReader,
        client: asyncio.StreamWriter,
        limits: SourceLimits,
    ) -> None:
        self._limits = limits
        self._connect_seconds = limits.connect_seconds
        self._guard = guard
        self._parts = parts
        self._local = local
        self._reader = reader
        self._client = client
        self._target = _request_url(parts)
        self._server: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._pending: dict[int, _PendingRequest] = {}
        self._sent = self._redirects = 0
        self._admitted = False
        self._channels: dict[int, _UdpPort] = {}

    async def run(self) -> None:
        """Relay until either side ends.

        Raises:
            PullError: it leads to where it mustn't.
            MediaError: the bytes aren't RTSP.
            OSError: the server can't be connected to, or breaks off.
        """
        try:
            await self._connect()
            async with running_tasks(self._from_client(), self._from_server()) as directions:
                await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
                for direction in directions:
                    if direction.done():
                        direction.result()
        finally:
            for pending in self._pending.values():
                _close(pending.ports)
            _close(self._channels.values())
            if self._server is not None:
                _close_gracefully(self._server[1], self._limits.rtsp_last_seconds)

    async def _connect(self) -> None:
        parts = urlsplit(self._target)
        if self._server is not None:
            _close_gracefully(self._server[1], self._limits.rtsp_last_seconds)
        self._server = await self._guard.connect(
            parts.hostname or "", parts.port or DEFAULT_PORT, self._connect_seconds
        )

    async def _from_client(self) -> None:
        rtsp_reader, budget = RtspReader(self._limits.rtsp_messages), StepBudget()
        while data := await self._reader.read(READ_BYTES):
            async for portion in budget.portions(data):
                for item in rtsp_reader.receive_data(portion):
                    if isinstance(item, RtspMessage):
                        self._receive_from_client(item)
                    elif self._admitted:
                        self._forward_rtcp(item)
            if self._server is not None:
                await self._server[1].drain()

    def _forward_rtcp(self, frames: bytes) -> None:
        """Forward ffmpeg's RTCP reports, over UDP if the media come over UDP."""
        if not self._channels:
            self._write(frames)
        for channel, payload in messages.frames(frames) if self._channels else ():
            if channel in self._channels:
                self._channels[channel].send(payload)

    def _receive_from_client(self, message: RtspMessage) -> None:
        """Handle a message of ffmpeg, and forward it to the server."""
        if message.is_response:
            self._write(message.encode())
            return
        self._admitted = self._admitted or message.first[1].startswith(self._local)
        if not self._admitted:
            raise MalformedError("somebody else asks")
        pending = _PendingRequest(message)
        if message.first[0] == "SETUP" and _interleaved(message) is None:
            self._respond(pending, RtspMessage(("RTSP/1.0", "461", "Unsupported Transport")))
            return
        self._send_request(pending)

    def _send_request(self, pending: _PendingRequest, transport: str = "") -> None:
        """Forward a request with the server's own URI."""
        if len(self._pending) >= self._limits.pending_requests:
            raise MalformedError("it answers nothing")
        self._sent += 1
        self._pending[self._sent] = pending
        method, uri, version = pending.message.first
        message = pending.message
        if uri.startswith(self._local):
            uri = self._target + uri.removeprefix(self._local)
        if transport:
            message = message.with_field("Transport", transport)
        value = message.get("authorization")
        if value:
            message = message.with_field(
                "Authorization", self._authorization(value, method, uri, message.first[1])
            )
        message = RtspMessage((method, uri, version), message.fields).with_field("CSeq", str(self._sent))
        self._write(RtspMessage(message.first, message.fields, pending.message.body).encode())

    def _authorization(self, value: str, method: str, uri: str, original_uri: str) -> str | None:
        """Recompute Authorization for the server's own URI; None for any server but the configured one."""
        if _server_of(self._target) != _server_of(_request_url(self._parts)):
            return None
        if uri == original_uri:
            return value
        user, _, password = self._parts.netloc.rpartition("@")[0].partition(":")
        return messages.authorization_for_uri(value, method, uri, user, password)

    async def _from_server(self) -> None:
        while self._server is not None:
            reader, server = self._server[0], self._server
            rtsp_reader, budget = RtspReader(self._limits.rtsp_messages), StepBudget()
            while self._server is server and (data := await reader.read(READ_BYTES)):
                async for portion in budget.portions(data):
                    for item in rtsp_reader.receive_data(portion):
                        if self._server is not server:
                            break
                        if isinstance(item, RtspMessage):
                            await self._receive_from_server(item)
                        else:
                            self._client.write(item)
                await self._client.drain()
            if self._server is server:
                return

    async def _receive_from_server(self, message: RtspMessage) -> None:
        """Handle a message of the server."""
        message = message.with_field("Location", None) if message.status // 100 != 3 else message
        if not message.is_response:
            self._client.write(message.encode())
            return
        value = message.get("cseq")
        is_number = value.isascii() and value.isdecimal() and len(value) <= MAX_DIGITS
        pending = self._pending.pop(int(value), None) if is_number else None
        if pending is None:
            return
        method = pending.message.first[0]
        if message.status // 100 == 3:
            await self._redirect(pending, message)
        elif message.status == 461 and method == "SETUP" and not pending.ports:
            await self._request_udp(pending)
        elif pending.ports:
            self._complete_udp_setup(pending, message)
        else:
            self._respond(pending, message)

    async def _redirect(self, pending: _PendingRequest, message: RtspMessage) -> None:
        """Follow a redirect, which is possible only before the session begins."""
        parts = _split(self._target, message.get("location"))
        self._redirects += 1
        if (
            pending.message.first[0] not in ("OPTIONS", "DESCRIBE")
            or self._redirects > self._limits.redirects
        ):
            self._respond(pending, RtspMessage(BAD_GATEWAY))
            raise PullError("it redirects where that isn't followed")
        if parts is None or parts.scheme != "rtsp" or not parts.hostname:
            self._respond(pending, RtspMessage(BAD_GATEWAY))
            raise PullError("it redirects to another protocol")
        self._target = _request_url(parts)
        for other in self._pending.values():
            _close(other.ports)
        self._pending.clear()
        await self._connect()
        self._send_request(pending)

    async def _request_udp(self, pending: _PendingRequest) -> None:
        """Request UDP from a server that refuses TCP interleaving."""
        channels = _interleaved(pending.message)
        if self._server is None or channels is None:
            return
        local_host, remote_host = (
            self._server[1].get_extra_info(name)[0] for name in ("sockname", "peername")
        )
        pending.ports, first = await _open_port_pair(
            local_host, remote_host, channels, self._client, self._limits
        )
        try:
            self._send_request(pending, f"RTP/AVP;unicast;client_port={first}-{first + 1}")
        except MediaError:
            _close(pending.ports)
            raise

    def _complete_udp_setup(self, pending: _PendingRequest, message: RtspMessage) -> None:
        """Answer ffmpeg's SETUP with TCP interleaving, after the server agreed to send UDP."""
        ports = messages.numbers(messages.transport(message.get("transport")).get("server_port", ""))
        if message.status != 200 or self._server is None:
            _close(pending.ports)
            self._respond(pending, message)
            return
        remote_host = self._server[1].get_extra_info("peername")[0]
        for port, remote, punch in zip(pending.ports, ports or (), _HOLE_PUNCHES, strict=False):
            if 0 < remote <= LARGEST_PORT:
                # RFC 2326 §12.39: the response may name another source; it is ignored, as it wasn't checked.
                port.remote = (remote_host, remote)
                port.send(punch)
        _close(self._channels.pop(port.channel) for port in pending.ports if port.channel in self._channels)
        self._channels |= {port.channel: port for port in pending.ports}
        channels = "-".join(str(port.channel) for port in pending.ports)
        self._respond(pending, message.with_field("Transport", f"RTP/AVP/TCP;unicast;interleaved={channels}"))

    def _respond(self, pending: _PendingRequest, message: RtspMessage) -> None:
        """Send ffmpeg the response to its request."""
        self._client.write(message.with_field("CSeq", pending.message.get("cseq")).encode())

    def _write(self, data: bytes) -> None:
        if self._server is not None:
            self._server[1].write(data)


async def _open_port_pair(
    local_host: str,
    remote_host: str,
    channels: tuple[int, int],
    client: asyncio.StreamWriter,
    limits: SourceLimits,
) -> tuple[list[_UdpPort], int]:
    """Open an even port and the next one for RTP and RTCP (RFC 3550 §11); return them and the first number.

    Raises:
        OSError: no such pair is free.
    """
    loop = asyncio.get_running_loop()
    ports: list[_UdpPort] = []
    pair = _bound_pair(local_host, limits)
    try:
        for channel, one in zip(channels, pair, strict=True):
            port = _UdpPort(channel, remote_host, client, limits.rtsp_behind_bytes)
            await loop.create_datagram_endpoint(functools.partial(_same_protocol, port), sock=one)
            ports.append(port)
    except BaseException:
        _close(ports)
        for one in pair[len(ports) :]:
            one.close()
        raise
    return ports, _port_number(pair[0])


def _bound_pair(local_host: str, limits: SourceLimits) -> list[socket.socket]:
    """Bind two sockets to an even port and the next one."""
    family = socket.AF_INET6 if ":" in local_host else socket.AF_INET
    for _ in range(limits.port_attempts):
        pair = [socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) for _ in range(2)]
        try:
            pair[0].bind((local_host, 0))
            pair[1].bind((local_host, _port_number(pair[0]) ^ 1))
        except OSError:
            for one in pair:
                one.close()
            continue
        for one in pair:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, limits.rtsp_receive_bytes)
        return sorted(pair, key=_port_number)
    raise OSError("no two ports are free")


def _same_protocol(port: _UdpPort) -> _UdpPort:
    return port


def _port_number(bound: socket.socket) -> int:
    return int(bound.getsockname()[1])


def _close_gracefully(writer: asyncio.StreamWriter, last_seconds: float) -> None:
    """Close a connection, with a moment for sending what is still buffered."""
    writer.close()
    if writer.transport.get_write_buffer_size():
        asyncio.get_running_loop().call_later(last_seconds, writer.transport.abort)


def _close(ports: Iterable[_UdpPort]) -> None:
    for port in ports:
        port.close()


def _interleaved(message: RtspMessage) -> tuple[int, int] | None:
    """Return the interleaved channels that a SETUP requests; None if it requests UDP."""
    return messages.numbers(messages.transport(message.get("transport")).get("interleaved", ""))


def _request_url(parts: SplitResult) -> str:
    """Return a URL as it is requested: without user, password and ffmpeg's own options."""
    query = "&".join(word for word in parts.query.split("&") if word not in TRANSPORT_WORDS)
    place = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=place, query=query, fragment="").geturl()


def _server_of(url: str) -> tuple[str | None, int]:
    parts = urlsplit(url)
    return parts.hostname, parts.port or DEFAULT_PORT


def _split(base: str, location: str) -> SplitResult | None:
    """Resolve a redirect's URL, which a foreign server has written, and split it; None if it is invalid."""
    try:
        url = urljoin(base, location)
        parts = urlsplit(url)
        parts.port  # noqa: B018  # it is read here, and may be none
    except ValueError:
        return None
    return parts if url.isascii() and url.isprintable() and " " not in url else None
