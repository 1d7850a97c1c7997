"""A Redis that has lost the records of created channels gets them again, however many there are."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from packager.cluster.event_streams import EventStreams
from packager.cluster.limits import ClusterLimits
from packager.cluster.shared_records import SharedRecords
from packager.concurrency import background_task
from tests.packager.cluster.redis_connections import connected
from tests.redis_server import redis_running
from tests.waiting import until

COUNT = 5_000


class Holder:
    """The records of a node.

    Attributes:
        turns: of the event loop so far, as another task has counted them.
        drawn: the turn in which each line was written.
    """

    def __init__(self) -> None:
        self.turns = 0
        self.drawn: list[int] = []
        self.known: Mapping[str, bytes] = {}

    async def count(self) -> None:
        while True:
            await asyncio.sleep(0)
            self.turns += 1

    def lines(self) -> Iterator[bytes]:
        for number in range(COUNT):
            self.drawn.append(self.turns)
            made = {"type": "made", "name": f"c{number}", "creator": "a", "settings": {}, "number": "1"}
            yield json.dumps(made).encode() + b"\n"

    def note(self, name: str, line: bytes) -> None:
        """Nothing changes."""

    async def note_all(self, lines: Mapping[str, bytes]) -> None:
        self.known = dict(lines)


async def test_records_are_given_in_portions_between_which_others_have_their_turn(tmp_path: Path) -> None:
    holder, limits = Holder(), ClusterLimits()
    with redis_running(tmp_path) as redis:
        async with connected(redis) as connection:
            streams = EventStreams(connection, "token", ClusterLimits())
            records = SharedRecords(connection, streams, holder, limits)
            async with background_task(records.run()), background_task(holder.count()):
                await records.create("c0", "1", next(holder.lines()).rstrip(), COUNT, None)
                redis.kill()
                shutil.rmtree(tmp_path / "appendonlydir")
                holder.drawn.clear()
                redis.start()
                await until(lambda: len(holder.known) == COUNT)
    in_one_turn = max(holder.drawn.count(turn) for turn in set(holder.drawn))
    assert in_one_turn <= 2 * limits.restored_at_once
