"""What a node folds of a channel's shared log while it changes from following it to owning it."""

from __future__ import annotations

import asyncio
import time

from packager.cluster.failover import go_on
from packager.cluster.log_stream import EntryId, Snapshot
from packager.cluster.shared_log import LogServing, SharedLog
from packager.publish.live_stream import LiveStream
from packager.step_budget import STEP_SECONDS
from packager.window.limits import DEFAULT_LIMITS
from packager.window.log import Entry
from packager.window.log_encoding import encode
from tests.packager.cluster.live_nodes import playing
from tests.packager.made_channel import Maker, same

MOST_BYTES = 1 << 20


def slow(_stream: LiveStream, _entry: Entry) -> None:
    """Take so long with each entry that others have their turn behind it."""
    until = time.perf_counter() + STEP_SECONDS
    while time.perf_counter() < until:
        pass


def snapshot_of(maker: Maker) -> Snapshot:
    return Snapshot(EntryId(1, 10), b"".join(encode(entry) for entry in maker.folded.snapshot()))


async def test_who_takes_over_within_a_snapshot_goes_on_without_it() -> None:
    maker, streams = playing(4), dict[str, LiveStream]()
    shared = SharedLog("test", LogServing(streams, DEFAULT_LIMITS, slow))
    restoring = asyncio.create_task(shared.restore(snapshot_of(maker), MOST_BYTES))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not restoring.done()
    shared.own(2, 10)

    def append(entry: Entry) -> None:
        shared.append(entry)

    assert go_on(shared.stream, maker.followers[0], append, gone_seconds=60.0, anew=True)
    await restoring
    assert shared.is_whole
    assert shared.read == EntryId(2, 10)
    same(maker, streams["test"])


async def test_a_log_that_is_given_up_within_a_snapshot_is_not_served_behind_it() -> None:
    maker, streams = playing(4), dict[str, LiveStream]()
    relayed: list[Entry] = []

    def relay(stream: LiveStream, entry: Entry) -> None:
        relayed.append(entry)
        slow(stream, entry)

    shared = SharedLog("test", LogServing(streams, DEFAULT_LIMITS, relay))
    restoring = asyncio.create_task(shared.restore(snapshot_of(maker), MOST_BYTES))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not restoring.done()
    shared.withdraw()
    count = len(relayed)
    assert await restoring == 0
    assert not streams
    assert not shared.is_whole
    assert len(relayed) == count
