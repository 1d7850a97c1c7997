"""What a client is told without a key, and with a wrong one, at each place where keys are asked for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.conftest import ServerProcess, start_server
from tests.keys import ADMIN_TOKEN

PLACES = (
    ("GET", "/api/live"),
    ("POST", "/api/sign"),
    ("GET", "/api/viewers"),
    ("POST", "/events/chat"),
    ("GET", "/events/secret"),
    ("PUT", "/live/studio/ingest"),
    ("POST", "/live/studio/end"),
    ("POST", "/live/studio/metadata"),
    ("POST", "/live/studio/captions/en"),
    ("GET", "/radio/closed.mp3"),
    ("PUT", "/radio/source.mp3"),
    ("GET", "/admin/stats"),
    ("GET", "/admin/metadata?mode=updinfo&song=x&mount=/radio/source.mp3"),
)
"""Method and address of everything that asks for a key, a password or a token."""

CONFIGURATION = f"""
[server]
admin_token = "{ADMIN_TOKEN}"
protected = ["api"]
[limits]
wrong_passwords = 1000
[access]
viewers_per_name = 1
[[events]]
name = "chat"
access = "signed"
[[events]]
name = "secret"
read_key = "a-read-key-000000"
[[live]]
name = "studio"
source = "publish"
[[radio]]
name = "source.mp3"
source = "publish"
[[radio]]
name = "closed.mp3"
source = "publish"
listener_password = "a-listener-password"
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    path: Path = tmp_path_factory.mktemp("keys") / "headwater.toml"
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(CONFIGURATION)
    with start_server("--config", str(path), "--port", "0") as one:
        yield one


@pytest.mark.parametrize(("method", "address"), PLACES, ids=lambda one: one)
def test_a_missing_key_is_said_to_be_needed_and_a_wrong_one_to_be_wrong(
    server: ServerProcess, method: str, address: str
) -> None:
    missing = httpx.request(method, server.url + address, timeout=120)
    assert missing.status_code == 401
    assert not missing.text.startswith("wrong key")
    assert "password" in missing.text or "is needed" in missing.text
    for headers in ({"authorization": "Bearer a-wrong-key-000000"}, {}):
        url = httpx.URL(server.url + address)
        if not headers:
            url = url.copy_add_param("key", "a-wrong-key-000000")
        wrong = httpx.request(method, url, headers=headers, timeout=120)
        assert (wrong.status_code, wrong.text) == (401, f"wrong key: {missing.text}")
        assert wrong.headers["www-authenticate"] == missing.headers["www-authenticate"]
