"""Loads of eleven kinds, each of a size, on a server of its own, beside a neighbour that asks for little."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests.benchmarks import dvr, event_servers, live, load, peers, publishers, radio
from tests.benchmarks import workers as worker_processes
from tests.benchmarks.event_publisher import TOKEN
from tests.benchmarks.live_origin import FIRST_NUMBER, PART_SECONDS
from tests.benchmarks.load import Workload
from tests.benchmarks.peers import Peer
from tests.benchmarks.players import Crowd
from tests.packager import crafted

SECONDS = 8.0
SETTLE_SECONDS = 3.0
PAUSE_SECONDS = 0.05
SMALL = "/media/small.mp4"
RANGE_BYTES = 16 << 10
LARGE_BYTES = 16 << 20
ROUNDS = 5
PARTS = 12
MAX_CONNECTIONS = 12_000

NO_MORE = """
[server]
port = {port}
[library]
path = "{folder}/library"
[limits]
listeners = {most}
all_listeners = {most}
event_readers = {most}
all_event_readers = {most}
connections = {most}
event_channels = {most}
"""


@dataclass(frozen=True, slots=True)
class Sample:
    """What a load of one size did.

    Attributes:
        cost: seconds of the server's processors in `units`.
        units: of what the cost is told for: answers, or seconds of all listeners together.
        memory: bytes that the load took.
        left: bytes that stayed when it had gone.
        neighbour: the longest answer to a neighbour, in seconds.
        over: the load's seconds, or its answers where each size answers what it can: by these the cost of the
            whole load is divided for the exponent.
    """

    cost: float
    units: float
    memory: int = 0
    left: int = 0
    neighbour: float = 0.0
    over: float = 1.0


class Neighbour:
    """Asks for a small thing all the time, and notes the longest answer."""

    def __init__(self, peer: Peer, target: str = SMALL) -> None:
        self._peer = peer
        self._target = target
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._ask_on)
        self.longest = 0.0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _ask_on(self) -> None:
        # It is on another machine: what loads the server takes no processor from it.
        with contextlib.suppress(PermissionError):
            os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
        host = self._peer.url.removeprefix("http://")
        kept = http.client.HTTPConnection(host, timeout=60)
        while not self._ended.wait(PAUSE_SECONDS):
            for connection in (kept, http.client.HTTPConnection(host, timeout=60)):
                began = time.perf_counter()
                connection.request("GET", self._target)
                answer = connection.getresponse()
                if answer.status != http.client.OK or not answer.read():
                    raise RuntimeError(f"{self._peer.name}: the neighbour got {answer.status}")
                self.longest = max(self.longest, time.perf_counter() - began)
                if connection is not kept:
                    connection.close()
        kept.close()


def make_library(folder: Path) -> Path:
    """Make a folder with a small file and a large one."""
    folder.chmod(0o755)
    library = folder / "library"
    library.mkdir()
    (library / "small.mp4").write_bytes(bytes(2048))
    (library / "large.mp4").write_bytes(os.urandom(LARGE_BYTES))
    for path in library.iterdir():
        os.utime(path, (1_700_000_000, 1_700_000_000))
    return library


@contextlib.contextmanager
def configured(folder: Path, more: str = "") -> Iterator[Peer]:
    """Run ours with a configuration, and with no limit that a crowd would meet."""
    port = peers.free_port()
    config = folder / "headwater.toml"
    config.write_text(NO_MORE.format(port=port, folder=folder, most=MAX_CONNECTIONS) + more)
    command = [str(Path(sys.executable).parent / "headwater"), "serve", "--config", str(config)]
    with peers.running("headwater", command, port) as peer:
        time.sleep(SETTLE_SECONDS)
        yield peer


def of_connections(folder: Path, size: int) -> dict[str, Sample]:
    """Ask for 16 KiB of one file on so many connections."""
    library = make_library(folder)
    places = LARGE_BYTES // RANGE_BYTES
    request = (
        f"function request() local s = math.random(0, {places - 1}) * {RANGE_BYTES} "
        f'return wrk.format("GET", "/media/large.mp4", {{["Range"] = "bytes=" .. s .. "-" .. '
        f"(s + {RANGE_BYTES - 1})}}) end"
    )
    script, samples = load.write_script(folder, Workload("", request)), dict[str, Sample]()
    with peers.nginx(library, folder, connections=MAX_CONNECTIONS) as nginx, configured(folder) as ours:
        for peer in (nginx, ours):
            load.run(peer, script, size, 2)  # page cache, imports, connections
            empty, used = peer.resident_bytes(), peer.cpu_seconds()
            with Neighbour(peer) as neighbour:
                answers, _ = load.run(peer, script, size, round(SECONDS))
            used, full = peer.cpu_seconds() - used, peer.resident_bytes()
            samples[peer.name] = Sample(used, answers, full - empty, 0, neighbour.longest, answers)
    return samples


def of_listeners(folder: Path, size: int) -> dict[str, Sample]:
    """Let so many listen to a station of 128 kbit/s."""
    make_library(folder)
    radio.write_numbers(folder)
    station = f'[[radio]]\nname = "numbers"\nfolder = "{folder}/music"\n'
    words = ["tests.benchmarks.listeners", "{port}", "/radio/numbers", str(size), str(SECONDS)]
    with configured(folder, station) as peer:
        return {peer.name: _of_crowd(peer, words, size)}


def of_readers(folder: Path, size: int) -> dict[str, Sample]:
    """Let so many read an event channel with an event a second."""
    make_library(folder)
    channel = f'[[events]]\nname = "bench"\npublish_token = "{TOKEN}"\nreplay = false\n'
    server = event_servers.SERVERS[0]
    words = ["tests.benchmarks.event_readers", "{port}", server.read_path, str(size), str(size / 1000)]
    with configured(folder, channel) as peer:
        port = peer.url.rpartition(":")[2]
        publisher = ["tests.benchmarks.event_publisher", port, server.publish_path, "1", server.way]
        with _python(publisher):
            return {peer.name: _of_crowd(peer, words, size, asked=f"{SECONDS}\n")}


def _of_crowd(peer: Peer, words: list[str], size: int, asked: str = "") -> Sample:
    """Let a crowd of a process come in, stay and go."""
    port = peer.url.rpartition(":")[2]
    empty = peer.resident_bytes()
    with _python([word.format(port=port) for word in words]) as crowd:
        assert crowd.stdout is not None
        assert crowd.stdin is not None
        if crowd.stdout.readline().strip() != "joined":
            raise RuntimeError("the crowd couldn't come in")
        with Neighbour(peer) as neighbour:
            used, began = peer.scheduled_seconds(), time.monotonic()
            crowd.stdin.write(asked)
            crowd.stdin.flush()
            report = json.loads(crowd.stdout.readline())
            used, elapsed = peer.scheduled_seconds() - used, time.monotonic() - began
        full = peer.resident_bytes()
    if report["ended"]:
        raise RuntimeError(f"{report['ended']} of {size} were sent away")
    time.sleep(SETTLE_SECONDS)
    left = peer.resident_bytes() - empty
    return Sample(used, elapsed * size, full - empty, left, neighbour.longest, elapsed)


def of_viewers(_folder: Path, size: int) -> dict[str, Sample]:
    """Let so many players of low latency follow a live channel, playlist and part."""
    allowed = os.sched_getaffinity(0)
    paths = (live.BLOCKING, live.PART)
    with live.serving(size * len(paths), live.PART_BYTES) as (peer, _process):
        os.sched_setaffinity(0, {int(peers.CLIENT_CORE)})
        try:
            crowd = Crowd(("127.0.0.1", int(peer.url.rpartition(":")[2])), live.after)
            empty, awaited = peer.resident_bytes(), size * len(paths)
            for _ in range(size):
                for path in paths:
                    crowd.join(path, (FIRST_NUMBER, 0))
            crowd.follow(lambda: len(crowd.received) >= live.WARM_UP * awaited)
            used = peer.cpu_seconds()
            with Neighbour(peer, live.PLAYLIST) as neighbour:
                crowd.follow(lambda: len(crowd.received) >= (live.WARM_UP + PARTS) * awaited)
            used, full = peer.cpu_seconds() - used, peer.resident_bytes()
            crowd.leave()
        finally:
            os.sched_setaffinity(0, allowed)
        seconds = PARTS * float(PART_SECONDS)
        left = peer.resident_bytes() - empty
        return {peer.name: Sample(used, seconds * size, full - empty, left, neighbour.longest, seconds)}


def of_channels(folder: Path, size: int) -> dict[str, Sample]:
    """Let so many publishers send a stream by RTMP, which is copied."""
    recording, names = folder / "recording.flv", [f"c{number}" for number in range(size)]
    subprocess.run(["ffmpeg", *publishers.ENCODING.split(), str(recording)], check=True)
    keyed = [f"{one}?key={publishers.KEY}" for one in names]
    with publishers.headwater(folder, size) as (peer, port):
        empty = peer.resident_bytes()
        with publishers.publishers(port, keyed, recording):
            target = f"{peer.url}/api/live"
            publishers.wait_for("our channels", lambda: _fetch(target).count(b'"live"') >= size)
            time.sleep(publishers.WARM_UP_SECONDS)
            used, began = peer.scheduled_seconds(), time.monotonic()
            with Neighbour(peer, "/health") as neighbour:
                time.sleep(SECONDS)
            used, elapsed = peer.scheduled_seconds() - used, time.monotonic() - began
            full = peer.resident_bytes()
        return {peer.name: Sample(used, elapsed * size, full - empty, 0, neighbour.longest, elapsed)}


def of_idle_channels(folder: Path, size: int) -> dict[str, Sample]:
    """Start with so many event channels that nobody reads, and ask for metrics, health and their list."""
    make_library(folder)
    channels = "".join(f'[[events]]\nname = "e{number}"\n' for number in range(size))
    with configured(folder) as peer:
        time.sleep(SETTLE_SECONDS)
        usual, empty = peer.cpu_seconds(), peer.resident_bytes()
    with configured(folder, channels) as peer:
        started, full = peer.cpu_seconds() - usual, peer.resident_bytes()
        used = peer.cpu_seconds()
        with Neighbour(peer) as neighbour:
            for _ in range(ROUNDS):
                for target in ("/metrics", "/health", "/api/events"):
                    _fetch(peer.url + target)
        used = peer.cpu_seconds() - used
        return {
            "start": Sample(max(started, 0.001), size, full - empty),
            "lists": Sample(used, ROUNDS * size, 0, 0, neighbour.longest),
        }


def of_library(folder: Path, size: int) -> dict[str, Sample]:
    """List so many files for the first time, and then search in them."""
    library = make_library(folder)
    for number in range(size):
        shutil.copy(library / "small.mp4", library / f"Film {number}.mp4")
    with configured(folder) as peer:
        empty, used = peer.resident_bytes(), peer.cpu_seconds()
        with Neighbour(peer) as neighbour:
            _fetch(f"{peer.url}/api/library?limit=100")
            listed = peer.cpu_seconds() - used
            used = peer.cpu_seconds()
            for number in range(ROUNDS):
                _fetch(f"{peer.url}/api/library?limit=100&search=Film+{number}")
            used = peer.cpu_seconds() - used
        memory = peer.resident_bytes() - empty
        return {
            "first list": Sample(max(listed, 0.001), size, memory, 0, neighbour.longest),
            "search": Sample(max(used, 0.001), ROUNDS * size),
        }


def of_films(folder: Path, size: int) -> dict[str, Sample]:
    """Open a film of so many minutes, of 25 pictures a second and sound."""
    library = make_library(folder)
    index, media = crafted.film(size / 60, rate=25, total=size * 60 * 4_000)
    crafted.write(library / "film.mp4", index, media)
    os.utime(library / "film.mp4", (1_700_000_000, 1_700_000_000))
    with configured(folder) as peer:
        empty, used = peer.resident_bytes(), peer.cpu_seconds()
        with Neighbour(peer) as neighbour:
            _fetch(f"{peer.url}/vod/film.mp4/master.m3u8")
            _fetch(f"{peer.url}/vod/film.mp4/video/media.m3u8")
        used, memory = peer.cpu_seconds() - used, peer.resident_bytes() - empty
        return {peer.name: Sample(max(used, 0.001), size, memory, 0, neighbour.longest)}


def of_dvr(_folder: Path, size: int) -> dict[str, Sample]:
    """Publish on into a window of so many hours, with a playlist and a delta update for each segment."""
    publishing, whole, delta, memory, _bytes = dvr.measure(size * dvr.HOUR)
    return {
        "segment and delta": Sample((publishing + delta) / 1000, 1, round(memory * size * dvr.HOUR)),
        "whole playlist": Sample(whole / 1000, size),
    }


def of_workers(folder: Path, size: int) -> dict[str, Sample]:
    """Run so many workers, and ask for 16 KiB of a file."""
    library = make_library(folder)
    request = 'function request() return wrk.format("GET", "/media/small.mp4") end'
    script = load.write_script(folder, Workload("", request))
    with worker_processes.headwater(library, size, "0,1") as peer:
        time.sleep(SETTLE_SECONDS)
        memory, used = peer.resident_bytes(), peer.cpu_seconds()
        with Neighbour(peer) as neighbour:
            answers, _ = load.run(peer, script, 256, round(SECONDS), "0,1")
        used = peer.cpu_seconds() - used
        return {peer.name: Sample(used, answers, memory, 0, neighbour.longest, answers)}


def of_rounds(folder: Path, size: int) -> dict[str, Sample]:
    """Let a thousand listeners and as many readers come and go so many times."""
    make_library(folder)
    radio.write_numbers(folder)
    more = f'[[radio]]\nname = "numbers"\nfolder = "{folder}/music"\n'
    more += f'[[events]]\nname = "bench"\npublish_token = "{TOKEN}"\nreplay = false\n'
    read_path = event_servers.SERVERS[0].read_path
    with configured(folder, more) as peer:
        listeners = ["tests.benchmarks.listeners", "{port}", "/radio/numbers", "1000", "1"]
        readers = ["tests.benchmarks.event_readers", "{port}", read_path, "1000", "1"]
        empty, used, longest = peer.resident_bytes(), peer.scheduled_seconds(), 0.0
        for _ in range(size):
            first = _of_crowd(peer, listeners, 1000)
            second = _of_crowd(peer, readers, 1000, asked="1\n")
            longest = max(longest, first.neighbour, second.neighbour)
        used, left = peer.scheduled_seconds() - used, peer.resident_bytes() - empty
        return {peer.name: Sample(used, size, left, left, longest)}


def _fetch(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=120) as answer:
        return bytes(answer.read())


@contextlib.contextmanager
def _python(words: list[str]) -> Iterator[subprocess.Popen[str]]:
    """Run a module of ours beside the server, on the clients' core."""
    command = ["taskset", "-c", peers.CLIENT_CORE, sys.executable, "-m", *words]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()
