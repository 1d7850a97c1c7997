"""VOD on the connection itself: the same answers as by way of the application, and no files left behind."""

from __future__ import annotations

import contextlib
import gc
import os
import time
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from starlette.applications import Starlette

from origin.files.open_files import OpenFileCache
from origin.http.byte_ranges import Span
from origin.http1.access_log import AccessLog, RequestCounters
from origin.http1.fast_path import FastPath
from origin.http1.request_head import PlainFields, RequestLine
from origin.vod import routes as vod_routes
from origin.vod.answer_cache import AnswerCache, AnswerCacheLimits, Text
from origin.vod.cache_control import Lifetime, VodCaching
from origin.vod.fast_path import VodFastPath, VodService
from origin.vod.segment_cache import SegmentCache, SegmentCacheLimits
from origin.vod.segment_responses import metadata_of
from packager.library.local_storage import Library
from packager.vod import TitleLimits, Titles
from tests.conformance.conftest import Running, serving
from tests.conformance.raw import Answer
from tests.origin.vod.conftest import LONG_AGO, put
from tests.packager import films
from tests.waiting import wait_for

TRACKS = (("bframes.mp4", "video"), ("bframes.mp4", "audio"), ("silent.mp4", "video"), ("sound.m4a", "audio"))
ETERNITY = 3600.0
MAX_AGE = 600
KIND = ("text/plain", Lifetime(MAX_AGE))
"""Media type and lifetime of a text."""


@dataclass(frozen=True)
class Served:
    running: Running
    titles: Titles
    files: OpenFileCache
    traffic: RequestCounters

    def ask(self, target: str, *fields: str, method: str = "GET") -> Answer:
        answer = self.running.ask(*fields, target=f"/vod/{target}", method=method)
        wait_for(lambda: not self.running.server.server_state.connections, "the request to be counted")
        return answer

    def fast(self, target: str, *fields: str, method: str = "GET") -> Answer:
        """Ask for something that has to be answered before the application."""
        before = self.answered
        answer = self.ask(target, *fields, method=method)
        wait_for(lambda: self.answered == before + 1, "the fast path to answer")
        return answer

    @property
    def answered(self) -> int:
        """How many requests the fast path has answered."""
        return sum(self.traffic.requests.values())


@contextlib.contextmanager
def served(
    library: Path,
    seconds: float = ETERNITY,
    kept: SegmentCacheLimits | None = None,
    indexes: int = 9,
    limits: TitleLimits | None = None,
) -> Iterator[Served]:
    titles = Titles(Library(library), limits or TitleLimits(indexes=indexes))
    files, traffic = OpenFileCache(valid_seconds=seconds), RequestCounters()
    answers = AnswerCache(AnswerCacheLimits(valid_seconds=seconds))
    service = VodService(titles, files, answers, VodCaching(MAX_AGE))
    fast_path = FastPath({"vod": VodFastPath(service, AccessLog(traffic, log_requests=False), (), kept)})
    app = Starlette(routes=vod_routes.routes(titles, max_age=MAX_AGE, open_files=files, answers=answers))
    with serving(app, library, "uvloop", fast_path=fast_path, at_end=files.close) as running:
        yield Served(running, titles, files, traffic)


def numbers(server: Served, name: str, track: str) -> range:
    return range(len(server.titles.track(name, track).sizes))


def told(answer: Answer) -> tuple[int, list[tuple[str, str]], bytes]:
    """What an answer says, in any order, but for when."""
    fields = sorted((name, value) for name, value in answer.fields if name != "date")
    return answer.status, fields, answer.body


@pytest.mark.parametrize(("name", "track"), TRACKS)
def test_segments_are_those_of_the_application_to_the_byte(library: Path, name: str, track: str) -> None:
    with served(library) as server:
        for number in numbers(server, name, track):
            opened = server.titles.open_segment(name, track, number)
            with opened.file:
                data = opened.read(0, opened.size)
            target = f"{name}/{track}/{number}.m4s"
            if not number:
                assert server.ask(target).body == data  # opens the file
            assert server.fast(target).body == data
            assert server.fast(target).body == data


REQUESTS: list[tuple[str, tuple[str, ...]]] = [
    ("GET", ()),
    ("HEAD", ()),
    ("HEAD", ("Range: bytes=0-9",)),
    ("GET", ("Range: bytes=0-0",)),
    ("GET", ("Range: bytes=5-20",)),
    ("GET", ("Range: bytes=100-4099",)),
    ("GET", ("Range: bytes=3000-",)),
    ("GET", ("Range: bytes=-1234",)),
    ("GET", ("Range: bytes=99999999-",)),
    ("GET", ("Range: bytes=9-3",)),
    ("GET", ("Range: rows=1-2",)),
    ("GET", ("If-None-Match: {etag}",)),
    ("GET", ('If-None-Match: "other"',)),
    ("GET", ("If-Match: {etag}",)),
    ("GET", ('If-Match: "other"',)),
    ("GET", ("If-Modified-Since: {modified}",)),
    ("GET", ("If-Unmodified-Since: Tue, 14 Nov 2000 22:13:20 GMT",)),
    ("GET", ("Range: bytes=100-4099", "If-Range: {etag}")),
    ("GET", ("Range: bytes=100-4099", 'If-Range: "other"')),
    ("GET", ("Range: bytes=100-4099", "If-Range: {modified}")),
    ("GET", ("Accept-Encoding: gzip",)),
]


@pytest.mark.parametrize("copies", [0, 9])
@pytest.mark.parametrize(("name", "track"), TRACKS)
def test_ranges_and_preconditions_are_answered_as_by_the_application(
    library: Path, name: str, track: str, copies: int
) -> None:
    app = Starlette(routes=vod_routes.routes(Titles(Library(library)), max_age=MAX_AGE))
    kept = SegmentCacheLimits(copies=copies)
    with served(library, kept=kept) as server, serving(app, library, "uvloop") as plain:
        target = f"{name}/{track}/1.m4s"
        whole = server.ask(target)
        for method, fields in REQUESTS:
            fields = tuple(
                field.format(etag=whole["etag"], modified=whole["last-modified"]) for field in fields
            )
            answer = server.fast(target, *fields, method=method)
            assert told(answer) == told(plain.ask(*fields, target=f"/vod/{target}", method=method)), fields
        # Several ranges have a boundary of their own each time.
        several = server.fast(target, "Range: bytes=0-99,3000-3099,9000-9999")
        assert several.status == 206
        assert several["content-type"].startswith("multipart/byteranges")
        parts = [whole.body[0:100], whole.body[3000:3100], whole.body[9000:10000]]
        assert all(part in several.body for part in parts)


@pytest.mark.parametrize(
    "path", ["master.m3u8", "video/media.m3u8", "audio/media.m3u8", "manifest.mpd", "video/init.mp4"]
)
def test_playlists_and_init_segments_are_answered_from_memory_for_a_while(library: Path, path: str) -> None:
    target = f"bframes.mp4/{path}"
    with served(library) as server:
        for coding in ("identity", "gzip"):
            plain = server.ask(target + f"?{coding}", f"Accept-Encoding: {coding}")
            assert plain.status == 200
            assert told(server.fast(target + f"?{coding}", f"Accept-Encoding: {coding}")) == told(plain)
        # What is rarely asked goes the application's way.
        answered = server.answered
        known = server.ask(target + "?identity", f"If-None-Match: {plain['etag']}")
        head = server.ask(target + "?identity", method="HEAD")
        assert (known.status, head.status, head.body) == (304 if "init" in path else 200, 200, b"")
        assert server.answered == answered


@pytest.mark.parametrize(
    "name", ["9999.m4s", "00.m4s", "-1.m4s", "1.m4s?x=1", "99999999.m4s", "123456789.m4s"]
)
def test_what_is_not_plainly_there_goes_the_applications_way(library: Path, name: str) -> None:
    with served(library) as server:
        assert server.ask("bframes.mp4/video/0.m4s").status == 200
        answered = server.answered
        assert server.ask(f"bframes.mp4/video/{name}").status == (200 if "?" in name else 404)
        assert server.ask("bframes.mp4/nothing/0.m4s").status == 404
        assert server.answered == answered


def is_another(server: Served, target: str, etag: str) -> bool:
    return server.ask(target)["etag"] != etag


def is_gone(server: Served, target: str) -> bool:
    return server.ask(target).status == 404


def test_a_replaced_file_and_a_removed_one_are_noticed(library: Path) -> None:
    targets = ["bframes.mp4/video/0.m4s", "bframes.mp4/master.m3u8", "bframes.mp4/video/init.mp4"]
    with served(library, seconds=0.2) as server:
        old = {target: server.ask(target)["etag"] for target in targets}
        put(library / "bframes.mp4", films.film("silent.mp4").read_bytes(), LONG_AGO + 1000)
        for target in targets[:2]:
            wait_for(partial(is_another, server, target, old[target]), "the other film")
        (library / "bframes.mp4").unlink()
        for target in targets:
            wait_for(partial(is_gone, server, target), "nothing to be there")
        wait_for(lambda: server.running.open_files() == 0, "the file to be closed")


def test_a_file_that_was_cut_short_cuts_the_answer(library: Path) -> None:
    with served(library) as server:
        whole = {track: server.ask(f"bframes.mp4/{track}/1.m4s").body for track in ("video", "audio")}
        os.truncate(library / "bframes.mp4", 5000)
        for track, body in whole.items():
            answer = server.ask(f"bframes.mp4/{track}/1.m4s")
            # RFC 9112 §8: with fewer bytes than promised, closing is what marks the message incomplete.
            assert answer.closed
            assert len(answer.body) < len(body)
            assert body.startswith(answer.body)


def test_a_slow_player_gets_every_byte_and_one_that_leaves_keeps_no_file_open(library: Path) -> None:
    with served(library, seconds=0.2) as server:
        for number in numbers(server, "bframes.mp4", "video"):
            target = f"bframes.mp4/video/{number}.m4s"
            whole = server.ask(target).body
            with server.running.connect(receive_buffer=4096) as client:
                client.send(f"GET /vod/{target} HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\n\r\n" * 2)
                head = client._until(b"\r\n\r\n")
                assert b" 200 " in head
                assert b"".join(client.take(1000) for _ in range(3)) == whole[:3000]
                assert client.take(len(whole) - 3000) == whole[3000:]
                client._until(b"\r\n\r\n")
                client.take(500)
        wait_for(lambda: server.running.open_files() == 0, "the files to be closed")


def test_a_request_that_many_send_alike_is_looked_into_once(
    library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_into: list[bytes] = []
    find = VodFastPath.find

    def noting(self: VodFastPath, request: RequestLine, fields: PlainFields, span: Span | None) -> object:
        looked_into.append(request.target)
        return find(self, request, fields, span)

    monkeypatch.setattr(VodFastPath, "find", noting)
    target = "bframes.mp4/video/1.m4s"
    with served(library) as server:
        first = server.ask(target)
        for _ in range(3):
            server.fast(target)
        looked_into.clear()
        before = server.traffic.sent_bytes["vod"]
        for _ in range(3):
            assert told(server.fast(target)) == told(first)
        assert looked_into == []
        assert server.traffic.sent_bytes["vod"] == before + 3 * len(first.body)
        assert server.fast(target, "Range: bytes=1-9").body == first.body[1:10]
        assert server.fast(target, f"If-None-Match: {first['etag']}").status == 304
        assert server.fast(target, method="HEAD").body == b""
        assert len(looked_into) == 3
        with server.running.connect(receive_buffer=4096) as client:
            # Alike but for what is in them: the first two are read, the others aren't, and each comes slowly.
            client.send(f"GET /vod/{target} HTTP/1.1\r\nHost: slow\r\n\r\n" * 4)
            for _ in range(4):
                client._until(b"\r\n\r\n")
                body = b"".join(client.take(1000) for _ in range(len(first.body) // 1000))
                assert body + client.take(len(first.body) % 1000) == first.body


def test_what_is_kept_of_segments_keeps_no_index_and_has_a_bound(library: Path) -> None:
    kept = SegmentCacheLimits(segments=2)
    with served(library, kept=kept, indexes=1) as server:
        index = weakref.ref(server.titles.track("bframes.mp4", "video").cuts)
        assert server.ask("bframes.mp4/video/0.m4s").status == 200
        assert server.fast("bframes.mp4/video/0.m4s").status == 200
        assert server.ask("silent.mp4/video/0.m4s").status == 200
        assert server.fast("bframes.mp4/video/0.m4s").status == 200

        def gone() -> bool:
            gc.collect()
            return index() is None

        wait_for(gone, "the index to be forgotten")
        for number in (0, 1, 0, 1):
            assert server.ask(f"silent.mp4/video/{number}.m4s").status == 200


def test_what_is_asked_for_again_is_copied_and_copies_stay_while_they_are_asked_for(library: Path) -> None:
    titles = Titles(Library(library))
    titles.track("bframes.mp4", "video")
    with Library(library).open("bframes.mp4") as file:
        opened = [titles.known_segment(file, "video", number) for number in range(3)]
        segments = [one.segment for one in opened if one is not None]
        assert len(segments) == 3
        room = max(segments[0].size + segments[1].size, segments[1].size + segments[2].size)
        for idle_seconds in (ETERNITY, -1.0):
            limits = SegmentCacheLimits(copied_bytes=room, idle_seconds=idle_seconds)
            cache = SegmentCache(limits, ())
            told = [metadata_of(one, "", video=True, now=time.time()) for one in opened if one is not None]
            cached = [
                cache.add(number, segment, metadata, "no-store")
                for number, (segment, metadata) in enumerate(zip(segments, told, strict=True))
            ]
            copies = []
            for number, one in enumerate(cached):
                assert cache.copy_of(number, one, file.fd) is None
                copies.append(cache.copy_of(number, one, file.fd))
            assert [copy is not None for copy in copies] == [True, True, idle_seconds < 0]
            for segment, copy in zip(segments, copies, strict=True):
                if copy is not None:
                    whole = segment.read(file.pread, 0, segment.size)
                    assert os.pread(copy.fd, segment.size + 1, 0) == whole
            assert [one.copy is not None for one in cached] == [idle_seconds > 0, True, idle_seconds < 0]
            assert cache.copied_bytes <= room


def test_a_copy_of_a_file_that_was_cut_short_is_not_made(library: Path) -> None:
    titles = Titles(Library(library))
    titles.track("bframes.mp4", "video")
    with Library(library).open("bframes.mp4") as file:
        opened = titles.known_segment(file, "video", 2)
        assert opened is not None
        os.truncate(library / "bframes.mp4", 5000)
        cache = SegmentCache(SegmentCacheLimits(), ())
        metadata = metadata_of(opened, "2", video=True, now=time.time())
        cached = cache.add(0, opened.segment, metadata, "no-store")
        assert [cache.copy_of(0, cached, file.fd) for _ in range(3)] == [None] * 3
        assert cache.copied_bytes == 0


def test_answers_are_kept_within_bounds_and_for_their_time() -> None:
    cache = AnswerCache(AnswerCacheLimits(valid_seconds=ETERNITY, answers=2, bytes=12))
    now = time.monotonic()
    for target in (b"a", b"b", b"c"):
        cache.keep(target, Text(target * 4, *KIND), looked_up=now - 2 * ETERNITY)
        # It was looked up long ago: not only the first who asks has to look again.
        assert [cache.find(target) for _ in range(2)] == [None, None]
    for target in (b"a", b"b", b"c"):
        cache.keep(target, Text(target * 4, *KIND), now)
    assert [cache.find(target) is None for target in (b"a", b"b", b"c")] == [True, False, False]
    cache.keep(b"d", Text(b"d" * 9, *KIND), now)
    assert [cache.find(target) is None for target in (b"b", b"c", b"d")] == [True, True, False]
    # What is kept under a long address costs that address, too.
    for target, data in ((b"e", b"e" * 12), (b"e" * 12, b"e")):
        cache.keep(target, Text(data, *KIND), now)
        assert cache.find(target) is None
        assert cache.find(b"d") is not None
    # In the second half of its time one of those who ask looks again, while the others are answered.
    cache.keep(b"d", Text(b"d", *KIND), now - 0.75 * ETERNITY)
    assert [cache.find(b"d") is None for _ in range(3)] == [True, False, False]
