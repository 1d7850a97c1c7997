"""Many readers of one channel: frames, those that are slow or stand still, and those that leave together."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import time
from collections.abc import Callable
from typing import cast

import pytest

from origin.events.caught_up_groups import MOST_FRAMES
from origin.events.channel_reader import ChannelReader
from origin.events.event_log import Event, EventLog, PackedEvents
from origin.events.limits import ChannelLimits
from origin.http1.body_writer import Stream
from tests.benchmarks import event_readers
from tests.event_server import LIMIT, NDJSON, WAYS, Got, Server, Way, a_channel, reading, serving
from tests.eventstream import Message, read
from tests.radio_server import Client
from tests.waiting import until

CROWD, READERS = 2000, 8


async def opened(server: Server, *fields: str) -> Client:
    client = await server.open(*fields)
    assert client.status == 200
    return client


async def frames_of(client: Client, last: bytes) -> list[bytes]:
    """Read chunks up to the one that has these bytes."""
    frames = [await client.chunk()]
    while last not in frames[-1]:
        frames.append(await client.chunk())
    return frames


async def test_events_of_one_turn_go_out_in_one_write_in_their_order() -> None:
    async with serving() as server:
        clients = [await opened(server) for _ in range(3)]
        await until(lambda: server.channel.readers == 3)
        for client in clients:
            await client.chunk()
        for number in range(50):
            server.channel.publish_text(str(number))
        for client in clients:
            (frame,) = await frames_of(client, b"data: 49\n")
            assert [message.data for message in read(frame)] == [str(number) for number in range(50)]
            client.abort()


async def test_frames_are_no_more_frequent_than_configured_and_events_keep_their_order() -> None:
    interval = ChannelLimits().flush_seconds
    assert interval == 0.016
    async with serving(a_channel(history=1000)) as server:
        client = await opened(server)
        await client.chunk()
        loop = asyncio.get_running_loop()
        began = loop.time()
        for number in range(300):
            server.channel.publish_text(str(number))
            await asyncio.sleep(0.001)
        frames = await frames_of(client, b"data: 299\n")
        # However long this took: 63 frames a second at most, and one at its beginning.
        assert len(frames) <= (loop.time() - began) / interval + 1
        data = [message.data for message in read(b"".join(frames))]
        assert data == [str(number) for number in range(300)]
        client.abort()


async def test_without_an_interval_each_event_is_written_by_itself() -> None:
    async with serving(a_channel(flush_seconds=0.0)) as server:
        client = await opened(server)
        await client.chunk()
        for number in range(20):
            server.channel.publish_text(str(number))
        frames = await frames_of(client, b"data: 19\n")
        assert [read(frame)[0].data for frame in frames] == [str(number) for number in range(20)]
        client.abort()


async def test_one_that_reads_nothing_is_dropped_and_the_others_get_all_in_order() -> None:
    channel = a_channel(history=5000, queue_bytes=64 * 1024)
    async with serving(channel) as server:
        stuck = await opened(server)
        total = 5000
        async with contextlib.AsyncExitStack() as stack:
            lists = []
            for _ in range(READERS):
                enough = lambda got: len(got) >= total  # noqa: E731
                lists.append(await stack.enter_async_context(reading(NDJSON, server, "", enough)))
            await until(lambda: channel.readers == READERS + 1)
            for number in range(total):
                channel.publish_text(f"{number} {'x' * 100}")
                if number % 100 == 99:
                    # Who reads, however slowly on this machine, is never as far behind as who doesn't.
                    await until(lambda: all(len(got) > number - 200 for got, _ in lists))  # noqa: B023
            for got, task in lists:
                await asyncio.wait_for(task, LIMIT)
                assert [one.data.split()[0] for one in got] == [str(number) for number in range(total)]
        await until(lambda: channel.dropped == 1)
        await until(lambda: channel.readers == 0)
        rest = await asyncio.wait_for(stuck.reader.read(-1), LIMIT)
        # RFC 9112 §8: what is cut doesn't look complete.
        assert not rest.endswith(b"0\r\n\r\n")


class Narrow:
    """A reader's stream that a test fills and empties."""

    chunked = closed = False
    direct = -1

    def __init__(self) -> None:
        self.buffered = self.sent = 0
        self.data = b""
        self.is_cut = False
        self.on_close: Callable[[], None] | None = None

    def write(self, data: bytes) -> None:
        self.data += data
        self.sent += len(data)

    def abort(self) -> None:
        self.is_cut = True


async def test_one_that_reads_too_slowly_is_told_what_it_has_missed_and_goes_on() -> None:
    channel = a_channel(history=5000, queue_bytes=16 * 1024, flush_seconds=0.0)
    slow = Narrow()
    reader = ChannelReader(channel.since(None))
    channel.enter(reader, cast(Stream, slow))

    def publish(count: int) -> None:
        for _ in range(count):
            channel.publish_text("x" * 1000)

    publish(5)
    slow.buffered = channel.limits.write_bytes
    publish(30)
    assert len(read(slow.data)) == 5
    assert channel.lag == 30
    slow.buffered = 1
    publish(1)
    messages = read(slow.data)
    offsets = [int(message.last_id.partition("-")[2]) for message in messages]
    assert [message.name for message in messages].count("reset") == 1
    assert all(
        lost_of(message) == now - before
        for message, before, now in zip(messages[1:], offsets, offsets[1:], strict=False)
    )
    assert (offsets[-1], channel.counters.lagged, channel.dropped) == (36, 1, 0)
    # Who can't be told for long is dropped.
    slow.buffered = channel.limits.write_bytes
    publish(100)
    assert (slow.is_cut, channel.dropped, channel.readers) == (True, 1, 0)
    assert reader.done.done()


def lost_of(message: Message) -> int:
    """By how much a message goes on: an event by one, a reset by what it says is lost."""
    if message.name != "reset":
        return 1
    told = json.loads(message.data)
    assert told["reason"] == "lagged"
    lost: int = told["lost"]
    return lost


async def test_who_comes_late_gets_a_long_past_through_a_narrow_connection() -> None:
    channel = a_channel(history=3000, queue_bytes=16 * 1024)
    async with serving(channel) as server:
        for number in range(3000):
            channel.publish_text(f"{number} {'x' * 500}")
        late = await opened(server)
        stream = b""
        while b"data: 2999 " not in stream:
            stream += await late.chunk()
        assert [message.data.split()[0] for message in read(stream)] == [str(one) for one in range(3000)]
        assert (channel.counters.lagged, channel.dropped) == (0, 0)
        late.abort()


class CountedReads(PackedEvents):
    """The events of a ring, which counts how often they are looked at."""

    def __init__(self, log: EventLog) -> None:
        super().__init__()
        self.reads = 0
        for number, event in enumerate(log.between(log.first, log.end), log.first):
            self[number] = event

    def get(self, number: int) -> Event | None:
        self.reads += 1
        return super().get(number)


async def test_a_long_past_is_read_once_in_portions_between_which_others_have_their_turn() -> None:
    total = 20_000
    channel = a_channel(history=total, bytes_at_once=64 * 1024)
    for number in range(total):
        channel.publish_text(str(number))
        if number % 1000 == 0:
            await asyncio.sleep(0)
    channel.log._ring._blocks = events = CountedReads(channel.log)
    late = Narrow()
    channel.enter(ChannelReader(channel.since(None)), cast(Stream, late))
    most = channel.limits.bytes_at_once + channel.limits.write_bytes
    assert 0 < len(late.data) <= most
    before = 0
    while before < len(late.data):
        assert len(late.data) <= before + most
        before = len(late.data)
        await until(lambda before=before: len(late.data) > before or channel.lag == 0)  # type: ignore[misc]
    messages = await asyncio.to_thread(read, late.data)
    assert [message.data for message in messages] == [str(number) for number in range(total)]
    # To be written, and to find where portions end.
    assert events.reads < 4 * total


async def test_one_event_may_be_larger_than_all_that_may_wait() -> None:
    channel = a_channel(queue_bytes=8 * 1024)
    async with serving(channel) as server:
        async with reading(WAYS[0], server, "", lambda got: len(got) == 3) as (got, task):
            await until(lambda: channel.readers == 1)
            for _ in range(3):
                channel.publish_text("x" * 1_000_000)
                await until(lambda: len(got) == channel.published or task.done())
            await asyncio.wait_for(task, LIMIT)
        assert {len(one.data) for one in got} == {1_000_000}
        assert (channel.counters.lagged, channel.dropped) == (0, 0)


async def test_a_client_that_is_stopped_is_dropped_and_holds_nobody_up() -> None:
    channel = a_channel(history=10_000, queue_bytes=32 * 1024)
    async with serving(channel) as server:
        nowhere = asyncio.subprocess.DEVNULL
        stopped = await asyncio.create_subprocess_exec("curl", "-sN", server.url, stdout=nowhere)
        await until(lambda: channel.readers == 1)
        stopped.send_signal(signal.SIGSTOP)
        try:
            async with reading(NDJSON, server) as (got, _):
                await until(lambda: channel.readers == 2)
                while channel.dropped == 0:
                    assert channel.published < 200_000, "it wasn't dropped"
                    for _ in range(100):
                        channel.publish_text("x" * 500)
                    await until(lambda: len(got) == channel.published)
                await until(lambda: channel.readers == 1)
        finally:
            stopped.send_signal(signal.SIGCONT)
            stopped.kill()
            await stopped.wait()


async def connected(port: int) -> socket.socket:
    client = socket.socket()
    client.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(client, ("127.0.0.1", port))
    await loop.sock_sendall(client, b"GET /events/test HTTP/1.1\r\nHost: x\r\n\r\n")
    return client


@pytest.mark.timeout(600)
async def test_of_a_thousand_the_one_that_reads_nothing_is_dropped_and_costs_the_others_nothing() -> None:
    channel = a_channel(history=2000, history_bytes=1 << 20, queue_bytes=64 * 1024)
    rate, total, others = 10_000, 4000, 999
    async with serving(channel) as server:
        blocked = await opened(server)
        crowd = event_readers.Crowd(server.port, "/events/test", are_witnesses=False)
        try:
            for _ in range(others):
                await asyncio.to_thread(crowd.join)
            await until(lambda: channel.readers == others + 1)
            held = 0
            while channel.published < total:
                # As many as come in a fiftieth of a second, and then a look at whether all have them.
                for _ in range(rate // 50):
                    channel.publish_text(f"@ {'x' * 60}")
                expected = channel.published * others
                readers = channel._readers
                assert readers is not None
                held = max(held, *(one.stream.buffered for one in readers))
                while crowd.events < expected:
                    assert not crowd.ended
                    await asyncio.to_thread(crowd.read, time.monotonic() + 0.1)
                assert channel.log.size <= channel.limits.history_bytes
                assert len(readers._caught_up._frames) <= MOST_FRAMES
            assert crowd.events == total * others
            assert (channel.dropped, channel.counters.lagged, channel.readers) == (1, 0, others)
            # What waits for somebody waits in the ring; a connection holds what it was to take at once.
            frame = rate // 50 * 200
            assert held < channel.limits.write_bytes + frame
        finally:
            crowd.leave()
        await until(lambda: channel.readers == 0)
        blocked.abort()


@pytest.mark.timeout(600)
async def test_thousands_that_leave_at_once_leave_nothing_behind() -> None:
    channel = a_channel(readers=CROWD)
    async with serving(channel) as server:
        clients: list[socket.socket] = []
        try:
            for _ in range(CROWD // 100):
                clients += await asyncio.gather(*[connected(server.port) for _ in range(100)])
            await until(lambda: channel.readers == CROWD, seconds=300)
            channel.publish_text("to all")
            await until(lambda: channel.lag == 0)
        finally:
            # Closing them takes a while, too: the loop's turns are the server's.
            for number, client in enumerate(clients):
                client.close()
                if number % 100 == 0:
                    await asyncio.sleep(0)
        await until(lambda: channel.readers == 0, seconds=300)
        await until(lambda: channel.cleanups.count == CROWD, seconds=300)
        assert channel.dropped == 0
        async with reading(NDJSON, server, "", bool) as (got, task):
            await asyncio.wait_for(task, LIMIT)
        assert got == [Got("message", "to all", "e-1")]


@pytest.mark.parametrize("way", WAYS[:4], ids=lambda way: way.name)
async def test_how_long_it_takes_until_nothing_is_left_of_who_is_gone_is_counted(way: Way) -> None:
    async with serving() as server:
        channel = server.channel
        async with reading(way, server):
            await until(lambda: channel.readers == 1)
        await until(lambda: channel.cleanups.count == 1)
        async with reading(way, server) as (_, task):
            await until(lambda: channel.readers == 1)
            channel.end()
            await asyncio.wait_for(task, LIMIT)
        await until(lambda: channel.readers == 0)
        # Who is let go isn't gone.
        assert channel.cleanups.count == 1


async def test_what_is_too_old_isnt_kept() -> None:
    channel = a_channel(history_seconds=0.05, beat_seconds=0.01)
    async with serving(channel) as server:
        channel.publish_text("old")
        await until(lambda: channel.log.first == 1)
        answer = await server.request("GET", params={"since": "e-0"})
        (reset,) = answer.json()
        assert (reset["id"], json.loads(reset["data"])) == ("e-1", {"reason": "expired", "lost": 1})


async def test_how_long_readers_wait_and_events_lie_apart_is_counted() -> None:
    async with serving() as server:
        async with reading(NDJSON, server, "", lambda got: len(got) == 3) as (_, task):
            await until(lambda: server.channel.readers == 1)
            for number in range(3):
                server.channel.publish_text(str(number))
            await asyncio.wait_for(task, LIMIT)
        channel = server.channel
        assert (channel.gaps.count, channel.first_events.count) == (2, 1)
        described = channel.describe()
        assert described["gap_p50"] <= described["gap_p95"] <= described["gap_p99"]  # type: ignore[operator]
        async with reading(NDJSON, server, "e-1", bool) as (_, task):
            await asyncio.wait_for(task, LIMIT)
        assert channel.counters.resumed == 1
