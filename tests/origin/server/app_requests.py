"""Requests to a server of its own process, and samples of its metrics."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from email.message import Message
from typing import Any

from tests.conftest import ServerProcess


def fetch(url: str, **headers: str) -> tuple[int, Message, bytes]:
    request = urllib.request.Request(url, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


def fetch_json(url: str) -> Any:
    status, headers, body = fetch(url)
    assert (status, headers["content-type"]) == (200, "application/json")
    return json.loads(body)


def samples(server: ServerProcess) -> dict[str, float]:
    status, headers, body = fetch(f"{server.url}/metrics")
    assert status == 200
    assert headers["content-type"].startswith("text/plain")
    rows = [line.rpartition(" ") for line in body.decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in rows}


def live_is_on(server: ServerProcess) -> bool:
    return bool(fetch_json(f"{server.url}/api/live")[0]["state"] == "live")
