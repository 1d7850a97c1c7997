"""JSON Web Tokens that the administrator revokes by their ``jti``, on a whole server and its workers."""

from __future__ import annotations

import contextlib
import functools
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.conftest import ServerProcess, start_server
from tests.patience import CLIENT_SECONDS
from tests.revoked_tokens import ADMIN, CONFIGURATION, Reader, get, publish, revoke, token
from tests.waiting import wait_for

FILM = bytes(1 << 20) * 32

Start = Callable[..., ServerProcess]


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Start]:
    servers: list[ServerProcess] = []
    (tmp_path / "library").mkdir()
    (tmp_path / "library" / "film.mp4").write_bytes(FILM)

    def start(workers: int = 1, more: str = CONFIGURATION) -> ServerProcess:
        text = f'[server]\nport = 0\nworkers = {workers}\ndata = "data"\n{more}'
        (tmp_path / "headwater.toml").write_text(text)
        servers.append(start_server(cwd=tmp_path))
        return servers[-1]

    yield start
    for server in servers:
        if server.process.poll() is None:
            server.process.kill()
        server.process.wait()


@pytest.mark.promise("/api/revocations")
@pytest.mark.parametrize("workers", [1, 2])
def test_a_revoked_token_ends_what_runs_and_stays_refused_behind_a_restart(
    started: Start, tmp_path: Path, workers: int
) -> None:
    server = started(workers)
    lost, kept = token(jti="lost-phone"), token(jti="kept-phone")
    # Enough that each worker has some of them.
    readers = [Reader(server, lost) for _ in range(8)]
    other, without = Reader(server, kept), Reader(server, token())
    answer = revoke(server, jti="lost-phone", until=time.time() + 3600)
    assert (answer.status_code, answer.json()["jti"]) == (200, "lost-phone")
    wait_for(lambda: all(reader.ended for reader in readers), "the ends of the streams", seconds=10)
    for _ in range(8):
        assert get(server, "/events/signed?since=", lost).status_code == 403
        assert get(server, "/media/film.mp4", lost).status_code == 403
        assert get(server, "/media/film.mp4", kept).status_code == 200
    publish(server, "for those who stay")
    for reader in (other, without):
        wait_for(functools.partial(reader.has, "for those who stay"), "the event")
        assert not reader.ended
    assert not any(reader.has("for those who stay") for reader in readers)
    (file,) = (tmp_path / "data" / "revocations").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert b"phone" not in file.read_bytes()
    assert "lost-phone" not in server.text()
    server.process.kill()
    server.process.wait()
    again = started(workers)
    for _ in range(4):
        assert get(again, "/events/signed?since=", lost).status_code == 403
        assert get(again, "/events/signed?since=", kept).status_code in (200, 204)
    assert httpx.get(f"{again.url}/api/revocations", headers=ADMIN).json()["revoked"] == 1


def test_a_download_and_channels_made_at_run_time_end_with_the_token(started: Start) -> None:
    server = started()
    maker = {"authorization": f"Bearer {token(jti='maker', create=['talk/*'])}"}
    url = f"{server.url}/events"
    made = httpx.post(url, json={"name": "talk/1"}, headers=maker, timeout=CLIENT_SECONDS)
    assert made.status_code == 201
    lost = token(jti="lost", paths=["/events/talk/1", "/media/film.mp4"], publish=True)
    reader = Reader(server, lost, "/events/talk/1")
    several = Reader(server, lost, "/events?channel=talk/1")
    headers = {"authorization": f"Bearer {lost}"}
    received = 0
    with httpx.stream("GET", f"{server.url}/media/film.mp4", headers=headers, timeout=CLIENT_SECONDS) as film:
        parts = film.iter_raw(1 << 16)
        received += len(next(parts))
        assert revoke(server, jti="lost").status_code == 200
        wait_for(lambda: reader.ended and several.ended, "the ends of the streams", seconds=10)
        with contextlib.suppress(httpx.HTTPError):
            for part in parts:
                received += len(part)
    assert received < len(FILM)
    for presented, expected in (
        (lost, 401),
        (token(jti="else", paths=["/events/talk/1"], publish=True), 200),
    ):
        bearer = {"authorization": f"Bearer {presented}"}
        answer = httpx.post(f"{url}/talk/1", content="x", headers=bearer, timeout=CLIENT_SECONDS)
        assert answer.status_code == expected
    assert revoke(server, jti="maker").status_code == 200
    refused = httpx.post(url, json={"name": "talk/2"}, headers=maker, timeout=CLIENT_SECONDS)
    assert refused.status_code == 401


def test_a_revocation_needs_the_admin_token_and_an_identifier(started: Start) -> None:
    server = started()
    assert revoke(server, {}, jti="one").status_code == 401
    assert revoke(server, {"authorization": f"Bearer {token(publish=True)}"}, jti="one").status_code == 401
    for wrong in ({}, {"jti": ""}, {"jti": 1}, {"jti": "one", "until": 1}, {"jti": "one", "for": "2h"}):
        assert revoke(server, **wrong).status_code == 400, wrong
    assert httpx.get(f"{server.url}/api/revocations", headers=ADMIN).json()["revoked"] == 0
    without = started(1, '[[events]]\nname = "open"\n')
    answer = revoke(without, jti="one")
    assert (answer.status_code, "access.jwt_keys" in answer.text) == (409, True)
