"""Requests that publish timed metadata to a live channel."""

from __future__ import annotations

import json

from tests.conformance.handfed import HandFed
from tests.conformance.raw import Answer, Client
from tests.keys import BEARER_LINE

JSON = "Content-Type: application/json"

LOCAL = "Host: 127.0.0.1"


def post(fed: HandFed, body: object, *fields: str, target: str = "/live/test/metadata") -> Answer:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = [f"POST {target} HTTP/1.1", LOCAL, f"Content-Length: {len(data)}"]
    lines = [*head, *(fields or (JSON, BEARER_LINE)), "", ""]
    with Client(fed.address) as client:
        client.send("\r\n".join(lines).encode() + data)
        return client.answer()
