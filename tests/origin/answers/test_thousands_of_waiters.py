"""Five thousand who wait at once cause one look-up of whatever expires, or isn't kept yet."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Awaitable, Callable
from fractions import Fraction
from pathlib import Path
from threading import Event, Lock

import jwt
import obstore
import pytest

from media.hls.media_playlist import MediaPlaylist
from origin.access.token_keys import TokenKeys
from origin.answers.reply import Pending
from origin.answers.request import request_from_headers
from origin.http.client_limits import ClientLimit
from origin.live.handler import LiveHandler
from origin.live.media_requests import PastMedia
from origin.live.past import snapshots
from origin.vod.answer_cache import AnswerCache
from origin.vod.handler import VodHandler
from origin.vod.segment_cache import VodCacheLimits
from packager.library.local_storage import Library
from packager.past.key_frames import KeyFrame, read_key_frame
from packager.past.segment_samples import Read
from packager.past.span_playlists import span_playlist
from packager.publish.live_stream import LiveStream
from packager.s3.block_cache import BlockCache
from packager.s3.client import S3Client
from packager.s3.limits import S3Limits
from packager.s3.object_files import S3FolderNames, S3Objects
from packager.s3.object_reader import ObjectReader
from packager.vod import Titles
from packager.window.model import LiveSegment
from tests.origin.live.replies import Received
from tests.origin.live.served_log import NoCommands
from tests.packager import films
from tests.packager.made_channel import NUMBER, Maker, begin_late
from tests.patience import CLIENT_SECONDS
from tests.s3_server import BUCKET, S3Proxy, S3Server
from tests.waiting import until

pytestmark = pytest.mark.asyncio

WAITERS = 5000
BEGUN_AT_ONCE = 50
SLOW_SECONDS = 60.0
"""Time that each request of S3 takes by the clock of the cache: longer than any answer is used."""


async def all_received(handle: Callable[[], object], go_on: Event) -> list[bytes]:
    """Begin all requests, go on with what they wait for, and return the bodies of the replies."""
    received = [Received() for _ in range(WAITERS)]
    for number, one in enumerate(received):
        pending = handle()
        assert isinstance(pending, Pending)
        pending.start(one)
        if number % BEGUN_AT_ONCE == 0:
            await asyncio.sleep(0)
    go_on.set()
    await until(lambda: all(one.replies or one.errors for one in received))
    bodies = [b"".join(map(_bytes, one.replies[0].body)) for one in received]
    assert len(set(bodies)) == 1
    return bodies


def _bytes(piece: object) -> bytes:
    assert isinstance(piece, bytes | memoryview)
    return bytes(piece)


async def test_a_set_of_keys_is_fetched_once(tmp_path: Path) -> None:
    asked = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        await reader.readuntil(b"\r\n\r\n")
        asked += 1
        writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 11\r\nConnection: close\r\n\r\n{"keys":[]}')
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        keys = TokenKeys(sets=[f"http://127.0.0.1:{port}/keys.json"])
        token = jwt.encode({"exp": 1}, "a-secret-of-somebody-who-isn't-known", "HS256", {"kid": "unknown"})
        await asyncio.gather(*(keys.fetch_missing(token) for _ in range(WAITERS)))
        assert asked == 1
        await asyncio.gather(*(keys.fetch_missing(token) for _ in range(WAITERS)))
        assert asked == 1, "a set that has come a moment ago is good for all who name unknown keys"


async def test_the_key_frame_of_a_moment_is_read_and_drawn_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Fraction] = []
    drawn: list[bytes] = []
    go_on = Event()

    def counted(reading: Read, segment: LiveSegment, moment: Fraction) -> KeyFrame:
        read.append(moment)
        assert go_on.wait(CLIENT_SECONDS)
        return read_key_frame(reading, segment, moment)

    async def draw(movie: bytes, _: tuple[int, int] | None) -> bytes:
        drawn.append(movie)
        return b"picture"

    monkeypatch.setattr(snapshots, "read_key_frame", counted)
    maker = Maker(dvr=False)
    for _ in range(3):
        maker.act("segment")
    stream = LiveStream("test", NoCommands(), clock=maker.clock)
    stream.wall_clock = lambda: float(NUMBER + 3)
    begin_late(maker, stream)
    handler = LiveHandler({"test": stream}, blocked=ClientLimit(WAITERS), past=PastMedia(draw_snapshot=draw))
    asked = request_from_headers("GET", b"/live/test/snapshot.jpg?at=%d.5" % (NUMBER + 1), (), "203.0.113.5")
    bodies = await all_received(lambda: handler.handle(asked), go_on)
    assert bodies[0] == b"picture"
    assert (len(read), len(drawn)) == (1, 1)


async def test_a_manifest_is_written_once_however_short_its_validity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "film.mp4").write_bytes(films.film("bframes.mp4").read_bytes())
    titles = Titles(Library(tmp_path))
    # A call that lacks the film's index is made again once that is there.
    await titles.threads.run(titles.files.resolve, "film.mp4")
    written, lock, go_on, write = 0, Lock(), Event(), titles.manifest

    def counted(*words: object) -> bytes:
        nonlocal written
        with lock:
            written += 1
        assert go_on.wait(CLIENT_SECONDS)
        return write(*words)  # type: ignore[arg-type]  # handed on as they are

    monkeypatch.setattr(titles, "manifest", counted)
    handler = VodHandler(titles, answers=AnswerCache(VodCacheLimits(valid_seconds=0.0)))
    asked = request_from_headers("GET", b"/vod/film.mp4/manifest.mpd", (), "203.0.113.5")
    bodies = await all_received(lambda: handler.handle(asked), go_on)
    assert b"<MPD" in bodies[0]
    assert written == 1


@pytest.fixture
def client(s3_server: S3Server, s3_proxy: S3Proxy, monkeypatch: pytest.MonkeyPatch) -> S3Client:
    store = s3_server.store("waiters")
    obstore.put(store, "film.mp4", bytes(1 << 20))
    obstore.put(store, "film.de.srt", b"content")
    for name, value in s3_server.environment(s3_proxy.url).items():
        monkeypatch.setenv(name, value)
    return S3Client(f"s3://{BUCKET}/waiters", S3Limits())


async def all_run(objects: S3Objects, work: Callable[[], object]) -> list[object]:
    """Do work in the threads of a bucket's objects, for all who wait."""
    tasks: list[Awaitable[object]] = [objects.threads.run(work) for _ in range(WAITERS)]
    return await asyncio.gather(*tasks)


async def test_slow_answers_of_a_bucket_are_good_for_all(
    client: S3Client, s3_proxy: S3Proxy, tmp_path: Path
) -> None:
    """The threads take the waiters up in turns: the time of a slow request must not use up its validity."""

    def clock() -> float:
        return SLOW_SECONDS * len(s3_proxy.requests)

    limits = S3Limits()
    cache = BlockCache(tmp_path, limits)
    try:
        objects = S3Objects(client, ObjectReader(client, cache, limits), limits, clock)
        files = await all_run(objects, lambda: objects.open("film.mp4").size)
        assert (set(files), len(s3_proxy.requests)) == ({1 << 20}, 1)
        cache.close()
        file, before = objects.open("film.mp4"), len(s3_proxy.requests)
        blocks = await all_run(objects, lambda: file.pread(10, 4))
        assert (set(blocks), len(s3_proxy.requests) - before) == ({bytes(4)}, 1)
        names, before = S3FolderNames(client, 100, limits, clock), len(s3_proxy.requests)
        found = await all_run(objects, lambda: tuple(names.subtitles("", "film")))
        assert (set(found), len(s3_proxy.requests) - before) == ({("film.de.srt",)}, 1)
    finally:
        cache.close()


async def test_the_playlist_of_a_span_is_written_once(monkeypatch: pytest.MonkeyPatch) -> None:
    written, lock, go_on = 0, Lock(), Event()

    def counted(*words: object) -> MediaPlaylist:
        nonlocal written
        with lock:
            written += 1
        assert go_on.wait(CLIENT_SECONDS)
        return span_playlist(*words)  # type: ignore[arg-type]  # handed on as they are

    monkeypatch.setattr("origin.live.past.past_requests.span_playlist", counted)
    maker = Maker(dvr=False)
    for _ in range(3):
        maker.act("segment")
    stream = LiveStream("test", NoCommands(), clock=maker.clock)
    stream.wall_clock = lambda: float(NUMBER + 3)
    begin_late(maker, stream)
    handler = LiveHandler({"test": stream}, blocked=ClientLimit(WAITERS))
    path = b"/live/test/audio/media.m3u8?start=%d&end=%d" % (NUMBER, NUMBER + 2)
    asked = request_from_headers("GET", path, ((b"accept-encoding", b"gzip"),), "203.0.113.5")
    bodies = await all_received(lambda: handler.handle(asked), go_on)
    assert b"#EXT-X-ENDLIST" in gzip.decompress(bodies[0])
    assert written == 1
