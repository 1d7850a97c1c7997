"""Other people's servers whose answers are made to hold ours: no step of the loop is long for it."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gzip
import struct
import zlib
from collections.abc import Callable

import pytest

from media.hls.playlist_reader import DEFAULT_LIMITS, PlaylistReaderLimits, read_playlist
from origin.radio.mounts.limits import RELAY_RETRY, RadioLimits
from origin.radio.relay import Relay, RelayOptions
from packager.radio.audio_blocks import AudioBlock
from packager.sources.pullers import hls_client
from packager.sources.pullers.guarded_http import certificates, guarded_client
from packager.sources.pullers.hls_fetcher import HlsFetcher, read_body
from packager.sources.pullers.http_puller import HttpPuller
from packager.sources.retries import PullError
from tests import hostile_media as hostile
from tests.conftest import HELD_SECONDS
from tests.hostile_upstream import answer, hostile_upstream, in_chunks
from tests.loop_watch import LoopWatch, slowness
from tests.waiting import until

MIB = 1 << 20
MP3, AAC, OGG = "Content-Type: audio/mpeg", "Content-Type: audio/aac", "Content-Type: application/ogg"
ENOUGH_BLOCKS = 5

STATIONS: dict[str, Callable[[], bytes]] = {
    "empty ID3 tags": lambda: answer(hostile.empty_id3(MIB), MP3),
    "ID3 tags of empty frames": lambda: answer(hostile.id3_of_empty_frames(2 * MIB), MP3),
    "bytes of sync words": lambda: answer(hostile.sync_bytes(MIB), MP3),
    "sync words without frames": lambda: answer(hostile.false_sync_words(MIB), MP3),
    "frames of eight bytes": lambda: answer(hostile.adts_frames(MIB), AAC),
    "Ogg pages that are none": lambda: answer(hostile.false_pages(2 * MIB), OGG),
    "Ogg pages of 28 bytes": lambda: answer(hostile.tiny_pages(MIB), OGG),
    "Ogg comments without text": lambda: answer(hostile.many_comments(4 * MIB), OGG),
    "chunks of a byte": lambda: in_chunks(bytes(40_000), MP3),
    "titles between bytes": lambda: answer(hostile.titles_between_bytes(MIB), MP3, "icy-metaint: 1"),
    "titles between frames": lambda: answer(
        (hostile.FRAME[:256] + b"\xffStreamTitle='" + bytes(4067)) * 200, MP3, "icy-metaint: 256"
    ),
    "fields without end": lambda: b"HTTP/1.1 200 OK\r\n" + b"a:\r\n" * MIB,
    "fields": lambda: answer(b"", MP3, *["a:"] * 20_000),
}


@pytest.mark.parametrize("kind", STATIONS)
async def test_a_relayed_station_holds_nobody(kind: str, nothing_holds_the_event_loop: LoopWatch) -> None:
    soon = RadioLimits(relay_retry=dataclasses.replace(RELAY_RETRY, first_seconds=0.05))
    with hostile_upstream({"": await asyncio.to_thread(STATIONS[kind])}) as upstream:
        station = Relay(RelayOptions("copy", f"{upstream.url}/x", limits=soon))
        blocks: list[AudioBlock] = []
        count = blocks.append

        async def listen() -> None:
            async with contextlib.aclosing(station.blocks()) as given:
                async for block in given:
                    count(block)

        task = asyncio.create_task(listen())
        try:
            await until(lambda: len(upstream.asked) > 1 or len(blocks) >= ENOUGH_BLOCKS or task.done())
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
    held = nothing_holds_the_event_loop.longest
    assert held.seconds < HELD_SECONDS * slowness(), held.where


def playlist(text: bytes, *fields: str) -> bytes:
    return answer(gzip.compress(text[: DEFAULT_LIMITS.playlist_bytes]), "Content-Encoding: gzip", *fields)


def zeros_in_gzip(mebibytes: int) -> bytes:
    """Return what gzip makes of zeros: one mebibyte is compressed, which stands there as often (RFC 1952)."""
    zeros, checksum, maker = bytes(MIB), 0, zlib.compressobj(6, wbits=-zlib.MAX_WBITS)
    piece = maker.compress(zeros) + maker.flush(zlib.Z_FULL_FLUSH)
    for _ in range(mebibytes):
        checksum = zlib.crc32(zeros, checksum)
    end = struct.pack("<II", checksum, mebibytes * MIB)
    return gzip.compress(b"")[:10] + piece * mebibytes + maker.flush() + end


PLAYLISTS: dict[str, Callable[[], bytes]] = {
    "different segments": lambda: playlist(hostile.different_segments(4 * MIB - 8192)),
    "segments": lambda: playlist(hostile.many_segments(3 * MIB)),
    "lines": lambda: playlist(hostile.empty_lines(4 * MIB - 8192)),
    "key formats": lambda: playlist(hostile.many_keys(MIB)),
    "as many segments as may be": lambda: playlist(hostile.different_segments(26 * 49_000)),
    "a bomb": lambda: playlist(b"#EXTM3U\n") + zlib.compress(bytes(8)),
    "fields without end": lambda: b"HTTP/1.1 200 OK\r\n" + b"a:\r\n" * MIB,
    "fields": lambda: answer(b"", "Content-Type: audio/mpeg", *["a:"] * 20_000),
    "a thousand times its size": lambda: answer(zeros_in_gzip(200), "Content-Encoding: gzip"),
}


@pytest.mark.parametrize("kind", PLAYLISTS)
async def test_a_large_playlist_holds_nobody(kind: str, nothing_holds_the_event_loop: LoopWatch) -> None:
    first = answer(b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nmedia.m3u8\n")
    with hostile_upstream({"master.m3u8": first, "": await asyncio.to_thread(PLAYLISTS[kind])}) as upstream:
        puller = HttpPuller(f"{upstream.url}/master.m3u8", "test")
        task = asyncio.create_task(puller.run())
        try:
            # A good one is followed by its segments, any other by the question for another.
            await until(lambda: len(upstream.asked) >= 4)
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
    held = nothing_holds_the_event_loop.longest
    assert held.seconds < HELD_SECONDS * slowness(), held.where


@pytest.mark.slow
async def test_a_playlist_that_came_unchanged_is_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[bytes] = []

    def counted(data: bytes, limits: PlaylistReaderLimits) -> object:
        read.append(data)
        return read_playlist(data, limits)

    monkeypatch.setattr(hls_client, "read_playlist", counted)
    text = hostile.PLAYLIST_HEAD + b"#EXTINF:1,\n1.ts\n"
    segment = answer(hostile.null_packets(4000))
    with hostile_upstream({"media.m3u8": answer(text), "": segment}) as upstream:
        puller = HttpPuller(f"{upstream.url}/media.m3u8", "test")
        task = asyncio.create_task(puller.run())
        try:
            await until(lambda: upstream.asked.count("media.m3u8") >= 5)
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
    # The first look tells only that it is a playlist; then it is read for what it is, and for its segments.
    assert len(read) == 2


async def test_a_segment_that_is_a_bomb_is_unpacked_in_steps_and_bounded(
    nothing_holds_the_event_loop: LoopWatch,
) -> None:
    small = await asyncio.to_thread(gzip.compress, bytes(60 * MIB), 1)
    large = await asyncio.to_thread(gzip.compress, bytes(70 * MIB), 1)
    answers = {name: answer(data, "Content-Encoding: gzip") for name, data in (("s", small), ("l", large))}
    with hostile_upstream(answers) as upstream:
        await asyncio.to_thread(certificates)
        async with guarded_client(upstream.url) as client:
            assert len(await HlsFetcher(client)._segment(f"{upstream.url}/s", None, 64 * MIB)) == 60 * MIB
            with pytest.raises(PullError, match="more than"):
                await HlsFetcher(client)._segment(f"{upstream.url}/l", None, 64 * MIB)
    assert nothing_holds_the_event_loop.longest.seconds < HELD_SECONDS * slowness()


async def test_what_stands_behind_the_end_of_a_coded_answer_is_not_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taken = 0

    class Counting:
        def __init__(self, inner: zlib._Decompress) -> None:
            self._inner = inner

        def __getattr__(self, name: str) -> object:
            return getattr(self._inner, name)

        def decompress(self, data: bytes, limit: int) -> bytes:
            nonlocal taken
            taken += len(data)
            return self._inner.decompress(data, limit)

    inflater = zlib.decompressobj
    monkeypatch.setattr(zlib, "decompressobj", lambda bits: Counting(inflater(bits)))
    with hostile_upstream(
        {"": answer(gzip.compress(b"abc") + bytes(20 * MIB), "Content-Encoding: gzip")}
    ) as one:
        async with guarded_client(one.url) as client, client.stream("GET", f"{one.url}/x") as response:
            assert bytes(await read_body(response, 100)) == b"abc"
    assert taken < MIB
