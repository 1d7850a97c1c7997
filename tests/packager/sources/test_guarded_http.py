"""The client of other people's servers holds no event loop with what it does once."""

from __future__ import annotations

import json
import subprocess
import sys

import httpx
import pytest

from packager.sources.guarded_http import guarded_client
from tests.hostile_upstream import answer, hostile_upstream

LONGEST_SECONDS = 120

CLIENT = """
import asyncio, json, sys
from packager.sources.guarded_http import certificates, guarded_client

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
        async with guarded_client(upstream.url, follow_redirects=True) as client:
            with pytest.raises((httpx.HTTPError, httpx.InvalidURL)):
                await client.get(f"{upstream.url}/x")
