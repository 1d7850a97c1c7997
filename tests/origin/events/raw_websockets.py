"""WebSocket connections whose bytes a test writes itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from websockets.frames import Opcode

from tests.event_server import LIMIT, TOKEN, Server


class Raw:
    """A WebSocket client on a bare socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def close_code(self) -> int | None:
        """Read to the end; give the code of the Close frame, if one comes."""
        code = None
        async with asyncio.timeout(LIMIT):
            while head := await self.reader.read(2):
                length = head[1]
                if length == 126:
                    length = int.from_bytes(await self.reader.readexactly(2))
                payload = await self.reader.readexactly(length)
                if head[0] & 0x0F == Opcode.CLOSE:
                    code = int.from_bytes(payload[:2])
        return code


@asynccontextmanager
async def raw(server: Server, *fields: str, key: str = "dGhlIHNhbXBsZSBub25jZQ==") -> AsyncIterator[Raw]:
    reader, writer = await server.connect()
    lines = (
        f"GET /events/test?key={TOKEN} HTTP/1.1", "Host: x", "Upgrade: websocket", "Connection: Upgrade",
        "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}", *fields, "", "",
    )  # fmt: skip
    writer.write("\r\n".join(lines).encode())
    client = Raw(reader, writer)
    try:
        yield client
    finally:
        writer.transport.abort()


async def opened(client: Raw) -> None:
    head = await asyncio.wait_for(client.reader.readuntil(b"\r\n\r\n"), LIMIT)
    assert head.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
    assert b"transfer-encoding" not in head
    assert head.lower().count(b"connection:") == 1
