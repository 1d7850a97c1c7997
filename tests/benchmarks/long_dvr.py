"""What a DVR of thirty days costs: the start of a server, its memory, and random spans of the past.

``python -m tests.benchmarks.long_dvr [DAYS] [s3] [pieces]``. The folder is made first, which takes some 15 s
for each day; the bucket of a DVR in S3 has its index alone, which takes some 5 s, and outlines, some 5 s for
each day. With ``pieces`` it has no outlines.
"""

from __future__ import annotations

import contextlib
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from packager.dvr.bucket.dvr_bucket import DvrBucket
from packager.dvr.stored_outlines import OutlineStore, OutlineWriter
from packager.s3.limits import S3Limits
from tests.conftest import ServerProcess, start_server
from tests.long_dvr import CONFIGURATION, RENDITIONS, TIMES, LongDvr, make_long_bucket, make_long_dvr
from tests.made_once import VARIABLE
from tests.s3_server import BUCKET, S3Server, s3_server_running
from tests.waiting import wait_for

DAY, HOUR = 86_400.0, 3600.0
LISTED = 3 * HOUR + 60
SPANS = {"a minute": 60.0, "an hour": HOUR, "a day": DAY}
ROUNDS = 200
LONG_ROUNDS = 30
"""How many spans of a day are asked for."""

CLIPS = 5
"""How many files are asked for, whose segments have times of their own: their samples have to be found."""

PAUSE = 1.2
"""Of the time that the last one took, between two requests: who asks again at once waits for a turn."""

IDLE_SECONDS = 5
"""For how long it is measured what a server costs that nobody asks for anything."""

IDLE_SHARE = 0.03
"""Most of a processor that a server takes once it has written what it was started with."""

SHIFT_SECONDS = 7.0
"""How much later spans begin that are asked for once their blocks were read."""

PATHS = {
    "HLS, multivariant": "master.m3u8",
    "HLS, media": "720p/media.m3u8",
    "DASH": "manifest.mpd",
    "MP4, its first byte": "clip.mp4",
}


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


def write_outlines(folder: Path, s3: S3Server) -> None:
    """Write the outlines of all blocks, as the channel's process does with pauses."""
    os.environ.update(s3.environment())
    bucket, key = DvrBucket(f"s3://{BUCKET}/long", folder, S3Limits()), "live/long/dvr"
    past = {name: bucket.past(f"{bucket.address}/{key}/{name}", TIMES) for name in RENDITIONS}
    indexes = {name: one for name, one in past.items() if one is not None}
    writer = OutlineWriter(OutlineStore.in_bucket(bucket.storing, key), indexes)
    while writer.write_next(0):
        pass


def resident(server: ServerProcess) -> float:
    """Give the megabytes of memory of a server."""
    pages = int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def cpu_seconds(server: ServerProcess) -> float:
    """Give the processor time that a server has taken."""
    fields = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@dataclass
class Asked:
    """The answers to some requests: milliseconds of each, and seconds of all, of which some were CPU's."""

    times: list[float]
    refused: int
    seconds: float
    cpu: float

    def line(self, idle: float) -> str:
        """Give what a request took.

        Args:
            idle: the share of a processor that the server takes when it isn't asked.
        """
        times, count = sorted(self.times), len(self.times)
        return (
            f"{1000 * (self.cpu - idle * self.seconds) / count:.1f} ms of CPU,"
            f" p50 {statistics.median(times):.0f} ms, p95 {times[int(0.95 * count)]:.0f} ms,"
            f" most {times[-1]:.0f} ms, {self.refused} of {count} refused"
        )


def ask(server: ServerProcess, queries: Sequence[str], path: str) -> Asked:
    """Ask for spans in one form."""
    times, refused, spent, began = list[float](), 0, cpu_seconds(server), time.perf_counter()
    headers = {"range": "bytes=0-0"} if path == "clip.mp4" else {}
    with httpx.Client(timeout=60, headers=headers) as client:
        for query in queries:
            asked = time.perf_counter()
            refused += not client.get(f"{server.url}/live/long/{path}?{query}").is_success
            taken = time.perf_counter() - asked
            times.append(1000 * taken)
            time.sleep(PAUSE * taken)
    return Asked(times, refused, time.perf_counter() - began, cpu_seconds(server) - spent)


def idle_share(server: ServerProcess) -> float:
    """Give the share of a processor that a server takes that isn't asked."""
    began = cpu_seconds(server)
    time.sleep(IDLE_SECONDS)
    return (cpu_seconds(server) - began) / IDLE_SECONDS


def spans(now: float, days: float, seconds: float, count: int, seed: str) -> list[tuple[float, float]]:
    """Choose random spans of a length, in milliseconds as addresses have them."""
    chosen = random.Random(seed)
    begins = (now - chosen.uniform(LISTED + 600 + seconds, days * DAY) for _ in range(count))
    return [(round(begin, 3), round(begin + seconds, 3)) for begin in begins]


def clips(now: float, days: float) -> list[tuple[float, float]]:
    """Choose the spans that are asked for as one file."""
    return spans(now, days, HOUR, CLIPS, "clips")


def ask_all(folder: Path, dvr: str, s3: S3Server | None, now: float, days: float) -> Iterator[str]:
    """Ask for random spans of each length in each form, each of a fresh server; give a line for each."""
    for form, path in PATHS.items():
        for length, seconds in SPANS.items():
            if LISTED + 600 + seconds > days * DAY or (path == "clip.mp4" and seconds > HOUR):
                continue
            count = ROUNDS if seconds <= HOUR else LONG_ROUNDS
            chosen = spans(now, days, seconds, count, f"{form}, {length}")
            if path == "clip.mp4":
                chosen = [(begin + 20, begin + 20 + seconds - 40) for begin, _ in clips(now, days)]
            server, _ = start(folder, dvr, s3)
            # What the process does once, such as imports, is no cost of a span.
            ask(server, [f"start={now - 7200:.3f}&end={now - 7190:.3f}"] * 3, path)
            while (idle := idle_share(server)) > IDLE_SHARE:
                pass
            for shift, state in ((0.0, "cold"), (SHIFT_SECONDS, "blocks read before")):
                queries = [f"start={begin + shift:.3f}&end={end + shift:.3f}" for begin, end in chosen]
                yield f"{form}, {length}, {state}: {ask(server, queries, path).line(idle)}"
            server.stop()


def main(days: float, *, in_s3: bool, outlined: bool = True) -> Iterator[str]:
    """Measure.

    Yields:
        A line for each result.
    """
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="headwater-long-"))
        os.environ.setdefault(VARIABLE, folder)
        place, now = Path(folder), time.time() - 30
        dvr, s3 = (
            LongDvr(place / "data" / "live" / "long", now, days * DAY, LISTED, own_times=clips(now, days)),
            None,
        )
        if in_s3:
            (place / "s3").mkdir()
            s3 = stack.enter_context(s3_server_running(place / "s3", volumes=64))
            make_long_bucket(dvr, s3.store("long"), has_media=False)
            if outlined:
                write_outlines(place, s3)
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
        refused = ask(server, ["start=2&end=1"] * 5 * ROUNDS, "master.m3u8")
        yield f"a request that is refused: {refused.line(0.0)}"
        for path in ("master.m3u8", "720p/media.m3u8"):
            queries = [f"start={begin}&end={end}" for begin, end in spans(now, days, HOUR, ROUNDS, path)]
            ask(server, queries, path)
        yield f"after {2 * ROUNDS} spans: {resident(server) - empty:.0f} MB more than without a DVR"
        queries = [f"start={begin}&end={end}" for begin, end in spans(now, days, DAY, LONG_ROUNDS, "days")]
        ask(server, queries, "720p/media.m3u8")
        yield f"after {LONG_ROUNDS} spans of a day: {resident(server) - empty:.0f} MB more"
        server.stop()
        yield from ask_all(place, f"{int(days) + 1}d", s3, now, days)


if __name__ == "__main__":
    options, length = sys.argv[2:], float(sys.argv[1]) if len(sys.argv) > 1 else 30.0
    for line in main(length, in_s3="s3" in options, outlined="pieces" not in options):
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
