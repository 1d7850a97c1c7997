"""What live packaging costs: our server with its ffmpeg, beside an ffmpeg that encodes the same to HLS.

Both run at the same time, so that whatever else the machine does weighs on both. What a second of
media cost each is compared window by window, and the median counts.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

from packager.ffmpeg.ladder import AUDIO, rungs
from packager.ffmpeg.live import encoder_arguments
from packager.process.ffmpeg_discovery import discover
from packager.sources import probe
from packager.sources.source import TEST_SOURCE
from packager.window.cadence import cadence
from tests.benchmarks.load import Figure
from tests.benchmarks.peers import Peer, free_port

NAME = "live: packaging"
LADDER = ("720p", "360p")
SEGMENT_SECONDS = 2.0
PART_SECONDS = 0.333
WARM_UP_SECONDS = 20
"""By then it is known when parts come, and pipes are left alone in between."""

WINDOWS = 5
WINDOW_SECONDS = 6
START_SECONDS = 60

PROGRESS = "progress"

CONFIG = f"""
[[live]]
name = "test"
source = "testsrc"
ladder = {list(LADDER)}
part_duration = {PART_SECONDS}
segment_duration = {SEGMENT_SECONDS}
"""
_PROGRESS = re.compile(r"out_time_us=(\d+)")
_HINT = re.compile(r'#EXT-X-PRELOAD-HINT:.*?URI="(\d+)\.(\d+)\.m4s"')
_MUXING = ("-f", "-movflags", "-use_editlist", "-avoid_negative_ts", "-output_ts_offset", "-flush_packets")


async def bare(folder: Path) -> list[str]:
    """The command of an ffmpeg that encodes the same and writes HLS by itself."""
    tools = await discover()
    source = await probe.wait_for_source(TEST_SOURCE, tools, "test")
    times = cadence(source.frame_rate, SEGMENT_SECONDS, PART_SECONDS)
    words = encoder_arguments(
        source.input, "test", rungs(LADDER), (AUDIO,), times, Fraction(0), captions=True
    )
    at = words.index("-filter_complex")
    command, left = [str(tools.ffmpeg), "-progress", str(folder / PROGRESS), *words[:at]], iter(words[at:])
    for word in left:
        if word in _MUXING:
            next(left)
        elif word.startswith("pipe:"):
            name = word.removeprefix("pipe:")
            command += ["-f", "hls", "-hls_time", str(SEGMENT_SECONDS), "-hls_segment_type", "fmp4"]
            command += ["-hls_flags", "delete_segments", "-hls_fmp4_init_filename", f"{name}.mp4"]
            command.append(str(folder / f"{name}.m3u8"))
        else:
            command.append(word)
    return command


@contextlib.contextmanager
def packaging(folder: Path) -> Iterator[tuple[Peer, Peer]]:
    """Run both, the bare ffmpeg first."""
    (folder / "headwater.toml").write_text(CONFIG)
    headwater = [str(Path(sys.executable).parent / "headwater"), "serve", "--library", str(folder)]
    port = free_port()
    commands = (
        [*headwater, "--config", str(folder / "headwater.toml"), "--port", str(port)],
        asyncio.run(bare(folder)),
    )
    with contextlib.ExitStack() as stack:
        processes = []
        for command in commands:
            process = subprocess.Popen(
                command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder
            )
            stack.callback(process.wait)
            stack.callback(process.terminate)
            processes.append(process)
        ours, theirs = processes
        encoding = _child_of(ours.pid)
        yield (
            Peer("ffmpeg's HLS", "", (theirs.pid,)),
            Peer("headwater", f"http://127.0.0.1:{port}", (ours.pid, encoding)),
        )


def _child_of(pid: int) -> int:
    """Wait for a server's ffmpeg to run."""
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        for listed in Path(f"/proc/{pid}/task").glob("*/children"):
            for child in listed.read_text().split():
                if b"filter_complex" in Path(f"/proc/{child}/cmdline").read_bytes():
                    return int(child)
        time.sleep(0.1)
    raise TimeoutError("the server's ffmpeg doesn't run")


def media_seconds(theirs: Path, ours: Peer) -> tuple[float, float]:
    """How much media each has made."""
    done = float(_PROGRESS.findall(theirs.read_text())[-1]) / 1e6
    with urllib.request.urlopen(f"{ours.url}/live/test/720p/media.m3u8", timeout=30) as answer:
        ((number, index),) = _HINT.findall(answer.read().decode())
    return done, int(number) * SEGMENT_SECONDS + int(index) * PART_SECONDS


def run(words: Sequence[str] = ()) -> Iterator[Figure]:
    """Give the median cost of a second of media; ours by the median ratio."""
    if words and not any(word in NAME for word in words):
        return
    with tempfile.TemporaryDirectory() as name, packaging(Path(name)) as (theirs, ours):
        time.sleep(WARM_UP_SECONDS)
        costs, shares = [], []
        server = Peer("the server alone", "", ours.pids[:1])
        for _ in range(WINDOWS):
            used = theirs.cpu_seconds(), ours.cpu_seconds()
            own = server.cpu_seconds()
            made = media_seconds(Path(name) / PROGRESS, ours)
            time.sleep(WINDOW_SECONDS)
            now = media_seconds(Path(name) / PROGRESS, ours)
            costs.append(
                (
                    (theirs.cpu_seconds() - used[0]) / (now[0] - made[0]),
                    (ours.cpu_seconds() - used[1]) / (now[1] - made[1]),
                )
            )
            shares.append((server.cpu_seconds() - own) / (now[1] - made[1]))
    typical = statistics.median(cost for cost, _ in costs)
    yield Figure(NAME, theirs.name, typical, "CPU s/s")
    ratio = statistics.median(mine / other for other, mine in costs)
    yield Figure(NAME, ours.name, typical * ratio, "CPU s/s")
    yield Figure(f"{NAME}, its share", server.name, statistics.median(shares), "CPU s/s")


if __name__ == "__main__":
    for figure in run(tuple(sys.argv[1:])):
        print(f"{figure.benchmark:36} {figure.server:12} {figure.value:10.3f} {figure.unit}")  # noqa: T201  # its purpose
