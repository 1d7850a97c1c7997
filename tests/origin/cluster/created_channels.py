"""Clients of event channels that are made at run time on the nodes of a cluster."""

from __future__ import annotations

import contextlib
from typing import Any

import httpx

from tests.conftest import ServerProcess
from tests.keys import ADMIN_TOKEN

ADMIN = {"authorization": f"Bearer {ADMIN_TOKEN}"}

CONFIG = """
[limits]
created_channels = 5
created_channel_bytes = 1_048_576

[[events]]
name = "room/*"
create = "publish"
publish_token = "a-publish-token-of-rooms"
"""


def ask(
    one: ServerProcess, method: str, path: str, token: str | None = None, **options: Any
) -> httpx.Response:
    headers = ADMIN if token is None else {"authorization": f"Bearer {token}"}
    return httpx.request(method, f"{one.url}{path}", headers=headers, timeout=60, **options)


def make(one: ServerProcess, **wanted: Any) -> dict[str, str]:
    answer = ask(one, "POST", "/events", json=wanted)
    assert answer.status_code == 201, answer.text
    made: dict[str, str] = answer.json()
    return made


def publish(one: ServerProcess, name: str, token: str, text: str) -> str:
    answer = ask(one, "POST", f"/events/{name}", token, content=text.encode())
    assert answer.status_code == 200, answer.text
    (identity,) = answer.json()["ids"]
    assert isinstance(identity, str)
    return identity


def kept(one: ServerProcess, name: str, token: str, since: str = "") -> list[tuple[str, str]]:
    answer = ask(one, "GET", f"/events/{name}?since={since}", token)
    assert answer.status_code in (200, 204), answer.text
    return [(each["id"], each["data"]) for each in answer.json()] if answer.content else []


def read_lines(answer: httpx.Response, lines: list[str]) -> None:
    with contextlib.suppress(httpx.HTTPError):
        lines.extend(answer.iter_lines())


def last(one: ServerProcess, name: str, made: dict[str, str]) -> str:
    found = kept(one, name, made["read_token"])
    return found[-1][0] if found else ""


def status(one: ServerProcess, name: str, token: str | None = None) -> int:
    return ask(one, "GET", f"/events/{name}?since=", token).status_code
