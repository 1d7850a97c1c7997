"""A Redis whose replies no Redis sends: its node goes on, and says so in few lines."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from structlog.testing import capture_logs

from packager.cluster.limits import MAX_SNAPSHOT_BYTES
from tests.packager.cluster import live_nodes as live
from tests.waiting import until

REPLIES = {
    "number": b":7\r\n",
    "no number": b":seven\r\n",
    "list": b"*3\r\n$1\r\na\r\n:5\r\n$-1\r\n",
    "nesting": b"*1\r\n" * 100_000 + b":1\r\n",
    "negative length": b"$-7\r\n",
    "no UTF-8": b"$4\r\n\xff\xfe\xff\xfe\r\n",
    "long string": b"$%d\r\n" % (MAX_SNAPSHOT_BYTES + 1),
    "noise": bytes(range(1, 256)) + b"\r\n",
}
COMMANDS = 60


@dataclass
class FalseRedis:
    """A server that says that it is a Redis, and sends the same reply to all commands."""

    reply: bytes
    url: str = ""
    commands: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, ValueError):
            while True:
                words = []
                for _ in range(int((await reader.readuntil(b"\r\n"))[1:])):
                    length = int((await reader.readuntil(b"\r\n"))[1:])
                    words.append((await reader.readexactly(length + 2))[:-2])
                writer.write(self._answer(words))
                await writer.drain()
        writer.close()

    def _answer(self, words: list[bytes]) -> bytes:
        if words[0].upper() in (b"CLIENT", b"SELECT", b"HELLO"):
            return b"+OK\r\n"
        if len(words) > 1 and b"INFO" in words[1]:
            told = b"time:%.6f\n" % time.time()
            return b"$%d\r\n%b\r\n" % (len(told), told)
        self.commands += 1
        return self.reply


@contextlib.asynccontextmanager
async def false_redis(reply: bytes) -> AsyncIterator[FalseRedis]:
    found = FalseRedis(reply)
    server = await asyncio.start_server(found.serve, "127.0.0.1", 0)
    found.url = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
    yield found
    server.close()


@pytest.mark.parametrize("kind", REPLIES)
async def test_a_node_goes_on_whatever_redis_replies(kind: str) -> None:
    async with false_redis(REPLIES[kind]) as redis:
        with capture_logs() as logs:
            async with live.node(redis, live.playing()) as one:
                await until(lambda: redis.commands >= COMMANDS, "many replies")
                assert one.task is not None
                assert not one.task.done()
    places = [(line["error"], line["subject"]) for line in logs if line["log_level"] == "error"]
    assert len(places) == len(set(places)) < COMMANDS / 3
