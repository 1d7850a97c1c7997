"""What comes of a body after its answer: a short rest is read, and a long one isn't parsed any more."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.responses import PlainTextResponse

from origin.http1.limits import HttpLimits
from origin.http1.protocol import LATE_BYTES
from tests.conformance.conftest import Running, serving

HEAD = b"POST /nothing HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
NEXT = b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture
def refusing(tmp_path: Path) -> Iterator[Running]:
    with serving(
        PlainTextResponse("no", 404), tmp_path, "uvloop", HttpLimits(linger_seconds=30.0)
    ) as running:
        yield running


@pytest.mark.clause("RFC 9112 §9.3")
def test_another_request_may_follow_a_short_body_that_nobody_wanted(refusing: Running) -> None:
    with refusing.connect() as client:
        client.socket.sendall(HEAD)
        assert client.answer().status == 404
        client.socket.sendall(b"1\r\nx\r\n" * 1000 + b"0\r\n\r\n" + NEXT)
        assert client.answer().status == 404
        client.socket.sendall(NEXT)
        assert client.answer().status == 404


@pytest.mark.clause("RFC 9112 §9.6")
def test_a_long_body_that_nobody_wanted_is_dropped_and_ends_the_connection(refusing: Running) -> None:
    with refusing.connect() as client:
        client.socket.sendall(HEAD)
        assert client.answer().status == 404
        client.socket.sendall(b"1\r\nx\r\n" * (LATE_BYTES + 1000))
        # What isn't parsed is no fault any more, and no request either.
        client.socket.sendall(b"no chunk\r\n" + NEXT)
        assert client.socket.recv(100) == b""
