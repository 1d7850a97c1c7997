"""An address is answered alike whether its film is open already or not, and whatever a film's titles have."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.raw import Client
from tests.conftest import ServerProcess, start_server

LONG_AGO = 1_700_000_000
TITLES = ("bad\x01\x1b[2J\u2028 title", "two\nlines\x85", 'a "quote"')

EXISTING = ("/media/a/b.txt", "/vod/a/film.mkv/video/0.m4s", "/vod/a/film.mkv/master.m3u8")
SPELLINGS = (
    "a%2F",
    "a%252F",
    "%2Fa/",
    "a//",
    "a%2F%2F",
    "a/%2F",
    "a/./",
    "a%2F.%2F",
    "x/../a/",
    "a%5C",
    "A/",
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder: Path = tmp_path_factory.mktemp("spelled")
    (folder / "a").mkdir()
    (folder / "a" / "b.txt").write_bytes(b"text")
    sound = ["-f", "lavfi", "-i", "sine"] * len(TITLES)
    maps = [word for number in range(len(TITLES) + 1) for word in ("-map", str(number))]
    named = [word for n, title in enumerate(TITLES) for word in (f"-metadata:s:a:{n}", f"title={title}")]
    picture = ["-v", "error", "-f", "lavfi", "-i", "testsrc2=size=160x120:rate=10"]
    coded = ["-t", "8", "-c:v", "libx264", "-g", "20", "-c:a", "aac"]
    film = str(folder / "a" / "film.mkv")
    subprocess.run(["ffmpeg", *picture, *sound, *maps, *coded, *named, film], check=True)
    for path in (folder / "a").iterdir():
        os.utime(path, (LONG_AGO, LONG_AGO))
    with start_server("--library", ".", "--port", "0", cwd=folder) as running:
        yield running


def ask(server: ServerProcess, *targets: str) -> list[tuple[int, bytes]]:
    host, _, port = server.url.removeprefix("http://").rpartition(":")
    with Client((host, int(port))) as client:
        answers = [client.ask(target) for target in targets]
    return [(one.status, one.body) for one in answers]


def test_an_address_is_answered_alike_before_and_after_its_film_was_opened(server: ServerProcess) -> None:
    targets = [one.replace("a/", spelled, 1) for one in EXISTING for spelled in SPELLINGS]
    targets += [one.replace("/a/", f"%2F{spelled}", 1) for one in EXISTING for spelled in SPELLINGS]
    targets += ["/vod/a/film.mkv", "/vod/a%2Ffilm.mkv", "/vod%2Fa%2Ffilm.mkv", "/media%2Fvod/a/film.mkv"]
    before = ask(server, *targets)
    # Each by its own address, twice, so that the connection itself answers from what is open.
    for _ in range(2):
        assert [status for status, _ in ask(server, *EXISTING)] == [200] * len(EXISTING)
        assert ask(server, *targets) == before


@pytest.mark.clause("RFC 8216bis §4.2")
def test_control_characters_in_titles_are_no_error(server: ServerProcess) -> None:
    for name in ("master.m3u8", "manifest.mpd"):
        ((status, body),) = ask(server, f"/vod/a/film.mkv/{name}")
        assert status == 200
        assert all(one.isprintable() for one in body.decode().replace("\n", ""))
        assert b"title" in body
        assert b"two" in body
    assert "Traceback" not in server.text()
