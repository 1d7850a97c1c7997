"""Heads of requests that are plain enough to be answered on the connection, and those that aren't."""

from __future__ import annotations

import pytest

from origin.answers.request import RequestFields
from origin.http1.limits import HttpLimits
from origin.http1.request_head import (
    RequestLine,
    part_range,
    read_fields,
    read_line,
)


def read_plain(data: bytes) -> tuple[RequestLine, RequestFields] | None:
    """Read a head as the shortcuts do."""
    line, end, block = data.partition(b"\r\n")
    request, fields = read_line(line + end, HttpLimits()), read_fields(block, HttpLimits())
    return None if request is None or fields is None else (request, fields)


HEAD = b"GET /media/a.mp4 HTTP/1.1\r\nHost: a\r\n"


@pytest.mark.clause("RFC 9112 §2.2", "RFC 9112 §3", "RFC 9112 §5", "RFC 9112 §6")
@pytest.mark.parametrize(
    "data",
    [
        HEAD,
        HEAD + b"\r\nGET",
        HEAD + b"\r\n" + HEAD + b"\r\n",
        HEAD.replace(b"1.1", b"1.0") + b"\r\n",
        HEAD.replace(b"/media", b"http://a/media") + b"\r\n",
        HEAD.replace(b"GET", b"POST") + b"\r\n",
        HEAD.replace(b"GET", b"get") + b"\r\n",
        HEAD.replace(b"Host: a\r\n", b"") + b"\r\n",
        HEAD.replace(b"a.mp4", b"a.mp4#b") + b"\r\n",
        HEAD.replace(b"a.mp4", b"\xc3\xa4.mp4") + b"\r\n",
        HEAD + b"Host: a\r\n\r\n",
        HEAD + b"Content-Length: 0\r\n\r\n",
        HEAD + b"TRANSFER-ENCODING: chunked\r\n\r\n",
        HEAD + b"Connection: close, te\r\n\r\n",
        HEAD + b"Upgrade: websocket\r\n\r\n",
        HEAD + b"Expect: 100-continue\r\n\r\n",
        HEAD + b"X: a\r\n b\r\n\r\n",
        HEAD + b"X : a\r\n\r\n",
        HEAD + b"X: a\0\r\n\r\n",
        HEAD + b"X: a\nY: b\r\n\r\n",
        HEAD + b"X: a\rY: b\r\n\r\n",
        HEAD.replace(b"/media", b"/" + b"x" * 9000) + b"\r\n",
        HEAD + b"X: y\r\n" * 101 + b"\r\n",
    ],
)
def test_what_is_not_plain_is_left_to_the_parser(data: bytes) -> None:
    """Everything that is more than one whole, right GET or HEAD without a body."""
    assert read_plain(data) is None


@pytest.mark.clause("RFC 9112 §3", "RFC 9112 §5.1")
def test_a_plain_head_is_read_as_it_is() -> None:
    data = b"HEAD /media/a.mp4?x=1 HTTP/1.1\r\nhost:a:80\r\nRANGE: \tbytes=0-1 \r\nIf-Match: *\r\n\r\n"
    head = read_plain(data)
    assert head is not None
    request, fields = head
    assert request == RequestLine("HEAD", b"/media/a.mp4?x=1")
    assert fields.fields == ((b"host", b"a:80"), (b"range", b"bytes=0-1"), (b"if-match", b"*"))
    assert (fields.has_range, fields.is_conditional) == (True, True)


@pytest.mark.clause("RFC 9110 §14.1.1")
@pytest.mark.parametrize(
    ("lines", "rest", "span"),
    [
        (b"Range: bytes=5-9\r\nX: y\r\n", b"X: y\r\n", (5, 9)),
        (b"X: y\r\nrange: bytes=5-\r\n", b"X: y\r\n", (5, None)),
        (b"Range: bytes=-5\r\n", None, None),
        (b"Range: bytes=\r\n", None, None),
        (b"Range: bytes=1-2,4-5\r\n", None, None),
        (b"Range: bytes=+1-2\r\n", None, None),
        (b"Range: bytes=1_0-20\r\n", None, None),
        (b"Range: bytes=1-2 \r\n", None, None),
        (b"Range: bytes=\xd9\xa3-5\r\n", None, None),
        (b"Range: bytes=" + b"1" * 40 + b"-\r\n", None, None),
        (b"X-Range: bytes=5-9\r\n", None, None),
        (b"Range: bytes=5-9", None, None),
    ],
)
def test_a_plain_range_is_taken_out_of_a_head(
    lines: bytes, rest: bytes | None, span: tuple[int, int | None] | None
) -> None:
    """What isn't plain stays, for those who know all of it."""
    data = HEAD + lines + b"\r\n"
    if rest is None and lines.endswith(b"9"):
        # The line's end isn't there: what is left is no head.
        assert read_plain(part_range(data[:-2])[0]) is None
        return
    assert part_range(data) == (data if rest is None else HEAD + rest + b"\r\n", span)
