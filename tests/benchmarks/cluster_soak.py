"""A cluster of which one part after the other fails: what does a viewer in Chromium see of it?

``make soak CLUSTER=1`` runs it, ``MINUTES=5`` for another time. Beside the viewer, readers ask nginx for
what is live, rewound, and in the library in S3, and count what fails. It prints a line for each fault, and
ends with status 1 where one has cost more than it may. At last all nodes are restarted, one behind the other.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.benchmarks.fleet import CHANNEL, Fleet, fleet_running
from tests.benchmarks.fleet_readers import FleetReaders
from tests.benchmarks.soak import PATIENCE_SECONDS
from tests.benchmarks.viewer import Seen, Viewer, viewing
from tests.origin.workers.asking import workers_of

MINUTES = 20.0
CALM_SECONDS = 60.0
"""Of watching, in which nothing fails."""

SETTLE_SECONDS = 25.0
"""Of watching behind each fault."""

STALLED_SECONDS = 3.0
EDGE_STALLED_SECONDS = 10.0
REDIS_AWAY_SECONDS = 2.0
BOTH_AWAY_SECONDS = 8.0
S3_AWAY_SECONDS = 30.0
S3_NOTICED_SECONDS = 15.0
"""How long behind the return of S3 somebody may still be told to come again."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that happens to a cluster.

    Attributes:
        name: of it.
        cause: lets it happen, and mends what a supervisor would.
        most_stalled: seconds for which the picture may stand still.
        without_s3: whether readers of what nobody has cached may be told to come again, until S3 is back.
    """

    name: str
    cause: Callable[[Fleet], Awaitable[None]]
    most_stalled: float
    without_s3: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """What was seen of a fault.

    Attributes:
        fault: it.
        seconds: for which it was watched.
        seen: by the viewer.
        asked: requests of the others.
        failed: those of them that failed.
        refused: seconds of those that were told to come again, from the return of what was away.
        troubles: what nodes tell of at the end.
    """

    fault: Fault
    seconds: float
    seen: Seen
    asked: int
    failed: list[str]
    refused: list[float]
    troubles: dict[str, str]

    def faults(self) -> list[str]:
        """Tell what is worse than it may be."""
        seen, fault = self.seen, self.fault
        found = []
        if seen.stalled > fault.most_stalled:
            found.append(f"the picture stood still for {seen.stalled:.1f} s")
        if seen.fatal:
            found.append(f"hls.js gave up: {seen.fatal}")
        if self.failed:
            found.append(f"{len(self.failed)} requests failed: {self.failed[:5]}")
        if self.refused and not fault.without_s3:
            found.append(f"{len(self.refused)} readers were told to come again, and S3 was there")
        if fault.without_s3 and not self.refused:
            found.append("nobody was told to come again: was S3 away?")
        if self.refused_until > S3_NOTICED_SECONDS:
            found.append(f"{self.refused_until:.1f} s behind its return S3 was still said to be away")
        if self.troubles:
            found.append(f"not all is well again: {self.troubles}")
        if missing := [one for one in (*seen.refused, *self.failed) if one.startswith("404")]:
            found.append(f"missing: {missing[:5]}")
        return found

    @property
    def refused_until(self) -> float:
        """Seconds behind the end of the fault until which readers were told to come again."""
        return max((0.0, *self.refused))

    def details(self) -> dict[str, dict[str, int]]:
        """Count the errors of each kind."""
        told = {"hls.js": self.seen.errors, "fatal": self.seen.fatal, "its": self.seen.refused}
        told["others'"] = tuple(self.failed)
        return {name: dict(Counter(errors)) for name, errors in told.items() if errors}

    def line(self) -> str:
        """Write it as a row of a table."""
        seen = self.seen
        cells = (
            self.fault.name,
            f"{self.seconds:.0f}",
            f"{seen.stalled:.1f} ({seen.longest:.1f})",
            f"{seen.skipped:.1f}",
            f"{len(seen.errors)}, {len(seen.fatal)}",
            f"{seen.latency:.1f}, {seen.latency_now:.1f}",
            f"{seen.behind:.1f}",
            f"{len(seen.refused)}",
            f"{len(self.failed)} of {self.asked}",
            f"{len(self.refused)}, {self.refused_until:.1f}",
        )
        return f"| {' | '.join(cells)} |"


COLUMNS = (
    "what",
    "seconds watched",
    "seconds of standing picture (longest)",
    "seconds not shown",
    "errors of hls.js, fatal ones",
    "latency: most, then",
    "picture behind the clock",
    "its requests that failed",
    "others' that failed",
    "others told to come again, until seconds behind",
)


async def nothing(fleet: Fleet) -> None:
    """Let nothing happen for a while."""
    del fleet
    await asyncio.sleep(CALM_SECONDS - SETTLE_SECONDS)


async def stop_owner(fleet: Fleet) -> None:
    """Let the owner of the channel's log stand still."""
    with (await asyncio.to_thread(fleet.owner)).stopped():
        await asyncio.sleep(STALLED_SECONDS)


async def kill_owner(fleet: Fleet) -> None:
    """Kill the owner; it comes again as the standby."""
    owner = await asyncio.to_thread(fleet.owner)
    await asyncio.to_thread(owner.kill)
    await asyncio.to_thread(fleet.owner)
    await asyncio.to_thread(owner.start)


async def kill_redis(fleet: Fleet) -> None:
    """Kill Redis, and start it again with what it had."""
    await asyncio.to_thread(fleet.redis.kill)
    await asyncio.sleep(REDIS_AWAY_SECONDS)
    await asyncio.to_thread(fleet.redis.start)


async def kill_s3(fleet: Fleet) -> None:
    """Kill the S3 server, and start it again with what it had."""
    assert fleet.s3 is not None
    await asyncio.to_thread(fleet.s3.kill)
    await asyncio.sleep(S3_AWAY_SECONDS)
    await asyncio.to_thread(fleet.s3.start)


async def kill_s3_and_redis(fleet: Fleet) -> None:
    """Kill both at once; Redis comes back first."""
    assert fleet.s3 is not None
    await asyncio.gather(asyncio.to_thread(fleet.redis.kill), asyncio.to_thread(fleet.s3.kill))
    await asyncio.sleep(BOTH_AWAY_SECONDS)
    await asyncio.to_thread(fleet.redis.start)
    await asyncio.sleep(S3_AWAY_SECONDS - BOTH_AWAY_SECONDS)
    await asyncio.to_thread(fleet.s3.start)


async def stop_edge(fleet: Fleet) -> None:
    """Let an edge stand still: it takes connections, and doesn't answer."""
    with fleet.edges[0].stopped():
        await asyncio.sleep(EDGE_STALLED_SECONDS)


async def add_edge(fleet: Fleet) -> None:
    """Start another edge, or that one anew."""
    await asyncio.to_thread(fleet.late.restart if fleet.late.runs else fleet.late.start)


async def kill_worker(fleet: Fleet) -> None:
    """Kill a worker of an edge."""
    edge = next(one for one in fleet.edges if one.workers > 1)
    os.kill(random.choice(workers_of(edge.server)), signal.SIGKILL)


async def restart_all(fleet: Fleet) -> None:
    """Restart all nodes, one behind the other."""
    for one in await asyncio.to_thread(fleet.in_order_of_upgrades):
        await asyncio.to_thread(one.restart)


CALM = Fault("nothing, for a minute", nothing, 0.5)
FAULTS = (
    Fault("the owner stands still for 3 s", stop_owner, 6.0),
    Fault("the owner is killed", kill_owner, 6.0),
    Fault("Redis is killed, and back after 2 s", kill_redis, 6.0),
    Fault("S3 is killed, and started again after 30 s", kill_s3, 1.0, without_s3=True),
    Fault(
        "Redis and S3 are killed, and started again after 8 s and 30 s",
        kill_s3_and_redis,
        16.0,
        without_s3=True,
    ),
    Fault("an edge stands still for 10 s", stop_edge, 6.0),
    Fault("a new edge comes", add_edge, 0.5),
    Fault("a worker of an edge is killed", kill_worker, 1.0),
)
ROLLING = Fault("all nodes are restarted", restart_all, 6.0)


async def watch(fleet: Fleet, fault: Fault, viewer: Viewer, readers: FleetReaders) -> Row:
    """Let a fault happen, and see what comes of it."""
    # Who is far behind has so much in memory that the next fault isn't seen.
    await viewer.go_live()
    await viewer.take()
    readers.take()
    began = time.monotonic()
    await fault.cause(fleet)
    mended = time.monotonic()
    await asyncio.sleep(SETTLE_SECONDS)
    count = readers.take()
    troubles = await asyncio.to_thread(fleet.troubles)
    return Row(
        fault,
        time.monotonic() - began,
        await viewer.take(),
        count.answers,
        count.errors,
        [moment - mended for moment in count.refused],
        troubles,
    )


async def soak(fleet: Fleet, minutes: float, words: tuple[str, ...]) -> list[Row]:
    """Let one fault after the other happen for so long, and tell of each."""
    end = time.monotonic() + 60 * minutes
    wanted = [one for one in FAULTS if not words or any(word in one.name for word in words)]
    rows: list[Row] = []
    tell(f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|")
    limits = httpx.Limits(max_connections=None)
    async with (
        viewing(f"{fleet.url}/live/{CHANNEL}/master.m3u8") as viewer,
        httpx.AsyncClient(timeout=PATIENCE_SECONDS, limits=limits, trust_env=False) as client,
        asyncio.TaskGroup() as group,
    ):
        readers = FleetReaders(fleet.url, client)
        tasks = [group.create_task(one) for one in readers.work()]
        for number, fault in enumerate(itertools.chain((CALM,), itertools.cycle(wanted))):
            if number > len(wanted) and time.monotonic() > end:
                break
            rows.append(await watch(fleet, fault, viewer, readers))
            tell(rows[-1].line())
        rows.append(await watch(fleet, ROLLING, viewer, readers))
        tell(rows[-1].line())
        for task in tasks:
            task.cancel()
    return rows


def tell(text: str) -> None:
    """Print at once."""
    print(text, flush=True)  # noqa: T201  # its purpose


def main() -> int:
    """Run for the minutes of the command line. Returns the exit status."""
    parser = argparse.ArgumentParser(description="A soak of a cluster: what does a viewer see?")
    parser.add_argument("minutes", nargs="?", type=float, default=MINUTES)
    parser.add_argument("words", nargs="*", help="parts of the names of faults; none: all")
    parser.add_argument("--log", type=Path, help="a file for what the nodes write")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, fleet_running(Path(name), with_s3=True) as fleet:
        try:
            rows = asyncio.run(soak(fleet, arguments.minutes, tuple(arguments.words)))
        finally:
            if arguments.log is not None:
                arguments.log.write_text(fleet.log())
    for row in rows:
        tell(f"{row.fault.name}: {json.dumps(row.details())}")
        for text in row.faults():
            tell(f"BAD   {row.fault.name}: {text}")
    return 1 if any(row.faults() for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
