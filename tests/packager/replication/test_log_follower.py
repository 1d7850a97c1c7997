"""A process that follows the logs of another one serves the same, whatever becomes of the connection."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field

import pytest

from packager.concurrency import background_task
from packager.publish.live_stream import LiveStream
from packager.replication.limits import ReplicationLimits
from packager.replication.live_log import LIVE, FollowedLiveLog, ServedLiveLog
from packager.replication.log_follower import LogFollower
from packager.replication.log_server import LogServer
from packager.retry_policy import RetryPolicy
from packager.window.limits import DEFAULT_LIMITS
from packager.window.log import DiscontinuityEntry, Entry
from tests.packager.made_channel import Maker, same
from tests.waiting import until

LIMITS = ReplicationLimits(reconnects=RetryPolicy(0.01, 0.1), report_seconds=0.01)
SMALL = ReplicationLimits(reconnects=RetryPolicy(0.01, 0.1), waiting_bytes=100_000, buffered_bytes=10_000)


@dataclass
class Process:
    """A process that follows, as far as it is seen from its socket."""

    streams: dict[str, LiveStream] = field(default_factory=dict)
    connections: int = 0
    ours: socket.socket | None = None
    # While it is cleared, nobody is connected to.
    may_connect: asyncio.Event = field(default_factory=asyncio.Event)

    def disconnect(self) -> None:
        """Break the connection, as if the other process had ended."""
        assert self.ours is not None
        self.ours.shutdown(socket.SHUT_RDWR)


@contextlib.asynccontextmanager
async def following(server: LogServer, limits: ReplicationLimits = LIMITS) -> AsyncIterator[Process]:
    process = Process()
    process.may_connect.set()

    async def connect() -> socket.socket:
        await process.may_connect.wait()
        ours, its = socket.socketpair()
        if process.ours is not None:
            process.ours.close()
        process.ours = its.dup()
        await server.connect(ours)
        process.connections += 1
        return its

    kinds = {LIVE: lambda name: FollowedLiveLog(name, process.streams, DEFAULT_LIMITS)}
    follower = LogFollower(kinds, connect, limits)
    try:
        async with background_task(follower.run()):
            yield process
    finally:
        follower.close()
        if process.ours is not None:
            process.ours.close()
        # Who has gone is noticed in the loop's next turns.
        server.close()
        await asyncio.sleep(0)


def serve(server: LogServer, maker: Maker, name: str = "test") -> LiveStream:
    """Let a channel be followed; give what is served of it where it is made."""
    stream = LiveStream(name, maker.followers[0].commands, clock=maker.clock)
    stream.adopt(maker.folded)
    maker.log.add_follower(server.serve(ServedLiveLog(stream)))
    return stream


def is_level(maker: Maker, process: Process, name: str = "test") -> bool:
    """Tell whether a process has everything of a channel."""
    stream = process.streams.get(name)
    return stream is not None and all(
        one.window.next_part == stream.renditions[rendition].window.next_part
        and one.window.ended == stream.renditions[rendition].window.ended
        for rendition, one in maker.folded.renditions.items()
    )


def playing() -> Maker:
    maker = Maker(dvr=False)
    maker.act("segment")
    return maker


async def test_who_follows_serves_the_channels_that_can_be_played() -> None:
    server, maker, later = LogServer(LIMITS), playing(), Maker(dvr=True)
    serve(server, maker)
    async with following(server) as process:
        await until(lambda: is_level(maker, process), "the snapshot")
        serve(server, later, "later")
        for act in ("segment", "parts", "range", "begin", "segment", "gap", "parts"):
            maker.act(act)
            later.act(act)
            await asyncio.sleep(0)
        await until(lambda: is_level(maker, process) and is_level(later, process, "later"), "the entries")
        same(maker, process.streams["test"])
        same(later, process.streams["later"])
        maker.act("end")
        await until(lambda: process.streams["test"].renditions["240p"].window.ended, "the end")
        same(maker, process.streams["test"])


async def test_a_channel_is_replaced_and_goes() -> None:
    server, maker, other = LogServer(LIMITS), playing(), Maker(dvr=False)
    serve(server, maker)
    async with following(server) as process:
        await until(lambda: is_level(maker, process), "the snapshot")
        former = process.streams["test"].renditions["240p"].window
        serve(server, other)
        # The one that has the name now has nothing to play, so that another process answers.
        await until(lambda: "test" not in process.streams or not former.waiters.closed, "the other")
        maker.act("segment")
        other.act("segment")
        await until(lambda: is_level(other, process), "its first segment")
        same(other, process.streams["test"])
        server.withdraw("live/test")
        await until(lambda: not process.streams, "the end")


@pytest.mark.parametrize("break_off", ["connection", "hole", "unknown", "garbage"])
async def test_who_waits_goes_on_to_wait_over_a_connection_that_is_lost(break_off: str) -> None:
    server, maker = LogServer(LIMITS), playing()
    made = serve(server, maker)
    async with following(server) as process:
        await until(lambda: is_level(maker, process), "the snapshot")
        stream = process.streams["test"]
        window = stream.renditions["240p"].window
        number, part = window.next_part
        waiting = asyncio.create_task(window.waiters.wait(lambda: window.reached(number, part + 1), 100))
        if break_off == "connection":
            process.may_connect.clear()
            process.disconnect()
            await until(lambda: not process.streams, "the loss")
        elif break_off == "garbage":
            assert process.ours is not None
            process.ours.send(b"\xff" * 100)
            await until(lambda: process.connections > 1, "another connection")
        else:
            take = server.serve(ServedLiveLog(made))
            maker.log.add_follower(take)
            await asyncio.sleep(0)
            # One that can't be written is a hole for who follows, and another can't be folded there.
            take(DiscontinuityEntry("none" if break_off == "unknown" else object()))  # type: ignore[arg-type]
        assert not waiting.done()
        maker.act("parts")
        maker.act("parts")
        process.may_connect.set()
        assert await asyncio.wait_for(waiting, 60)
        await until(lambda: is_level(maker, process), "the rest")
        assert process.connections > 1
        assert process.streams["test"] is stream
        same(maker, stream)


async def test_a_snapshot_that_can_not_be_told_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    server, maker, asked = LogServer(LIMITS), playing(), [0]
    made = serve(server, maker)
    snapshot = made.snapshot

    def failing() -> Iterator[Entry]:
        asked[0] += 1
        if asked[0] < 3:
            raise ValueError("not now")
        return snapshot()

    monkeypatch.setattr(made, "snapshot", failing)
    async with following(server) as process:
        await until(lambda: is_level(maker, process), "the third snapshot")
        assert process.connections == 3


async def test_who_does_not_read_is_disconnected_and_slows_nobody() -> None:
    server, maker = LogServer(SMALL), playing()
    serve(server, maker)
    stalled, its = socket.socketpair()
    async with following(server) as process:
        await server.connect(stalled)
        for _ in range(2000):
            maker.act("parts")
            await asyncio.sleep(0)
        its.settimeout(60)
        received = 0
        with contextlib.suppress(ConnectionError):
            while data := await asyncio.to_thread(its.recv, 1 << 20):
                received += len(data)
        # What the kernel holds and what may wait, less than all of it.
        assert 0 < received < 2 << 20
        await until(lambda: is_level(maker, process), "the entries")
        assert process.connections == 1
    its.close()


async def test_who_asks_elsewhere_is_counted_once_where_the_channel_is_made() -> None:
    server, maker = LogServer(LIMITS), playing()
    made = serve(server, maker)
    async with following(server) as process, following(server) as other:
        await until(lambda: is_level(maker, process) and is_level(maker, other), "the snapshots")
        waiting = []
        for stream in (process.streams["test"], other.streams["test"]):
            stream.note_viewer(("192.0.2.1", 7))
            window = stream.renditions["240p"].window
            waiting.append(asyncio.create_task(window.waiters.wait(lambda: False, 100)))
        await until(lambda: made.blocked == 2, "the reports of both")
        assert made.viewers == 1
        process.may_connect.clear()
        process.disconnect()
        await until(lambda: made.blocked == 1, "the loss of one")
    assert await asyncio.gather(*waiting) == [False, False]
    await until(lambda: made.blocked == 0, "their end")
