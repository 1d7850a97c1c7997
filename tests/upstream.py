"""A server of another make that a channel pulls from; an ffmpeg of its own feeds each connection."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from packager.process.ffmpeg_discovery import Tools
from tests.ports import kept_port


class Upstream:
    """A server of another make: to each connection it sends what an ffmpeg of its own gives."""

    def __init__(self, tools: Tools, arguments: str) -> None:
        self._argv = [str(tools.ffmpeg), "-nostdin", "-v", "error", *arguments.split()]
        self.spoils = False
        self._server: asyncio.Server | None = None
        self._tasks: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self.port = 0
        self.served = 0

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Be gone: no connection stays, and none is taken."""
        if self._server is not None:
            self._server.close()
        await asyncio.sleep(0)  # Who has just been let in has a task that hasn't begun.
        self.hang_up()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def hang_up(self) -> None:
        # Not cancelled: a child that is just being started would stay behind.
        for writer in self._tasks.values():
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks[task] = writer
        self.served += 1
        child = await asyncio.create_subprocess_exec(*self._argv, stdout=asyncio.subprocess.PIPE)
        assert child.stdout is not None
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.0 200 OK\r\nContent-Type: application/octet-stream\r\n\r\n")
            while data := await child.stdout.read(1 << 16):
                writer.write(spoiled(data) if self.spoils else data)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            with contextlib.suppress(ProcessLookupError):
                child.kill()
            await child.communicate()
            writer.transport.abort()
            del self._tasks[task]


def spoiled(data: bytes) -> bytes:
    """Turn bytes here and there; ffmpeg has something to say of each picture then."""
    found = bytearray(data)
    for position in range(100, len(found), 997):
        found[position] ^= 0xFF
    return bytes(found)


@contextlib.asynccontextmanager
async def upstream(tools: Tools, arguments: str) -> AsyncIterator[Upstream]:
    """Run one; its port is kept for it while it is away."""
    server = Upstream(tools, arguments)
    with kept_port() as server.port:
        await server.start()
        try:
            yield server
        finally:
            await server.stop()
