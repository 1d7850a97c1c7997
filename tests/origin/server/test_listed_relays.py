"""``/api/relays``: who is told of which relay, and that nobody is told of upstream servers and keys."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from origin.access.address_tokens import SigningKeys
from tests.conftest import ServerProcess, start_server
from tests.keys import ADMIN_TOKEN
from tests.patience import CLIENT_SECONDS

KEY = "2026-11:a-secret-of-the-tests"
SECRETS = [f"c4nary-{number}-of-a-relay" for number in range(6)]
CONFIG = f"""
[server]
port = 0
{{server}}
[access]
keys = ["{KEY}"]
[[events]]
name = "plain"
[[events]]
name = "answers"
relay = "http://user:{SECRETS[0]}@upstream-0.example/v1/chat/completions"
relay_key = "{SECRETS[1]}"
publish_token = "{SECRETS[2]}"
read_key = "{SECRETS[3]}"
[[events]]
name = "signed"
access = "signed"
relay = "http://upstream-1.example/v1/chat/completions"
publish_token = "{SECRETS[2]}"
[[relay]]
name = "assistant"
upstreams = ["http://upstream-2.example/v1", "http://upstream-3.example/v1"]
relay_keys = ["{SECRETS[4]}", "{SECRETS[5]}"]
token = "{SECRETS[2]}"
models = {{{{ "small" = "upstream-model-7" }}}}
{{limits}}
"""

ANSWERS = {"name": "answers", "url": "/relay/answers/v1", "kept": True, "events": "/events/answers"}
SIGNED = {"name": "signed", "url": "/relay/signed/v1", "kept": True, "events": "/events/signed"}
ASSISTANT = {"name": "assistant", "url": "/relay/assistant/v1", "kept": True, "events": None}


@pytest.fixture
def started(tmp_path: Any) -> Iterator[Any]:
    servers: list[ServerProcess] = []

    def start(server: str = "", limits: str = "") -> ServerProcess:
        path = tmp_path / "headwater.toml"
        path.write_text(CONFIG.format(server=server, limits=limits))
        path.chmod(0o600)
        servers.append(start_server(cwd=tmp_path))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


def asked(server: ServerProcess, path: str = "/api/relays", token: str = "") -> httpx.Response:
    headers = {"authorization": f"Bearer {token}"} if token else {}
    return httpx.get(f"{server.url}{path}", headers=headers, timeout=CLIENT_SECONDS)


def by_name(answer: httpx.Response) -> list[dict[str, Any]]:
    assert answer.headers["cache-control"] == "no-store"
    return sorted(answer.json(), key=lambda one: str(one["name"]))


@pytest.mark.promise("/api/relays")
def test_everybody_sees_names_and_addresses_and_neither_keys_nor_upstream_servers(started: Any) -> None:
    server = started()
    told = asked(server)
    assert by_name(told) == [ANSWERS, ASSISTANT]
    whole = asked(server, token=ADMIN_TOKEN)
    for answer in (told, whole):
        assert "upstream" not in answer.text
        assert [one for one in SECRETS if one in answer.text] == []


def test_a_relay_whose_channel_needs_a_token_is_listed_to_who_has_one(started: Any) -> None:
    server = started()
    own = SigningKeys([KEY]).sign("/events/signed", int(time.time()) + 3600)
    based = {key: f"/t/{own}{one}" if str(one).startswith("/") else one for key, one in SIGNED.items()}
    assert based in asked(server, f"/t/{own}/api/relays").json()
    other = SigningKeys([KEY]).sign("/events/plain", int(time.time()) + 3600)
    assert "signed" not in [one["name"] for one in asked(server, f"/t/{other}/api/relays").json()]


def test_where_lists_are_protected_the_administrator_alone_sees_them(started: Any) -> None:
    server = started('protected = ["api"]')
    assert asked(server).status_code == 401
    # Who may ask a relay isn't an administrator.
    assert asked(server, token=SECRETS[2]).status_code == 401
    assert by_name(asked(server, token=ADMIN_TOKEN))[:2] == [ANSWERS, ASSISTANT]


@pytest.mark.promise("limits.created_channels")
def test_a_server_that_keeps_no_answers_says_so(started: Any) -> None:
    server = started(limits="[limits]\ncreated_channels = 0")
    assert [one["kept"] for one in by_name(asked(server))] == [False, False]
