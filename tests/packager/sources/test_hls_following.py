"""Following another server's playlists: which segments are next, and how much they can make us take."""

from __future__ import annotations

import asyncio
import gzip
import tracemalloc
from fractions import Fraction

import httpx
import pytest

from media.hls.playlist_reader import ListedSegment, MediaListing, PlaylistReaderLimits, Resource
from packager.sources.limits import SourceLimits
from packager.sources.pullers.hls_client import PlaylistCursor, reload_delay
from packager.sources.pullers.hls_fetcher import HlsFetcher, resolve
from packager.sources.retries import PullError

PLAYLIST_BYTES = 1 << 20


def listing(first: int, last: int, *, ended: bool = False, breaks: int = -1, gap: int = -1) -> MediaListing:
    """A playlist of segments of two seconds with these numbers; one behind a break, one that isn't there."""
    segments = tuple(
        ListedSegment(number, Resource(f"{number}.ts"), Fraction(2), None, number == breaks, number == gap)
        for number in range(first, last + 1)
    )
    return MediaListing(2, segments, ended)


def taken(cursor: PlaylistCursor, found: MediaListing) -> list[tuple[int, bool]]:
    return [(step.segment.number, step.breaks) for step in cursor.next_segments(found)]


def test_a_live_playlist_is_begun_three_segments_before_its_end_and_each_segment_is_taken_once() -> None:
    cursor = PlaylistCursor(SourceLimits())
    assert taken(cursor, listing(10, 19)) == [(17, False), (18, False), (19, False)]
    assert taken(cursor, listing(10, 19)) == []
    assert taken(cursor, listing(12, 21)) == [(20, False), (21, False)]
    assert taken(cursor, listing(11, 20)) == [], "a cache has an older one"
    assert taken(cursor, listing(13, 22, breaks=22)) == [(22, True)]


def test_what_is_over_is_taken_from_its_beginning() -> None:
    assert len(taken(PlaylistCursor(SourceLimits()), listing(0, 99, ended=True))) == 100


def test_segments_that_were_missed_are_a_break() -> None:
    cursor = PlaylistCursor(SourceLimits())
    taken(cursor, listing(0, 9))
    assert taken(cursor, listing(50, 59)) == [(57, True), (58, False), (59, False)]
    # Who is too far behind begins anew, although all is still there.
    limits = SourceLimits()
    expected = 61 + limits.behind_segments - limits.begin_segments
    assert taken(cursor, listing(50, 60 + limits.behind_segments))[0] == (expected, True)


def test_a_gap_is_a_break_and_so_are_numbers_that_begin_anew() -> None:
    cursor = PlaylistCursor(SourceLimits())
    assert taken(cursor, listing(0, 3, gap=2)) == [(1, False), (3, True)]
    assert taken(cursor, listing(0, 0))[:1] == []
    far = PlaylistCursor(SourceLimits())
    taken(far, listing(100, 109))
    assert taken(far, listing(0, 4)) == [(2, True), (3, False), (4, False)]


def test_a_playlist_is_asked_for_once_a_segment_and_twice_as_often_without_news() -> None:
    # RFC 8216bis §6.3.4
    assert reload_delay(listing(0, 3), SourceLimits(), changed=True) == 2
    assert reload_delay(listing(0, 3), SourceLimits(), changed=False) == 1


@pytest.mark.parametrize(
    "uri", ["file:///etc/passwd", "ftp://a/b", "data:,a", "http://[::", "http://xn--/", "concat:a|b"]
)
def test_a_playlist_names_nothing_but_http(uri: str) -> None:
    with pytest.raises(PullError):
        resolve("http://a.example/live/a.m3u8", uri)


def test_an_address_is_relative_to_the_playlists() -> None:
    assert resolve("http://u:p@a.example/live/a.m3u8?k=1", "b/1.ts") == "http://u:p@a.example/live/b/1.ts"


@pytest.mark.parametrize("kind", ["bomb", "endless", "strange"])
async def test_a_playlist_without_end_packed_or_not_is_refused_at_its_limit(kind: str) -> None:
    limits = SourceLimits(playlist_reader=PlaylistReaderLimits(playlist_bytes=PLAYLIST_BYTES))
    bomb = gzip.compress(bytes(64 * PLAYLIST_BYTES))
    heads = {"bomb": "Content-Encoding: gzip\r\n", "endless": "", "strange": "Content-Encoding: br\r\n"}

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 200 OK\r\nConnection: close\r\n{heads[kind]}\r\n".encode())
        try:
            if kind == "bomb":
                writer.write(bomb)
            while kind != "bomb":
                writer.write(b"#EXTM3U\n" * 8192)
                await writer.drain()
            await writer.drain()
        except ConnectionError:
            pass
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    tracemalloc.start()
    try:
        async with httpx.AsyncClient() as client, asyncio.timeout(60):
            with pytest.raises(PullError):
                await HlsFetcher(client, limits).playlist(
                    f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/a.m3u8"
                )
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        server.close()
    assert most < 16 * PLAYLIST_BYTES
