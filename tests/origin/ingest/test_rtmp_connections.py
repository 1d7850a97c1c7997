"""RTMP connections of strangers: they fill no log with tracebacks, and take no place of others."""

from __future__ import annotations

import asyncio
import gc
import socket
import struct
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest
import uvloop
from structlog.testing import capture_logs

from origin.access.guess_delay import GuessDelay
from origin.access.limits import RefusalLogLimits
from origin.ingest.admission import IngestAdmission
from origin.ingest.limits import IngestLimits
from origin.ingest.rtmp import RtmpServer
from packager.sources.published_source import PublishedSource
from tests.patience import CLIENT_SECONDS
from tests.permissions import live_authorization
from tests.rtmp import HANDSHAKE, command, publishing
from tests.waiting import until

ROUNDS = 50
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER of a socket whose closing is a reset."""


async def test_clients_that_send_nonsense_and_reset_are_lines_and_no_tracebacks() -> None:
    loop = asyncio.get_running_loop()
    server = RtmpServer(IngestAdmission({}, live_authorization({}), GuessDelay(2, 5.0)), IngestLimits())
    serving = asyncio.ensure_future(server.run())
    listening = await loop.create_server(server.protocol, "127.0.0.1", 0)
    address = listening.sockets[0].getsockname()
    with capture_logs() as logs:
        for _ in range(ROUNDS):
            with socket.socket() as client:
                client.setblocking(False)
                await loop.sock_connect(client, address)
                await loop.sock_sendall(client, bytes(500))
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        while server._sessions:
            await asyncio.sleep(0.01)
    listening.close()
    serving.cancel()
    await asyncio.wait([serving])
    assert {line["event"] for line in logs} == {"rtmp connection refused"}


async def leave_while_refused(ways: Sequence[tuple[str, bool]]) -> None:
    """Publish by wrong names and keys, and leave before the answer or while it is held back."""
    loop = asyncio.get_running_loop()
    sources = {"studio": PublishedSource("studio")}
    delay = GuessDelay(2, 0.05)
    server = RtmpServer(
        IngestAdmission(sources, live_authorization({"studio": "key"}), delay), IngestLimits()
    )
    serving = asyncio.ensure_future(server.run())
    listening = await loop.create_server(server.protocol, "127.0.0.1", 0)
    address = listening.sockets[0].getsockname()
    for name, resets in ways:
        with socket.socket() as client:
            client.setblocking(False)
            await loop.sock_connect(client, address)
            await loop.sock_sendall(client, publishing(name))
            if resets:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            else:
                await loop.sock_recv(client, 1)
    async with asyncio.timeout(CLIENT_SECONDS):
        while server._sessions:
            await asyncio.sleep(0.01)
    listening.close()
    serving.cancel()
    await asyncio.wait([serving])


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_whoever_leaves_while_it_is_refused_is_a_line_and_no_traceback(
    run: Callable[[Coroutine[Any, Any, None]], None],
) -> None:
    """Few lines of one address, whatever was wrong; an unknown channel's names the known one most like it."""
    ways = [(name, resets) for name in ("stduio", "studio?key=wrong") for resets in (True, False)]
    with capture_logs() as logs:
        run(leave_while_refused(ways * 20))
    assert {line["event"] for line in logs} == {"publisher refused"}
    assert {(line["reason"], line.get("similar")) for line in logs} == {
        ("no such channel", "studio"),
        ("wrong key", None),
    }
    assert "stduio" not in str(logs)  # it may be a key
    assert len(logs) == RefusalLogLimits().address_lines


@pytest.mark.clause("CWE-770")
async def test_a_flood_from_one_network_takes_no_connection_of_another() -> None:
    limits = IngestLimits(rtmp_connections=8)
    server = RtmpServer(IngestAdmission({}, live_authorization({}), GuessDelay(2, 5.0)), limits)
    serving = asyncio.ensure_future(server.run())
    listening = await asyncio.get_running_loop().create_server(server.protocol, "127.0.0.1", 0)
    port, streams = listening.sockets[0].getsockname()[1], list[asyncio.StreamWriter]()

    async def connect(address: str) -> asyncio.StreamReader:
        """Connect from an address, and wait for the first byte of the server's handshake."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0))
        streams.append(writer)
        writer.write(HANDSHAKE)
        assert await reader.read(1)
        return reader

    async with asyncio.timeout(CLIENT_SECONDS):
        first = await connect("127.0.0.1")
        flood = [await connect("127.0.0.2") for _ in range(2 * limits.rtmp_connections)]
        # Of the flood the oldest are dropped.
        await flood[0].read()
        assert not flood[-1].at_eof()
        streams[0].write(command("connect", 1, {"app": "live"}))
        assert b"NetConnection.Connect.Success" in await first.readuntil(b"Success")
    for writer in streams:
        writer.close()
    listening.close()
    serving.cancel()
    await asyncio.wait([serving])


@pytest.mark.clause("CWE-770")
async def test_a_flood_leaves_nothing_for_the_garbage_collector() -> None:
    """It would hold the event loop for a second once thousands of connections were left to it."""
    limits = IngestLimits(rtmp_connections=2, linger_seconds=0.0)
    server = RtmpServer(IngestAdmission({}, live_authorization({}), GuessDelay(2, 5.0)), limits)
    serving = asyncio.ensure_future(server.run())
    listening = await asyncio.get_running_loop().create_server(server.protocol, "127.0.0.1", 0)
    port, streams = listening.sockets[0].getsockname()[1], list[asyncio.StreamWriter]()

    def sessions() -> int:
        return sum(type(one).__name__ == "_RtmpSession" for one in gc.get_objects())

    gc.collect()
    gc.disable()
    try:
        for _ in range(20):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            streams.append(writer)
            writer.write(HANDSHAKE)
            assert await reader.read(1)
        await until(lambda: sessions() <= limits.rtmp_connections, "the end of all that were dropped")
    finally:
        gc.enable()
        for writer in streams:
            writer.close()
        listening.close()
        serving.cancel()
        await asyncio.gather(serving, *(one.wait_closed() for one in streams), return_exceptions=True)
