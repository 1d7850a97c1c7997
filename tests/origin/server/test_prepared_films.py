"""Films are prepared for the administrator, and a server that is killed loses no encoded segment."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import ServerProcess, start_server
from tests.keys import BEARER
from tests.packager.films import run_ffmpeg
from tests.patience import CLIENT_SECONDS
from tests.waiting import wait_for

pytestmark = pytest.mark.timeout(600)

FILM = "series/a film.avi"
ADDRESS = f"/api/prepared/{FILM}"
SCRIPT = {"accept": "application/json"}


@contextlib.contextmanager
def started(folder: Path, **variables: str) -> Iterator[tuple[ServerProcess, httpx.Client]]:
    names = {f"HEADWATER_{name}": text for name, text in variables.items()}
    server = start_server("--library", str(folder / "library"), "--port", "0", cwd=folder, env=names)
    try:
        with httpx.Client(base_url=server.url, timeout=CLIENT_SECONDS, headers=BEARER) as client:
            yield server, client
    finally:
        if server.process.poll() is None:
            server.stop()


def state(client: httpx.Client) -> dict[str, Any]:
    answer = client.get(ADDRESS)
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    found: dict[str, Any] = answer.json()
    return found


def segments(folder: Path) -> dict[str, int]:
    """Return the inodes of the stored segments: one that is written again has another one."""
    return {path.name: path.stat().st_ino for path in (folder / "data" / "encoded").glob("*.m4s")}


@pytest.mark.promise("/api/prepared", "/api/prepared/PATH")
def test_a_killed_server_goes_on_with_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "library" / "series").mkdir(parents=True)
    picture = "-f lavfi -i testsrc2=size=64x48:rate=5:duration=17 -c:v mpeg4 -g 20"
    run_ffmpeg(*picture.split(), tmp_path / "library" / FILM)
    (tmp_path / "library" / "text.txt").write_text("no film")
    data = {"SERVER_DATA": str(tmp_path / "data"), "LIBRARY_ENCODE": "auto"}
    with started(tmp_path, **data) as (server, client):
        refused(client)
        # Four of the picture and their init segment, and as many of its I-frames.
        assert (state(client)["state"], state(client)["segments"]) == (None, 10)
        assert client.put(ADDRESS).json()["state"] in ("waiting", "encoding", "prepared")
        wait_for(lambda: state(client)["encoded_segments"] >= 2, "two segments")
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
    before = segments(tmp_path)
    assert len(before) >= 2
    with started(tmp_path, **data) as (_, client):
        wait_for(lambda: state(client)["state"] == "prepared", "all segments")
        after = segments(tmp_path)
        assert len(after) == 10
        assert before.items() <= after.items(), "no segment was encoded again"
        listed = client.get("/api/prepared").json()
        assert [film["path"] for film in listed["films"]] == [FILM]
        assert (listed["segments"], listed["encoded_segments"], listed["seconds_left"]) == (10, 10, 0)
        assert client.delete(ADDRESS).status_code == 204
        assert client.delete(ADDRESS).status_code == 404
        assert state(client)["state"] is None
        assert client.get("/api/prepared").json()["films"] == []
        assert segments(tmp_path) == after, "they stay until others need the room"


def refused(client: httpx.Client) -> None:
    """Ask for what strangers, other sites' pages and wrong names don't get."""
    for method in ("GET", "PUT", "DELETE"):
        for path in ("/api/prepared", ADDRESS):
            if path == ADDRESS or method == "GET":
                stranger = httpx.request(method, f"{client.base_url}{path}", headers=SCRIPT)
                assert (stranger.status_code, stranger.headers["www-authenticate"][:6]) == (401, "Bearer")
                site = client.request(method, path, headers={"sec-fetch-site": "cross-site"})
                assert site.status_code == 403
        for name in ("none.avi", "series", "..%2f..%2fetc%2fpasswd", ""):
            assert client.request(method, f"/api/prepared/{name}").status_code == 404, name
        assert client.request(method, "/api/prepared/series/a%00film.avi").status_code == 400
    assert client.put("/api/prepared/text.txt").status_code == 422
    assert client.get("/api/prepared/text.txt").json()["segments"] == 0
    assert client.get("/api/prepared").json()["films"] == []


def test_nothing_is_prepared_where_nothing_is_kept(tmp_path: Path) -> None:
    (tmp_path / "library").mkdir()
    with started(tmp_path, LIBRARY_ENCODE="auto") as (_, client):
        assert client.get("/api/prepared").json()["films"] == []
        answer = client.put(ADDRESS)
        assert (answer.status_code, "server.data" in answer.text) == (409, True)
