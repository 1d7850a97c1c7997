"""Films that aren't open: opened once for all who ask for their segments, and looked up again meanwhile."""

from __future__ import annotations

import contextlib
import socket
import threading
from pathlib import Path

import pytest

from packager.library.storage_interface import LibraryFile
from packager.vod import Titles
from packager.vod.index.file_index import FileIndex
from packager.vod.limits import TitleLimits
from tests.origin.vod.conftest import put
from tests.origin.vod.vod_server import numbers, served, told
from tests.packager.vod.opened_media import open_segment
from tests.packager.vod.vod_titles import indexing_others
from tests.waiting import wait_for


class HeldTitles:
    """Makes the opening of films wait, and counts it."""

    def __init__(self, titles: Titles, patch: pytest.MonkeyPatch) -> None:
        self.opened, self.may_open = 0, threading.Event()
        self._open = titles.files.open_indexed
        patch.setattr(titles.files, "open_indexed", self._held)

    def _held(self, name: str) -> LibraryFile:
        self.opened += 1
        assert self.may_open.wait(60)
        return self._open(name)


def head(target: str) -> str:
    return f"GET /vod/{target} HTTP/1.1\r\nHost: a\r\n\r\n"


def test_all_who_ask_at_once_for_segments_of_a_film_wait_for_one_opening(
    library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(library) as server, contextlib.ExitStack() as stack:
        count = len(numbers(server, "bframes.mp4", "video"))
        titles = HeldTitles(server.titles, monkeypatch)
        clients = [stack.enter_context(server.running.connect()) for _ in range(20)]
        for number, client in enumerate(clients):
            client.send(head(f"bframes.mp4/video/{number % count}.m4s"))
        leaving = stack.enter_context(server.running.connect())
        leaving.send(head("bframes.mp4/video/0.m4s"))
        wait_for(lambda: titles.opened == 1, "the film to be looked up")
        wait_for(lambda: len(server.running.server.server_state.connections) == 21, "all to ask")
        leaving.reset()
        wait_for(lambda: len(server.running.server.server_state.connections) == 20, "one to have left")
        titles.may_open.set()
        for number, client in enumerate(clients):
            with open_segment(server.titles, "bframes.mp4", "video", number % count).file as file:
                opened = server.titles.segments.known(file, "video", number % count)
                assert opened is not None
                assert client.answer().body == opened.read(file.pread, 0, opened.size)
        assert titles.opened == 1
    assert server.traffic.requests["vod", 200] == 20


def test_nobody_waits_for_a_film_that_is_looked_up_again(
    library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(library) as server:
        data = server.ask("bframes.mp4/video/0.m4s").body
        titles = HeldTitles(server.titles, monkeypatch)
        film = server.files.find(b"/vod/bframes.mp4")
        assert film is not None
        film.renewed_from = 0.0
        for _ in range(5):
            assert server.ask("bframes.mp4/video/0.m4s").body == data
        wait_for(lambda: titles.opened == 1, "the film to be looked up")
        titles.may_open.set()


def test_the_application_says_why_a_film_can_not_be_opened(library: Path) -> None:
    put(library / "no-film.mp4", b"no film")
    with served(library) as server:
        refused = [server.ask(f"{name}/video/0.m4s") for name in ("nothing.mp4", "no-film.mp4")]
        assert [answer.status for answer in refused] == [404, 422]
        data = server.ask("bframes.mp4/video/0.m4s").body
        # What came behind such a request is answered in its turn, on the same connection.
        with server.running.connect() as client:
            client.send(
                head("nothing.mp4/video/0.m4s")
                + head("bframes.mp4/video/0.m4s")
                + head("nothing.mp4/video/1.m4s")
                + head("bframes.mp4/video/0.m4s")
            )
            answers = [client.answer() for _ in range(4)]
            assert [answer.status for answer in answers] == [404, 200, 404, 200]
            assert [answer.body for answer in answers[1::2]] == [data, data]
        # Who has ended its side gets the answer too, behind which the connection ends.
        for target, status in (("nothing.mp4/video/0.m4s", 404), ("silent.mp4/video/0.m4s", 200)):
            with server.running.connect() as client:
                client.send(head(target))
                client.socket.shutdown(socket.SHUT_WR)
                assert client.answer().status == status
                assert client.is_closed()
        wait_for(lambda: server.running.open_files() <= 2, "nothing else to be open")


def test_a_film_whose_index_takes_too_long_is_tried_once_for_each_request(
    library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(library, limits=TitleLimits(made_at_once=1, wait_seconds=0)) as server:
        indexes, tries = server.titles.files.indexes, list[str]()
        index = indexes.index

        def counted(file: LibraryFile, *, played: bool = True) -> FileIndex:
            tries.append(str(file.path))
            return index(file, played=played)

        monkeypatch.setattr(indexes, "index", counted)
        with indexing_others(server.titles):
            answers = [server.ask("bframes.mp4/video/0.m4s", method=method) for method in ("GET", "HEAD")]
            assert len(tries) == 2
            by_application = [
                server.ask("bframes.mp4/video/media.m3u8", method=method) for method in ("GET", "HEAD")
            ]
            assert list(map(told, answers)) == list(map(told, by_application))
            assert answers[0].status == 503
            assert ("retry-after", "2") in answers[0].fields
            # What comes behind it on the same connection is answered in its turn.
            with server.running.connect() as client:
                client.send(head("bframes.mp4/video/0.m4s") + head("nothing.mp4/video/0.m4s"))
                assert [client.answer().status for _ in range(2)] == [503, 404]
        wait_for(lambda: len(indexes) == 1, "the film to be indexed, for which nobody waits any more")
        assert server.ask("bframes.mp4/video/0.m4s").status == 200
