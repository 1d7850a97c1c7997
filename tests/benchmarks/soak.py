"""An hour of three channels whose viewers come and go: what grows, and does media stay with the clock?

``make soak`` runs it, ``make soak MINUTES=5`` for another time. Listeners and readers of events come and go
beside them, the configuration is read again, and now and then an ffmpeg is killed (`unrest`). It prints a
line a minute, then one for each question with its answer, and ends with status 1 when one has a bad one.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import re
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import m3u8

from media.mp4.boxes import walk
from tests.benchmarks import unrest
from tests.benchmarks.unrest import LONGEST_STAY, SHORTEST_STAY, STATION, Plan, Seen
from tests.conftest import ServerProcess, start_server

MINUTES = 60.0
WARM_UP = 0.2
"""The share of the run after which nothing may grow any more: by then every window is full."""

VIEWERS = 24
SAMPLE_SECONDS = 10.0
PATIENCE_SECONDS = 30.0

MOST_RSS_KIB_PER_HOUR = 1024.0
"""Growth of the server's memory that counts as none."""

FRAME_SECONDS = 1001 / 30000
"""The shortest frame of the three channels."""

CONFIG = """
[server]
port = 0
data = "data"

[[live]]
name = "test"
source = "testsrc"
ladder = ["240p"]
dvr = "2m"

[[live]]
name = "film"
source = "film.mp4"
ladder = ["240p"]
dvr = "1m"

[[live]]
name = "quick"
source = "testsrc"
ladder = ["240p"]
part_duration = 0.2
segment_duration = 1.0

[[radio]]
name = "tone.mp3"
source = "folder"
folder = "music"
"""
CHANNELS = {"test": "240p", "film": "240p", "quick": "240p"}
"""Each with its video rendition; their sound is called audio."""


@dataclass(slots=True)
class Count:
    """What viewers saw."""

    viewers: int = 0
    answers: int = 0
    errors: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Sample:
    """The server at one moment; ``rss`` in KiB."""

    moment: float
    rss: int
    descriptors: int
    threads: int
    tasks: int
    children: int


Drift = defaultdict[int, list[tuple[float, float]]]
"""Of one rendition, by the timeline: behind a discontinuity a new one begins when its source is back."""

LOG_LINES = 60
"""Of the server's log that are shown."""

FEWEST_PARTS = 100
"""Of a timeline whose drift is told."""


def make_media(folder: Path) -> None:
    """A film of 29.97 frames a second with sound of 44.1 kHz, which no segment divides; a tune."""
    (folder / "music").mkdir()
    (folder / "library").mkdir()
    picture = ("-f", "lavfi", "-i", "testsrc2=size=426x240:rate=30000/1001:duration=61")
    sound = ("-f", "lavfi", "-i", "sine=440:sample_rate=44100:duration=61")
    film = ("-c:v", "libx264", "-preset", "ultrafast", "-c:a", "aac", "-shortest", str(folder / "film.mp4"))
    subprocess.run(["ffmpeg", "-v", "error", *picture, *sound, *film], check=True)
    tune = ("-c:a", "libmp3lame", "-b:a", "128k", str(folder / "music" / STATION))
    subprocess.run(["ffmpeg", "-v", "error", *sound, *tune], check=True)


def sample(server: ServerProcess, tasks: int) -> Sample:
    """Look at the server's process."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    number = {
        key: int(value) for key, value in re.findall(r"^(VmRSS|Threads):\s+(\d+)", status, re.MULTILINE)
    }
    open_files = len(os.listdir(f"/proc/{server.process.pid}/fd"))
    moment = time.monotonic()
    return Sample(moment, number["VmRSS"], open_files, number["Threads"], tasks, len(server.children()))


async def tasks_of(client: httpx.AsyncClient, url: str) -> int:
    """How many tasks the server's loop has, by its own metric."""
    text = (await client.get(f"{url}/metrics")).text
    found = re.search(r"^headwater_tasks (\S+)", text, re.MULTILINE)
    if found is None:
        raise RuntimeError("no headwater_tasks in /metrics")
    return int(float(found[1]))


class Follower:
    """Someone who follows one rendition by blocking reload, part by part."""

    def __init__(self, client: httpx.AsyncClient, address: str, count: Count) -> None:
        self._client = client
        self._folder = address
        self._count = count
        self._next: tuple[int, int] | None = None
        self._seen = ""
        self.timeline = 0
        """Discontinuities up to the end of the latest playlist."""

    async def get(self, name: str, named: float | None = None) -> bytes:
        """Ask; whatever isn't 200 is an error.

        Args:
            name: of the file.
            named: when a playlist had it, by the monotonic clock.
        """
        asked = time.monotonic()
        response = await self._client.get(f"{self._folder}/{name}")
        self._count.answers += 1
        if response.status_code != 200:
            error = f"{response.status_code} for {self._folder}/{name}"
            late = "" if named is None else f", {asked - named:.1f} s behind its playlist"
            self._count.errors.append(f"{error}{late}, answered in {time.monotonic() - asked:.1f} s")
            raise LookupError(error)
        return response.content

    async def parts(self) -> tuple[float, list[tuple[bytes, float]]]:
        """Wait for the next part.

        Returns:
            When the playlist with it came, and of all new ones the bytes and the seconds.

        Raises:
            LookupError: something isn't there.
        """
        query = "" if self._next is None else "?_HLS_msn={}&_HLS_part={}".format(*self._next)
        text = (await self.get(f"media.m3u8{query}")).decode()
        moment, named = time.time(), time.monotonic()
        playlist = m3u8.loads(text)
        gone = re.search(r"^#EXT-X-DISCONTINUITY-SEQUENCE:(\d+)", text, re.MULTILINE)
        self.timeline = int(gone[1] if gone else 0) + text.count("#EXT-X-DISCONTINUITY\n")
        lasting = {part.uri: part.duration for segment in playlist.segments for part in segment.parts}
        names = list(lasting)
        fresh = names[-1:] if self._seen not in names else names[names.index(self._seen) + 1 :]
        if names:
            self._seen = names[-1]
        hint = re.search(r'#EXT-X-PRELOAD-HINT:TYPE=PART,URI="(\d+)\.(\d+)', text)
        if hint is None:
            self._count.errors.append(f"no hint from {self._folder}")
            raise LookupError(self._folder)
        self._next = int(hint[1]), int(hint[2])
        return moment, [(await self.get(name, named), lasting[name]) for name in fresh]


def inside(data: bytes, *path: bytes) -> bytes:
    """Give the payload of the first box at a path of types."""
    for kind in path:
        box = next(box for box in walk(data) if box.kind == kind)
        data = data[box.payload : box.end]
    return data


def decode_seconds(init: bytes, part: bytes) -> float:
    """When a part begins, in seconds of media (ISO/IEC 14496-12 §8.4.2, §8.8.12)."""
    mdhd = inside(init, b"moov", b"trak", b"mdia", b"mdhd")
    timescale = struct.unpack_from(">I", mdhd, 20 if mdhd[0] == 1 else 12)[0]
    tfdt = inside(part, b"moof", b"traf", b"tfdt")
    return float(struct.unpack_from(">Q" if tfdt[0] == 1 else ">I", tfdt, 4)[0] / timescale)


async def visit(client: httpx.AsyncClient, url: str, count: Count, end: float) -> None:
    """Be one viewer after the other, each for a while; some leave while an answer is under way."""
    while time.monotonic() < end:
        channel, video = random.choice(list(CHANNELS.items()))
        follower = Follower(client, f"{url}/live/{channel}/{random.choice((video, 'audio'))}", count)
        count.viewers += 1
        try:
            async with asyncio.timeout(random.uniform(SHORTEST_STAY, LONGEST_STAY)):
                while True:
                    await follower.parts()
        except (TimeoutError, LookupError):
            continue


async def measure(client: httpx.AsyncClient, address: str, count: Count, drift: Drift, end: float) -> None:
    """Note, for each part, the wall clock less the media time at which it ends: sound's last more or less."""
    follower = Follower(client, address, count)
    text = (await follower.get("media.m3u8")).decode()
    name = re.findall(r'#EXT-X-MAP:URI="([^"]+)"', text)[-1]
    init = await follower.get(name)
    await follower.parts()
    while time.monotonic() < end:
        with contextlib.suppress(LookupError):
            moment, parts = await follower.parts()
            if len(parts) == 1:
                ((part, seconds),) = parts
                drift[follower.timeline].append((moment, moment - decode_seconds(init, part) - seconds))


def drifted(points: Sequence[tuple[float, float]]) -> float:
    """By how much the least distance of a tenth of the run differs between its begin and its end, in seconds.

    The least, as all that a busy machine does to a part is to make it later.
    """
    tenth = max(len(points) // 10, 1)
    first, last = points[tenth : 2 * tenth], points[-tenth:]
    return min(distance for _, distance in last) - min(distance for _, distance in first)


def slope(samples: Sequence[Sample]) -> float:
    """Growth of the memory in KiB an hour, by the line of least squares."""
    line = statistics.linear_regression([one.moment for one in samples], [one.rss for one in samples])
    return line.slope * 3600


async def soak(server: ServerProcess, config: Path, plan: Plan) -> bool:
    """Run it; print what was seen. Returns whether all is well."""
    end = time.monotonic() + 60 * plan.minutes
    count, seen, samples = Count(), Seen(), []
    drifts: defaultdict[str, Drift] = defaultdict(lambda: defaultdict(list))
    limits = httpx.Limits(max_connections=None)
    async with (
        httpx.AsyncClient(timeout=PATIENCE_SECONDS, limits=limits, trust_env=False) as client,
        asyncio.TaskGroup() as group,
    ):
        for channel, video in CHANNELS.items():
            (await client.get(f"{server.url}/live/{channel}/master.m3u8")).raise_for_status()
            for rendition in (video, "audio"):
                name = f"{channel}/{rendition}"
                group.create_task(measure(client, f"{server.url}/live/{name}", count, drifts[name], end))
        for _ in range(VIEWERS):
            group.create_task(visit(client, server.url, count, end))
        for _ in range(plan.listeners):
            group.create_task(unrest.listen(client, server.url, seen, end))
        for _ in range(plan.readers):
            group.create_task(unrest.read(client, server.url, seen, end))
        group.create_task(unrest.reload(server, config, plan.reload_minutes, seen, end))
        group.create_task(unrest.kill(server, plan.kill_minutes, seen, end))
        while time.monotonic() < end:
            await asyncio.sleep(min(SAMPLE_SECONDS, max(end - time.monotonic(), 0.1)))
            samples.append(sample(server, await tasks_of(client, server.url)))
            if len(samples) % 6 == 1:
                tell(f"{samples[-1]} {count.viewers} viewers, {count.answers} answers")
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
    return judge(samples, drifts, count, seen, server.text())


def judge(samples: list[Sample], drifts: Mapping[str, Drift], count: Count, seen: Seen, log: str) -> bool:
    """Answer the questions, a line each."""
    steady = samples[int(len(samples) * WARM_UP) :]
    half = len(steady) // 2
    growth = slope(steady)
    answers = [
        (
            growth <= MOST_RSS_KIB_PER_HOUR,
            f"memory: {growth:+.0f} KiB an hour, {steady[-1].rss} KiB at the end",
        ),
        (not count.errors, f"errors: {len(count.errors)} of {count.answers}, the first {count.errors[:9]}"),
        (count.answers > 0, f"{count.viewers} viewers came and went"),
        *seen.answers(log),
    ]
    pictures = [drifts[f"{channel}/{video}"] for channel, video in CHANNELS.items()]
    new = sum(max(timelines) - min(timelines) for timelines in pictures if timelines)
    answers.append((new <= seen.kills, f"{new} new timelines behind {seen.kills} kills"))
    for name in ("descriptors", "threads", "tasks", "children"):
        before = max(getattr(one, name) for one in steady[:half])
        after = max(getattr(one, name) for one in steady[half:])
        answers.append((after <= before + VIEWERS // 4, f"{name}: at most {before}, then {after}"))
    for name, timelines in drifts.items():
        longest = max(timelines.values(), key=len)
        answers.append((len(longest) >= FEWEST_PARTS, f"{name}: {len(timelines)} timelines"))
        for points in timelines.values():
            if len(points) >= FEWEST_PARTS:
                late = drifted(points)
                frames = abs(late) / FRAME_SECONDS
                answers.append((frames < 1, f"drift of {name}: {late * 1000:+.1f} ms in {len(points)} parts"))
    for good, text in answers:
        tell(f"{'well' if good else 'BAD '}  {text}")
    return all(good for good, _ in answers)


def tell(text: str) -> None:
    """Print at once."""
    print(text, flush=True)  # noqa: T201  # its purpose


def main() -> int:
    """Run for the minutes of the command line. Returns the exit status."""
    plan = unrest.planned(MINUTES)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_media(folder)
        (folder / "headwater.toml").write_text(CONFIG)
        server = start_server("--config", "headwater.toml", "--library", "library", cwd=folder)
        try:
            good = asyncio.run(soak(server, folder / "headwater.toml", plan))
        finally:
            status = server.stop()
    tell(f"the server ended with {status}; its log has {len(server.output)} lines")
    for line in server.output[:LOG_LINES]:
        tell(f"    {line.rstrip()}")
    tell(json.dumps({"minutes": plan.minutes, "good": good}))
    return 0 if good and status == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
