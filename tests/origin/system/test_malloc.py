"""Memory that a busy moment took goes back, though something in it lives on."""

from __future__ import annotations

import subprocess
import sys

import pytest

MEBIBYTES = 100
PROGRAM = f"""
import asyncio, re
from origin.system import malloc as allocator

def resident():
    return int(re.search(r"VmRSS:\\s+(\\d+)", open("/proc/self/status").read())[1]) // 1024

async def main():
    allocator.configure()
    before = resident()
    moment = [bytes(1000) for _ in range({MEBIBYTES} * 1024)]
    lasting = moment[::100]
    busy = resident()
    del moment
    tidying = asyncio.create_task(allocator.trim_regularly(0.1))
    async with asyncio.timeout(200):
        while resident() > before + (busy - before) / 4:
            await asyncio.sleep(0.05)
    tidying.cancel()
    print(busy - before, len(lasting))

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc")
def test_what_a_busy_moment_took_goes_back_though_something_in_it_lives_on() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    taken, lasting = map(int, done.stdout.split())
    assert taken >= MEBIBYTES * 0.9
    assert lasting == MEBIBYTES * 1024 / 100
