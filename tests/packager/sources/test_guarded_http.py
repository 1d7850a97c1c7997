"""The client of other people's servers holds no event loop with what it does once."""

from __future__ import annotations

import asyncio
import gzip
import json
import subprocess
import sys
import tracemalloc

import httpx
import pytest

from packager.sources.pullers.guarded_http import certificates, guarded_client
from tests.hostile_upstream import answer, hostile_upstream, in_chunks
from tests.loop_watch import LoopWatch

LONGEST_SECONDS = 120

CLIENT = """
import asyncio, json, sys
from packager.sources.pullers.guarded_http import certificates, guarded_client

async def main(url):
    await asyncio.to_thread(certificates)
    known = set(sys.modules)
    async with guarded_client(url) as client, client.stream("GET", url) as response:
        assert await response.aread() == b"abc"
    print(json.dumps(sorted(set(sys.modules) - known)))

asyncio.run(main(sys.argv[1]))
"""


def test_a_first_request_imports_nothing_on_the_event_loop() -> None:
    with hostile_upstream({"": answer(b"abc")}) as upstream:
        url = upstream.url.replace("127.0.0.1", "localhost")
        argv = [sys.executable, "-c", CLIENT, f"{url}/x"]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=LONGEST_SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []


@pytest.mark.parametrize("host", ["127.0.0.1:99999", "127.0.0.1:-1", "xn--", "[::1", "a..b", "\xff"])
async def test_a_redirect_to_no_address_fails_as_any_request(host: str) -> None:
    told = f"HTTP/1.1 302 Found\r\nLocation: http://{host}/\r\nContent-Length: 0\r\n\r\n"
    with hostile_upstream({"": told.encode("latin-1")}) as upstream:
        async with guarded_client(upstream.url, redirects=5) as client:
            with pytest.raises((httpx.HTTPError, httpx.InvalidURL)):
                await client.get(f"{upstream.url}/x")


@pytest.mark.clause("CWE-409")
@pytest.mark.parametrize(
    ("field", "body"),
    [("Content-Length: 1000000000000", b"moved"), ("Content-Encoding: gzip", gzip.compress(bytes(64 << 20)))],
    ids=["endless", "bomb"],
)
async def test_no_body_of_a_redirect_is_read(field: str, body: bytes) -> None:
    """Whoever follows one would wait for the body's end, and have all of it in memory."""
    await asyncio.to_thread(certificates)
    head = f"HTTP/1.1 302 Found\r\nConnection: close\r\nLocation: there\r\n{field}\r\n\r\n"
    with hostile_upstream({"here": head.encode() + body, "there": answer(b"abc")}) as upstream:
        async with guarded_client(upstream.url, redirects=5) as client:
            tracemalloc.start()
            try:
                assert (await client.get(f"{upstream.url}/here")).content == b"abc"
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
    assert peak < 16 << 20


@pytest.mark.clause("CWE-400")
async def test_a_body_in_chunks_of_a_byte_holds_nobody_up(nothing_holds_the_event_loop: LoopWatch) -> None:
    """Ten thousand of them are in one read, and the parser waits for nothing between them."""
    await asyncio.to_thread(certificates)
    body = bytes(30_000)
    with hostile_upstream({"": in_chunks(body)}) as upstream:
        async with guarded_client(upstream.url) as client, client.stream("GET", upstream.url) as response:
            pieces, turns = 0, 0

            async def others() -> None:
                nonlocal turns
                while pieces < len(body):
                    turns += 1
                    await asyncio.sleep(0)

            neighbour = asyncio.create_task(others())
            async for piece in response.aiter_raw():
                pieces += len(piece)
            await neighbour
    assert pieces == len(body)
    # Three reads alone would give it three turns.
    assert turns > 30
    assert nothing_holds_the_event_loop.longest.seconds < 0.05


@pytest.mark.clause("RFC 9110 §15.2")
@pytest.mark.parametrize("interim", [b"HTTP/1.1 100 \r\n\r\n", b"HTTP/1.1 103 Early\r\nlink: a\r\n\r\n"])
async def test_interim_responses_count_towards_the_length_of_the_head(interim: bytes) -> None:
    few, many = interim * 3 + answer(b"abc"), interim * 100_000
    with hostile_upstream({"few": few, "many": many}) as upstream:
        async with guarded_client(upstream.url) as client:
            assert (await client.get(f"{upstream.url}/few")).content == b"abc"
            with pytest.raises(httpx.RemoteProtocolError, match="head of its answer is too long"):
                await client.get(f"{upstream.url}/many")
