"""RTMP connections that break as they like leave no traceback in the log, which strangers could fill."""

from __future__ import annotations

import asyncio
import socket
import struct

from structlog.testing import capture_logs

from origin.access.credentials import GuessDelay
from origin.access.publish_keys import PublishKeys
from origin.ingest.admission import IngestAdmission
from origin.ingest.rtmp import RtmpLimits, RtmpServer

ROUNDS = 50
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER of a socket whose closing is a reset."""


async def test_clients_that_send_nonsense_and_reset_are_lines_and_no_tracebacks() -> None:
    loop = asyncio.get_running_loop()
    server = RtmpServer(IngestAdmission({}, PublishKeys("", {}), GuessDelay(2, 5.0)), RtmpLimits())
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
