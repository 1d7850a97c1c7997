"""Channels, stations and relays that are made by requests: checked as the file is, and kept."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest

from tests.changing_server import DATA, HEAD, ChangingServer, changing_server, patient
from tests.completion_server import Asked, completing
from tests.fork_server import HEADWATER
from tests.keys import ADMIN_TOKEN, BEARER
from tests.patience import CLIENT_SECONDS
from tests.redis_server import RedisServer

PUBLISHED = {"source": "publish", "ladder": ["source"]}
SECRET = "a-secret-that-only-the-backend-knows"
FILE = (
    DATA
    + f'[access]\njwt_keys = ["HS256:{SECRET}"]\n'
    + '[[live]]\nname = "studio"\nsource = "publish"\npublish_key = "a-key-of-the-studio"\n'
)

TABLES = {
    "/api/live/room": (PUBLISHED, "publish_key"),
    "/api/radio/dj.mp3": ({"source": "publish"}, "source_password"),
    "/api/relays/model": ({"upstreams": ["http://127.0.0.1:9/v1"]}, "token"),
}
"""For each kind its address, a table, and the key whose secret is generated."""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChangingServer]:
    with changing_server(tmp_path_factory.mktemp("made"), FILE) as server:
        yield server


@pytest.mark.promise(
    "/api/live/NAME",
    "/api/radio/NAME",
    "/api/relays/NAME",
    "/api/live?configuration",
    "/api/radio?configuration",
    "/api/relays?configuration",
)
@pytest.mark.parametrize("address", TABLES)
def test_a_table_is_made_changed_described_and_removed(shared: ChangingServer, address: str) -> None:
    table, secret = TABLES[address]
    name = address.rpartition("/")[2]
    assert shared.ask("GET", address).status_code == 404
    made = shared.ask("PUT", address, table)
    assert made.status_code == 201
    key = made.json()[secret]
    assert len(key) >= 24
    assert made.json()["name"] == name
    # What was generated is shown once.
    described = shared.ask("GET", address)
    assert described.status_code == 200
    assert described.json() == {**made.json(), secret: "********"}
    revealed = shared.ask("GET", f"{address}?reveal").json()
    assert revealed[secret] == key
    # As it is described, it is put again: a hidden secret stays what it is.
    again = shared.ask("PUT", address, described.json())
    assert again.status_code == 200
    assert shared.ask("GET", f"{address}?reveal").json() == revealed
    changed = shared.ask("PATCH", address, {secret: "another-secret-of-it"})
    assert changed.status_code == 200
    assert shared.ask("GET", f"{address}?reveal").json() == {**revealed, secret: "another-secret-of-it"}
    listed = shared.ask("GET", f"{address.rpartition('/')[0]}?configuration").json()
    assert [one["made"] for one in listed if one["name"] == name] == [True]
    assert shared.ask("DELETE", address).status_code == 204
    assert shared.ask("GET", address).status_code == 404
    assert shared.ask("DELETE", address).status_code == 404
    assert shared.ask("PATCH", address, {}).status_code == 404


def test_a_backends_token_makes_what_is_beneath_its_paths(shared: ChangingServer) -> None:
    claims = {"exp": time.time() + 600, "paths": ["/live/backend", "/radio"], "configure": True}
    fields = {"authorization": f"Bearer {jwt.encode(claims, SECRET, 'HS256')}"}

    def ask(method: str, address: str, **more: Any) -> httpx.Response:
        return httpx.request(method, f"{shared.url}{address}", headers=fields, timeout=CLIENT_SECONDS, **more)

    assert ask("PUT", "/api/live/backend", json=PUBLISHED).status_code == 201
    assert ask("PATCH", "/api/live/backend", json={"record": "publications"}).status_code == 200
    assert ask("GET", "/api/live/backend").json()["record"] == "publications"
    assert ask("GET", "/api/live/backend?reveal").status_code == 403
    assert ask("PUT", "/api/radio/backend.mp3", json={"source": "publish"}).status_code == 201
    for address in ("/api/live/other", "/api/live/studio", "/api/relays/backend"):
        for method in ("PUT", "PATCH", "GET", "DELETE"):
            refused = ask(method, address, json=PUBLISHED)
            assert refused.status_code == 401
            assert "a token with configure is needed" in refused.text
    for address in ("/api/live?configuration", "/api/live/backend/publish_key", "/api/viewers"):
        assert ask("GET", address).status_code in (401, 403)
    assert ask("DELETE", "/api/live/backend").status_code == 204
    assert ask("DELETE", "/api/radio/backend.mp3").status_code == 204


def test_what_is_made_is_served_by_its_key_alone(shared: ChangingServer) -> None:
    key = shared.ask("PUT", "/api/radio/served.mp3", {"source": "publish"}).json()["source_password"]
    address = f"{shared.url}/radio/served.mp3"
    for auth, status in ((("source", "another-password"), 401), (("source", key), 415)):
        # No MP3 comes from who may send some.
        answer = httpx.put(
            address,
            content=b"x" * 100_000,
            auth=auth,
            headers={"content-type": "audio/mpeg"},
            timeout=CLIENT_SECONDS,
        )
        assert answer.status_code == status
    key = shared.ask("PUT", "/api/live/served", PUBLISHED).json()["publish_key"]
    ingest = f"{shared.url}/live/served/ingest"
    assert httpx.put(f"{ingest}?key=wrong-key-of-it", content=b"x").status_code == 401
    assert httpx.put(f"{ingest}?key={key}", content=b"x" * 2000).status_code == 415
    shared.ask("DELETE", "/api/live/served")
    assert httpx.put(f"{ingest}?key={key}", content=b"x").status_code == 404
    # Under the same name another channel has another key.
    assert shared.ask("PUT", "/api/live/served", PUBLISHED).status_code == 201
    assert httpx.put(f"{ingest}?key={key}", content=b"x").status_code == 401


async def test_a_made_relay_asks_its_server_and_pages_of_its_origins_may_ask(
    shared: ChangingServer,
) -> None:
    async def script(asked: Asked) -> None:
        await asked.answer("200 OK", '{"object": "list", "data": []}')

    async with completing(script) as upstream:
        await asyncio.to_thread(ask_made_relay, shared, upstream.url.removesuffix("/chat/completions"))


def ask_made_relay(shared: ChangingServer, upstream: str) -> None:
    table = {"upstreams": [upstream], "relay_allow_origins": ["https://chat.example"]}
    token = shared.ask("PUT", "/api/relays/answering", table).json()["token"]
    address = f"{shared.url}/relay/answering/v1/models"
    headers = {"authorization": f"Bearer {token}", "origin": "https://chat.example"}
    answer = httpx.get(address, headers=headers, timeout=CLIENT_SECONDS)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == "https://chat.example"
    asking = f"{shared.url}/relay/answering/v1/chat/completions"
    foreign = {**headers, "origin": "https://elsewhere.example"}
    assert httpx.post(asking, json={}, headers=foreign, timeout=CLIENT_SECONDS).status_code == 403
    shared.ask("DELETE", "/api/relays/answering")
    assert httpx.get(address, headers=headers, timeout=CLIENT_SECONDS).status_code == 404


REFUSED: dict[str, tuple[str, str, Any, int, str]] = {
    "an unknown key": ("PUT", "/api/live/bad", {**PUBLISHED, "dvrr": "1h"}, 422, "did you mean dvr"),
    "a wrong type": ("PUT", "/api/live/bad", {**PUBLISHED, "ladder": "source"}, 422, "ladder"),
    "no source": ("PUT", "/api/live/bad", {}, 422, "source of 'bad'"),
    "a file that isn't there": ("PUT", "/api/live/bad", {"source": "/nowhere.mp4"}, 422, "isn't there"),
    "a name in vain": ("PUT", "/api/live/bad", {**PUBLISHED, "name": "other"}, 422, "differs"),
    "a name": ("PUT", "/api/live/b%20d", PUBLISHED, 422, "name"),
    "what the file has": ("PUT", "/api/live/studio", PUBLISHED, 409, "stands in the configuration"),
    "its change": ("PATCH", "/api/live/studio", {"dvr": "1h"}, 409, "stands in the configuration"),
    "its removal": ("DELETE", "/api/live/studio", None, 409, "stands in the configuration"),
    "what needs a token": ("PUT", "/api/live/bad", {**PUBLISHED, "access": "signed"}, 409, "restart"),
    "a relay without a server": ("PUT", "/api/relays/bad", {}, 422, "upstreams"),
    "a relay of another scheme": ("PUT", "/api/relays/bad", {"upstreams": ["ftp://a/v1"]}, 422, "http://"),
    "a station that hears itself": (
        "PUT",
        "/api/radio/bad.mp3",
        {"source": "publish", "fallback": "bad.mp3"},
        422,
        "hear itself",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_can_not_be_is_refused_with_the_message_of_the_file_and_changes_nothing(
    shared: ChangingServer, case: str
) -> None:
    method, address, body, status, line = REFUSED[case]
    before = shared.states()
    answer = shared.ask(method, address, body)
    assert answer.status_code == status, answer.text
    assert line in answer.text
    assert len(answer.text.splitlines()) == 1
    assert shared.states() == before


BODIES = {
    b"{": 400,
    b"[]": 400,
    b"\xff": 400,
    b'{"a": {"b": {"c": 1}}}': 400,
    b"[" * 40_000: 400,
    b'{"a":' * 10_000: 400,
    b" " * (65 << 10): 413,
}


@pytest.mark.parametrize("number", range(len(BODIES)))
def test_bodies_that_are_no_tables_are_refused(shared: ChangingServer, number: int) -> None:
    body, status = list(BODIES.items())[number]

    headers = {**BEARER, "content-type": "application/json"}
    answer = patient(
        lambda: httpx.put(f"{shared.url}/api/live/bad", content=body, headers=headers, timeout=CLIENT_SECONDS)
    )
    assert answer.status_code == status
    assert "live/bad" not in shared.states()


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("address", TABLES)
def test_nobody_but_the_administrator_sees_or_changes_a_table(
    shared: ChangingServer, method: str, address: str
) -> None:
    table, _ = TABLES[address]
    wanted = f"{shared.url}{address}"
    for headers in ({}, {"authorization": "Bearer a-key-of-the-studio"}, {"authorization": "Bearer wrong"}):
        answer = httpx.request(method, wanted, headers=headers, json=table, timeout=CLIENT_SECONDS)
        assert answer.status_code == 401
    page = {**BEARER, "sec-fetch-site": "cross-site", "origin": "https://elsewhere.example"}
    assert httpx.request(method, wanted, headers=page, json=table).status_code == 403
    form = {**BEARER, "content-type": "text/plain"}
    if method in ("PUT", "PATCH"):
        answer = patient(lambda: httpx.request(method, wanted, headers=form, content=b"{}"))
        assert answer.status_code == 415
    listing = httpx.get(f"{shared.url}/api/live?configuration", timeout=CLIENT_SECONDS)
    assert listing.status_code == 401


def test_changes_in_a_crowd_are_refused_for_a_moment(shared: ChangingServer) -> None:
    def send(client: httpx.Client) -> list[httpx.Response]:
        return [client.delete("/api/live/nobody", headers=BEARER) for _ in range(100)]

    with (
        httpx.Client(base_url=shared.url, timeout=CLIENT_SECONDS) as client,
        ThreadPoolExecutor(8) as threads,
    ):
        answers = [one for several in threads.map(send, [client] * 8) for one in several]
    assert {one.status_code for one in answers} == {404, 429}
    refused = next(one for one in answers if one.status_code == 429)
    assert int(refused.headers["retry-after"]) >= 1


def test_without_a_data_folder_nothing_is_made(tmp_path: Path) -> None:
    with changing_server(tmp_path, HEAD) as server:
        answer = server.ask("PUT", "/api/live/room", PUBLISHED)
        assert (answer.status_code, "server.data" in answer.text) == (409, True)


def test_in_a_cluster_nothing_is_made_on_one_node_alone(tmp_path: Path, redis_server: RedisServer) -> None:
    cluster = f'[cluster]\nurl = "{redis_server.url}"\n'
    with changing_server(tmp_path, DATA + cluster) as server:
        answer = server.ask("PUT", "/api/live/room", PUBLISHED)
        assert (answer.status_code, "server.data" in answer.text) == (409, False)
        assert "nodes of a cluster" in answer.text


@pytest.mark.promise("headwater export")
def test_what_was_made_survives_kill_9_and_is_exported(tmp_path: Path) -> None:
    with changing_server(tmp_path) as server:
        keys = {
            address: server.ask("PUT", address, table).json()[secret]
            for address, (table, secret) in TABLES.items()
        }
        server.ask("PATCH", "/api/live/room", {"record": "publications", "dvr": "1h"})
        server.server.process.send_signal(signal.SIGKILL)
        server.server.process.wait()
    with changing_server(tmp_path) as server:
        assert server.states() == {"live/room": "idle", "live/dj.mp3": "idle", "radio/dj.mp3": "idle"}
        for address, (_, secret) in TABLES.items():
            assert server.ask("GET", f"{address}?reveal").json()[secret] == keys[address]
        words = [str(HEADWATER), "export", "--to", server.url, "--token", ADMIN_TOKEN]
        exported = subprocess.run(words, check=True, capture_output=True, text=True, cwd=tmp_path).stdout
    assert tomllib.loads(exported) == {
        "live": [
            {
                "name": "room",
                **PUBLISHED,
                "record": "publications",
                "dvr": "1h",
                "publish_key": keys["/api/live/room"],
            }
        ],
        "radio": [
            {"name": "dj.mp3", "source": "publish", "source_password": keys["/api/radio/dj.mp3"]},
        ],
        "relay": [
            {"name": "model", "upstreams": ["http://127.0.0.1:9/v1"], "token": keys["/api/relays/model"]}
        ],
    }
    # What was exported is a configuration, whose tables come before those that were made.
    with changing_server(tmp_path, DATA + exported) as server:
        assert server.states()["live/room"] == "idle"
        assert server.ask("DELETE", "/api/live/room").status_code == 409
        # Once the file has them no more, those that were made are there.
        assert server.reload(DATA) == []
        assert server.states()["live/room"] == "idle"
        assert server.ask("DELETE", "/api/live/room").status_code == 204
        assert "live/room" not in server.states()


def test_a_table_whose_file_has_gone_is_said_in_health_and_costs_nothing_else(tmp_path: Path) -> None:
    film = tmp_path / "film.mp4"
    film.write_bytes(b"x")
    with changing_server(tmp_path) as server:
        assert server.ask("PUT", "/api/live/film", {"source": str(film)}).status_code == 201
        assert server.ask("PUT", "/api/live/room", PUBLISHED).status_code == 201
    film.unlink()
    with changing_server(tmp_path) as server:
        assert server.states() == {"live/room": "idle"}
        assert "live/film" in server.ask("GET", "/health").json()["troubles"]["records"]
        assert server.ask("DELETE", "/api/live/film").status_code == 204
        assert "troubles" not in server.ask("GET", "/health").json()


def test_a_damaged_record_book_is_set_aside_and_said_in_health(tmp_path: Path) -> None:
    with changing_server(tmp_path) as server:
        assert server.ask("PUT", "/api/live/room", PUBLISHED).status_code == 201
    (tmp_path / "data" / "records.sqlite").write_bytes(os.urandom(8192))
    with changing_server(tmp_path) as server:
        assert "aside" in server.ask("GET", "/health").json()["troubles"]["records"]
        assert server.ask("PUT", "/api/live/room", PUBLISHED).status_code == 201


def test_requests_at_once_leave_one_of_their_tables_whole(tmp_path: Path) -> None:
    with changing_server(tmp_path) as server:

        def put(number: int) -> int:
            body = {**PUBLISHED, "publish_key": f"a-key-of-number-{number}", "dvr": f"{number}m"}
            return server.ask("PUT", "/api/live/room", body).status_code

        with ThreadPoolExecutor(8) as threads:
            statuses = list(threads.map(put, range(1, 9)))
        assert sorted(statuses) == [200] * 7 + [201]
        table = server.ask("GET", "/api/live/room?reveal").json()
        number = table["dvr"].removesuffix("m")
        assert table["publish_key"] == f"a-key-of-number-{number}"
    script = "import sqlite3, sys; print(*sqlite3.connect(sys.argv[1]).execute('SELECT value FROM records'))"
    book = str(tmp_path / "data" / "records.sqlite")
    words = [sys.executable, "-c", script, book]
    stored = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    assert f"a-key-of-number-{number}" in stored
    assert json.loads(stored.partition("'")[2].rpartition("'")[0])["dvr"] == f"{number}m"
