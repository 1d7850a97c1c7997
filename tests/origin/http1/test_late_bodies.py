"""What comes of a body after its answer: a short rest is read, and a long one isn't parsed any more."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.responses import PlainTextResponse

from origin.http1.limits import HttpLimits
from origin.http1.protocol import LATE_BYTES
from tests.conformance.conftest import Running, serving
from tests.conformance.raw import Answer

POST = b"POST /nothing HTTP/1.1\r\nHost: a\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
NEXT = b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture
def refusing(tmp_path: Path) -> Iterator[Running]:
    with serving(
        PlainTextResponse("no", 404), tmp_path, "uvloop", HttpLimits(linger_seconds=30.0)
    ) as running:
        yield running


def is_last(answer: Answer) -> bool:
    return ("connection", "close") in answer.fields


@pytest.mark.clause("RFC 9112 §9.3")
def test_another_request_may_follow_a_short_body_that_nobody_wanted(refusing: Running) -> None:
    with refusing.connect() as client:
        client.socket.sendall(POST + b"Content-Length: %d\r\n\r\n" % LATE_BYTES)
        answer = client.answer()
        assert (answer.status, is_last(answer)) == (404, False)
        client.socket.sendall(b"x" * LATE_BYTES + NEXT)
        assert client.answer().status == 404
        client.socket.sendall(NEXT)
        assert client.answer().status == 404


@pytest.mark.clause("RFC 9112 §9.3")
def test_another_request_may_follow_a_body_that_came_before_its_answer(refusing: Running) -> None:
    with refusing.connect() as client:
        client.socket.sendall(CHUNKED + b"1\r\nx\r\n" * 10 + b"0\r\n\r\n" + NEXT)
        assert not is_last(client.answer())
        assert client.answer().status == 404


@pytest.mark.clause("RFC 9112 §9.6")
@pytest.mark.parametrize("head", [CHUNKED, POST + b"Content-Length: %d\r\n\r\n" % (LATE_BYTES + 1)])
def test_the_answer_before_a_long_body_or_one_of_unknown_length_says_that_it_is_the_last(
    refusing: Running, head: bytes
) -> None:
    with refusing.connect() as client:
        client.socket.sendall(head)
        answer = client.answer()
        assert (answer.status, is_last(answer)) == (404, True)
        # What isn't parsed is no fault any more, and no request either.
        client.socket.sendall(b"no chunk\r\n" * 10_000 + NEXT)
        assert client.socket.recv(100) == b""
