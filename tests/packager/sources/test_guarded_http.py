"""The client of other people's servers holds no event loop with what it does once."""

from __future__ import annotations

import json
import subprocess
import sys

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
