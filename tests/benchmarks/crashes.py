"""The server killed at random instants while it writes its DVR.

``python -m tests.benchmarks.crashes [TIMES]``. After each kill it is started again, and what was listed must
be there byte for byte, but for what was on its way to the disk; numbers never go back.
"""

from __future__ import annotations

import os
import random
import re
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import httpx

from tests.conftest import ServerProcess, start_server
from tests.waiting import wait_for

TIMES = 30
LONGEST_SECONDS = 2.5
"""How long the server lives behind the first segment that is new, at most."""

CHECKED = 40
"""Segments of the past that are compared each time, besides those of the last life."""

RENDITIONS = ("360p", "240p", "audio")
CHANNEL = 'name = "demo"\nsource = "testsrc"\nladder = ["360p", "240p"]\nsegment_duration = 1.0\ndvr = "1h"\n'

Known = dict[tuple[str, str], bytes]


def listed(client: httpx.Client, url: str, name: str) -> list[str]:
    """Give the segments of a playlist that aren't gaps, in order."""
    answer = client.get(f"{url}/live/demo/{name}/media.m3u8")
    if answer.status_code != 200:
        return []
    blocks = re.split(r"(?<=\.m4s)\n", answer.text)
    return [block.rpartition("\n")[2] for block in blocks if "#EXTINF" in block and "#EXT-X-GAP" not in block]


def fetch(client: httpx.Client, url: str, name: str, segment: str) -> bytes:
    """Fetch a segment that is listed."""
    answer = client.get(f"{url}/live/demo/{name}/{segment}")
    if answer.status_code != 200:
        raise AssertionError(f"{name}/{segment}: {answer.status_code}")
    return answer.content


def live(client: httpx.Client, server: ServerProcess, known: Known, chance: random.Random) -> int:
    """Compare the past, learn what is listed, and let some time go by; give how many were lost."""
    names = {name: wait_for(partial(listed, client, server.url, name)) for name in RENDITIONS}
    lost = [key for key in known if key[1] not in names[key[0]]]
    for key in lost:
        del known[key]
    past = list(known)
    for name, segment in chance.sample(past, min(CHECKED, len(past))):
        if fetch(client, server.url, name, segment) != known[name, segment]:
            raise AssertionError(f"{name}/{segment} has other bytes")
    wait_for(lambda: ("360p", (listed(client, server.url, "360p") or [""])[-1]) not in known)
    time.sleep(chance.uniform(0, LONGEST_SECONDS))
    for name in RENDITIONS:
        for segment in listed(client, server.url, name):
            if (name, segment) not in known:
                known[name, segment] = fetch(client, server.url, name, segment)
    return len(lost)


def cpu_seconds(pid: int) -> float:
    """Tell for how long a process has had a processor: what the machine's other work takes doesn't count."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(ticks) for ticks in fields[11:13]) / os.sysconf("SC_CLK_TCK")


def main(times: int, seed: int = 1) -> Iterator[str]:
    """Kill and start again.

    Yields:
        What came of it.
    """
    chance, known, newest = random.Random(seed), Known(), -1
    starts: list[float] = []
    busy: list[float] = []
    losses: list[int] = []
    with (
        tempfile.TemporaryDirectory(prefix="headwater-") as folder,
        httpx.Client(timeout=60) as client,
    ):
        path = Path(folder) / "headwater.toml"
        (Path(folder) / "library").mkdir()
        server = f'[server]\nport = 0\ndata = "{folder}/data"\n[library]\npath = "{folder}/library"\n'
        path.write_text(f"{server}[[live]]\n{CHANNEL}")
        for _ in range(times):
            began = time.monotonic()
            process = start_server("--config", str(path))
            try:
                wait_for(partial(listed, client, process.url, "360p"))
                starts.append(time.monotonic() - began)
                busy.append(cpu_seconds(process.process.pid))
                losses.append(live(client, process, known, chance))
                last = int(listed(client, process.url, "360p")[-1].removesuffix(".m4s"))
                if last <= newest:
                    raise AssertionError(f"number {last} after {newest}")
                newest = last
            finally:
                process.stop(signal.SIGKILL)
    yield f"{times} kills, {len(known)} segments known in the end, none with other bytes"
    yield f"lost of a life: {max(losses)} at most in {len(RENDITIONS)} renditions, {sum(losses)} in all"
    middle = statistics.median(starts[1:])
    yield f"from the start to a playlist: {middle:.2f} s in the middle, {max(starts[1:]):.2f} s at most"
    yield f"of that the server computes {statistics.median(busy[1:]):.2f} s: the rest is others'"


if __name__ == "__main__":
    for line in main(int(sys.argv[1]) if sys.argv[1:] else TIMES):
        sys.stdout.write(f"{line}\n")
