"""A new worker knows all revoked tokens before it answers its first request, however many there are."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from origin.access.revocation_file import NAME
from origin.access.revocations import Revocations
from tests.conftest import ServerProcess, start_server
from tests.origin.workers.asking import ready, workers_of
from tests.revoked_tokens import CONFIGURATION, get, revoke, token
from tests.waiting import wait_for

ROUNDS = 8


def test_a_worker_answers_once_it_knows_a_full_table(tmp_path: Path) -> None:
    (tmp_path / "library").mkdir()
    (tmp_path / "library" / "film.mp4").write_bytes(b"film")
    text = f'[server]\nport = 0\nworkers = 2\ndata = "data"\n{CONFIGURATION}'
    (tmp_path / "headwater.toml").write_text(text)
    first = start_server(cwd=tmp_path)
    assert revoke(first, jti="lost-phone", until=time.time() + 3600).status_code == 200
    assert first.stop() == 0
    (kept,) = (tmp_path / "data").rglob(NAME)
    others = range(Revocations().most - 1)
    lines = "".join(f"{number:032x} {int(time.time()) + 7200}\n" for number in others)
    # The token's is the last one that a worker is told.
    kept.write_text(lines + kept.read_text())
    server = start_server(cwd=tmp_path)
    refused(server)
    ready(server, 2)
    for killed in workers_of(server):
        os.kill(killed, signal.SIGKILL)
        refused(server)
        wait_for(lambda killed=killed: killed not in workers_of(server), "another worker")  # type: ignore[misc]
        refused(server)
    assert server.stop() == 0


def refused(server: ServerProcess) -> None:
    """Ask with the revoked token and with another one, again and again."""
    for _ in range(ROUNDS):
        assert get(server, "/media/film.mp4", token(jti="lost-phone")).status_code == 403
        assert get(server, "/media/film.mp4", token(jti="kept-phone")).status_code == 200
