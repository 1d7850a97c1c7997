"""An address that is signed is understood as it is written, and what is wrong with it is said."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.conftest import ServerProcess, start_server
from tests.fork_server import run_headwater
from tests.keys import BEARER
from tests.patience import CLIENT_SECONDS

CONFIG = """
[server]
port = 0
data = "data"
public_url = "https://media.example/stream"

[library]
folders = { "private" = "signed" }

[[live]]
name = "studio"
source = "publish"
access = "signed"

[[live]]
name = "free"
source = "publish"
record = "publications"

[[radio]]
name = "fm.mp3"
source = "publish"
access = "signed"
aliases = ["/morning.mp3"]

[[events]]
name = "chat"
access = "signed"
"""

GOOD = [
    "/live/studio/master.m3u8",
    "/vod/private/film.mp4/master.m3u8",
    "/vod/private/title/manifest.mpd",
    "/media/private/film.mp4",
    "/radio/fm.mp3",
    "/radio/fm.mp3.m3u",
    "/events/chat",
    "/events/radio/fm.mp3",
]
"""Addresses with nothing wrong."""

FAULTY = [
    ("/live/stduio/master.m3u8", "no channel 'stduio' is"),
    ("/live/stduio", "no channel 'stduio' is"),
    ("/radio/fm.mp", "no station 'fm.mp' is"),
    ("/events/chta", "no event channel 'chta' is"),
    ("/vod/private/flim.mp4/master.m3u8", "'private/flim.mp4' isn't in the library"),
    ("/vod/privat/film.mp4/master.m3u8", "'privat' isn't in the library"),
    ("/media/private/film.mp4/master.m3u8", "isn't in the library"),
    ("/recordings/studio", "addresses that need a token begin with"),
    ("/studio/master.m3u8", "addresses that need a token begin with"),
    ("/vod/private", "is a folder"),
    ("/vod/private/", "is a folder"),
    ("/media", "is a folder"),
    ("/live", "is no channel"),
    ("/live/studio", "append /master.m3u8"),
    ("/vod/private/film.mp4", "append /master.m3u8"),
    ("/vod/private/title", "append /master.m3u8"),
    ("/", "opens everything"),
    ("/live/free/master.m3u8", "is open"),
    ("/vod/film.mp4/master.m3u8", "is open"),
    ("/vod/films", "is open"),
]
"""Addresses with a fault, and words that say which."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sign")
    (folder / "headwater.toml").write_text(CONFIG)
    for name in ("film.mp4", "private/film.mp4", "private/title.720p.mp4", "films/film.mp4"):
        path = folder / "library" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[ServerProcess]:
    with start_server(cwd=folder) as server:
        yield server


@pytest.mark.promise("headwater sign")
@pytest.mark.parametrize("path", GOOD)
def test_nothing_is_said_of_an_address_that_is_served_to_tokens(path: str, folder: Path) -> None:
    done = run_headwater("sign", path, cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip().endswith(path)


@pytest.mark.parametrize(("path", "words"), FAULTY)
def test_the_command_signs_what_it_may_and_says_what_is_wrong_with_it(
    path: str, words: str, folder: Path
) -> None:
    done = run_headwater("sign", path, cwd=folder)
    assert done.returncode == 0
    assert done.stdout.strip().endswith(path)
    assert words in done.stderr
    assert done.stderr.count("\n") == 1 + (path == "/vod/films")


@pytest.mark.parametrize("path", ["/live/studio", "/vod/private/film.mp4"])
def test_the_page_shows_what_no_player_can_open(path: str, folder: Path) -> None:
    assert run_headwater("sign", path, "--page", cwd=folder).stderr == ""


@pytest.mark.parametrize(
    "path", ["/live/studio/ingest", "/live/studio", "/live/free/ingest", "/radio/fm.mp3"]
)
def test_an_address_to_publish_to_has_no_player_and_may_be_open_to_viewers(path: str, folder: Path) -> None:
    assert run_headwater("sign", path, "--publish", cwd=folder).stderr == ""


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("live/studio/master.m3u8", "/live/studio/master.m3u8"),
        (" /live/studio/master.m3u8 ", "/live/studio/master.m3u8"),
        ("http://localhost:8000/live/studio/master.m3u8", "/live/studio/master.m3u8"),
        ("https://media.example/stream/live/studio/master.m3u8", "/live/studio/master.m3u8"),
        (
            "http://127.0.0.1/vod/private/film.mp4/master.m3u8?start=1",
            "/vod/private/film.mp4/master.m3u8?start=1",
        ),
        ("/morning.mp3", "/radio/fm.mp3"),
    ],
)
def test_an_address_is_understood_as_it_is_written(text: str, path: str, folder: Path) -> None:
    done = run_headwater("sign", text, cwd=folder)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert done.stdout.startswith("https://media.example/stream/t/v1.")
    assert done.stdout.strip().endswith(path)
    again = run_headwater("sign", done.stdout, cwd=folder)
    assert again.stdout.count("/t/v1.") == 1
    assert again.stdout.strip().endswith(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "https://other.example/live/studio/master.m3u8",
            "no address of this server, https://media.example/stream",
        ),
        ("https://media.example/stream/#live/studio", "an address of the page"),
        ("rtmp://localhost/live/studio", "no address of this server"),
        ("http://[::1/live/studio", "no address of this server"),
        ("", "name an address"),
        ("http://localhost", "name an address"),
        ("/live//studio", "without empty segments"),
    ],
)
def test_what_means_no_address_of_the_server_is_wrong_use(text: str, words: str, folder: Path) -> None:
    done = run_headwater("sign", text, cwd=folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.promise("POST /api/sign")
def test_the_server_says_the_same_of_what_it_serves(server: ServerProcess) -> None:
    with httpx.Client(base_url=server.url, headers=BEARER, timeout=CLIENT_SECONDS) as client:

        def faults(path: str) -> str:
            signed = client.post("/api/sign", json={"path": path, "for": "1h"}).json()
            assert signed["url"].endswith(path)
            return "\n".join(signed["faults"])

        assert {path: faults(path) for path in GOOD} == dict.fromkeys(GOOD, "")
        assert [path for path, words in FAULTY if words not in faults(path)] == []
        assert "no event channel 'room' is there" in faults("/events/room")
        made = client.post("/events", json={"name": "room"})
        assert made.status_code == 201, made.text
        assert "no event channel" not in faults("/events/room")
        whole = client.post("/api/sign", json={"path": f"{server.url}/radio/fm.mp3", "for": "1h"}).json()
        assert (whole["url"].endswith("/radio/fm.mp3"), whole["faults"]) == (True, [])
        other = client.post("/api/sign", json={"path": "https://other.example/radio/fm.mp3", "for": "1h"})
        assert other.status_code == 400
        assert "no address of this server" in other.text
