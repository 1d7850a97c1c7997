"""Event channels that are made at run time on a whole server: its workers, a restart, a kill, a full disk."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from websockets.sync.client import connect

from origin.access.address_tokens import SigningKeys
from tests.conftest import ServerProcess, start_server
from tests.keys import ADMIN_TOKEN
from tests.patience import CLIENT_SECONDS
from tests.waiting import wait_for

SIGNING, JWT_SECRET = "2026-11:a-secret-of-november", "a-secret-that-only-the-backend-knows"
ROOM_TOKEN = "a-publish-token-of-rooms"
CONFIGURATION = f"""
[access]
keys = ["{SIGNING}"]
jwt_keys = ["HS256:{JWT_SECRET}"]

[[events]]
name = "signed"
access = "signed"
publish_token = "a-publish-token-0"

[[events]]
name = "room/*"
create = "publish"
publish_token = "{ROOM_TOKEN}"
history = "1h"
keep = 5
allow_origin = "https://rooms.example"
"""


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[..., ServerProcess]]:
    servers: list[ServerProcess] = []

    def start(workers: int = 1, **options: Any) -> ServerProcess:
        text = f'[server]\nport = 0\nworkers = {workers}\ndata = "data"\n{CONFIGURATION}'
        (tmp_path / "headwater.toml").write_text(text)
        servers.append(start_server(cwd=tmp_path, **options))
        return servers[-1]

    yield start
    for server in servers:
        if server.process.poll() is None:
            server.stop(signal.SIGKILL)


def ask(
    server: ServerProcess, method: str, path: str, token: str = ADMIN_TOKEN, **options: Any
) -> httpx.Response:
    """Send a request over a connection of its own, which any worker may accept."""
    headers = {**({"authorization": f"Bearer {token}"} if token else {}), **options.pop("headers", {})}
    return httpx.request(method, f"{server.url}{path}", headers=headers, timeout=CLIENT_SECONDS, **options)


def publish(server: ServerProcess, name: str, token: str, text: str) -> str:
    fields = {"content-type": "text/plain"}
    answer = ask(server, "POST", f"/events/{name}", token, headers=fields, content=text)
    assert answer.status_code == 200, answer.text
    identity: str = answer.json()["ids"][0]
    return identity


def texts(server: ServerProcess, name: str, token: str = "", since: str = "") -> list[str]:
    answer = ask(server, "GET", f"/events/{name}", token, params={"since": since})
    assert answer.status_code in (200, 204), answer.text
    return [one["data"] for one in (answer.json() if answer.content else [])]


@pytest.mark.promise("POST /events", "/events?channel=A&channel=room/*", "server.workers")
def test_a_channel_is_the_same_at_all_workers(started: Callable[..., ServerProcess]) -> None:
    server = started(2)
    made = [ask(server, "POST", "/events", json={"name": f"made/{number}"}).json() for number in range(8)]
    for one in made:
        for _ in range(4):
            publish(server, one["name"], one["publish_token"], "hello")
            assert set(texts(server, one["name"], one["read_token"])) == {"hello"}
            assert ask(server, "GET", f"/events/{one['name']}").json()["keep"] == 1000
        query = {"channel": ["made/*"], "since": ""}
        answer = ask(server, "GET", "/events", one["read_token"], params=query)
        assert {event["channel"] for event in answer.json()} == {one["name"]}
    fields = {"authorization": f"Bearer {ADMIN_TOKEN}"}
    for _ in range(4):
        address = f"{server.url.replace('http', 'ws')}/events?channel=made/1"
        with connect(address, additional_headers=fields, open_timeout=CLIENT_SECONDS) as socket:
            assert json.loads(socket.recv(CLIENT_SECONDS))["channel"] == "made/1"
            socket.send(json.dumps({"subscribe": "made/2"}))
            told = [json.loads(socket.recv(CLIENT_SECONDS)) for _ in range(8)]
            assert {"subscribed": "made/2", "channels": ["made/2"]} in told
            assert "made/2" in {one.get("channel") for one in told}
    assert ask(server, "DELETE", "/events/made/0").status_code == 204
    assert {ask(server, "GET", "/events/made/0", "").status_code for _ in range(8)} == {410}
    assert server.stop() == 0


@pytest.mark.promise("events.create", "events.history")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_channels_and_their_events_survive_a_restart(
    started: Callable[..., ServerProcess], number: int
) -> None:
    server = started()
    made = ask(server, "POST", "/events", json={"name": "talk", "history": "1h", "keep": 9}).json()
    first = publish(server, "talk", made["publish_token"], "one")
    publish(server, "talk", made["publish_token"], "two")
    publish(server, "room/1", ROOM_TOKEN, "three")
    gone = ask(server, "POST", "/events", json={"history": "1h"}).json()
    publish(server, gone["name"], gone["publish_token"], "a secret text")
    folder = server.process.args and Path(os.readlink(f"/proc/{server.process.pid}/cwd")) / "data"
    assert isinstance(folder, Path)

    def has_secret() -> bool:
        for path in folder.rglob("*.events"):
            # Files and folders go meanwhile.
            with contextlib.suppress(FileNotFoundError):
                if b"a secret text" in path.read_bytes():
                    return True
        return False

    assert has_secret()
    assert ask(server, "DELETE", f"/events/{gone['name']}").status_code == 204
    wait_for(lambda: not has_secret(), "the deletion of the events of a deleted channel")
    server.stop(number)
    again = started()
    assert texts(again, "talk", made["read_token"], first) == ["two"]
    assert texts(again, "room/1") == ["three"]
    assert ask(again, "GET", f"/events/{gone['name']}").status_code == 410
    assert ask(again, "GET", "/events/talk", "").status_code == 401
    assert again.stop() == 0


def test_a_channel_for_those_with_a_token_needs_it_among_several_too(
    started: Callable[..., ServerProcess],
) -> None:
    server = started()
    publish(server, "signed", "a-publish-token-0", "hello")
    query = {"channel": ["signed"], "since": ""}
    # As at its own address.
    assert ask(server, "GET", "/events/signed", "").status_code == 403
    assert ask(server, "GET", "/events", "", params=query).status_code == 403
    assert ask(server, "GET", "/events", ADMIN_TOKEN, params=query).status_code == 403
    assert ask(server, "GET", "/events", "", params={"channel": "*", "since": ""}).status_code == 204
    token = SigningKeys([SIGNING]).sign("/events/signed", int(time.time()) + 60)
    found = ask(server, "GET", "/events", "", params={**query, "token": token})
    assert [one["data"] for one in found.json()] == ["hello"]
    assert ask(server, "GET", f"/t/{token}/events", "", params=query).json() == found.json()
    other = SigningKeys([SIGNING]).sign("/events/other", int(time.time()) + 60)
    assert ask(server, "GET", "/events", "", params={**query, "token": other}).status_code == 403
    assert server.stop() == 0


def test_a_backends_token_makes_channels_and_no_token_is_logged(
    started: Callable[..., ServerProcess],
) -> None:
    server = started(env={"HEADWATER_LOG_REQUESTS": "true", "HEADWATER_LOG_LEVEL": "debug"})
    claims = {"exp": int(time.time()) + 60, "sub": "anna", "create": ["room/*"]}
    token = jwt.encode(claims, JWT_SECRET, "HS256")
    made = ask(server, "POST", "/events", token, json={"name": "room/*"}).json()
    assert ask(server, "GET", f"/events/{made['name']}", token).json()["creator"] == "anna"
    query = {"since": "", "key": made["read_token"]}
    assert ask(server, "GET", f"/events/{made['name']}", "", params=query).status_code == 204
    several = {"channel": [made["name"]], **query}
    assert ask(server, "GET", "/events", "", params=several).status_code == 204
    page = {"origin": "https://rooms.example"}
    answer = ask(server, "GET", f"/events/{made['name']}", "", params=query, headers=page)
    assert answer.headers["access-control-allow-origin"] == "https://rooms.example"
    site = {"origin": "https://elsewhere.example", "sec-fetch-site": "cross-site"}
    assert ask(server, "POST", "/events", json={}, headers=site).status_code == 403
    for number in range(8):
        assert ask(server, "POST", "/events", f"wrong-{number}").status_code in (401, 429)
    assert server.stop() == 0
    secrets = (token, made["read_token"], made["publish_token"])
    assert not any(secret in server.text() for secret in secrets)
    assert "/events" in server.text()


def test_a_full_disk_refuses_channels_and_loses_none(started: Callable[..., ServerProcess]) -> None:
    server = started()
    kept = [ask(server, "POST", "/events", json={"name": f"kept/{number}"}).json() for number in range(3)]
    size = 1 << 10
    # setrlimit(2): a write beyond the limit fails with EFBIG, where SIGXFSZ is ignored as Python does.
    _, hard = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (size, hard))
    refused = ask(server, "POST", "/events", json={"name": "refused"})
    assert (refused.status_code, "retry-after" in refused.headers) == (503, True)
    assert ask(server, "GET", "/events/refused").status_code == 404
    assert ask(server, "DELETE", "/events/kept/0").status_code == 503
    assert ask(server, "GET", "/events/kept/0").status_code == 410
    publish(server, "kept/1", kept[1]["publish_token"], "on")
    assert "created event channels" in ask(server, "GET", "/health").json()["troubles"]
    assert "headwater_created_event_channels 2.0" in ask(server, "GET", "/metrics").text
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (hard, hard))
    wait_for(
        lambda: ask(server, "POST", "/events", json={"name": "later"}).status_code in (201, 409),
        "a disk that takes channels again",
    )
    server.stop(signal.SIGKILL)
    again = started()
    statuses = {
        name: ask(again, "GET", f"/events/{name}").status_code
        for name in ("kept/0", "kept/1", "kept/2", "refused", "later")
    }
    assert statuses == {"kept/0": 410, "kept/1": 200, "kept/2": 200, "refused": 404, "later": 200}
    assert again.stop() == 0


def test_a_foreign_file_in_the_place_of_the_channels_stays_as_it_is(
    started: Callable[..., ServerProcess], tmp_path: Path
) -> None:
    file = tmp_path / "data" / "created_channels" / "channels.jsonl"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"somebody": "else's"}))
    server = started()
    assert ask(server, "POST", "/events").status_code == 503
    assert server.stop() == 0
    assert json.loads(file.read_text()) == {"somebody": "else's"}
