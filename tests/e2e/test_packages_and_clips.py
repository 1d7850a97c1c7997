"""Clips, films of other containers than MP4, and packages on a plain nginx, in hls.js, dash.js and Shaka.

A film's left half is brighter from second to second, its right half within each, so that a picture tells its
time.
"""

from __future__ import annotations

import json
import math
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import m3u8
import pytest
from playwright.async_api import Page

from tests.conftest import start_server
from tests.e2e.timed_film import (
    BUFFERED,
    NEAR,
    PICTURE,
    PLAYED,
    PLAYERS,
    PRECISE,
    SECONDS,
    address,
    assert_plays,
    assert_shows,
    make_timed_film,
    opened,
)
from tests.e2e.watching import Watching
from tests.fork_server import HEADWATER
from tests.packager.films import run_ffmpeg
from tests.ports import kept_port, listens
from tests.processes import end as end_process
from tests.programs import program
from tests.waiting import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

ROOT = Path(__file__).parents[2]

CLIP = (5.5, 9.0)
RATES = {"film.mp4": 25, "small.mp4": 25, "fast.mp4": 30, "vp9.mp4": 24}
"""Pictures per second of the films."""

CONTAINERS = {
    "film.mkv": (),
    "film.ts": (),
    "fragmented.mp4": ("-movflags", "frag_keyframe+delay_moov"),
}
"""Of which the film is made, too, without encoding."""


SEQUENCES: dict[str, list[tuple[str, float, float | None]]] = {
    "sizes": [("film.mp4", 9.5, 12.0), ("small.mp4", 2.3, 5.3), ("film.mp4", 5.0, 8.0)],
    "codecs": [("film.mp4", 1.25, 4.4), ("vp9.mp4", 2.35, 6.1), ("fast.mp4", 11.7, None)],
    "rates": [
        ("fast.mp4", 0.0, 3.05),
        ("small.mp4", 7.7, 9.2),
        ("film.mp4", 0.0, 4.21),
        ("fast.mp4", 7.13, 9.0),
    ],
}
"""Clips that follow each other."""


HURRIED = 4
"""By how much faster than real time sequences are played through, whose pictures have been looked at."""


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("library") / "film.mp4"

    def make(name: str, size: str, *words: str) -> None:
        make_timed_film(path.with_name(name), size, RATES[name], *words)

    x264 = ("-c:v", "libx264", "-crf", "8", "-c:a", "aac", "-shortest")
    make("film.mp4", "160x90", *x264, "-bf", "2", "-g", "100")
    make("small.mp4", "240x136", *x264, "-bf", "2", "-g", "50")
    make("fast.mp4", "320x180", *x264, "-bf", "3", "-g", "90", "-ac", "2")
    vp9 = ("-c:v", "libvpx-vp9", "-crf", "8", "-b:v", "0", "-cpu-used", "8", "-g", "72")
    make("vp9.mp4", "256x144", *vp9, "-c:a", "libopus", "-shortest")
    for name, options in CONTAINERS.items():
        run_ffmpeg("-i", path, "-c", "copy", *options, path.with_name(name))
    for name, sequence in SEQUENCES.items():
        clips = [
            {"path": of, "start": begin, "end": SECONDS if end is None else end}
            for of, begin, end in sequence
        ]
        path.with_name(f"{name}.playlist.json").write_text(json.dumps({"clips": clips}))
    return path


@pytest.fixture(scope="module")
def origin(film: Path) -> Iterator[str]:
    with start_server("--library", str(film.parent), "--port", "0", cwd=film.parent) as server:
        yield f"{server.url}/vod"


NGINX = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{}}
http {{
  types {{ application/vnd.apple.mpegurl m3u8; application/dash+xml mpd; video/mp4 mp4 m4s; text/vtt vtt;
    text/javascript mjs; }}
  access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{ listen 127.0.0.1:{port}; root {root}; location /player/ {{ root {ours}; }} }}
}}
"""


@pytest.fixture(scope="module")
def nginx(film: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A plain nginx with the film in both layouts: ``/segments`` and ``/single-file``."""
    folder = tmp_path_factory.mktemp("nginx")
    root = folder / "www"
    for layout in ("segments", "single-file"):
        argv = [str(HEADWATER), "package", str(film), "--out", str(root / layout)]
        argv += ["--single-file"] * (layout == "single-file")
        subprocess.run(argv, check=True, timeout=120, capture_output=True)
    with kept_port() as port:
        config = folder / "nginx.conf"
        config.write_text(NGINX.format(folder=folder, port=port, root=root, ours=ROOT))
        running = subprocess.Popen([program("nginx", "nginx"), "-c", str(config), "-p", str(folder)])
        try:
            wait_for(lambda: listens(port), what="nginx")
            yield f"http://127.0.0.1:{port}"
        finally:
            end_process(running)


@pytest.mark.parametrize("kind", PLAYERS)
async def test_a_clip_begins_and_ends_where_it_was_asked_for(page: Page, origin: str, kind: str) -> None:
    begin, end = CLIP
    await assert_plays(page, kind, f"{origin}/film.mp4/{address(kind)}?start={begin}&end={end}", begin, end)


@pytest.mark.parametrize("name", CONTAINERS)
@pytest.mark.parametrize("kind", ["hls.js", "dashjs"])
async def test_a_film_of_another_container_plays_as_it_is(
    page: Page, origin: str, kind: str, name: str
) -> None:
    await assert_plays(page, kind, f"{origin}/{name}/{address(kind)}", 0, SECONDS)


async def test_shaka_plays_a_clip_in_hls(page: Page, origin: str) -> None:
    url = f"{origin}/film.mp4/master.m3u8?start=00:00:06.2"
    await assert_plays(page, "shaka-player", url, 6.2, SECONDS)


def lengths(origin: str, name: str) -> list[float]:
    """Give how long each clip of a sequence lasts by its playlist."""
    found = [0.0]
    for segment in m3u8.loads(httpx.get(f"{origin}/{name}.playlist.json/video/media.m3u8").text).segments:
        found += [0.0] * segment.discontinuity
        found[-1] += segment.duration
    return found


def pictures_of(origin: str, name: str) -> list[tuple[float, float]]:
    """Give times of a sequence in mixed order, and when the pictures then shown begin in their films."""
    found: list[tuple[float, float]] = []
    start = 0.0
    for (film, begin, end), lasts in zip(SEQUENCES[name], lengths(origin, name), strict=True):
        rate, end = RATES[film], SECONDS if end is None else end
        first = math.floor(begin * rate + 1e-6)
        # Before the first are those for a moment that it needs to be decoded.
        early = lasts - (end - first / rate)
        assert -PRECISE < early < 3 * PRECISE
        pictures = math.floor((end - first / rate) * rate + 1e-6)
        found += [
            (start + early + (picture + 0.5) / rate, (first + picture) / rate)
            for picture in (int(pictures * share) for share in (0.2, 0.5, 0.8))
        ]
        start += lasts
    return found[::-3] + found[1::3] + found[::3]


@pytest.mark.parametrize("name", SEQUENCES)
@pytest.mark.parametrize("kind", PLAYERS)
async def test_clips_of_several_films_follow_each_other(
    page: Page, origin: str, kind: str, name: str
) -> None:
    async with opened(page, kind, f"{origin}/{name}.playlist.json/{address(kind)}") as watching:
        lasts = sum(lengths(origin, name))
        assert float(await page.evaluate("video.duration")) == pytest.approx(lasts, abs=NEAR)
        await watching.until(f"video.buffered.length && video.buffered.end(0) > {lasts - NEAR}")
        pictures = pictures_of(origin, name)
        for at, expected in (*pictures, min(pictures)):
            await assert_shows(page, at, expected, PICTURE)
        await page.evaluate(f"void (video.playbackRate = {HURRIED}, video.play())")
        await watching.until(PLAYED)
        assert (await watching.facts())["troubles"] == []
        ((begin, end),) = await page.evaluate(BUFFERED)
        assert (begin, end) == pytest.approx((0, lasts), abs=NEAR)


@pytest.mark.parametrize("name", SEQUENCES)
async def test_hls_js_shows_the_right_picture_wherever_in_a_sequence_it_begins(
    page: Page, origin: str, name: str
) -> None:
    url = f"{origin}/{name}.playlist.json/master.m3u8"
    pictures = pictures_of(origin, name)
    for first in pictures[1::3]:
        little = {"maxBufferLength": 1, "maxMaxBufferLength": 1, "backBufferLength": 0}
        async with opened(page, "hls.js", url, startPosition=first[0], **little) as watching:
            for at, expected in (first, *pictures[:4]):
                await assert_shows(watching.page, at, expected, PICTURE)


@pytest.mark.parametrize("layout", ["segments", "single-file"])
@pytest.mark.parametrize("kind", PLAYERS)
async def test_a_packaged_film_plays_from_nginx(page: Page, nginx: str, kind: str, layout: str) -> None:
    await assert_plays(page, kind, f"{nginx}/{layout}/film.mp4/{address(kind)}", 0, SECONDS)


async def test_a_single_file_plays_by_itself(page: Page, nginx: str) -> None:
    await page.goto(f"{nginx}/nothing")
    url = f"{nginx}/single-file/film.mp4/video/media.mp4"
    await page.evaluate(
        "url => { document.body.innerHTML = `<video muted src=${url}></video>`;"
        " Object.assign(window, {video: document.querySelector('video'), troubles: [], stalls: 0,"
        " latency: () => 0}); }",
        url,
    )
    await Watching(page).until("video.readyState >= 2")
    assert float(await page.evaluate("video.duration")) == pytest.approx(SECONDS, abs=NEAR)
    for at in (12.0, 3.0):
        await assert_shows(page, at, at, NEAR)
