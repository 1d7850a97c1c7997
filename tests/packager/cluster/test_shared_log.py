"""What a node folds of a channel's shared log while it changes from following it to owning it."""

from __future__ import annotations

import asyncio
import time

from packager.cluster.failover import go_on
from packager.cluster.log_stream import EntryId, Snapshot
from packager.cluster.shared_log import SharedLog
from packager.publish.limits import DEFAULT_LIMITS
from packager.publish.live_stream import LiveStream
from packager.step_budget import STEP_SECONDS
from packager.window.log import Entry
from packager.window.log_encoding import encode
from tests.packager.cluster.test_node import playing
from tests.packager.made_channel import same

MOST_BYTES = 1 << 20


async def test_who_takes_over_within_a_snapshot_goes_on_without_it() -> None:
    maker, streams = playing(4), dict[str, LiveStream]()
    data = b"".join(encode(entry) for entry in maker.folded.snapshot())

    def slow(_stream: LiveStream, _entry: Entry) -> None:
        """Take so long with each entry that others have their turn behind it."""
        until = time.perf_counter() + STEP_SECONDS
        while time.perf_counter() < until:
            pass

    shared = SharedLog("test", streams, DEFAULT_LIMITS, relay=slow)
    restoring = asyncio.create_task(shared.restore(Snapshot(EntryId(1, 10), data), MOST_BYTES))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not restoring.done()
    shared.own(2, 10)

    def append(entry: Entry) -> None:
        shared.append(entry)

    assert go_on(shared.stream, maker.followers[0], append, anew=True)
    await restoring
    assert shared.is_whole
    assert shared.read == EntryId(2, 10)
    same(maker, streams["test"])
