"""Clients with JSON Web Tokens that are revoked."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Any

import httpx
import jwt

from tests.conftest import ServerProcess
from tests.keys import ADMIN_TOKEN
from tests.patience import CLIENT_SECONDS
from tests.waiting import wait_for

SECRET = "a-secret-that-only-the-backend-knows"
ADMIN = {"authorization": f"Bearer {ADMIN_TOKEN}"}
PUBLISH_TOKEN = "a-publish-token-0"
CONFIGURATION = f"""
[access]
keys = ["2026-11:a-secret-of-november"]
jwt_keys = ["HS256:{SECRET}"]

[[events]]
name = "signed"
access = "signed"
publish_token = "{PUBLISH_TOKEN}"

[library]
path = "library"
access = "signed"
"""


def token(**claims: Any) -> str:
    told = {"exp": int(time.time()) + 3600, "paths": ["/events/signed", "/media/film.mp4"]} | claims
    return jwt.encode(told, SECRET, "HS256")


def revoke(server: ServerProcess, headers: dict[str, str] = ADMIN, **body: Any) -> httpx.Response:
    return httpx.post(f"{server.url}/api/revocations", json=body, headers=headers, timeout=CLIENT_SECONDS)


def get(server: ServerProcess, path: str, bearer: str) -> httpx.Response:
    headers = {"authorization": f"Bearer {bearer}"}
    return httpx.get(f"{server.url}{path}", headers=headers, timeout=CLIENT_SECONDS)


def publish(server: ServerProcess, text: str) -> None:
    headers = {"authorization": f"Bearer {PUBLISH_TOKEN}"}
    answer = httpx.post(f"{server.url}/events/signed", content=text, headers=headers, timeout=CLIENT_SECONDS)
    assert answer.status_code == 200


class Reader:
    """A reader of server-sent events with a token."""

    def __init__(self, server: ServerProcess, bearer: str, path: str = "/events/signed") -> None:
        self._request = f"{server.url}{path}", bearer
        self.lines: list[str] = []
        self.status = 0
        self.ended = 0.0
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        wait_for(lambda: self.lines or self.ended, "the first line")
        assert self.status == 200

    def _read(self) -> None:
        url, bearer = self._request
        headers = {"accept": "text/event-stream", "authorization": f"Bearer {bearer}"}
        with (
            contextlib.suppress(httpx.HTTPError),
            httpx.stream("GET", url, headers=headers, timeout=CLIENT_SECONDS) as answer,
        ):
            self.status = answer.status_code
            for line in answer.iter_lines():
                self.lines.append(line)
        self.ended = time.monotonic()

    def has(self, text: str) -> bool:
        return f"data: {text}" in self.lines
