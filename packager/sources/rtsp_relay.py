"""Stands between an ffmpeg and the RTSP server that it fetches from, so that it needs this machine alone.

ffmpeg follows a redirect of RTSP to any host, whatever it was told to keep to, and asks hosts that a server's
answers name for media in UDP. So it is given a URL of this machine, and only this relay connects to the
outside, by a guard. Redirects are followed here (RFC 2326 §11.3), as far as the guard lets them; and where a
server sends media in UDP alone, it is received here and goes on over TCP (§10.12).
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
from media.rtsp.messages import Message, RtspReader
from packager.sources.guard import Guard
from packager.sources.limits import DEFAULT_LIMITS, RtspLimits, SourceLimits
from packager.sources.retries import PullError
from packager.step_budget import StepBudget

HOST = "127.0.0.1"
DEFAULT_PORT = 554
READ_BYTES = 1 << 16
MAX_DIGITS = 9
"""Of a request's number (RFC 2326 §12.17)."""

TRANSPORT_WORDS = frozenset(("udp", "tcp", "multicast"))
"""What ffmpeg takes out of a URL's query for itself."""

BAD_GATEWAY = ("RTSP/1.0", "502", "Bad Gateway")

# RFC 3550 §5.1, §6.4.2: empty packets, which open the way for those that come (ffmpeg sends the same).
_PUNCHES = (b"\x80" + bytes(11), b"\x80\xc9\x00\x01" + bytes(4))


class RtspRelay:
    """Relays one configured URL; see ``running``.

    Args:
        url: as configured, with the user and the password in it.
        limits: what it may cost and wait for.

    Attributes:
        trouble: why the last connection came to nothing, where that was known here; empty where it wasn't.
    """

    def __init__(self, url: str, limits: SourceLimits = DEFAULT_LIMITS) -> None:
        self._limits = limits
        self._parts = urlsplit(url)
        self._guard = Guard(self._parts.hostname or "", limits=limits.guard)
        # Whoever else is on this machine isn't to use the way that is open for ffmpeg.
        self._path = f"/{secrets.token_urlsafe(16)}"
        self._connections: set[asyncio.Task[None]] = set()
        self._local = ""
        self.trouble = ""

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncGenerator[str]:
        """Listen while the context is open; gives the URL that ffmpeg is to fetch in its place."""

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.ensure_future(self._serve(reader, writer))
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)
            # However early it was cancelled.
            task.add_done_callback(lambda _: _part(writer, self._limits.rtsp.last_seconds))

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
            if len(self._connections) <= self._limits.rtsp.connections:
                self.trouble = ""
                await _Connection(self._guard, self._parts, self._local, reader, writer, self._limits).run()
        except (PullError, MediaError) as error:
            self.trouble = str(error)
        except ConnectionResetError:
            pass  # either side ends so, too; ffmpeg tells what it misses
        except OSError as error:
            self.trouble = error.strerror or "it doesn't answer"


@dataclass(slots=True)
class _Asked:
    """A request that waits for its answer.

    Attributes:
        message: as ffmpeg sent it.
        ports: where its media will be received, where it was asked for in UDP.
    """

    message: Message
    ports: list[_Port] = field(default_factory=list)


class _Port(asyncio.DatagramProtocol):
    """Receives the media of one channel in UDP, from one address."""

    def __init__(self, channel: int, sender: str, client: asyncio.StreamWriter, behind_bytes: int) -> None:
        self._behind_bytes = behind_bytes
        self.channel = channel
        self.remote: tuple[str, int] | None = None
        self.transport: asyncio.DatagramTransport | None = None
        self._sender = sender
        self._client = client

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
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
    """One connection of an ffmpeg, and that to the server which belongs to it.

    Args:
        guard: by which it is connected.
        parts: of the configured URL.
        local: the URL that ffmpeg asks for, without user and password.
        reader: of what ffmpeg sends.
        client: takes what ffmpeg gets.
        limits: what it may cost.
    """

    def __init__(
        self,
        guard: Guard,
        parts: SplitResult,
        local: str,
        reader: asyncio.StreamReader,
        client: asyncio.StreamWriter,
        limits: SourceLimits,
    ) -> None:
        self._limits = limits.rtsp
        self._connect_seconds = limits.connect_seconds
        self._guard = guard
        self._parts = parts
        self._local = local
        self._reader = reader
        self._client = client
        self._target = _asked_for(parts)
        self._server: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._pending: dict[int, _Asked] = {}
        self._sent = self._redirects = 0
        self._admitted = False
        self._channels: dict[int, _Port] = {}

    async def run(self) -> None:
        """Relay until either side ends.

        Raises:
            PullError: it leads to where it mustn't.
            MediaError: what comes isn't RTSP.
            OSError: the server can't be connected to, or breaks off.
        """
        ways: list[asyncio.Future[None]] = []
        try:
            await self._connect()
            ways = [asyncio.ensure_future(way) for way in (self._from_client(), self._from_server())]
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in ways:
                if way.done():
                    way.result()
        finally:
            for way in ways:
                way.cancel()
            # Before anything is waited for: whoever ends the relay may end that wait, too.
            for asked in self._pending.values():
                _close(asked.ports)
            _close(self._channels.values())
            if self._server is not None:
                _part(self._server[1], self._limits.last_seconds)
            await asyncio.gather(*ways, return_exceptions=True)

    async def _connect(self) -> None:
        parts = urlsplit(self._target)
        if self._server is not None:
            _part(self._server[1], self._limits.last_seconds)
        self._server = await self._guard.connect(
            parts.hostname or "", parts.port or DEFAULT_PORT, self._connect_seconds
        )

    async def _from_client(self) -> None:
        taking, budget = RtspReader(), StepBudget()
        while data := await self._reader.read(READ_BYTES):
            async for portion in budget.portions(data):
                for item in taking.receive_data(portion):
                    if isinstance(item, Message):
                        self._take(item)
                    elif self._admitted:
                        self._pass_on(item)
            if self._server is not None:
                await self._server[1].drain()

    def _pass_on(self, frames: bytes) -> None:
        """Give the server ffmpeg's own reports, by the way that the media come."""
        if not self._channels:
            self._write(frames)
        for channel, payload in messages.frames(frames) if self._channels else ():
            if channel in self._channels:
                self._channels[channel].send(payload)

    def _take(self, message: Message) -> None:
        """Take a message of ffmpeg's, and ask the server."""
        if message.is_response:
            self._write(message.encode())
            return
        self._admitted = self._admitted or message.first[1].startswith(self._local)
        if not self._admitted:
            raise MalformedError("somebody else asks")
        asked = _Asked(message)
        if message.first[0] == "SETUP" and _interleaved(message) is None:
            self._answer(asked, Message(("RTSP/1.0", "461", "Unsupported Transport")))
            return
        self._ask(asked)

    def _ask(self, asked: _Asked, transport: str = "") -> None:
        """Send the server a request as if there were no relay."""
        if len(self._pending) >= self._limits.pending_requests:
            raise MalformedError("it answers nothing")
        self._sent += 1
        self._pending[self._sent] = asked
        method, uri, version = asked.message.first
        message = asked.message
        if uri.startswith(self._local):
            uri = self._target + uri.removeprefix(self._local)
        if transport:
            message = message.with_field("Transport", transport)
        told = message.get("authorization")
        if told:
            message = message.with_field(
                "Authorization", self._authorization(told, method, uri, message.first[1])
            )
        message = Message((method, uri, version), message.fields).with_field("CSeq", str(self._sent))
        self._write(Message(message.first, message.fields, asked.message.body).encode())

    def _authorization(self, told: str, method: str, uri: str, before: str) -> str | None:
        """Have what proves the password stand for the server's own URI; nobody else is told it."""
        if _server_of(self._target) != _server_of(_asked_for(self._parts)):
            return None
        if uri == before:
            return told
        user, _, password = self._parts.netloc.rpartition("@")[0].partition(":")
        return messages.readdressed(told, method, uri, user, password)

    async def _from_server(self) -> None:
        while self._server is not None:
            reader, server = self._server[0], self._server
            taking, budget = RtspReader(), StepBudget()
            while self._server is server and (data := await reader.read(READ_BYTES)):
                async for portion in budget.portions(data):
                    for item in taking.receive_data(portion):
                        if self._server is not server:
                            break
                        if isinstance(item, Message):
                            await self._hear(item)
                        else:
                            self._client.write(item)
                await self._client.drain()
            if self._server is server:
                return

    async def _hear(self, message: Message) -> None:
        """Take a message of the server's."""
        message = message.with_field("Location", None) if message.status // 100 != 3 else message
        if not message.is_response:
            self._client.write(message.encode())
            return
        told = message.get("cseq")
        is_number = told.isascii() and told.isdecimal() and len(told) <= MAX_DIGITS
        asked = self._pending.pop(int(told), None) if is_number else None
        if asked is None:
            return
        method = asked.message.first[0]
        if message.status // 100 == 3:
            await self._redirect(asked, message)
        elif message.status == 461 and method == "SETUP" and not asked.ports:
            await self._ask_for_datagrams(asked)
        elif asked.ports:
            self._settle(asked, message)
        else:
            self._answer(asked, message)

    async def _redirect(self, asked: _Asked, message: Message) -> None:
        """Follow a redirect before the session begins; later none is followed."""
        location = urljoin(self._target, message.get("location"))
        parts = _split(location)
        self._redirects += 1
        if asked.message.first[0] not in ("OPTIONS", "DESCRIBE") or self._redirects > self._limits.redirects:
            self._answer(asked, Message(BAD_GATEWAY))
            raise PullError("it redirects where that isn't followed")
        if parts is None or parts.scheme != "rtsp" or not parts.hostname:
            self._answer(asked, Message(BAD_GATEWAY))
            raise PullError("it redirects to another protocol")
        self._target = _asked_for(parts)
        for other in self._pending.values():
            _close(other.ports)
        self._pending.clear()
        await self._connect()
        self._ask(asked)

    async def _ask_for_datagrams(self, asked: _Asked) -> None:
        """Ask a server that sends no media over TCP to send them here in UDP."""
        channels = _interleaved(asked.message)
        if self._server is None or channels is None:
            return
        here, there = (self._server[1].get_extra_info(name)[0] for name in ("sockname", "peername"))
        asked.ports, first = await _two_ports(here, there, channels, self._client, self._limits)
        try:
            self._ask(asked, f"RTP/AVP;unicast;client_port={first}-{first + 1}")
        except MediaError:
            _close(asked.ports)
            raise

    def _settle(self, asked: _Asked, message: Message) -> None:
        """Tell ffmpeg that its media come over TCP, where the server agreed to send them."""
        ports = messages.numbers(messages.transport(message.get("transport")).get("server_port", ""))
        if message.status != 200 or self._server is None:
            _close(asked.ports)
            self._answer(asked, message)
            return
        there = self._server[1].get_extra_info("peername")[0]
        for port, remote, punch in zip(asked.ports, ports or (), _PUNCHES, strict=False):
            # RFC 2326 §12.39: the answer may name another address as the source; nobody judged that one.
            port.remote = (there, remote)
            port.send(punch)
        _close(self._channels.pop(port.channel) for port in asked.ports if port.channel in self._channels)
        self._channels |= {port.channel: port for port in asked.ports}
        channels = "-".join(str(port.channel) for port in asked.ports)
        self._answer(asked, message.with_field("Transport", f"RTP/AVP/TCP;unicast;interleaved={channels}"))

    def _answer(self, asked: _Asked, message: Message) -> None:
        """Give ffmpeg the answer to its request."""
        self._client.write(message.with_field("CSeq", asked.message.get("cseq")).encode())

    def _write(self, data: bytes) -> None:
        if self._server is not None:
            self._server[1].write(data)


async def _two_ports(
    here: str, there: str, channels: tuple[int, int], client: asyncio.StreamWriter, limits: RtspLimits
) -> tuple[list[_Port], int]:
    """Open an even port and the next one (RFC 3550 §11) for media and their reports; give them and the first.

    Raises:
        OSError: there are none.
    """
    loop = asyncio.get_running_loop()
    ports: list[_Port] = []
    pair = _bound_pair(here, limits)
    try:
        for channel, one in zip(channels, pair, strict=True):
            port = _Port(channel, there, client, limits.behind_bytes)
            await loop.create_datagram_endpoint(functools.partial(_itself, port), sock=one)
            ports.append(port)
    except BaseException:
        _close(ports)
        for one in pair[len(ports) :]:
            one.close()
        raise
    return ports, _number(pair[0])


def _bound_pair(here: str, limits: RtspLimits) -> list[socket.socket]:
    """Bind two sockets of an address, the first one's port being even, and the second one's the next."""
    family = socket.AF_INET6 if ":" in here else socket.AF_INET
    for _ in range(limits.port_attempts):
        pair = [socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) for _ in range(2)]
        try:
            pair[0].bind((here, 0))
            pair[1].bind((here, _number(pair[0]) ^ 1))
        except OSError:
            for one in pair:
                one.close()
            continue
        for one in pair:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, limits.receive_bytes)
        return sorted(pair, key=_number)
    raise OSError("no two ports are free")


def _itself(port: _Port) -> _Port:
    return port


def _number(bound: socket.socket) -> int:
    return int(bound.getsockname()[1])


def _part(writer: asyncio.StreamWriter, last_seconds: float) -> None:
    """End a connection: what was written last may be taken for a moment, by who takes it at all."""
    writer.close()
    if writer.transport.get_write_buffer_size():
        asyncio.get_running_loop().call_later(last_seconds, writer.transport.abort)


def _close(ports: Iterable[_Port]) -> None:
    for port in ports:
        port.close()


def _interleaved(message: Message) -> tuple[int, int] | None:
    """Tell on which channels a request wants its media; None where it wants them in UDP."""
    return messages.numbers(messages.transport(message.get("transport")).get("interleaved", ""))


def _asked_for(parts: SplitResult) -> str:
    """Write a URL as it is asked for: without user, password, and what is for ffmpeg alone."""
    query = "&".join(word for word in parts.query.split("&") if word not in TRANSPORT_WORDS)
    place = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=place, query=query, fragment="").geturl()


def _server_of(url: str) -> tuple[str | None, int]:
    parts = urlsplit(url)
    return parts.hostname, parts.port or DEFAULT_PORT


def _split(url: str) -> SplitResult | None:
    """Take a URL apart that somebody else wrote; None where it is none."""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  # it is read here, and may be none
    except ValueError:
        return None
    return parts if url.isascii() and url.isprintable() and " " not in url else None
