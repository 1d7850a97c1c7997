"""What a client sends at once is taken in short steps, and all of it: tiny chunks, line ends, heads."""

from __future__ import annotations

import time

import pytest
import uvicorn
from uvicorn.server import ServerState

from origin.http1.limits import HttpLimits
from origin.http1.protocol import http_protocol
from tests.loop_watch import slowness
from tests.origin.http1.wire import Wire, sizes
from tests.waiting import until

RECEIVED_BYTES = 256_000
"""What a loop gives a protocol at once at most; what is sent is more than twice as much."""

STEP_SECONDS = 0.1
HEAD = b"POST /x HTTP/1.1\r\nHost: a\r\n"


async def longest_step(data: bytes, wanted: bytes) -> float:
    """Send bytes as a loop gives them; wait for an answer, and give the longest step in seconds."""
    config = uvicorn.Config(sizes, http=http_protocol(HttpLimits()), log_config=None)
    config.load()
    protocol = config.http_protocol_class(config, ServerState(), app_state={})  # type: ignore[call-arg]
    wire, longest = Wire(), 0.0
    protocol.connection_made(wire)
    for start in range(0, len(data), RECEIVED_BYTES):
        await until(lambda: not wire.paused)
        begin = time.thread_time()
        protocol.data_received(data[start : start + RECEIVED_BYTES])
        longest = max(longest, time.thread_time() - begin)
    await until(lambda: wanted in wire.written)
    protocol.connection_lost(None)
    return longest


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        (
            HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 130_000 + b"0\r\n\r\n",
            b"130000 bytes",
        ),
        (HEAD + b"Content-Length: 800000\r\n\r\n" + b"\r\n" * 400_000, b"800000 bytes"),
        (HEAD + b"Content-Length: 800000\r\n\r\n" + b"\r\n\r\nx" * 160_000, b"800000 bytes"),
        (b"\r\n" * 400_000 + HEAD + b"Content-Length: 3\r\n\r\nabc", b"3 bytes"),
    ],
    ids=["chunks of a byte", "a body of line ends", "ends of heads in a body", "line ends before a request"],
)
async def test_a_client_holds_nobody_by_what_it_sends_at_once(data: bytes, wanted: bytes) -> None:
    # What else the machine does costs a step some time, too, but not in each of two attempts.
    if await longest_step(data, wanted) > STEP_SECONDS:
        assert await longest_step(data, wanted) < STEP_SECONDS * slowness()


async def test_heads_one_behind_the_other_are_all_answered_in_order() -> None:
    requests = b"".join(HEAD + b"Content-Length: %d\r\n\r\n" % n + b"\n" * n for n in range(600))
    assert await longest_step(requests, b"\r\n\r\n599 bytes") < STEP_SECONDS * slowness()
