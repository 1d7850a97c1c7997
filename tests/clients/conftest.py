"""A real origin for real clients, and how to run these."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.clients.films import make_film
from tests.clients.programs import environment
from tests.clients.stations import PASSWORD, TITLES, station
from tests.conftest import ServerProcess, start_server
from tests.waiting import wait_for

DATA_SIZE = 20 * (1 << 20) + 777
FILM_SIZE = 100 << 20
TIMEOUT_SECONDS = 300.0
LONG_AGO = 1_700_000_000


@dataclass(frozen=True)
class Result:
    """How a program ended."""

    status: int
    output: bytes
    errors: str

    @property
    def text(self) -> str:
        return self.output.decode("utf-8", "replace")


def run(*command: str, cwd: Path | None = None) -> Result:
    """Run a program to its end."""
    ended = subprocess.run(
        command,
        cwd=cwd,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=TIMEOUT_SECONDS,
    )
    return Result(ended.returncode, ended.stdout, ended.stderr.decode("utf-8", "replace"))


@pytest.fixture(scope="session")
def data() -> bytes:
    """The bytes of `data.mp4`, at no other place the same."""
    return random.Random(28).randbytes(DATA_SIZE)


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> Path:
    """`data.mp4` for downloads, and the film `tail.mp4` with its index behind 100 MiB of media."""
    folder = tmp_path_factory.mktemp("library")
    (folder / "data.mp4").write_bytes(data)
    make_film(folder / "tail.mp4", FILM_SIZE, moov_first=False)
    for path in folder.iterdir():
        os.utime(path, (LONG_AGO, LONG_AGO))
    return folder


@pytest.fixture(scope="session")
def origin(library: Path) -> Iterator[ServerProcess]:
    with start_server("--library", str(library), "--port", "0") as server:
        yield server


@pytest.fixture(scope="session")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tones of some seconds with tags, and a playlist of them."""
    folder = tmp_path_factory.mktemp("music")
    for number, title in enumerate(TITLES, 1):
        artist, name = title.split(" - ")
        source = ["-f", "lavfi", "-i", f"sine=frequency={300 * number}:duration=4"]
        words = [*source, "-ac", "2", "-ar", "44100", "-b:a", "128k"]
        tags = ["-metadata", f"title={name}", "-metadata", f"artist={artist}"]
        path = str(folder / f"{number}.mp3")
        subprocess.run(["ffmpeg", "-v", "error", *words, *tags, path], check=True, env=environment())
    (folder / "list.m3u").write_text("".join(f"{folder / f'{number}.mp3'}\n" for number in (1, 2)))
    return folder


@pytest.fixture(scope="session")
def radio(music: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("radio")
    config = folder / "headwater.toml"
    config.write_text(
        f"""
        [library]
        path = "{folder}"
        [[radio]]
        name = "folder.mp3"
        folder = "{music}"
        title = "Folder FM"
        genre = "Tones"
        [[radio]]
        name = "open.mp3"
        aliases = ["/morning.mp3"]
        source = "publish"
        source_password = "{PASSWORD}"
        [[radio]]
        name = "open.ogg"
        source = "publish"
        source_password = "{PASSWORD}"
        [[radio]]
        name = "open.opus"
        source = "publish"
        source_password = "{PASSWORD}"
        [[radio]]
        name = "list.mp3"
        folder = "{music / "list.m3u"}"
        [log]
        access = "{music / "access.log"}"
        requests = true
        """,
        "utf-8",
    )
    server = start_server("--config", str(config), "--port", "0")
    try:
        wait_for(lambda: station(server, "folder.mp3").get("listeners") == 0, what="the station")
        yield server
    finally:
        server.stop()
