"""Viewers with names at several nodes of a cluster, which know of each other's sessions."""

from __future__ import annotations

import time
from pathlib import Path

import httpx

from origin.access.address_tokens import SigningKeys
from tests.conftest import ServerProcess
from tests.keys import BEARER
from tests.origin.cluster.nodes import nodes
from tests.patience import CLIENT_SECONDS
from tests.redis_server import RedisServer
from tests.waiting import wait_for

KEY = "2026-11:a-secret-of-the-tests"
ACCESS = f'[access]\nkeys = ["{KEY}"]\nviewers_per_name = 1\n[library]\npath = "library"\naccess = "signed"\n'


def get(one: ServerProcess, path: str, player: str) -> httpx.Response:
    return httpx.get(f"{one.url}{path}", headers={"user-agent": player}, timeout=CLIENT_SECONDS)


def names(one: ServerProcess) -> list[str]:
    found = httpx.get(f"{one.url}/api/viewers", headers=BEARER, timeout=CLIENT_SECONDS).json()
    return [session["user_agent"] for session in found["sessions"]]


def test_a_session_at_one_node_ends_that_at_another(tmp_path: Path, redis_server: RedisServer) -> None:
    (tmp_path / "library").mkdir()
    (tmp_path / "library" / "film.mp4").write_bytes(b"film")
    with nodes(tmp_path, redis_server, "all", "all", channels=ACCESS) as (one, other):
        token = SigningKeys([KEY]).sign("/media", int(time.time()) + 3600, "anna")
        path = f"/t/{token}/media/film.mp4"
        wait_for(lambda: get(one, path, "first").status_code == 200, "the library")
        wait_for(lambda: names(other) == ["first"], "the session at the other node")
        assert get(other, path, "second").status_code == 200
        wait_for(lambda: get(one, path, "first").status_code == 403, "its end at the first node")
        assert get(other, path, "first").status_code == 403
        wait_for(lambda: names(one) == names(other) == ["second"], "the same list at both nodes")
        # The administrator ends it at any node.
        ended = httpx.delete(f"{one.url}/api/viewers/anna", headers=BEARER, timeout=CLIENT_SECONDS)
        assert ended.json() == {"ended": 1}
        wait_for(lambda: get(other, path, "second").status_code == 403, "its end at the other node")
        # Its token is out, whatever the player; another token of the same name isn't.
        wait_for(lambda: get(one, path, "third").status_code == 403, "the token's end at the first node")
        token = SigningKeys([KEY]).sign("/media", int(time.time()) + 7200, "anna")
        path = f"/t/{token}/media/film.mp4"
        # What isn't a list of sessions is passed over.
        redis_server.command("XADD", "headwater:sessions", "*", "node", "x", "message", "nonsense")
        redis_server.command("XADD", "headwater:sessions", "*", "other", "x")
        wait_for(lambda: "sessions of another node can't be read" in one.text(), "the line of the log")
        assert get(one, path, "third").status_code == 200
        wait_for(lambda: names(other) == ["third"], "the session at the other node")
        # Where the key isn't a stream, it is made anew.
        redis_server.command("DEL", "headwater:sessions")
        redis_server.command("SET", "headwater:sessions", "nonsense")
        assert get(other, path, "fourth").status_code == 200
        wait_for(lambda: names(one) == ["fourth"], "the session at the first node")
