"""Three thousand listeners of a station leave at once: ``python -m tests.benchmarks.leavers [COUNT]``.

Prints what the server holds before they come, while they listen, and after they have gone, twice.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from tests.benchmarks import peers
from tests.benchmarks.listeners import JOIN_PER_SECOND, Crowd
from tests.benchmarks.peers import Peer
from tests.benchmarks.radio import running_headwater, write_numbers

COUNT = 3000
LISTEN_SECONDS = 5.0
GONE_SECONDS = 30.0


def main() -> None:
    """Let the crowd come and go, twice."""
    peers.require("taskset", "ffmpeg")
    count = int(sys.argv[1]) if sys.argv[1:] else COUNT
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_numbers(folder)
        with running_headwater(folder) as server:
            time.sleep(3)
            _show("before", server)
            for _ in range(2):
                _come_and_go(server, count)


def _come_and_go(server: Peer, count: int) -> None:
    crowd = Crowd(int(server.url.rpartition(":")[2]), "/radio/numbers")
    for _ in range(count):
        crowd.join()
        crowd.listen(time.monotonic() + 1 / JOIN_PER_SECOND)
    crowd.listen(time.monotonic() + LISTEN_SECONDS)
    _show("listening", server)
    crowd.leave()
    started = time.monotonic()
    while _listeners(server):
        if time.monotonic() > started + GONE_SECONDS:
            sys.exit("some never left")
    _show(f"gone {time.monotonic() - started:.2f} s later", server)


def _listeners(server: Peer) -> int:
    with urllib.request.urlopen(f"{server.url}/metrics", timeout=30) as answer:
        found = re.search(r'radio_listeners\{mount="numbers"\} (\S+)', answer.read().decode())
    return round(float(found[1])) if found else 0


def _show(when: str, server: Peer) -> None:
    descriptors = len(os.listdir(f"/proc/{server.pids[0]}/fd"))
    memory = server.resident_bytes() / (1 << 20)
    line = f"{when:20} {_listeners(server):5} listeners {descriptors:5} descriptors {memory:7.1f} MiB"
    print(line, flush=True)  # noqa: T201  # its purpose


if __name__ == "__main__":
    main()
