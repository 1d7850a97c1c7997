"""Listeners in another process hear the same bytes, and count for the station as those in its own do."""

from __future__ import annotations

import asyncio
import contextlib
import xml.etree.ElementTree as ElementTree
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from media.errors import MalformedError
from origin.radio.connection_totals import ConnectionCounts
from origin.radio.mounts.followed_mount import FollowedMount
from origin.radio.mounts.mount import Mount
from origin.radio.mounts.mount_replication import FollowedMountLog, ServedMountLog
from origin.radio.mounts.options import MountOptions
from origin.radio.routes import ListenerEndpoint
from origin.server.endpoints.error_responses import ERROR_RESPONSES
from packager.radio.ogg_block_reader import MEDIA_TYPE as OGG
from packager.radio.ogg_block_reader import OggBlockReader
from packager.replication.log_entries import Place
from tests.keys import ADMIN_TOKEN
from tests.ogg import encoded
from tests.patience import MOUNT
from tests.permissions import station_access
from tests.radio_server import Client, Feed, Server, mount_options, numbers, serving, serving_app
from tests.waiting import until

TOKEN = f"Authorization: Bearer {ADMIN_TOKEN}"
NUMBERS = 1 << 32


class Link:
    """The way from a station to the process that follows it, as far as it is connected."""

    def __init__(self, mount: Mount, followed: FollowedMount, served: dict[str, FollowedMount]) -> None:
        self.log = ServedMountLog(mount)
        self.follower = FollowedMountLog(followed, served)
        self.connected = False
        mount.on_entry = self.append
        self.connect()

    def append(self, entry: Any) -> None:
        if self.connected:
            self.send(entry)

    def connect(self) -> None:
        """Begin with a snapshot."""
        self.connected = True
        places = [self.send(entry) for entry in self.log.snapshot()]
        assert (places[0], places[-1]) == (Place.BEGIN, Place.END)
        self.follower.offer()

    def disconnect(self) -> None:
        """Lose the connection, at both of its ends."""
        self.connected = False
        self.follower.withdraw()
        self.log.forget("a worker")

    def send(self, entry: Any) -> Place:
        place, read = self.follower.read(self.log.encode(entry))
        self.follower.fold(read)
        return place

    def report(self) -> None:
        for message in self.follower.reports():
            self.log.take_report("a worker", message)


class Stations:
    """Stations of one process that another one serves, too."""

    def __init__(self, feeds: Mapping[str, Feed], options: MountOptions) -> None:
        self.mounts = {name: Mount(name, feed, options) for name, feed in feeds.items()}
        self.followed: dict[str, FollowedMount] = {}
        for name in feeds:
            self.followed[name] = FollowedMount(name, options, lambda _: None, self.followed)
        self.served: dict[str, FollowedMount] = {}
        self.links = [Link(mount, self.followed[name], self.served) for name, mount in self.mounts.items()]
        self.here: Server
        self.there: Server

    def report(self) -> None:
        """Let the other process report, and learn of its reports."""
        for link in self.links:
            link.report()
        for mount in self.mounts.values():
            mount.append_facts()

    async def open_both(self, *fields: str, **options: str) -> tuple[Client, Client]:
        """Listen in both processes."""
        here, there = await self.here.open(*fields, **options), await self.there.open(*fields, **options)
        # A second may begin between the two.
        there.headers["date"] = here.headers["date"]
        assert (there.status, there.headers) == (here.status, here.headers)
        return here, there


@contextlib.asynccontextmanager
async def stations(feeds: Mapping[str, Feed], options: MountOptions | None = None) -> AsyncIterator[Stations]:
    made = Stations(feeds, options or mount_options())
    authorization, counts = station_access(made.served), ConnectionCounts(NUMBERS)
    endpoint = ListenerEndpoint(made.served, authorization, counts)
    app = Starlette(routes=[Route("/radio/{name}", endpoint)], exception_handlers=ERROR_RESPONSES)
    running: Any = made.followed.values()
    async with serving(made.mounts) as made.here, serving_app(app, running) as made.there:
        yield made


@pytest.mark.parametrize("fields", [(), ("Icy-MetaData: 1",)])
async def test_listeners_in_both_processes_hear_the_same_bytes(fields: tuple[str, ...]) -> None:
    feed = Feed()
    async with stations({"test": feed}) as made:
        for number in range(6):
            feed.push(title=f"Title {number // 2}")
        await until(lambda: made.followed["test"].is_live and made.mounts["test"].read_bytes > 90_000)
        here, there = await made.open_both(*fields)
        feed.push(title="Next")
        feed.push(title="Next")
        first, second = await here.body(90_000), await there.body(90_000)
        size = min(len(first), len(second))
        assert first[:size] == second[:size]
        # A Range is none, and a HEAD is no listener.
        for options in ({"method": "HEAD"}, {"version": "1.0"}):
            await made.open_both("Range: bytes=0-9", **options)


async def test_a_listener_who_comes_later_gets_whole_frames_over_a_connection_that_was_lost() -> None:
    feed = Feed()
    async with stations({"test": feed}) as made:
        feed.push()
        await until(lambda: made.followed["test"].is_live)
        listener = await made.there.open()
        (link,) = made.links
        link.disconnect()
        assert not made.served
        for _ in range(3):
            feed.push()
        await feed.settled()
        link.connect()
        feed.push()
        heard = numbers((await listener.body(5 * 39 * 417))[: 5 * 39 * 417])
        assert heard == list(range(5 * 39))
        made.report()
        assert made.mounts["test"].listeners == 1


async def test_ogg_is_chained_as_in_the_stations_own_process() -> None:
    class OggFeed(Feed):
        media_type = OGG

    reader, feed = OggBlockReader(), OggFeed()
    blocks = [*reader.receive_data(encoded("opus", "One")), *reader.finish()]
    async with stations({"test": feed}) as made:
        for block in blocks[:-1]:
            feed._queue.put_nowait(block)
        await until(lambda: made.followed["test"].is_live)
        await feed.settled()
        here, there = await made.open_both("Icy-MetaData: 1")
        assert "icy-metaint" not in there.headers
        feed._queue.put_nowait(blocks[-1])
        assert await here.body(1000) == await there.body(1000)


async def test_the_administrator_sees_and_disconnects_listeners_of_all_processes() -> None:
    feed = Feed()
    async with stations({"test": feed}) as made:
        feed.push()
        mount = made.mounts["test"]
        await until(lambda: made.followed["test"].is_live)
        here, there = await made.open_both("User-Agent: VLC")
        await until(lambda: (len(mount.audience), len(made.followed["test"].audience)) == (1, 1))
        made.report()
        assert (mount.listeners, made.followed["test"].listeners) == (2, 2)
        listed = await made.here.open(TOKEN, path="/admin/listclients?mount=/radio/test", version="1.0")
        tree = ElementTree.fromstring(await listed.reader.read())
        clients = {one.findtext("ID"): one.findtext("UserAgent") for one in tree.iter("listener")}
        assert clients == {"1": "VLC", str(NUMBERS + 1): "VLC"}
        path = f"/admin/killclient?mount=/radio/test&id={NUMBERS + 1}"
        killed = await made.here.open(TOKEN, path=path, version="1.0")
        assert b"<return>1</return>" in await killed.reader.read()
        while await there.chunk():
            pass
        made.report()
        assert mount.listeners == 1
        stats = await made.here.open(TOKEN, path="/admin/stats", version="1.0")
        told = ElementTree.fromstring(await stats.reader.read())
        assert (told.findtext("listener_connections"), told.findtext("listeners")) == ("2", "1")
        assert int(told.findtext("source/total_bytes_sent") or 0) > mount.audience.sent_bytes
        await here.close()


async def test_listeners_of_all_processes_are_moved_and_hear_the_other_station() -> None:
    feeds = {"test": Feed(), "other": Feed()}
    feeds["other"].begin_at(5000)
    async with stations(feeds) as made:
        for feed in feeds.values():
            feed.push()
        await until(lambda: all(one.is_live for one in made.followed.values()))
        both = await made.open_both()
        for listener in both:
            await listener.body(39 * 417)
        path = "/admin/moveclients?mount=/radio/test&destination=/radio/other"
        assert (await made.here.open(TOKEN, path=path)).status == 200
        made.report()
        assert [mount.listeners for mount in made.mounts.values()] == [0, 2]
        feeds["other"].push()
        for listener in both:
            assert numbers(await listener.body(39 * 417)) == list(range(5039, 5078))


async def test_listeners_elsewhere_are_let_go_with_all_others() -> None:
    """After a long silence, and before audio of another type."""
    feed = Feed()
    async with stations({"test": feed}, mount_options(hold_seconds=0.0)) as made:
        feed.push()
        await until(lambda: made.followed["test"].is_live)
        listener = await made.there.open()
        await until(lambda: len(made.followed["test"].audience) == 1)
        made.report()
        while await listener.chunk():
            pass
    feed = Feed()
    async with stations({"test": feed}) as made:
        feed.push()
        await until(lambda: made.followed["test"].is_live)
        listener = await made.there.open()
        await until(lambda: len(made.followed["test"].audience) == 1)
        feed.push()
        block = feed._queue.get_nowait()
        assert block is not None
        feed._queue.put_nowait(replace(block, media_type="audio/aac"))
        while await listener.chunk():
            pass
        await until(lambda: made.followed["test"].is_live)
        followed = made.followed["test"]
        assert followed.broadcast.headers(followed.facts, with_titles=False)[0][1] == b"audio/aac"


async def test_a_station_whose_listeners_can_not_be_written_to_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    feed = Feed()
    async with stations({"test": feed}) as made:
        feed.push()
        followed = made.followed["test"]
        await until(lambda: followed.is_live)
        listener, flush, broken = await made.there.open(), followed.audience.flush, [0]

        async def failing() -> None:
            broken[0] += 1
            if broken[0] < 2:
                raise ValueError("not now")
            await flush()

        monkeypatch.setattr(followed.audience, "flush", failing)
        feed.push()
        await until(lambda: broken[0] == 1)
        feed.push()
        assert numbers(await listener.body(3 * 39 * 417)) == list(range(3 * 39))
        followed.close()
        late = await made.there.open()
        assert late.status == 200
        assert await late.chunk() == b""


async def test_a_listener_with_a_name_is_told_its_times_where_titles_are_read() -> None:
    feed = Feed()
    async with stations({"test": feed}) as made:
        feed.push(title="Now")
        await until(lambda: made.followed["test"].is_live)
        listener = await made.there.open(path="/radio/test?listener=abcdefgh")
        await until(lambda: len(made.followed["test"].audience) == 1)
        reader = await made.here.open(path="/events/radio/test?listener=abcdefgh", version="1.0")
        made.report()
        async with asyncio.timeout(60):
            told = await reader.reader.readuntil(b"event: listening\n")
            told += await reader.reader.readline()
        assert told.endswith(b'data: {"position":0.0,"media_time":0.0}\n')
        # Who comes later is told, too, even over another connection between the processes.
        made.links[0].disconnect()
        made.links[0].connect()
        made.report()
        later = await made.here.open(path="/events/radio/test?listener=abcdefgh", version="1.0")
        async with asyncio.timeout(60):
            await later.reader.readuntil(b"event: listening\n")
        await listener.close()


async def test_a_report_of_many_comes_in_pieces_and_garbage_is_refused() -> None:
    feed, limits = Feed(), replace(MOUNT, reported_listeners=2, reported_characters=5)
    async with stations({"test": feed}, mount_options(limits=limits)) as made:
        feed.push()
        await until(lambda: made.followed["test"].is_live)
        for _ in range(5):
            await made.there.open("User-Agent: a long name")
        await until(lambda: len(made.followed["test"].audience) == 5)
        (link,) = made.links
        messages = list(link.follower.reports())
        assert len(messages) == 3
        for message in messages:
            link.log.take_report("a worker", message)
        mount = made.mounts["test"]
        assert mount.listeners == 5
        assert {one.client.agent for one in mount.present} == {"a lon"}
        for message in (b"", b"\xc1", b"\x81\xa4type\xa5other"):
            with pytest.raises(MalformedError):
                link.follower.read(message)
        with pytest.raises(MalformedError):
            link.log.take_report("a worker", b"\x81\xa4came\x01")
        link.disconnect()
        assert mount.listeners == 0
