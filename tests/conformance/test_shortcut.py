"""What only the shortcut could get wrong; `test_http_files.py` shows that it answers as the application."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from origin.files.handler import FileHandler, open_file
from origin.files.open_files import OpenFileCache
from origin.http1.limits import HttpLimits
from packager.library.local_storage import Library
from packager.library.storage_interface import LibraryFile
from tests.conformance.conftest import FILM, Loop, Running, ServedFiles, served_files, serving
from tests.conformance.raw import Answer
from tests.waiting import wait_for

VALID_SECONDS = 1.0
LONG_AGO = (1_700_000_000, 1_700_000_000)


@pytest.fixture
def library(tmp_path: Path) -> Path:
    put(tmp_path / "film.mp4", FILM * 16)
    put(tmp_path / "small.mp3", b"0123456789")
    return tmp_path


def put(path: Path, data: bytes) -> None:
    """Put a file in its place at once, as it was long ago."""
    new = path.with_name("new")
    new.write_bytes(data)
    os.utime(new, LONG_AGO)
    new.rename(path)


@pytest.fixture
def limits() -> HttpLimits:
    """Patient, but for a test that says another."""
    return HttpLimits()


@pytest.fixture(params=["asyncio", "uvloop"])
def counting(
    library: Path, limits: HttpLimits, request: pytest.FixtureRequest
) -> Iterator[tuple[Running, ServedFiles]]:
    loop: Loop = request.param
    served = served_files(library, valid_seconds=VALID_SECONDS)
    with serving(
        served.app, library, loop, limits, fast_path=served.fast_path, at_end=served.close
    ) as running:
        yield running, served


def most_lookups(since: float) -> int:
    """How many a file takes that is asked for since then: one, and one more in each half of its validity."""
    return 1 + int((time.monotonic() - since) / (VALID_SECONDS / 2))


def test_requests_for_a_file_that_is_open_look_it_up_no_more(
    counting: tuple[Running, ServedFiles],
) -> None:
    """One lookup in half the validity; every kind of answer, on one connection and on others."""
    running, served = counting
    started = time.monotonic()
    with running.connect() as client:
        etag = client.ask("/media/small.mp3")["etag"]
        others = ("Range: bytes=2-3", "Range: bytes=20-", f"If-None-Match: {etag}", 'If-Match: "other"')
        statuses = [client.ask("/media/small.mp3", field).status for field in ("X: y", *others)]
    with running.connect() as client:
        assert client.ask("/media/small.mp3", "Connection: keep-alive").body == b"0123456789"
    assert statuses == [200, 206, 416, 304, 412]
    assert served.library.opened <= most_lookups(started)
    counted = served.traffic
    wait_for(lambda: sum(counted.requests.values()) == 7, "the last one to be counted")
    assert counted.requests["media", 200] == 3
    assert counted.requests["media", 206] == counted.requests["media", 304] == 1
    refusals = len("Range Not Satisfiable\n") + len("Precondition Failed\n")
    assert counted.sent_bytes["media"] == 3 * 10 + 2 + refusals


@pytest.mark.slow
@pytest.mark.clause("RFC 9112 §8")
def test_a_replaced_file_is_noticed_within_a_second(counting: tuple[Running, ServedFiles]) -> None:
    """By everybody from then on, with another tag; the old is closed."""
    running, _ = counting
    with running.connect() as client:
        old = client.ask("/media/small.mp3")
        assert client.ask("/media/small.mp3").body == old.body
        put(running.library / "small.mp3", b"new")
        replaced = time.monotonic()
        asked = replaced
        while (answer := client.ask("/media/small.mp3")).body == old.body:
            assert answer["etag"] == old["etag"]
            assert asked - replaced < VALID_SECONDS + 0.5
            time.sleep(0.01)
            asked = time.monotonic()
        assert (answer.body, answer["etag"] != old["etag"]) == (b"new", True)
        (running.library / "small.mp3").unlink()
        wait_for(lambda: client.ask("/media/small.mp3").status == 404, "the file to be gone")
    wait_for(lambda: running.open_files() == 0, "all files to be closed")


@pytest.mark.clause("A file that changes while it is sent is never mixed with another")
def test_a_file_is_sent_to_its_end_after_it_is_kept_no_more(counting: tuple[Running, ServedFiles]) -> None:
    """The old bytes to who has begun with them; the descriptor stays this file's."""
    running, served = counting
    with running.connect() as first, running.connect(receive_buffer=4096) as client:
        first.ask("/media/film.mp4", method="HEAD")
        client.send("GET /media/film.mp4 HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.socket.recv(100, socket.MSG_PEEK)
        put(running.library / "film.mp4", b"new")
        wait_for(lambda: first.ask("/media/film.mp4").body == b"new", "the new file")
        assert served.library.opened < 100
        assert client.answer().body == FILM * 16


@pytest.mark.clause("RFC 9112 §8")
def test_a_file_that_shrinks_ends_the_connection_short(counting: tuple[Running, ServedFiles]) -> None:
    """One log line, the client cut, others served."""
    running, _ = counting
    with structlog.testing.capture_logs() as logs, running.connect() as other:
        with running.connect(receive_buffer=4096) as client:
            client.ask("/media/film.mp4", method="HEAD")
            client.send("GET /media/film.mp4 HTTP/1.1\r\nHost: a\r\n\r\n")
            assert client.socket.recv(100)
            os.truncate(running.library / "film.mp4", 0)
            assert len(client.rest()) < 16 * len(FILM)
        assert other.ask("/media/small.mp3").status == 200
        wait_for(lambda: bool(logs), "the log line")
    assert [entry["event"] for entry in logs] == ["file ended while it was sent"]
    assert logs[0]["path"] == "/media/film.mp4"


def test_a_handler_that_fails_costs_its_request_alone_and_one_line_of_the_log(
    counting: tuple[Running, ServedFiles], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    running, _ = counting
    with structlog.testing.capture_logs() as logs, running.connect() as client:
        with monkeypatch.context() as patch:
            patch.setattr(FileHandler, "handle", fail)
            answer = client.ask("/media/small.mp3")
        assert (answer.status, answer["cache-control"]) == (500, "no-store")
        assert client.ask("/media/small.mp3").status == 200
    assert [(line["event"], line["path"]) for line in logs] == [
        ("a request can't be answered", "/media/small.mp3")
    ]


@pytest.mark.clause("RFC 9112 §9.3.2")
def test_pipelined_requests_behind_a_long_answer_are_answered_in_order(
    counting: tuple[Running, ServedFiles],
) -> None:
    """One by the shortcut, then those that came while it was being sent."""
    running, _ = counting
    with running.connect(receive_buffer=4096) as client:
        client.ask("/media/film.mp4", method="HEAD")
        client.send("GET /media/film.mp4 HTTP/1.1\r\nHost: a\r\n\r\n")
        time.sleep(0.05)
        client.send("GET /media/small.mp3 HTTP/1.1\r\nHost: a\r\n\r\n" * 2)
        client.send("GET /media/nothing HTTP/1.1\r\nHost: a\r\n\r\n")
        answers: list[Answer] = [client.answer() for _ in range(4)]
    assert answers[0].body == FILM * 16
    assert [answer.status for answer in answers] == [200, 200, 200, 404]


@pytest.mark.slow
@pytest.mark.clause("A client that takes nothing is dropped, and one that takes little isn't")
@pytest.mark.parametrize("limits", [HttpLimits(stalled_seconds=1.0)])
def test_a_client_that_takes_nothing_is_dropped(counting: tuple[Running, ServedFiles]) -> None:
    running, served = counting
    with (running.library / "big.mp4").open("wb") as file:
        file.truncate(1 << 30)
    os.utime(running.library / "big.mp4", LONG_AGO)
    started = time.monotonic()
    with running.connect(receive_buffer=4096) as client:
        client.ask("/media/big.mp4", method="HEAD")
        client.send("GET /media/big.mp4 HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.socket.recv(100)
        assert served.library.opened <= most_lookups(started)
        wait_for(lambda: not running.server.server_state.connections, "the client to be dropped")
    wait_for(lambda: running.open_files() == 0, "its file to be closed")


@pytest.mark.clause("RFC 9110 §8.8.1")
def test_a_file_that_changed_just_now_is_not_kept(library: Path) -> None:
    """Its tag is weak now, and will be strong in a moment."""
    (library / "fresh.mp4").write_bytes(b"fresh")
    served = served_files(library)
    with (
        serving(served.app, library, "uvloop", fast_path=served.fast_path, at_end=served.close) as running,
        running.connect() as client,
    ):
        for number in range(1, 4):
            # It changes again before each request, as a busy machine takes seconds from one to the next.
            os.utime(library / "fresh.mp4", (time.time() + 60,) * 2)
            assert client.ask("/media/fresh.mp4")["etag"].startswith("W/")
            assert served.library.opened == number


@pytest.mark.clause("RFC 9110 §5.3")
def test_two_range_fields_are_one_list(counting: tuple[Running, ServedFiles]) -> None:
    """However the first of them looks; the head without it is known already."""
    running, _ = counting
    with running.connect() as client:
        for fields in ((), ("Range: bytes=1-2",), ("Range: bytes=5-6",), ()):
            client.ask("/media/small.mp3", *fields)
        for _ in range(2):
            answer = client.ask("/media/small.mp3", "Range: bytes=1-2", "Range: 4-5")
            assert (answer["content-range"], answer.body) == ("bytes 1-5/10", b"12345")
            assert client.ask("/media/small.mp3", "Range: bytes=1-2", "Range: bytes=4-5").status == 200
            answer = client.ask("/media/small.mp3", "Range: bytes=1-2", 'If-Range: "other"')
            assert (answer.status, answer.body) == (200, b"0123456789")
            assert client.ask("/media/small.mp3", "Range: bytes=1-2").body == b"12"
            assert client.ask("/media/small.mp3", "Range: bytes=2-1").status == 200
            assert client.ask("/media/small.mp3", "Range: bytes=10-").status == 416
            assert client.ask("/media/small.mp3", "Range: bytes=8-99").body == b"89"


async def test_a_crowd_that_comes_at_once_has_one_lookup(library: Path) -> None:
    """And another when the first half of its validity is over, also where nothing is kept."""
    lookups = 0
    own = Library(library)

    async def look_up() -> LibraryFile:
        nonlocal lookups
        lookups += 1
        return await open_file(own, "small.mp3", "")

    open_files = OpenFileCache(valid_seconds=1.0)
    crowd = [open_files.get(b"/media/small.mp3", look_up, "audio/mpeg", ()) for _ in range(50)]
    found = await asyncio.gather(*crowd)
    assert lookups == 1
    assert {opened.source.descriptor() for opened in found} == {found[0].source.descriptor()}
    await asyncio.sleep(0.6)
    assert open_files.find(b"/media/small.mp3") is None
    found.append(await open_files.get(b"/media/small.mp3", look_up, "audio/mpeg", ()))
    assert lookups == 2
    for opened in found:
        opened.source.release()
    open_files.close()
    with pytest.raises(ValueError, match="closed"):
        found[0].source.descriptor()
    none_kept = OpenFileCache(0)
    for opened in await asyncio.gather(
        *(none_kept.get(b"/media/small.mp3", look_up, "audio/mpeg", ()) for _ in range(5))
    ):
        opened.source.release()
    assert lookups == 3


@pytest.mark.clause("RFC 9110 §14")
def test_a_request_that_is_repeated_with_other_ranges_is_answered_as_the_first(
    counting: tuple[Running, ServedFiles],
) -> None:
    """Whatever comes between them; also when the file is looked up again."""
    running, served = counting
    other, whole = os.urandom(1 << 20), FILM * 16
    put(running.library / "other.mp4", other)
    expected: list[tuple[int, bytes]] = []
    found: list[tuple[int, bytes]] = []
    fields: dict[str, tuple[int, bytes]] = {
        "bytes=5-99": (206, whole[5:100]),
        "bytes=70000-200000": (206, whole[70_000:200_001]),
        "bytes=0-5000000": (206, whole[:5_000_001]),
        "bytes=16777000-": (206, whole[16_777_000:]),
        "bytes=9-8": (200, whole),
        "bytes=-7": (206, whole[-7:]),
        "bytes=99999999-": (416, b"Range Not Satisfiable\n"),
        "bytes=1-1,3-3": (206, whole[1:4]),
        "bytes=+1-2": (200, whole),
    }
    with running.connect() as client:
        for field, answer in fields.items():
            for target, want in (
                ("/media/film.mp4", (206, whole[1:3])),
                ("/media/film.mp4", (206, whole[1:3])),
                ("/media/film.mp4", (206, whole[1:3])),
                ("/media/other.mp4", (206, other[1:3])),
                ("/media/film.mp4", (206, whole[1:3])),
            ):
                expected.append(want)
                got = client.ask(target, "Range: bytes=1-2")
                found.append((got.status, got.body))
            expected += [answer, (206, whole[3:4])]
            for value in (field, "bytes=3-3"):
                got = client.ask("/media/film.mp4", f"Range: {value}")
                found.append((got.status, got.body))
    assert found == expected
    wait_for(lambda: sum(served.traffic.requests.values()) == len(found), "the last one to be counted")
    wait_for(lambda: served.traffic.sent_bytes["media"] == sum(len(body) for _, body in found), "the bytes")


@pytest.mark.slow
@pytest.mark.clause("RFC 9112 §9.3.2")
def test_a_repeated_range_that_the_client_takes_slowly_is_whole_and_what_follows_too(
    counting: tuple[Running, ServedFiles],
) -> None:
    """With requests behind it, and its file replaced meanwhile."""
    running, _ = counting
    with running.connect(receive_buffer=4096) as client:
        for _ in range(4):
            client.ask("/media/film.mp4", "Range: bytes=0-1")
        client.send("GET /media/film.mp4 HTTP/1.1\r\nHost: origin\r\nRange: bytes=7-16000000\r\n\r\n")
        assert client.socket.recv(10, socket.MSG_PEEK)
        put(running.library / "film.mp4", b"new")
        client.send("GET /media/small.mp3 HTTP/1.1\r\nHost: origin\r\n\r\n")
        assert client.answer().body == (FILM * 16)[7:16_000_001]
        assert client.answer().body == b"0123456789"
        wait_for(
            lambda: client.ask("/media/film.mp4", "Range: bytes=0-9").body == b"new", "the new file's bytes"
        )
    wait_for(lambda: running.open_files() == 0, "all files to be closed")


async def test_one_of_many_that_ask_in_one_turn_looks_the_file_up_again(library: Path) -> None:
    """The others have it as it was, and then as it is."""
    own = Library(library)
    open_files = OpenFileCache(valid_seconds=1000.0)
    first = await open_files.get(
        b"/media/small.mp3", lambda: open_file(own, "small.mp3", ""), "audio/mpeg", ()
    )
    kept = open_files.find(b"/media/small.mp3")
    assert kept is not None
    kept.renewed_from = 0.0
    kept.expire()
    assert open_files.fresh(b"/media/small.mp3") is None
    assert [open_files.find(b"/media/small.mp3") for _ in range(4)] == [None, kept, kept, kept]
    # Those who come again stay on their short way meanwhile, but not with what is out of date.
    assert open_files.fresh(b"/media/small.mp3") is kept
    kept.valid_until = 0.0
    assert open_files.fresh(b"/media/small.mp3") is None
    second = await open_files.get(
        b"/media/small.mp3", lambda: open_file(own, "small.mp3", ""), "audio/mpeg", ()
    )
    assert second.source.descriptor() != first.source.descriptor()
    found = open_files.find(b"/media/small.mp3")
    assert found is not None
    assert found is not kept
    assert (open_files.fresh(b"/media/small.mp3"), kept.is_fresh) == (found, False)
    for opened in (first, second):
        opened.source.release()
    open_files.close()
