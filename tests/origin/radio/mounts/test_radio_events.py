"""``/events/radio/NAME``: titles with the media time they belong to, over bare sockets and with curl."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
from collections.abc import AsyncIterator
from fractions import Fraction
from typing import Any

import pytest

from origin.events.limits import ChannelLimits
from origin.radio.mounts.limits import RadioLimits
from origin.radio.mounts.listener_media_time import GONE_LISTENERS, ListenerTimes
from origin.server.endpoints.descriptions import describe_station
from packager.concurrency import background_task
from tests.eventstream import Message, read
from tests.radio_server import FRAME_BYTES, LIMIT, Client, Server, mount_options, numbers, one_mount
from tests.waiting import until

FRAME = Fraction(1152, 44100)
"""Seconds of one frame (ISO/IEC 11172-3)."""

PATH = "/events/radio/test"
TOKEN = "0123456789abcdef"
BEAT_SECONDS = 0.1
SOON_BEATS = 40
"""Beats of this loop, which stand still when the machine does. Kept open, a connection stays five seconds."""


@contextlib.asynccontextmanager
async def counted_beats() -> AsyncIterator[list[None]]:
    """Give a list that grows while the loop goes on."""
    beats: list[None] = []

    async def beat() -> None:
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            beats.append(None)

    async with background_task(beat()):
        yield beats


class Follower:
    """A reader of the channel on a bare socket."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.stream = b""

    @classmethod
    async def open(cls, server: Server, *fields: str, query: str = "") -> Follower:
        client = await server.open("Accept: text/event-stream", *fields, path=PATH + query)
        assert client.status == 200
        return cls(client)

    async def messages(self, count: int) -> list[Message]:
        """Read until there were so many events since the start."""
        while len(read(self.stream)) < count:
            chunk = await self.client.chunk()
            assert chunk, "the stream ended"
            self.stream += chunk
        return read(self.stream)

    async def data(self, count: int) -> list[Any]:
        return [json.loads(message.data) for message in await self.messages(count)]

    async def rest(self) -> list[Message]:
        """Read to the end."""
        while chunk := await self.client.chunk():
            self.stream += chunk
        return read(self.stream)


def seconds(frames: int) -> Any:
    return pytest.approx(float(frames * FRAME), abs=1e-6)


async def test_a_reader_is_answered_at_once_though_there_is_nothing_to_tell() -> None:
    async with one_mount() as (_feed, mount, server):
        reader = await server.open(path=PATH)
        assert reader.headers["content-type"] == "text/event-stream"
        assert reader.headers["cache-control"] == "no-cache, no-store"
        assert reader.headers["x-accel-buffering"] == "no"
        assert "content-length" not in reader.headers
        first = await reader.chunk()
        assert first.startswith(b":")
        assert b"\nretry: " in first
        await until(lambda: mount.now.channel.readers == 1)
        assert mount.listeners == 0


async def test_each_title_has_the_media_time_of_its_first_frame() -> None:
    async with one_mount() as (feed, mount, server):
        feed.push(39, "One")
        feed.push(12, "One")
        feed.push(39, "Two")
        await until(lambda: mount.title == "Two")
        follower = await Follower.open(server)
        assert [(one["title"], one["media_time"]) for one in await follower.data(2)] == [
            ("One", seconds(0)),
            ("Two", seconds(51)),
        ]
        feed.push(1, "Three")
        messages = await follower.messages(3)
        assert [message.name for message in messages] == ["title"] * 3
        assert json.loads(messages[2].data)["media_time"] == seconds(90)
        epochs = {message.last_id.rpartition("-")[0] for message in messages}
        assert len(epochs) == 1
        assert [message.last_id.rpartition("-")[2] for message in messages] == ["1", "2", "3"]


@pytest.mark.parametrize("first", ["audio", "events"])
async def test_a_reader_is_told_the_media_time_of_its_own_listeners_first_frame(first: str) -> None:
    async with one_mount(mount_options(burst_bytes=5 * FRAME_BYTES)) as (feed, mount, server):
        for number in range(4):
            feed.push(39, f"Title {number}")
        await until(lambda: mount.title == "Title 3")
        if first == "events":
            follower = await Follower.open(server, query=f"?listener={TOKEN}")
            assert len(await follower.messages(4)) == 4
        listener = await server.open(path=f"/radio/test?listener={TOKEN}")
        (heard, *_) = numbers(await listener.body(5 * FRAME_BYTES))
        if first == "audio":
            follower = await Follower.open(server, query=f"?listener={TOKEN}")
        messages = await follower.messages(5)
        (place,) = [json.loads(message.data) for message in messages if message.name == "listening"]
        assert place == {"position": 0, "media_time": seconds(heard)}
        assert (messages[0].name == "listening") is (first == "audio")
        stranger = await Follower.open(server, query="?listener=somebody-else")
        assert {message.name for message in await stranger.messages(4)} == {"title"}


async def test_a_listener_that_is_set_forward_is_told_where_it_goes_on() -> None:
    options = mount_options(queue_bytes=128 * 1024, burst_bytes=0, skips=True)
    async with one_mount(options) as (feed, mount, server):
        slow = await server.open(path=f"/radio/test?listener={TOKEN}", version="1.0")
        await until(lambda: mount.listeners == 1)
        pushed = 0
        while mount.audience.skipped < 3:
            assert pushed < 200 * 39, "it was never set forward"
            feed.push(39)
            pushed += 39
            await feed.settled()
        data, newest = b"", -1
        async with asyncio.timeout(120):
            while newest != pushed - 1:
                try:
                    data += await asyncio.wait_for(slow.reader.read(65536), 0.02)
                except TimeoutError:
                    # It has all that was written; the next flush brings what is left.
                    feed.push(39)
                    pushed += 39
                whole = len(data) // FRAME_BYTES * FRAME_BYTES
                newest = int.from_bytes(data[whole - FRAME_BYTES :][36:44], "big")
        heard = numbers(data[:whole])
        jumps = [index for index in range(1, len(heard)) if heard[index] != heard[index - 1] + 1]
        follower = await Follower.open(server, query=f"?listener={TOKEN}")
        messages = await follower.messages(2 + len(jumps))
        told = [json.loads(message.data) for message in messages if message.name == "listening"]
        assert [(one["position"], one["media_time"]) for one in told] == [
            (seconds(index), seconds(heard[index])) for index in (0, *jumps)
        ]
        assert jumps


async def test_a_reader_that_comes_again_misses_nothing_and_gets_nothing_twice() -> None:
    async with one_mount(mount_options(events=ChannelLimits(history=3))) as (feed, mount, server):
        feed.push(1, "Title 0")
        first = await Follower.open(server)
        (message,) = await first.messages(1)
        await first.client.close()
        for number in range(1, 4):
            feed.push(1, f"Title {number}")
        await until(lambda: mount.title == "Title 3")
        for again in (
            await Follower.open(server, f"Last-Event-ID: {message.last_id}"),
            await Follower.open(server, query=f"?last_event_id={message.last_id}"),
        ):
            found = await again.data(3)
            assert [one.get("title") for one in found] == ["Title 1", "Title 2", "Title 3"]
        feed.push(1, "Title 4")
        await until(lambda: mount.title == "Title 4")
        late = await Follower.open(server, f"Last-Event-ID: {message.last_id}")
        messages = await late.messages(4)
        assert messages[0].name == "reset"
        assert json.loads(messages[0].data) == {"reason": "expired", "lost": 1}
        assert [json.loads(one.data)["title"] for one in messages[1:]] == ["Title 2", "Title 3", "Title 4"]
        stranger = await Follower.open(server, "Last-Event-ID: 17c0ffee-3")
        assert json.loads((await stranger.messages(1))[0].data) == {"reason": "restart", "lost": None}


async def test_after_15_seconds_of_silence_comes_a_comment() -> None:
    now = 1000.0
    async with one_mount(clock=lambda: now) as (feed, _mount, server):
        feed.push(1, "One")
        follower = await Follower.open(server)
        await follower.messages(1)
        before = len(follower.stream)
        now += ChannelLimits().heartbeat_seconds
        follower.stream += await follower.client.chunk()
        assert ChannelLimits().heartbeat_seconds == 15
        assert follower.stream[before:].startswith(b":")
        assert len(await follower.messages(1)) == 1


async def test_a_reader_that_doesnt_read_is_dropped_and_the_others_miss_nothing() -> None:
    options = mount_options(events=ChannelLimits(queue_bytes=8 * 1024))
    async with one_mount(options) as (feed, mount, server):
        stuck, follower = await server.open(path=PATH), await Follower.open(server)
        await until(lambda: mount.now.channel.readers == 2)
        pushed = 0
        while mount.now.channel.dropped == 0:
            assert pushed < 2000, "it wasn't dropped"
            for _ in range(10):
                feed.push(1, f"{pushed} {'x' * 990}")
                pushed += 1
            await follower.messages(pushed)
        assert mount.now.channel.readers == 1
        titles = [one["title"].split()[0] for one in await follower.data(pushed)]
        assert titles == [str(number) for number in range(pushed)]
        rest = await asyncio.wait_for(stuck.reader.read(-1), LIMIT)
        assert not rest.endswith(b"0\r\n\r\n")


async def test_readers_that_leave_are_gone_from_the_count_within_a_second() -> None:
    # For the mount no time passes, so that no comment comes that could tell it.
    async with one_mount(clock=lambda: 1000.0) as (_feed, mount, server), counted_beats() as beats:
        readers = [await server.open(path=PATH) for _ in range(3)]
        await until(lambda: mount.now.channel.readers == 3)
        started = len(beats)
        await readers[0].close()
        readers[1].abort()
        await until(lambda: mount.now.channel.readers == 1)
        assert len(beats) - started < SOON_BEATS


async def test_readers_are_limited_and_a_closed_station_sends_them_away() -> None:
    options = mount_options(events=ChannelLimits(readers=1))
    async with one_mount(options) as (_feed, mount, server), counted_beats() as beats:
        follower = await Follower.open(server)
        refused = await server.open(path=PATH)
        assert (refused.status, refused.headers["retry-after"].isdigit()) == (503, True)
        started = len(beats)
        mount.close()
        assert [message.name for message in await follower.rest()] == ["end"]
        assert await follower.client.reader.read() == b""
        assert len(beats) - started < SOON_BEATS
        assert (await server.open(path=PATH)).status == 204


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/events/radio/other", 404),
        (f"{PATH}?listener=short", 400),
        (f"{PATH}?listener={'x' * 65}", 400),
        (f"{PATH}?listener=%0d%0adata:%20x", 400),
    ],
)
async def test_what_cant_be_read_is_refused(path: str, status: int) -> None:
    async with one_mount() as (_feed, _mount, server):
        assert (await server.open(path=path)).status == status


async def test_a_question_for_the_head_makes_no_reader() -> None:
    async with one_mount() as (_feed, mount, server):
        head = await server.open("Connection: close", method="HEAD", path=PATH)
        assert (head.status, head.headers["content-type"]) == (200, "text/event-stream")
        assert await head.reader.read() == b""
        assert mount.now.channel.readers == 0


async def test_http_1_0_gets_the_events_without_framing() -> None:
    async with one_mount() as (feed, mount, server):
        reader = await server.open(path=PATH, version="1.0")
        assert "transfer-encoding" not in reader.headers
        feed.push(1, "One")
        await until(lambda: mount.title == "One")
        mount.close()
        async with asyncio.timeout(LIMIT):
            messages = read(await reader.reader.read(-1))
        assert [message.name for message in messages] == ["title", "end"]


@pytest.mark.parametrize(
    ("title", "shown"),
    [
        ("a\r\ndata: b\0c", "a data: b c"),
        ("\u202egnp.exe", "gnp.exe"),
        ("\ud800", "?"),
        ("</script><img src=x onerror=alert(1)>", "</script><img src=x onerror=alert(1)>"),
        ("\u0416" * 5000, "\u0416" * 1000),
    ],
)
async def test_a_hostile_title_is_one_line_of_text_in_the_events_and_the_list(title: str, shown: str) -> None:
    async with one_mount() as (feed, mount, server):
        feed.push(1, title)
        follower = await Follower.open(server)
        assert [one["title"] for one in await follower.data(1)] == [shown]
        assert describe_station(mount)["title"] == shown


async def test_the_list_has_the_titles_with_their_times_the_newest_last() -> None:
    options = mount_options(title="Test FM", genre="Tones", events=ChannelLimits(history=3))
    async with one_mount(options) as (feed, mount, _server):
        assert describe_station(mount)["now"] is None
        for number in range(4):
            feed.push(10, f"Title {number}")
        await until(lambda: mount.title == "Title 3")
        found: Any = describe_station(mount)
        assert (found["station"], found["genre"], found["bitrate"]) == ("Test FM", "Tones", 128)
        assert (found["title"], found["now"]["title"]) == ("Title 3", "Title 3")
        assert found["now"]["media_time"] == seconds(30)
        assert found["media_time"] == seconds(40)
        assert [(one["title"], one["media_time"]) for one in found["history"]] == [
            ("Title 1", seconds(10)),
            ("Title 2", seconds(20)),
        ]
        assert found["events"] == PATH


def test_what_listeners_heard_is_forgotten_after_a_named_time_and_beyond_a_named_number() -> None:
    now = 0.0
    listener_times = ListenerTimes(lambda: now, RadioLimits())
    first = listener_times.begin(TOKEN, lambda _: None)
    first.begin(Fraction(7))
    now += 10 * RadioLimits().listener_gone_seconds
    assert [place.media_time for place in listener_times.marks(TOKEN)] == [7]
    listener_times.end(TOKEN, first)
    now += RadioLimits().listener_gone_seconds
    assert listener_times.marks(TOKEN)
    now += 1
    assert not listener_times.marks(TOKEN)
    for number in range(GONE_LISTENERS + 5):
        listener_times.end(str(number), listener_times.begin(str(number), lambda _: None))
    assert len(listener_times) == GONE_LISTENERS


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl isn't installed")
async def test_curl_follows_the_titles() -> None:
    async with one_mount() as (feed, mount, server):
        process = await asyncio.create_subprocess_exec(
            "curl", "-sN", f"{server.url}{PATH}", stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        await until(lambda: mount.now.channel.readers == 1)
        stream = b""
        async with asyncio.timeout(LIMIT):
            for number in range(3):
                feed.push(1, f"Title {number}")
                while len(read(stream)) <= number:
                    stream += await process.stdout.read(4096)
            mount.close()
            await process.communicate()
        assert process.returncode == 0
        assert [json.loads(one.data)["title"] for one in read(stream)] == ["Title 0", "Title 1", "Title 2"]
