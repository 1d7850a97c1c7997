"""What is received over SRT waits for the event loop within a bound, and isn't lost within libsrt's."""

from __future__ import annotations

import asyncio
import socket
import threading

import pytest

from origin.ingest.libsrt import HandshakeAnswer, Libsrt
from origin.ingest.limits import IngestLimits
from origin.ingest.srt_receiver import SrtConnection, SrtReceiver
from tests.srt import calling, udp_port
from tests.waiting import until

LIMITS = IngestLimits(srt_waiting_bytes=100_000, srt_chunk_bytes=20_000)
MESSAGES = 1000


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_an_event_loop_that_takes_nothing_is_not_given_more() -> None:
    port, found = udp_port(), list[SrtConnection]()
    receiver = SrtReceiver(Libsrt(), lambda _address, _stream_id: HandshakeAnswer(), found.append, LIMITS)
    thread = threading.Thread(target=receiver.run, args=([(socket.AF_INET, ("127.0.0.1", port))], 60.0))
    thread.start()
    done, hang_up = threading.Event(), threading.Event()

    def send() -> None:
        with calling(port, "publish:studio:key") as caller:
            for number in range(MESSAGES):
                assert caller.send(number.to_bytes(4, "big") * 329)
            done.set()
            hang_up.wait(120)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        await until(lambda: found, "the connection")
        await until(lambda: found[0].is_paused, "the bound")
        await until(done.is_set, "all that is sent")
        assert found[0].waiting_bytes < LIMITS.srt_waiting_bytes + LIMITS.srt_chunk_bytes
        data = bytearray()
        while len(data) < MESSAGES * 1316:
            assert found[0].waiting_bytes < LIMITS.srt_waiting_bytes + LIMITS.srt_chunk_bytes
            async with asyncio.timeout(60):
                more = await found[0].read()
            assert more
            data += more
        assert [int.from_bytes(data[one : one + 4], "big") for one in range(0, len(data), 1316)] == list(
            range(MESSAGES)
        )
        hang_up.set()
        async with asyncio.timeout(60):
            assert await found[0].read() == b""
    finally:
        hang_up.set()
        receiver.stop()
        await asyncio.to_thread(sender.join)
        await asyncio.to_thread(thread.join)
