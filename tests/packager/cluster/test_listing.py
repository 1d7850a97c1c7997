"""A new edge lists a channel at once, and has the bytes of its segments a little later."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from structlog.testing import capture_logs

from media.errors import MalformedError
from origin.answers.asgi import handler_routes
from origin.live.handler import LiveHandler
from origin.live.requests.addresses import PATTERNS
from packager.cluster.lease import LogKeys
from packager.cluster.log_stream import EntryId, Snapshot
from packager.cluster.shared_log import LogServing, SharedLog
from packager.publish.live_stream import LiveStream
from packager.replication.log_follower import HoleError
from packager.window.limits import DEFAULT_LIMITS
from packager.window.log import EndEntry
from packager.window.log_encoding import encode
from packager.window.snapshot import SegmentMediaEntry
from tests.packager.cluster.live_nodes import LIMITS, Node, alike, clear, is_level, node, playing
from tests.packager.made_channel import NUMBER, Maker, same
from tests.redis_server import RedisServer
from tests.waiting import until

KEYS = LogKeys("live", "test")
# Packagers that look what there is when they begin have whole snapshots written, too.
PATIENT = replace(LIMITS, listing_seconds=600.0)
IMPATIENT = replace(PATIENT, media_wait_seconds=0.1, read_seconds=0.1, wanted_seconds=5.0)
MOST_BYTES = 1 << 20


class HeldMedia:
    """The bytes of segments that a listing lacks, which an edge reads once a test lets them go."""

    def __init__(self, edge: Node) -> None:
        self.gate = asyncio.Event()
        self.keys: list[bytes] = []
        self._read_streams = edge.node.connection.read_streams
        edge.node.connection.read_streams = self._read  # type: ignore[method-assign]

    async def _read(self, behind: Mapping[bytes, str | bytes], count: int, seconds: float) -> Any:
        if media := [key for key in behind if b":media:" in key]:
            self.keys += media
            await self.gate.wait()
        return await self._read_streams(behind, count, seconds)


def client_of(one: Node) -> httpx.AsyncClient:
    app = Starlette(routes=handler_routes(LiveHandler(one.streams), PATTERNS))
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://edge/live/test/240p/", timeout=60
    )


async def test_what_is_listed_is_there_before_its_bytes_which_are_waited_for(
    redis_server: RedisServer,
) -> None:
    clear(redis_server)
    maker = playing(6)
    maker.act("parts")
    async with node(redis_server, maker) as packager:
        await until(lambda: packager.node.channels["test"].is_certain_owner, "the owner")
        async with node(redis_server, limits=PATIENT) as edge, client_of(edge) as client:
            held = HeldMedia(edge)
            await until(lambda: "test" in edge.streams, "the listing")
            theirs, ours = edge.streams["test"], packager.streams["test"]
            text = (await client.get("media.m3u8")).content
            assert text == ours.presentation.media("240p")
            assert theirs.presentation.manifest(NUMBER + 60.0) == ours.presentation.manifest(NUMBER + 60.0)
            assert b"%d.m4s" % NUMBER in text
            # The init segment is there; the others are waited for, and then asked for again.
            assert (await client.get(f"init-{NUMBER}.mp4")).status_code == 200
            late = await asyncio.gather(
                *(
                    client.get(name)
                    for name in (f"{NUMBER}.m4s", f"{NUMBER + 5}.1.m4s", f"{NUMBER + 6}.0.m4s")
                )
            )
            assert [one.status_code for one in late] == [503] * 3
            assert all(one.headers["retry-after"] for one in late)
            # The log goes on: the segment is finished whose first part isn't here, and others follow.
            for _ in range(3):
                maker.act("segment")
            window = theirs.renditions["240p"].window
            await until(lambda: window.next_part[0] == NUMBER + 9, "what follows")
            assert theirs.awaits_media
            assert window.awaits(NUMBER + 6)
            assert not window.awaits(NUMBER + 7)
            waiting = asyncio.create_task(client.get(f"{NUMBER}.m4s"))
            held.gate.set()
            await until(lambda: is_level(maker, edge), "the bytes")
            answer = await waiting
            while answer.status_code == 503:
                answer = await client.get(f"{NUMBER}.m4s")
            assert answer.content == ours.renditions["240p"].window.segment(NUMBER)
            assert alike(packager, edge)
            same(maker, theirs)


@pytest.mark.parametrize("loss", ["deleted", "crafted"])
async def test_bytes_that_do_not_come_are_had_with_a_whole_snapshot(
    redis_server: RedisServer, loss: str
) -> None:
    clear(redis_server)
    maker = playing(6)
    async with node(redis_server, maker) as packager:
        await until(lambda: packager.node.channels["test"].is_certain_owner, "the owner")
        async with node(redis_server, limits=IMPATIENT) as edge:
            held = HeldMedia(edge)
            await until(lambda: held.keys and redis_server.command("EXISTS", held.keys[0]) == b":1\r\n")
            redis_server.command("DEL", held.keys[0], KEYS.snapshot)
            if loss == "crafted":
                foreign = encode(SegmentMediaEntry("240p", NUMBER + 5, b"short"))
                redis_server.command("XADD", held.keys[0], "*", "entry", foreign)
            with capture_logs() as logs:
                held.gate.set()
                await until(lambda: is_level(maker, edge), "a whole snapshot")
            told = {
                "deleted": "the segments of a live channel's snapshot didn't come in time",
                "crafted": "a snapshot of a live channel's log can't be read",
            }
            assert told[loss] in [line["event"] for line in logs]
            assert redis_server.command("EXISTS", KEYS.snapshot) == b":1\r\n"
            maker.act("segment")
            await until(lambda: is_level(maker, edge), "what follows")
            assert alike(packager, edge)


async def test_a_standby_asks_for_a_snapshot_with_all_bytes(redis_server: RedisServer) -> None:
    clear(redis_server)
    maker, other = playing(4), playing(4)
    async with node(redis_server, maker) as packager:
        await until(lambda: packager.node.channels["test"].is_certain_owner, "the owner")
        async with node(redis_server, other) as standby:
            await until(lambda: is_level(maker, standby), "the standby")
            assert redis_server.command("EXISTS", KEYS.listing) == b":0\r\n"
            assert alike(packager, standby)


async def test_nodes_of_a_version_without_listings_are_understood(redis_server: RedisServer) -> None:
    clear(redis_server)
    maker = playing(4)
    async with node(redis_server, maker) as packager:
        channel = packager.node.channels["test"]
        await until(lambda: channel.is_certain_owner, "the owner")

        def has_answered() -> bool:
            # An owner that isn't level with its log yet has no answer; edges ask again, too.
            if redis_server.command("EXISTS", KEYS.wanted) == b":0\r\n":
                redis_server.command("RPUSH", KEYS.wanted, "1")
            return redis_server.command("EXISTS", KEYS.snapshot) == b":1\r\n"

        # A new owner gives former edges what they ask for.
        await until(has_answered, "the snapshot")
        redis_server.command("DEL", KEYS.snapshot)

        # A former owner gives the same to whoever asks.
        async def store_listing() -> None:
            await channel.store_snapshot()

        channel.store_listing = store_listing  # type: ignore[method-assign]
        async with node(redis_server) as edge:
            await until(lambda: is_level(maker, edge), "the edge")
            assert redis_server.command("EXISTS", KEYS.listing) == b":0\r\n"
            assert alike(packager, edge)


def listing(maker: Maker) -> tuple[Snapshot, list[bytes]]:
    data = b"".join(encode(entry) for entry in maker.folded.snapshot(has_media=False))
    return Snapshot(EntryId(1, 10), data, "00"), [encode(entry) for entry in maker.folded.media()]


def following() -> SharedLog:
    serving = LogServing(dict[str, LiveStream](), DEFAULT_LIMITS, lambda _stream, _entry: None)
    return SharedLog("test", serving, may_be_owned=False)


async def test_no_more_bytes_are_waited_for_than_may_be() -> None:
    maker = playing(4)
    snapshot, media = listing(maker)
    lacking = sum(len(entry.data) for entry in maker.folded.media())
    assert await following().restore(snapshot, MOST_BYTES, lacking) == lacking
    for most in (lacking - 1, 0):
        shared = following()
        with pytest.raises(MalformedError):
            await shared.restore(snapshot, MOST_BYTES, most)
        assert shared.stream.begun_with is None
    assert len(media) == 8  # captions were told whole


async def test_bytes_that_are_none_of_the_listings_change_nothing() -> None:
    maker = playing(4)
    snapshot, media = listing(maker)
    shared = following()
    await shared.restore(snapshot, MOST_BYTES, MOST_BYTES)
    for entry in (
        SegmentMediaEntry("240p", NUMBER, b""),
        SegmentMediaEntry("240p", NUMBER, bytes(MOST_BYTES)),
        SegmentMediaEntry("other", NUMBER, b"data"),
        EndEntry("240p"),
    ):
        with pytest.raises(MalformedError):
            shared.take_media(encode(entry))
    shared.take_media(encode(SegmentMediaEntry("240p", NUMBER + 99, b"nobody waits for it")))
    shared.take_media(encode(SegmentMediaEntry("captions-en", NUMBER, b"it has its text")))
    for message in (*media, *media):
        shared.take_media(message)
    assert not shared.awaits_media
    maker.followers[0].fold(EndEntry("240p"))  # nothing of it is asked for in what follows
    assert [*shared.stream.media()] == [*maker.folded.media()]


async def test_crafted_bytes_are_refused_or_as_many_as_were_told() -> None:
    maker, luck = playing(3), random.Random(17)
    snapshot, media = listing(maker)
    sizes = {(entry.rendition, entry.number): len(entry.data) for entry in maker.folded.media()}
    shared = following()
    await shared.restore(snapshot, MOST_BYTES, MOST_BYTES)
    for _ in range(2000):
        crafted = bytearray(luck.choice(media))
        for _ in range(luck.randint(1, 4)):
            crafted[luck.randrange(min(len(crafted), 60))] = luck.randrange(256)
        await asyncio.sleep(0)  # a step of the loop has one
        try:
            shared.take_media(bytes(crafted))
        except MalformedError:
            continue
    for (name, number), size in sizes.items():
        window = shared.stream.renditions[name].window
        data = window.segment(number)
        assert window.awaits(number) or (data is not None and len(data) == size)


async def test_a_crafted_listing_is_refused_or_tells_what_has_bytes_to_come() -> None:
    maker, luck = playing(2), random.Random(17)
    snapshot, _ = listing(maker)
    taken = 0
    for _ in range(300):
        crafted = bytearray(snapshot.data)
        crafted[luck.randrange(len(crafted))] = luck.randrange(256)
        shared = following()
        await asyncio.sleep(0)  # a step of the loop has one
        try:
            lacking = await shared.restore(snapshot._replace(data=bytes(crafted)), MOST_BYTES, MOST_BYTES)
        except (MalformedError, HoleError, LookupError, ValueError, TypeError, ArithmeticError):
            assert shared.stream.begun_with is None
            continue
        taken += 1
        assert lacking <= MOST_BYTES
        for entry in shared.stream.media():
            assert entry.data
    assert taken
