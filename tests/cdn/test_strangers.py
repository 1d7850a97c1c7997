"""Strangers who come through an nginx on the same machine, which makes all of them look like this machine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.cdn.caches import running
from tests.conftest import ServerProcess, start_server
from tests.copied_channel import copied_channel
from tests.keys import BEARER
from tests.waiting import wait_for

PATIENCE_SECONDS = 120.0
CAPTION = "WEBVTT\n\n00:00.000 --> 00:09.000\nhacked\n"
TEXT = """
[server]
port = 0

[library]
path = "."

[[live]]
name = "other"
source = "publish"
publish_key = "of-the-other"

[[radio]]
name = "talk.mp3"
source = "publish"
source_password = "sesame"
"""

CHANGES: list[tuple[str, str, dict[str, Any]]] = [
    ("POST", "/live/talk/metadata", {"json": {"class": "hacked"}}),
    ("POST", "/live/talk/captions/en", {"content": CAPTION, "headers": {"content-type": "text/vtt"}}),
    ("POST", "/live/talk/end", {}),
    ("POST", "/live/talk/start", {}),
    ("GET", "/admin/metadata?mode=updinfo&mount=/radio/talk.mp3&song=hacked", {}),
    ("PUT", "/radio/talk.mp3", {"content": b"\xff\xfb", "headers": {"content-type": "audio/mpeg"}}),
]

DISGUISES: list[dict[str, str]] = [
    {},
    {"x-forwarded-for": "127.0.0.1"},
    {"forwarded": 'for="[::1]";host=localhost'},
    {"x-real-ip": "127.0.0.1", "origin": "http://localhost"},
    {"authorization": "Bearer null"},
    {"authorization": "Basic Og=="},
    {"authorization": "Bearer of-the-other"},
]


@dataclass(frozen=True)
class Proxied:
    server: ServerProcess
    url: str

    def state(self) -> str:
        return str(httpx.get(f"{self.server.url}/health").json()["services"]["live/talk"])

    def playlists(self) -> str:
        names = ("source", "en")
        return "".join(httpx.get(f"{self.server.url}/live/talk/{name}/media.m3u8").text for name in names)


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxied]:
    folder = tmp_path_factory.mktemp("origin")
    talk = copied_channel("talk", "segment_duration = 1.0", 'captions = ["en"]')
    (folder / "headwater.toml").write_text(TEXT + talk)
    server = start_server(cwd=folder)
    try:
        with running("plain", server.url, tmp_path_factory.mktemp("nginx")) as nginx:
            one = Proxied(server, f"http://127.0.0.1:{nginx.address[1]}")
            wait_for(lambda: one.state() == "live", "the channel")
            yield one
    finally:
        server.stop()


def ask(url: str, method: str, target: str, given: dict[str, Any], fields: dict[str, str]) -> httpx.Response:
    headers = {**given.get("headers", {}), "host": "stream.example", **fields}
    with httpx.Client(timeout=PATIENCE_SECONDS) as client:
        return client.request(method, url + target, **{**given, "headers": headers})


@pytest.mark.clause("Metadata is updated with the source's password", "CWE-290")
@pytest.mark.parametrize("fields", DISGUISES, ids=lambda fields: json.dumps(fields) if fields else "nothing")
def test_nobody_changes_anything_without_a_key(proxied: Proxied, fields: dict[str, str]) -> None:
    """``proxy_pass`` alone: the peer is 127.0.0.1, and so is Host."""

    def attempt(change: tuple[str, str, dict[str, Any]]) -> int:
        return ask(proxied.url, *change, fields).status_code

    # At once, as answers to wrong keys are held back, each longer than the one before.
    with ThreadPoolExecutor(len(CHANGES)) as executor:
        statuses = executor.map(attempt, CHANGES)
    answers = {
        f"{method} {target}": status for (method, target, _), status in zip(CHANGES, statuses, strict=True)
    }
    # Fetch §3.2: a page's own origin isn't the name that nginx asks under.
    refused = {403 if "origin" in fields else 401}
    if "authorization" in fields:
        # While the answer to a wrong key is held back, further short ones aren't even compared.
        refused.add(429)
    assert set(answers.values()) <= refused, answers
    assert proxied.state() == "live"
    assert "hacked" not in proxied.playlists()


def test_who_has_the_token_changes_it_through_the_same_proxy(proxied: Proxied) -> None:
    wanted = [201, 201, 200, 202]
    found = [ask(proxied.url, *change, BEARER).status_code for change in CHANGES[:4]]
    assert found == wanted
    wait_for(lambda: proxied.state() == "live", "the next event")
