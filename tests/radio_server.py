"""A real server with radio mounts, and a source whose audio a test hands in block by block."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from starlette.applications import Starlette

from media.mp3.reader import Frame, MpegAudioReader
from origin.access.protected_addresses import TokenGuard
from origin.radio.mounts.limits import RadioLimits
from origin.radio.mounts.mount import Mount
from origin.radio.mounts.options import MountOptions
from origin.radio.routes import routes
from origin.radio.station_factory import Stations
from origin.server.endpoints.error_responses import ERROR_RESPONSES
from packager.radio.audio_blocks import AudioBlock
from packager.radio.audio_source import NO_STATION_INFO
from tests.app_server import app_running
from tests.keys import ADMIN_TOKEN
from tests.patience import MOUNT
from tests.permissions import station_access
from tests.reading import events_of

FRAME_BYTES = 417
SEND_BUFFER = 64 * 1024
"""A refused client that is late reads why, too."""

LIMIT = 120.0
"""Seconds after which something that should happen counts as not happening."""


def numbered_frame(number: int) -> bytes:
    """One frame of MPEG-1 Layer III, 128 kbit/s, 44.1 kHz, so 417 bytes (ISO/IEC 11172-3), with a number."""
    return b"\xff\xfb\x90\x00" + bytes(32) + number.to_bytes(8, "big") + bytes(373)


def numbers(audio: bytes) -> list[int]:
    """Read the numbers of frames back; fails unless there is nothing but whole frames."""
    assert len(audio) % FRAME_BYTES == 0
    found = [event.data for event in events_of(MpegAudioReader(), audio) if isinstance(event, Frame)]
    assert b"".join(found) == audio
    return [int.from_bytes(frame[36:44], "big") for frame in found]


class Feed:
    """A source of numbered frames, at the test's pace."""

    media_type = "audio/mpeg"
    available = True
    is_idle = False
    trouble = ""
    station_info = NO_STATION_INFO
    bitrate = 128

    def __init__(self) -> None:
        self._queue: asyncio.Queue[AudioBlock | None] = asyncio.Queue()
        self._next = 0

    def begin_at(self, number: int) -> None:
        """Set the number of the next frame."""
        self._next = number

    def push(self, frames: int = 39, title: str = "") -> None:
        """Give one block; 39 frames are 16,263 bytes, about a second."""
        data = b"".join(numbered_frame(self._next + index) for index in range(frames))
        self._next += frames
        cuts = tuple(range(0, len(data), FRAME_BYTES))
        self._queue.put_nowait(AudioBlock(data, 1152 * frames, 44100, title, cuts))

    def end(self) -> None:
        """Give nothing more."""
        self._queue.put_nowait(None)

    async def blocks(self) -> AsyncGenerator[AudioBlock]:
        """Give what was pushed."""
        while (block := await self._queue.get()) is not None:
            yield block

    async def settled(self) -> None:
        """Wait until all that was pushed is taken."""
        async with asyncio.timeout(LIMIT):
            while not self._queue.empty():
                await asyncio.sleep(0.001)
            await asyncio.sleep(0)


class Client:
    """A listener on a bare socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.status = 0
        self.headers: dict[str, str] = {}

    @classmethod
    async def open(
        cls, port: int, *fields: str, method: str = "GET", path: str = "/radio/test", version: str = "1.1"
    ) -> Client:
        """Send a request and read the response's head."""
        connection = socket.socket()
        connection.setblocking(False)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
        await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", port))
        client = cls(*await asyncio.open_connection(sock=connection, limit=4096))
        lines = [f"{method} {path} HTTP/{version}", "Host: radio.example", *fields, "", ""]
        client.writer.write("\r\n".join(lines).encode("latin-1"))
        async with asyncio.timeout(LIMIT):
            head = (await client.reader.readuntil(b"\r\n\r\n")).decode("utf-8")
        first, *rest = head.strip().split("\r\n")
        client.status = int(first.split()[1])
        pairs = [line.partition(":") for line in rest]
        client.headers = {name.lower(): value.strip() for name, _, value in pairs}
        assert len(client.headers) == len(rest), "a header came twice"
        return client

    async def chunk(self) -> bytes:
        """Read one chunk (RFC 9112 §7.1), or what has come without chunks; b"" at the end."""
        async with asyncio.timeout(LIMIT):
            if "transfer-encoding" not in self.headers:
                return await self.reader.read(1 << 16)
            size = int(await self.reader.readline(), 16)
            data = await self.reader.readexactly(size + 2)
        assert data.endswith(b"\r\n")
        return data[:-2]

    async def body(self, size: int) -> bytes:
        """Read chunks, or what comes without them, until there are so many bytes."""
        data, is_chunked = b"", "transfer-encoding" in self.headers
        while len(data) < size:
            async with asyncio.timeout(LIMIT):
                chunk = await (self.chunk() if is_chunked else self.reader.read(size - len(data)))
            assert chunk, "the body ended"
            data += chunk
        return data

    async def close(self) -> None:
        """Leave in good order."""
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()

    def abort(self) -> None:
        """Leave with RST."""
        self.writer.transport.abort()


class Server:
    """The way to a running server; remembers the clients, so that they can be thrown out at the end."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.clients: list[Client] = []

    async def open(
        self, *fields: str, method: str = "GET", path: str = "/radio/test", version: str = "1.1"
    ) -> Client:
        """Send a request and read the response's head."""
        client = await Client.open(self.port, *fields, method=method, path=path, version=version)
        self.clients.append(client)
        return client

    async def begin(
        self, method: str, *fields: str, path: str = "/radio/test", version: str = "HTTP/1.1"
    ) -> Client:
        """Send a source's head, without waiting for an answer."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        client = Client(reader, writer)
        self.clients.append(client)
        lines = [f"{method} {path} {version}", "Host: x", *fields, "", ""]
        writer.write("\r\n".join(lines).encode("latin-1"))
        return client

    async def source(self, mount: str, *fields: str, media_type: str = "audio/mpeg") -> Client:
        """Connect as a source of the old protocol, and wait until it may send."""
        typed = f"Content-Type: {media_type}"
        client = await self.open(*fields, typed, method="SOURCE", path=f"/radio/{mount}", version="1.0")
        assert client.status == 200
        return client


@contextlib.asynccontextmanager
async def serving(
    mounts: Mapping[str, Mount],
    max_listeners: int | None = None,
    passwords: Mapping[str, str] | None = None,
    silent_seconds: float = LIMIT,
    guard: TokenGuard | None = None,
) -> AsyncIterator[Server]:
    """Run the mounts behind a real server; give a way to it."""
    found = routes(
        Stations(dict(mounts), passwords=dict(passwords or {})),
        station_access(mounts, passwords, ADMIN_TOKEN, guard=guard),
        max_listeners=max_listeners,
        silent_seconds=silent_seconds,
    )
    async with serving_app(
        Starlette(routes=found, exception_handlers=ERROR_RESPONSES), mounts.values()
    ) as door:
        yield door


@contextlib.asynccontextmanager
async def serving_app(app: Starlette, mounts: Iterable[Mount] = ()) -> AsyncIterator[Server]:
    """Run an application, and the mounts, behind a real server; give a way to it."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        door = Server(listening.getsockname()[1])
        async with app_running(app, listening, mounts, lambda: [client.writer for client in door.clients]):
            yield door


def mount_options(
    *,
    burst_bytes: int = RadioLimits().burst_bytes,
    queue_bytes: int = RadioLimits().queue_bytes,
    skips: bool = False,
    limits: RadioLimits = MOUNT,
    **options: Any,
) -> MountOptions:
    """Give a mount's options, with which no station is down because the machine stood still."""
    limits = replace(limits, burst_bytes=burst_bytes, queue_bytes=queue_bytes, skips=skips)
    return MountOptions(limits=limits, **options)


@contextlib.asynccontextmanager
async def one_mount(
    options: MountOptions | None = None, clock: Callable[[], float] = time.monotonic
) -> AsyncIterator[tuple[Feed, Mount, Server]]:
    """Serve one mount named ``test`` with a feed; give the feed, the mount and a way to it."""
    feed = Feed()
    mount = Mount("test", feed, options or mount_options(), clock)
    async with serving({"test": mount}) as server:
        yield feed, mount, server
