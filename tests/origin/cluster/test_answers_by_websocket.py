"""An answer's channel that is read by WebSocket, over faults of readers, nodes, Redis and upstreams."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from collections.abc import Collection, Sequence
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from tests.completion_server import Asked, Script, completing
from tests.conftest import ServerProcess, start_server
from tests.cut_connections import cutting
from tests.event_server import LIMIT, TOKEN, Got, as_got
from tests.origin.cluster.relayed_answers import EVENTS, asked, fetch, has_events, relaying_nodes
from tests.ports import kept_port
from tests.redis_server import RedisServer
from tests.streamed_answers import MINE, gated, paced
from tests.waiting import until

DATA = [one.decode().partition("data: ")[2].removesuffix("\n\n") for one in EVENTS]
RETRY_SECONDS = 0.05

SILENT_SECONDS = 8
"""How long an upstream server may send nothing: longer than its own head takes on a slow machine."""


def port_of(node: ServerProcess) -> int:
    return int(node.url.rpartition(":")[2])


class SocketReader:
    """A client that reads an answer by WebSocket, and comes again with the newest id until the answer's end.

    Args:
        ports: of the servers that are asked in turns.
        place: path of the answer's channel.
        breaks: numbers of events behind each of which it is killed.

    Attributes:
        got: all events so far.
        connections: how many were opened.
    """

    def __init__(self, ports: Sequence[int], place: str, breaks: Collection[int] = ()) -> None:
        self._ports, self._place, self._breaks = ports, place, breaks
        self._socket: ClientConnection | None = None
        self.got: list[Got] = []
        self.connections = 0

    async def run(self) -> None:
        async with asyncio.timeout(LIMIT):
            while not self.has_ended:
                with contextlib.suppress(OSError, EOFError, WebSocketException):
                    await self._read()
                await asyncio.sleep(RETRY_SECONDS)

    @property
    def has_ended(self) -> bool:
        return bool(self.got) and self.got[-1].name == "end"

    async def _read(self) -> None:
        port = self._ports[self.connections % len(self._ports)]
        self.connections += 1
        query = f"?last_event_id={self.got[-1].id}" if self.got else ""
        url = f"ws://127.0.0.1:{port}{self._place}{query}"
        async with connect(url, additional_headers=MINE, proxy=None) as self._socket:
            async for message in self._socket:
                self.got.append(as_got(json.loads(message)))
                if len(self.got) in self._breaks:
                    self.break_off()
                    return

    def break_off(self) -> None:
        """Cut the connection, as a client that is killed does."""
        assert self._socket is not None
        self._socket.transport.abort()

    def check(self, count: int, *ends: str) -> None:
        """Check that the first events are all there, once each, and what types of events follow them."""
        assert [one.data for one in self.got[:count]] == DATA[:count]
        assert [one.name for one in self.got[count:]] == [*ends]
        assert len({one.id for one in self.got}) == len(self.got)

    @property
    def reason(self) -> str:
        return str(json.loads(self.got[-1].data)["reason"])


async def test_connections_that_are_cut_and_clients_that_are_killed_lose_and_double_nothing(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    async with relaying_nodes(tmp_path, redis_server, paced(EVENTS, 0.03)) as cluster:
        ports, sizes = [port_of(one) for one in cluster.nodes], [1500, 700, 2500, 900]
        async with asked(cluster.nodes[0]) as answer, cutting(ports, sizes) as cut:
            place = answer.headers["location"]
            readers = [SocketReader([cut], place), SocketReader(ports, place, breaks=(5, 12, 20))]
            await asyncio.gather(*[one.run() for one in readers])
        for reader in readers:
            reader.check(len(EVENTS), "end")
            assert reader.reason == "done"
        assert sizes == []
        assert min(one.connections for one in readers) >= 4
        assert len(cluster.upstream.asked) == 1


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
async def test_a_reader_of_a_node_that_ends_gets_the_rest_and_the_error_at_the_other_one(
    tmp_path: Path, redis_server: RedisServer, how: signal.Signals
) -> None:
    script, _ = gated(EVENTS, 7)
    async with relaying_nodes(tmp_path, redis_server, script) as cluster:
        ports = [port_of(one) for one in cluster.nodes]
        async with asked(cluster.nodes[0]) as answer:
            place = answer.headers["location"]
            readers = [SocketReader(ports, place), SocketReader(ports[1:], place)]
            reading = [asyncio.create_task(one.run()) for one in readers]
            await until(lambda: all(len(one.got) == 7 for one in readers))
            await cluster.kill(0, how)
            await asyncio.gather(*reading)
        for reader in readers:
            reader.check(7, "error", "end")
            assert reader.reason == "restart"


async def test_a_reader_loses_and_doubles_nothing_while_redis_is_away(
    tmp_path: Path, redis: RedisServer
) -> None:
    script, go_on = gated(EVENTS, 10)
    async with relaying_nodes(tmp_path, redis, script) as cluster:
        ports = [port_of(one) for one in cluster.nodes]
        async with asked(cluster.nodes[0]) as answer:
            place = answer.headers["location"]
            readers = [SocketReader(ports[:1], place), SocketReader(ports[1:], place)]
            reading = [asyncio.create_task(one.run()) for one in readers]
            await until(lambda: all(len(one.got) == 10 for one in readers))
            redis.kill()
            go_on.set()
            # The answer's own node waits for no Redis, and its reader comes again meanwhile.
            await until(lambda: readers[0].has_ended)
            assert len(readers[1].got) == 10
            readers[1].break_off()
            redis.start()
            await asyncio.gather(*reading)
        for reader in readers:
            reader.check(len(EVENTS), "end")
            assert reader.reason == "done"


async def _dies(request: Asked) -> None:
    await request.head()
    for one in EVENTS[:7]:
        await request.raw(one)
    request.writer.transport.abort()


async def _stalls(request: Asked) -> None:
    await request.head()
    for one in EVENTS[:7]:
        await request.raw(one)
    await asyncio.Event().wait()


@pytest.mark.parametrize("script", [_dies, _stalls])
async def test_an_upstream_server_that_dies_or_stalls_is_an_error_behind_what_came(
    tmp_path: Path, redis_server: RedisServer, script: Script
) -> None:
    limits = [f"relay_silent_seconds = {SILENT_SECONDS}"]
    async with relaying_nodes(tmp_path, redis_server, script, limits=limits) as cluster:
        async with asked(cluster.nodes[0]) as answer:
            place = answer.headers["location"]
            readers = [SocketReader([port_of(one)], place) for one in cluster.nodes]
            await asyncio.gather(*(one.run() for one in readers))
        # A client that comes after the end has the same.
        late = SocketReader([port_of(cluster.nodes[1])], place)
        await late.run()
        for reader in (*readers, late):
            reader.check(7, "error", "end")
            assert reader.reason == "failed"
            assert "upstream" in reader.got[-2].data


async def test_a_reader_of_a_server_that_is_killed_reads_on_behind_its_restart(tmp_path: Path) -> None:
    script, _ = gated(EVENTS, 10)
    async with completing(script) as upstream:
        path = tmp_path / "headwater.toml"
        with kept_port() as port:
            base = upstream.url.removesuffix("/chat/completions")
            path.write_text(
                f'[server]\nport = {port}\ndata = "{tmp_path}/data"\n[library]\npath = "{tmp_path}"\n'
                f'[[relay]]\nname = "assistant"\nupstreams = ["{base}"]\ntoken = "{TOKEN}"\nhistory = true\n'
            )
            path.chmod(0o600)
            server = await asyncio.to_thread(start_server, "--config", str(path))
            try:
                async with asked(server) as answer:
                    place = answer.headers["location"]
                    reader = SocketReader([port], place)
                    reading = asyncio.create_task(reader.run())
                    await until(lambda: len(reader.got) == 10)
                    await has_events(server, place, 10)
                    await until(lambda: _are_on_disk(tmp_path / "data", DATA[9]))
                    server.process.kill()
                    await asyncio.to_thread(server.process.wait)
                server = await asyncio.to_thread(start_server, "--config", str(path))
                await reading
                kept = (await fetch(server, place, since="")).json()
            finally:
                await asyncio.to_thread(server.stop)
    reader.check(10, "error", "end")
    assert reader.reason == "restart"
    assert [as_got(one) for one in kept] == reader.got


def _are_on_disk(folder: Path, text: str) -> bool:
    written = json.dumps(text).encode()
    found = [one.read_bytes() for one in folder.rglob("*") if one.is_file()]
    return any(text.encode() in one or written in one for one in found)
