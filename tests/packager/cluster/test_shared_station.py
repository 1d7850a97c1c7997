"""A station that nodes share over a real Redis: one of them is heard on all, and another one behind it."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import msgspec
import pytest

from media.errors import MalformedError
from packager.cluster.lease import LogKeys
from packager.cluster.log_stream import EntryId
from packager.cluster.shared_station import RADIO
from packager.radio.audio_blocks import AudioBlock
from packager.radio.audio_source import StationInfo
from packager.radio.block_serialization import SharedBlock, decode, encode
from packager.radio.ogg_block_reader import OggBlockReader
from packager.radio.ogg_chain import OggChain
from tests.ogg import encoded
from tests.packager.cluster.station_nodes import LIMITS, NAME, STATE, node
from tests.radio_server import Feed
from tests.redis_server import RedisServer
from tests.waiting import until

SHORT_LEASE_SECONDS = 3.0
"""For how long an owner stands still here; it does its part before, on a busy machine, too."""


async def test_one_source_is_heard_on_all_nodes_and_then_the_other(redis_server: RedisServer) -> None:
    redis_server.command("FLUSHALL")
    feed, other_feed = Feed(), Feed()
    other_feed.begin_at(1000)
    async with node(redis_server, None) as edge:
        async with node(redis_server, feed) as owner, node(redis_server, other_feed) as standby:
            await until(lambda: owner.station.is_owner or standby.station.is_owner)
            if standby.station.is_owner:
                owner, standby, feed, other_feed = standby, owner, other_feed, feed
            feed.begin_at(1)
            feed.station_info = StationInfo("First")
            other_feed.begin_at(1000)
            for number in range(3):
                feed.push(1, f"Títle {number}")
                other_feed.push(1)
            await until(lambda: edge.heard() == owner.heard() == standby.heard() == [1, 2, 3])
            assert edge.played == owner.played == standby.played
            assert edge.played[0].title == "Títle 0"
            assert edge.station.station_info == StationInfo("First")
            # A node that comes has the newest audio at once.
            async with node(redis_server, None) as late:
                await until(lambda: late.heard() == [1, 2, 3])
            # What has no audio gives way to what has.
            feed.available = False
            await until(lambda: standby.station.is_owner and not owner.station.is_owner)
            feed.push(1)
            other_feed.push(1, "Second")
            await until(lambda: edge.heard() == owner.heard() == standby.heard() == [1, 2, 3, 1003])
            # With nobody else it is told, so that fallbacks are heard.
            other_feed.available = False
            await until(lambda: not edge.station.available)
            other_feed.available = True
            await until(lambda: edge.station.available)
        # It is given back, or ends by itself where Redis doesn't answer that in time.
        await until(lambda: redis_server.command("EXISTS", LogKeys(RADIO, NAME).lease) == b":0\r\n")


async def test_an_owner_that_stood_still_is_not_heard_any_more(redis_server: RedisServer) -> None:
    redis_server.command("FLUSHALL")
    feed, other_feed = Feed(), Feed()
    slow = replace(LIMITS, lease_seconds=SHORT_LEASE_SECONDS, renew_seconds=600.0)
    async with node(redis_server, None) as edge, node(redis_server, feed, slow) as owner:
        # Its first look came before Redis was there, or before it was for long.
        await until(lambda: owner.connection.is_up)
        await asyncio.sleep(slow.lease_seconds)
        await owner.station._look(feed)
        feed.push(1)
        await until(lambda: edge.heard() == [0])
        async with node(redis_server, other_feed) as other:
            # It doesn't renew its lease, which is what others see of one that stands still.
            await until(lambda: other.station.is_owner)
            other_feed.begin_at(1000)
            other_feed.push(1)
            await until(lambda: edge.heard() == [0, 1000])
            feed.push(1)
            await feed.settled()
            await owner.station._look(feed)
            assert not owner.station.is_owner
            await until(lambda: owner.heard() == [0, 1000])
            assert edge.heard() == [0, 1000]


@pytest.mark.parametrize("loses", [False, True])
async def test_the_owner_goes_on_without_redis_and_fills_it(redis_server: RedisServer, loses: bool) -> None:
    redis_server.command("FLUSHALL")
    feed = Feed()
    async with node(redis_server, None) as edge, node(redis_server, feed) as owner:
        await until(lambda: owner.station.is_owner)
        feed.push(1)
        await until(lambda: edge.heard() == [0])
        redis_server.kill()
        await until(lambda: not owner.connection.is_up)
        feed.push(1)
        feed.push(1)
        await until(lambda: owner.heard() == [0, 1, 2])
        if loses:
            redis_server.lose_data()
        redis_server.start()
        await until(lambda: edge.heard()[-2:] == [1, 2])
        assert edge.heard() in ([0, 1, 2], [0, 0, 1, 2])
        feed.push(1)
        await until(lambda: edge.heard()[-1] == 3)


async def test_ogg_has_one_link_until_another_node_takes_over(
    redis_server: RedisServer,
) -> None:
    redis_server.command("FLUSHALL")
    reader = OggBlockReader()
    blocks = [*reader.receive_data(encoded("opus", "A")), *reader.finish()]
    async with node(redis_server, None) as edge:
        for heard in (1, 2):
            feed = Feed()
            async with node(redis_server, feed) as owner:
                await until(lambda: owner.station.is_owner)
                for block in blocks:
                    feed._queue.put_nowait(block)
                await until(lambda: len(owner.played) == len(blocks))
                # What an owner that ends hasn't sent yet isn't heard anywhere.
                await until(lambda: len(edge.played) == heard * len(blocks))  # noqa: B023
    links = {id(block.ogg.link) for block in edge.played if block.ogg is not None}
    assert len(links) == 2
    chain = OggChain()
    assert {chain.carry(block).link for block in edge.played} == {1, 2}


def test_what_no_station_has_made_is_refused() -> None:
    frame = AudioBlock(b"frame", 1152, 44100, "", (0,))
    assert decode(encode(STATE, replace(frame, title="\ud800é"), 7)).block == replace(frame, title="?é")
    reader = OggBlockReader()
    (ogg, *_) = [*reader.receive_data(encoded("opus", "A", seconds=1)), *reader.finish()]
    assert ogg.ogg is not None
    assert decode(encode(STATE, ogg, 1)).block == ogg
    page = ogg.ogg.pages[0]
    wrong = [
        replace(frame, timescale=0),
        replace(frame, duration=0),
        replace(frame, duration=1 << 60),
        replace(frame, data=b""),
        replace(frame, cuts=()),
        replace(frame, cuts=(0, 0)),
        replace(frame, cuts=(0, 5)),
        replace(frame, cuts=(-1,)),
        replace(frame, media_type="text/html"),
        replace(ogg, data=b"x"),
        *(
            replace(ogg, ogg=replace(ogg.ogg, pages=pages))
            for pages in (
                (),
                (replace(page, lacing=b""),),
                (replace(page, serial=1 << 32),),
                (replace(page, granule=1 << 63),),
                (replace(page, flags=8),),
            )
        ),
        replace(ogg, ogg=replace(ogg.ogg, link=replace(ogg.ogg.link, packets=()))),
        replace(ogg, ogg=replace(ogg.ogg, link=replace(ogg.ogg.link, codec="x\r\n"))),
        replace(ogg, ogg=replace(ogg.ogg, link=replace(ogg.ogg.link, packets=(bytes(1 << 20),)))),
    ]
    for block in wrong:
        with pytest.raises(MalformedError):
            decode(encode(STATE, block, 0))
    message = encode(STATE, frame, 0)
    for cut in range(len(message)):
        with pytest.raises(MalformedError):
            decode(message[:cut])
    with pytest.raises(MalformedError):
        decode(msgspec.msgpack.encode(SharedBlock(msgspec.structs.replace(STATE, media_type="a\r\nb"))))


async def test_crafted_entries_are_passed_over(redis_server: RedisServer) -> None:
    redis_server.command("FLUSHALL")
    entries = LogKeys(RADIO, NAME).entries
    feed = Feed()
    async with node(redis_server, None) as edge, node(redis_server, feed) as owner:
        await until(lambda: owner.station.is_owner)
        feed.push(1)
        await until(lambda: edge.heard() == [0])
        redis_server.command("XADD", entries, f"{edge.station.read.epoch}-100", "entry", b"\xc1")
        redis_server.command("XADD", entries, f"{edge.station.read.epoch}-101", "other", b"\xc1")
        await until(lambda: edge.station.unreadable == 2)
        assert edge.station.read == EntryId(edge.station.read.epoch, 101)
        redis_server.command("XADD", entries, "18446744073709551615-1", "entry", b"")
        await until(lambda: edge.station.unreadable > 2)
        redis_server.command("SET", entries, "no stream")
        await until(lambda: redis_server.command("EXISTS", entries) == b":0\r\n")
        feed.push(1)
        await until(lambda: owner.heard() == [0, 1])
        assert edge.connection.lost == owner.connection.lost == 0
