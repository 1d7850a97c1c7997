"""Segments that are put together of MPEG-TS and of stripped Matroska, over HTTP: whole and in ranges."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.origin.vod.conftest import put
from tests.origin.vod.vod_server import numbers, served
from tests.packager.films import derived
from tests.packager.stripped_matroska import encoding, stripped
from tests.packager.vod.opened_media import open_i_frames, open_segment

FILMS = ("film.ts", "cut.ts", "film.mkv")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("assembled")
    stream = derived("assembled.ts", "bframes.mp4").read_bytes()
    put(folder / "film.ts", stream)
    put(folder / "cut.ts", stream + stream[:187])  # not all of its last packet was written
    whole = derived("bframes.mp4.mkv", "bframes.mp4").read_bytes()
    put(folder / "film.mkv", stripped(whole, 1, b"\0\0", encoding(b"\0\0")))
    return folder


@pytest.mark.parametrize("name", FILMS)
def test_segments_and_their_ranges_are_those_that_are_read(library: Path, name: str) -> None:
    with served(library) as server:
        for track in ("video", "audio"):
            for number in numbers(server, name, track):
                opened = open_segment(server.titles, name, track, number)
                with opened.file:
                    data = opened.read(0, opened.size)
                target = f"{name}/{track}/{number}.m4s"
                for _ in range(2):
                    assert server.ask(target).body == data
                answer = server.ask(target, "Range: bytes=300-8999")
                assert (answer.status, answer.body) == (206, data[300:9000])


@pytest.mark.parametrize("name", FILMS)
def test_i_frames_and_clips_are_those_that_are_read(library: Path, name: str) -> None:
    with served(library) as server:
        opened = open_i_frames(server.titles, name, "video")
        with opened.file:
            data = opened.read(0, opened.size)
        for _ in range(2):
            assert server.ask(f"{name}/video/iframes.mp4").body == data
            answer = server.ask(f"{name}/video/iframes.mp4", "Range: bytes=500-20000")
            assert answer.body == data[500:20001]
        playlist = server.ask(f"{name}/video/media.m3u8?start=3.1&end=5").body.decode()
        trimmed = [line for line in playlist.splitlines() if line.endswith(".m4s")]
        for segment in trimmed:
            sizes = {len(server.ask(f"{name}/video/{segment}").body) for _ in range(2)}
            assert len(sizes) == 1
            assert min(sizes) > 1000
