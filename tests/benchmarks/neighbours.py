"""What encoding on request does to its neighbours: ranges, a live channel and a station.

They are watched while the server has nothing else to do, and then while it encodes as much as it can, since
ten viewers seek without end. The peer is the same server before.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import os
import random
import statistics
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import m3u8

from tests import made_once
from tests.benchmarks import encoding, peers
from tests.benchmarks.load import Figure
from tests.benchmarks.radio import write_numbers
from tests.copied_channel import copied_channel

NAME = "encoded: neighbours"
SECONDS = 60.0
WARM_SECONDS = 10.0
RANGE_BYTES = 64 << 10
RANGE_PAUSE = 0.02
BOTH_CORES = "0,1"
HEIGHTS = (720, 480, 360)
CONFIG = """
[server]
port = {port}
[library]
path = "{folder}/library"
encode = "all"
[[radio]]
name = "numbers"
folder = "{folder}/music"
"""


def watched(step: Callable[[], float], ended: threading.Event) -> list[float]:
    """Return how long each step of a client takes in seconds, until the event; its failure is raised."""
    # Clients are on other machines: an encoder doesn't take the processor from them.
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    seconds: list[float] = []
    while not ended.is_set():
        seconds.append(step())
    return seconds


def ranges(port: int, path: Path) -> Callable[[], float]:
    """Return what fetches 64 KiB at any byte of a file, on one connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    size, places = path.stat().st_size, random.Random(1)

    def step() -> float:
        time.sleep(RANGE_PAUSE)
        start = places.randrange(size - RANGE_BYTES)
        began = time.perf_counter()
        headers = {"Range": f"bytes={start}-{start + RANGE_BYTES - 1}"}
        connection.request("GET", f"/media/{path.name}", headers=headers)
        answer = connection.getresponse()
        if answer.status != http.client.PARTIAL_CONTENT or len(answer.read()) != RANGE_BYTES:
            raise RuntimeError(f"a range was answered by {answer.status}")
        return time.perf_counter() - began

    return step


def parts(url: str) -> Callable[[], float]:
    """Return what waits for the next part of a live channel; a part that never comes is an error."""
    address = f"{url}/live/demo/source/media.m3u8"
    playlist = m3u8.loads(encoding.fetch(address).decode())
    newest = [playlist.media_sequence + len(playlist.segments), 0]
    arrived = [time.perf_counter()]

    def step() -> float:
        text = encoding.fetch(f"{address}?_HLS_msn={newest[0]}&_HLS_part={newest[1]}").decode()
        if "EXT-X-GAP" in text:
            raise RuntimeError("a segment of the live channel is missing")
        now, before = time.perf_counter(), arrived[0]
        arrived[0] = now
        newest[1] += 1
        last = m3u8.loads(text)
        if last.media_sequence + len([one for one in last.segments if one.uri]) > newest[0]:
            newest[:] = [newest[0] + 1, 0]
        return now - before

    return step


def blocks(url: str) -> Callable[[], float]:
    """Return what waits for the next bytes of a station."""
    answer = urllib.request.urlopen(f"{url}/radio/numbers", timeout=60)

    def step() -> float:
        began = time.perf_counter()
        if not answer.read1(1 << 16):
            raise RuntimeError("the station ended")
        return time.perf_counter() - began

    return step


def watch(server: peers.Peer, film: Path, name: str) -> Iterator[Figure]:
    """Watch ranges, parts and blocks for a minute."""
    ended = threading.Event()
    port = int(server.url.rpartition(":")[2])
    steps = {"64 KiB range": ranges(port, film), "live part": parts(server.url), "radio": blocks(server.url)}
    with ThreadPoolExecutor(len(steps)) as threads:
        watchers = {kind: threads.submit(watched, step, ended) for kind, step in steps.items()}
        time.sleep(SECONDS)
        ended.set()
    for kind, watcher in watchers.items():
        # The first steps have what was there before.
        times = watcher.result()
        times = times[len(times) // 10 :]
        yield Figure(f"{NAME}: {kind}, p95", name, 1e3 * statistics.quantiles(times, n=20)[-1], "ms")
        yield Figure(f"{NAME}: {kind}, longest", name, 1e3 * max(times), "ms")


def run(words: tuple[str, ...] = ()) -> Iterator[Figure]:
    """Watch a server that encodes nothing, and then one that encodes as much as it can."""
    if words and not any(word in NAME for word in words):
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "library").mkdir()
        film = folder / "library" / "h264.mp4"
        encoding.make_film(film, "h264")
        write_numbers(folder)
        port = peers.free_port()
        config = folder / "headwater.toml"
        os.environ.setdefault(made_once.VARIABLE, name)
        config.write_text(CONFIG.format(port=port, folder=folder) + copied_channel("demo"))
        command = [str(Path(sys.executable).parent / "headwater"), "serve", "--config", str(config)]
        with peers.running("headwater", command, port, BOTH_CORES) as server:
            time.sleep(WARM_SECONDS)
            yield from watch(server, film, "nothing else")
            addresses = [
                one.absolute_uri for height in HEIGHTS for one in encoding.segments_of(server, film, height)
            ]
            random.Random(1).shuffle(addresses)
            # In a process of its own, as no thread here may wait for another one.
            with ProcessPoolExecutor(1) as processes:
                seeking = processes.submit(seek, addresses, 2 * WARM_SECONDS + SECONDS)
                time.sleep(WARM_SECONDS)
                yield from watch(server, film, "encoding")
                seeking.result()


def seek(addresses: Sequence[str], seconds: float) -> None:
    """Fetch segments as ten viewers who seek without end."""
    end = time.monotonic() + seconds

    def view(viewer: int) -> None:
        for address in itertools.cycle(addresses[viewer :: encoding.AT_ONCE]):
            if time.monotonic() > end:
                return
            encoding.fetch(address)

    with ThreadPoolExecutor(encoding.AT_ONCE) as threads:
        list(threads.map(view, range(encoding.AT_ONCE)))
