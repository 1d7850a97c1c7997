"""VOD on the connection itself: the same answers as under ASGI, and no files left behind."""

from __future__ import annotations

import gc
import os
import time
import weakref
from functools import partial
from pathlib import Path

import pytest

from origin.answers.request import Request
from origin.vod.answer_cache import AnswerCache, Content
from origin.vod.cache_control import Lifetime
from origin.vod.handler import VodHandler
from origin.vod.segment_cache import SegmentCache, VodCacheLimits, metadata_of
from packager.library.local_storage import Library
from packager.vod import Titles
from tests.conformance.conftest import serving
from tests.origin.vod.conftest import LONG_AGO, put, vod_application
from tests.origin.vod.vod_server import ETERNITY, MAX_AGE, REQUESTS, Served, numbers, served, told
from tests.packager import films
from tests.packager.vod.opened_media import open_segment
from tests.waiting import wait_for

TRACKS = (("bframes.mp4", "video"), ("bframes.mp4", "audio"), ("silent.mp4", "video"), ("sound.m4a", "audio"))
KIND = ("text/plain", Lifetime(MAX_AGE))
"""Media type and lifetime of a text."""


@pytest.mark.parametrize(("name", "track"), TRACKS)
def test_segments_are_those_of_the_application_to_the_byte(library: Path, name: str, track: str) -> None:
    with served(library) as server:
        for number in numbers(server, name, track):
            opened = open_segment(server.titles, name, track, number)
            with opened.file:
                data = opened.read(0, opened.size)
            target = f"{name}/{track}/{number}.m4s"
            if not number:
                assert server.ask(target).body == data  # opens the file
            assert server.fast(target).body == data
            assert server.fast(target).body == data


@pytest.mark.parametrize("copies", [0, 9])
@pytest.mark.parametrize(("name", "track"), TRACKS)
def test_ranges_and_preconditions_are_answered_as_by_the_application(
    library: Path, name: str, track: str, copies: int
) -> None:
    app = vod_application(Titles(Library(library)), MAX_AGE)
    kept = VodCacheLimits(copies=copies)
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
        known = server.fast(target + "?identity", f"If-None-Match: {plain['etag']}")
        head = server.fast(target + "?identity", method="HEAD")
        assert (known.status, head.status, head.body) == (304 if "init" in path else 200, 200, b"")


@pytest.mark.parametrize(
    "name", ["9999.m4s", "00.m4s", "-1.m4s", "1.m4s?x=1", "99999999.m4s", "123456789.m4s"]
)
def test_absent_segments_are_not_found_and_a_query_changes_nothing(library: Path, name: str) -> None:
    with served(library) as server:
        assert server.ask("bframes.mp4/video/0.m4s").status == 200
        assert server.ask(f"bframes.mp4/video/{name}").status == (200 if "?" in name else 404)
        assert server.ask("bframes.mp4/nothing/0.m4s").status == 404


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
    handle = VodHandler.handle

    def noting(self: VodHandler, request: Request) -> object:
        looked_into.append(request.target)
        return handle(self, request)

    monkeypatch.setattr(VodHandler, "handle", noting)
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
    kept = VodCacheLimits(segments=2)
    with served(library, kept=kept, indexes=1) as server:
        index = weakref.ref(server.titles.segments.track("bframes.mp4", "video").cuts)
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
    titles.segments.track("bframes.mp4", "video")
    with Library(library).open("bframes.mp4") as file:
        known = [titles.segments.known(file, "video", number) for number in range(3)]
        segments = [one for one in known if one is not None]
        assert len(segments) == 3
        room = max(segments[0].size + segments[1].size, segments[1].size + segments[2].size)
        for idle_seconds in (ETERNITY, -1.0):
            limits = VodCacheLimits(copied_bytes=room, idle_seconds=idle_seconds)
            cache = SegmentCache(limits)
            told = [metadata_of(one, file, "", now=time.time()) for one in segments]
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
    titles.segments.track("bframes.mp4", "video")
    with Library(library).open("bframes.mp4") as file:
        segment = titles.segments.known(file, "video", 2)
        assert segment is not None
        os.truncate(library / "bframes.mp4", 5000)
        cache = SegmentCache(VodCacheLimits())
        metadata = metadata_of(segment, file, "2", now=time.time())
        cached = cache.add(0, segment, metadata, "no-store")
        assert [cache.copy_of(0, cached, file.fd) for _ in range(3)] == [None] * 3
        assert cache.copied_bytes == 0


def test_answers_are_kept_within_bounds_and_for_their_time() -> None:
    cache = AnswerCache(VodCacheLimits(valid_seconds=ETERNITY, answers=2, answer_bytes=12))
    outdated = AnswerCache(VodCacheLimits(valid_seconds=0))
    outdated.keep(b"a", Content(b"a", *KIND))
    assert [outdated.find(b"a") for _ in range(2)] == [None, None], "who asks later has to look again"
    for target in (b"a", b"b", b"c"):
        cache.keep(target, Content(target * 4, *KIND))
    assert [cache.find(target) is None for target in (b"a", b"b", b"c")] == [True, False, False]
    cache.keep(b"d", Content(b"d" * 9, *KIND))
    assert [cache.find(target) is None for target in (b"b", b"c", b"d")] == [True, True, False]
    # What is kept under a long address costs that address, too.
    for target, data in ((b"e", b"e" * 12), (b"e" * 12, b"e")):
        cache.keep(target, Content(data, *KIND))
        assert cache.find(target) is None
        assert cache.find(b"d") is not None
    # In the second half of its time one of those who ask looks again, while the others are answered.
    cache.keep(b"d", Content(b"d", *KIND))
    kept = cache.find(b"d")
    assert kept is not None
    kept.renewed_from = time.monotonic()
    assert [cache.find(b"d") is None for _ in range(3)] == [True, False, False]
