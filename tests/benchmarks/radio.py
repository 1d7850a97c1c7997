"""Radio beside Icecast: what a listener of 128 kbit/s costs, how soon it hears, how far they are apart.

Both are measured in turns, in several rounds. What else runs on the machine only adds to a cost or a time, so
of each figure the least counts.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests import icecast
from tests.benchmarks import peers
from tests.benchmarks.load import Figure
from tests.benchmarks.peers import Peer

CROWDS = ((1000, False), (1000, True), (3000, False))
"""Listeners, and whether they ask for titles."""

ROUNDS = 3
SECONDS = 10.0
KILOBITS = 128
FRAMES = 39 * 60

CONFIG = """
[server]
port = {port}
[library]
path = "{folder}"
[[radio]]
name = "numbers"
folder = "{folder}/music"
[limits]
listeners = 10000
connections = 12000
"""


def run(words: tuple[str, ...] = ()) -> Iterator[Figure]:
    """Measure both servers with each crowd whose name has one of the words, or with all."""
    wanted = [crowd for crowd in CROWDS if not words or any(word in _name(*crowd) for word in words)]
    if not wanted:
        return
    if not icecast.is_installed():
        sys.exit("the benchmark of radio needs icecast2: apt-get install icecast2")
    peers.require("taskset", "ffmpeg")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        write_numbers(folder)
        for crowd in wanted:
            least: dict[tuple[str, str], Figure] = {}
            for _ in range(ROUNDS):
                with _icecast(folder, crowd[0]) as server:
                    _keep_least(least, listening_costs(server, "/numbers", *crowd))
                with running_headwater(folder) as server:
                    _keep_least(least, listening_costs(server, "/radio/numbers", *crowd))
            yield from least.values()


def _keep_least(least: dict[tuple[str, str], Figure], figures: Iterator[Figure]) -> None:
    for figure in figures:
        key = (figure.benchmark, figure.server)
        if key not in least or figure.value < least[key].value:
            least[key] = figure


def _name(count: int, titles: bool) -> str:
    return f"radio, {count:,} listeners{' with titles' if titles else ''}"


def write_numbers(folder: Path) -> None:
    """Write a minute of numbered frames as the music in a folder."""
    music = folder / "music"
    music.mkdir()
    (music / "numbers.mp3").write_bytes(b"".join(map(_frame, range(FRAMES))))


def _frame(number: int) -> bytes:
    """Layer III, 128 kbit/s, 44.1 kHz, silent; behind the side information stands its number."""
    return b"\xff\xfb\x90\x00" + bytes(32) + number.to_bytes(8, "big") + bytes(373)


def listening_costs(
    server: Peer, path: str, count: int, titles: bool, cores: str = peers.CLIENT_CORE
) -> Iterator[Figure]:
    """Measure what so many listeners of a station cost, who are on some cores, and what they hear."""
    time.sleep(5)  # for a full burst
    empty = server.resident_bytes()
    port = server.url.rpartition(":")[2]
    words = [sys.executable, "-m", "tests.benchmarks.listeners", port, path, str(count), str(SECONDS)]
    words += ["titles"] if titles else []
    with subprocess.Popen(["taskset", "-c", cores, *words], stdout=subprocess.PIPE) as crowd:
        if crowd.stdout is None or crowd.stdout.readline().strip() != b"joined":
            raise RuntimeError("the listeners couldn't come in")
        cpu, started = server.cpu_seconds(), time.monotonic()
        report = json.loads(crowd.stdout.readline())
        cpu, elapsed = server.cpu_seconds() - cpu, time.monotonic() - started
        full = server.resident_bytes()
    name = _name(count, titles)
    # By what was sent: whether the last block of a window falls into it is a matter of luck.
    sent_seconds = elapsed * report["kbit_per_listener"] / KILOBITS
    yield Figure(f"{name}: CPU", server.name, 1e6 * cpu / sent_seconds / count, "µs/s each")
    yield Figure(f"{name}: RSS", server.name, (full - empty) / count / 1024, "KiB each")
    yield Figure(f"{name}: heard", server.name, report["heard"], "listeners")
    yield Figure(f"{name}: rate", server.name, report["kbit_per_listener"], "kbit/s each")
    for key in ("first_byte_p50", "first_byte_p99", "spread_p50", "spread_worst"):
        yield Figure(f"{name}: {key.replace('_', ' ')}", server.name, 1e3 * report[key], "ms")


@contextlib.contextmanager
def _icecast(folder: Path, count: int) -> Iterator[Peer]:
    prefix = ("taskset", "-c", peers.SERVER_CORE)
    with icecast.running(prefix, clients=count + 100) as server:
        source = ["-re", "-stream_loop", "-1", "-i", str(folder / "music" / "numbers.mp3"), "-c", "copy"]
        output = ["-write_xing", "0", "-id3v2_version", "0", "-content_type", "audio/mpeg", "-f", "mp3"]
        words = ["ffmpeg", "-nostdin", "-v", "error", *source, *output, server.source_url("numbers")]
        feeder = subprocess.Popen(
            ["taskset", "-c", peers.CLIENT_CORE, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            yield Peer("Icecast", server.url, (server.pid,))
        finally:
            feeder.terminate()
            feeder.wait(30)


@contextlib.contextmanager
def running_headwater(folder: Path) -> Iterator[Peer]:
    """Ours, with one station of numbered frames (``write_numbers``)."""
    port = peers.free_port()
    with peers.running("headwater", serving_numbers(folder, port), port) as peer:
        yield peer


def serving_numbers(folder: Path, port: int) -> list[str]:
    """Configure such a server; give the command that starts it."""
    config = folder / "headwater.toml"
    config.write_text(CONFIG.format(folder=folder, port=port))
    return [str(Path(sys.executable).parent / "headwater"), "serve", "--config", str(config)]
