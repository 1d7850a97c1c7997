"""VOD: segments made on request from one MP4, beside nginx that has the same bytes as files."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tests.benchmarks import load, peers
from tests.benchmarks.load import Figure, Workload
from tests.benchmarks.peers import Peer
from tests.packager import crafted

NAME = "film.mp4"
HOURS = 0.5
BYTES = 200_000_000
SEGMENTS = 280
MANY_CONNECTIONS = 300
BLOCK = os.urandom(1 << 20)

_RANDOM = """
request = function()
  return wrk.format("GET", "/vod/film.mp4/{track}/VERSION/" .. math.random(0, {last}) .. ".m4s")
end
"""
_TEXT = 'request = function() return wrk.format("GET", "/vod/film.mp4/{name}") end'

WORKLOADS = (
    Workload("VOD video segments", _RANDOM.format(track="video", last=SEGMENTS - 1), seconds=2),
    Workload("VOD audio segments", _RANDOM.format(track="audio", last=SEGMENTS - 1), seconds=2),
    Workload(
        "VOD video, 300 clients",
        _RANDOM.format(track="video", last=SEGMENTS - 1),
        connections=MANY_CONNECTIONS,
        seconds=4,
    ),
    Workload("VOD media playlist", _TEXT.format(name="video/media.m3u8")),
    Workload("VOD init segment", _TEXT.format(name="video/VERSION/init.mp4")),
)


@contextlib.contextmanager
def running() -> Iterator[tuple[list[Peer], Path, str]]:
    """Run both servers over one library.

    Gives them, nginx first, a folder for scripts, and the film's version in the addresses of its media.
    """
    peers.require("wrk", "nginx", "taskset")
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o755)
        library = folder / "library"
        library.mkdir()
        make_film(library / NAME)
        ours = stack.enter_context(peers.headwater(library))
        version = _version(ours.url)
        _write_static(ours.url, version, library / "vod" / NAME)
        yield [stack.enter_context(peers.nginx(library, folder)), ours], folder, version


def run(words: tuple[str, ...] = ()) -> Iterator[Figure]:
    """Measure both servers under each workload whose name has one of the words, or under all."""
    chosen = [one for one in WORKLOADS if not words or any(word in one.name for word in words)]
    if not chosen:
        return
    with running() as (servers, folder, version):
        for workload in chosen:
            asking = replace(workload, request=workload.request.replace("VERSION", version))
            yield from load.measure(asking, servers, folder)


def make_film(path: Path) -> None:
    """Make a film whose frames and sounds lie in turn, as ffmpeg writes it; its media are noise."""
    index, media = crafted.film(HOURS, rate=25, total=BYTES)
    crafted.write(path, index, media)
    with path.open("r+b") as file:
        file.seek(len(crafted.FTYP + index) + 16)
        for _ in range(media // len(BLOCK)):
            file.write(BLOCK)
    os.utime(path, (1_700_000_000, 1_700_000_000))


def _version(url: str) -> str:
    """Give the folder that the addresses of all media of the film have."""
    with urllib.request.urlopen(f"{url}/vod/{NAME}/video/media.m3u8") as answer:
        found = re.search(rb'URI="([^"/]+)/init.mp4"', answer.read())
    assert found is not None
    return found[1].decode()


def _write_static(url: str, version: str, folder: Path) -> None:
    """Write everything that is asked for as files."""
    names = ["video/media.m3u8", f"video/{version}/init.mp4"]
    names += [f"{track}/{version}/{number}.m4s" for track in ("video", "audio") for number in range(SEGMENTS)]
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with urllib.request.urlopen(f"{url}/vod/{NAME}/{name}") as answer:
            path.write_bytes(answer.read())
