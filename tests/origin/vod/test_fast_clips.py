"""Trimmed segments and I-frames on the connection itself: the same answers as by way of the application."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from starlette.applications import Starlette

from origin.answers.reply import PendingTask, Reply
from origin.answers.request import Request, RequestFields
from origin.vod.segment_cache import VodCacheLimits
from packager.library.local_storage import Library
from packager.vod import Titles
from tests.conformance.conftest import serving
from tests.origin.vod.conftest import vod_application
from tests.origin.vod.vod_server import MAX_AGE, REQUESTS, served, told


def application(library: Path) -> Starlette:
    return vod_application(Titles(Library(library)), MAX_AGE)


@pytest.mark.parametrize("track", ["video", "audio"])
def test_segments_that_are_trimmed_for_a_clip_are_those_of_the_application(library: Path, track: str) -> None:
    with served(library) as server, serving(application(library), library, "uvloop") as plain:
        playlist = server.ask(f"bframes.mp4/{track}/media.m3u8?start=0.5&end=3.3").body.decode()
        names = re.findall(r"^((?:.*/)?[0-9]+-[0-9]+-[0-9]+\.m4s)$", playlist, re.MULTILINE)
        assert names
        for name in names:
            target = f"bframes.mp4/{track}/{name}"
            whole = server.fast(target)
            assert whole.status == 200
            for method, fields in REQUESTS:
                fields = tuple(
                    field.format(etag=whole["etag"], modified=whole["last-modified"]) for field in fields
                )
                answer = server.fast(target, *fields, method=method)
                same = plain.ask(*fields, target=f"/vod/{target}", method=method)
                assert told(answer) == told(same), fields


def test_ranges_of_i_frames_are_those_of_the_application(library: Path) -> None:
    target = "bframes.mp4/video/iframes.mp4"
    with served(library) as server, serving(application(library), library, "uvloop") as plain:
        playlist = server.ask("bframes.mp4/video/iframes.m3u8").body.decode()
        places = [tuple(map(int, one)) for one in re.findall(r"EXT-X-BYTERANGE:(\d+)@(\d+)", playlist)]
        assert len(places) > 2
        whole = server.ask(target)
        size = len(whole.body)
        spans = [(at, at + length - 1) for length, at in places]
        spans += [(0, 0), (0, 200), (spans[0][0] - 1, spans[1][0]), (spans[1][0] + 5, spans[2][1] - 5)]
        spans += [(spans[0][1], spans[2][0]), (0, size - 1), (size - 1, size - 1), (100, 10 * size)]
        for first, last in spans:
            answer = server.fast(target, f"Range: bytes={first}-{last}")
            assert answer.body == whole.body[first : last + 1]
            same = plain.ask(f"Range: bytes={first}-{last}", target=f"/vod/{target}")
            assert told(answer) == told(same), (first, last)
        assert server.ask(target).body == whole.body
        assert server.ask(target, f"Range: bytes={size}-").status == 416
        assert server.ask("bframes.mp4/audio/iframes.mp4").status == 404


def test_only_so_many_i_frames_are_put_together_while_others_wait(library: Path) -> None:
    target = "bframes.mp4/video/iframes.mp4"
    with served(library, kept=VodCacheLimits(i_frames_at_once=1)) as server:
        playlist = server.ask("bframes.mp4/video/iframes.m3u8").body.decode()
        places = [tuple(map(int, one)) for one in re.findall(r"EXT-X-BYTERANGE:(\d+)@(\d+)", playlist)]
        (length, first), (_, second) = places[:2]
        assert server.ask(target, f"Range: bytes={first}-{second - 1}").status == 206  # opens the file
        assert len(server.fast(target, f"Range: bytes={first}-{second - 1}").body) == length
        for last, kind in ((second - 1, Reply), (second, PendingTask)):
            request = Request("GET", f"/vod/{target}".encode(), RequestFields(()), (first, last))
            outcome = server.handler.handle(request)
            assert isinstance(outcome, kind)
            outcome.release() if isinstance(outcome, Reply) else outcome.cancel()
        assert len(server.fast(target, f"Range: bytes={first}-{second}").body) == length + 1
