"""A film that is watched goes on while a crowd asks for films that have no index yet."""

from __future__ import annotations

import contextlib
from pathlib import Path

from tests.origin.vod.vod_server import served
from tests.packager.crafted import film, write
from tests.packager.vod.vod_titles import awaiting_indexes, indexing_others
from tests.waiting import wait_for

CROWD = 60
"""More requests than VOD has threads."""


def test_a_watched_film_goes_on_before_any_of_a_crowd_that_waits_for_indexes(library: Path) -> None:
    for number in range(CROWD):
        write(library / f"cold{number}.mp4", *film(0.01))
    with served(library, seconds=0.0) as server, contextlib.ExitStack() as stack:
        watched = (
            "master.m3u8",
            "video/media.m3u8",
            "manifest.mpd",
            "video/0.m4s",
            "video/1.m4s",
            "video/init.mp4",
        )
        before = {name: server.ask(f"bframes.mp4/{name}").body for name in watched}
        with indexing_others(server.titles):
            crowd = [stack.enter_context(server.running.connect()) for _ in range(CROWD)]
            for number, client in enumerate(crowd):
                name = "video/0.m4s" if number % 2 else "master.m3u8"
                client.send(f"GET /vod/cold{number}.mp4/{name}?%61={number} HTTP/1.1\r\nHost: a\r\n\r\n")
            wait_for(lambda: awaiting_indexes(server.titles) == CROWD, "the crowd to wait for indexes")
            answered = server.answered
            for name in watched:
                answer = server.running.ask(target=f"/vod/bframes.mp4/{name}")
                assert (answer.status, answer.body) == (200, before[name])
            assert server.running.ask(target="/vod/bframes.mp4/video/media.m3u8?start=0.5").status == 200
            wait_for(lambda: server.answered == answered + len(watched) + 1, "these alone to be answered")
        assert {client.answer().status for client in crowd} == {200}
