"""What a DVR of thirty days costs: the start of a server, its memory, and random spans of the past.

``python -m tests.benchmarks.long_dvr [DAYS] [s3]``. The folder is made first, which takes some 15 s for each
day; the bucket of a DVR in S3 has its index alone, which takes some 5 s.
"""

from __future__ import annotations

import contextlib
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

from tests.conftest import ServerProcess, start_server
from tests.long_dvr import CONFIGURATION, LongDvr, make_long_bucket, make_long_dvr
from tests.made_once import VARIABLE
from tests.s3_server import BUCKET, S3Server, s3_server_running
from tests.waiting import wait_for

DAY, HOUR = 86_400.0, 3600.0
LISTED = 3 * HOUR + 60
SPANS = {"a minute": 60.0, "10 minutes": 600.0, "an hour": HOUR, "6 hours": 6 * HOUR, "a day": DAY}
ROUNDS = 200
LONG_ROUNDS = 10
"""How many spans of six hours and of a day are asked for, which take long."""

PAUSE_SECONDS = 0.3
"""Between two requests: who asks again at once waits for a turn."""

PATHS = {"HLS, multivariant": "master.m3u8", "HLS, media": "720p/media.m3u8", "DASH": "manifest.mpd"}


def start(folder: Path, dvr: str, s3: S3Server | None) -> tuple[ServerProcess, float]:
    """Start a server; give it, and the seconds until it has the live playlist, or is up without a DVR.

    Args:
        s3: where the DVR is; None: on the disk.
    """
    place = "" if s3 is None else f'dvr_path = "s3://{BUCKET}/long"\n'
    (folder / "headwater.toml").write_text(
        f'[server]\nport = 0\ndata = "data"\n{place}[limits]\nwindow_hours = 25\n{CONFIGURATION}'
        f'dvr = "{dvr}"\nplaylist_window = "3h"\n'
    )
    began = time.perf_counter()
    server = start_server(cwd=folder, fresh=True, env=None if s3 is None else s3.environment())
    playlist = f"{server.url}/live/long/720p/media.m3u8"
    if dvr != "0":
        wait_for(lambda: httpx.get(playlist).status_code == 200, "the first playlist")
    return server, time.perf_counter() - began


def resident(server: ServerProcess) -> float:
    """Give the megabytes of memory of a server."""
    pages = int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def cpu_seconds(server: ServerProcess) -> float:
    """Give the processor time that a server has taken."""
    fields = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def ask(server: ServerProcess, now: float, days: float, most: int) -> Iterator[str]:
    """Ask for random spans of each length in each form; give a line for each."""
    chosen = random.Random(1)
    with httpx.Client(timeout=60) as client:
        for length, seconds in SPANS.items():
            if LISTED + 600 + seconds > days * DAY:
                continue
            for form, path in PATHS.items():
                times, spent, wrong = list[float](), cpu_seconds(server), 0
                count = most if seconds <= HOUR else min(LONG_ROUNDS, most)
                for _ in range(count):
                    begin = now - chosen.uniform(LISTED + 600 + seconds, days * DAY)
                    time.sleep(PAUSE_SECONDS)
                    began = time.perf_counter()
                    query = f"start={begin:.3f}&end={begin + seconds:.3f}"
                    answer = client.get(f"{server.url}/live/long/{path}?{query}")
                    times.append(1000 * (time.perf_counter() - began))
                    wrong += answer.status_code != httpx.codes.OK
                cost = 1000 * (cpu_seconds(server) - spent) / count
                times.sort()
                yield (
                    f"{length}, {form}: p50 {statistics.median(times):.0f} ms,"
                    f" p95 {times[int(0.95 * count)]:.0f} ms, most {times[-1]:.0f} ms,"
                    f" {cost:.0f} ms of CPU, {wrong} of {count} refused"
                )


def main(days: float, *, in_s3: bool) -> Iterator[str]:
    """Measure.

    Yields:
        A line for each result.
    """
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="headwater-long-"))
        os.environ.setdefault(VARIABLE, folder)
        place, now = Path(folder), time.time() - 30
        dvr, s3 = LongDvr(place / "data" / "live" / "long", now, days * DAY, LISTED), None
        if in_s3:
            (place / "s3").mkdir()
            s3 = stack.enter_context(s3_server_running(place / "s3", volumes=64))
            make_long_bucket(dvr, s3.store("long"), has_media=False)
        else:
            make_long_dvr(dvr)
        yield f"{days:g} days: {len(dvr.numbers)} segments of each of four renditions"
        server, seconds = start(place, "0", s3)
        empty, cost = resident(server), cpu_seconds(server)
        server.stop()
        yield f"a server without a DVR: {seconds:.2f} s, {cost:.2f} s of CPU, {empty:.0f} MB"
        server, seconds = start(place, f"{int(days) + 1}d", s3)
        cost = cpu_seconds(server)
        yield f"a start: {seconds:.2f} s, {cost:.2f} s of CPU, {resident(server) - empty:.0f} MB more"
        yield from ask(server, now, days, ROUNDS)
        yield f"then {resident(server) - empty:.0f} MB more than without a DVR"
        server.stop()


if __name__ == "__main__":
    for line in main(float(sys.argv[1]) if len(sys.argv) > 1 else 30.0, in_s3="s3" in sys.argv[2:]):
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
