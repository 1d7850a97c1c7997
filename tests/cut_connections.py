"""A proxy that cuts its clients' connections in the middle of an answer."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Sequence


@contextlib.asynccontextmanager
async def cutting(ports: Sequence[int], sizes: list[int]) -> AsyncIterator[int]:
    """Forward connections to the servers in turn; the first ones are cut behind so many bytes of answers."""
    writers: list[asyncio.StreamWriter] = []
    servers = itertools.cycle(ports)

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        left = sizes.pop(0) if sizes else 1 << 30
        upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", next(servers))
        writers.extend((writer, upstream_writer))

        async def up() -> None:
            while data := await reader.read(1 << 16):
                upstream_writer.write(data)

        sending = asyncio.ensure_future(up())
        try:
            while left > 0 and (data := await upstream_reader.read(min(left, 1 << 16))):
                left -= len(data)
                writer.write(data)
                await writer.drain()
        finally:
            sending.cancel()
            writer.close()
            upstream_writer.transport.abort()

    server = await asyncio.start_server(forward, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
