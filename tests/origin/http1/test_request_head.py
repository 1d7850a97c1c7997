import pytest

from origin.http1.request_head import HeadEnd, has_unframed_body

HEAD = b"SOURCE /radio/x HTTP/1.0\r\nContent-Type: audio/mpeg\r\n\r\n"


BODY = b"\xff\xfb\r\n\r\naudio\r\n\r"


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, len(HEAD), len(HEAD) + 3, 100])
def test_heads_ends_are_found_however_they_are_cut(size: int) -> None:
    stream = HEAD + BODY + b"\n" + HEAD
    finder, ends = HeadEnd(), []
    for place in range(0, len(stream), size):
        piece, start = stream[place : place + size], 0
        while start < len(piece):
            start = finder.find(piece, start)
            if stream[: place + start].endswith(b"\r\n\r\n"):
                ends.append(place + start)
    first = len(HEAD)
    assert ends == [first, first + 6, first + len(BODY) + 1, len(stream)]


# RFC 9112 §6.3: without these fields a request has no body, except where Icecast's clients send one.
@pytest.mark.parametrize(
    ("method", "path", "fields", "expected"),
    [
        ("SOURCE", "/anything", [], True),
        ("PUT", "/radio/x", [(b"Expect", b"100-continue")], True),
        ("PUT", "/radio/x", [(b"Content-Length", b"5")], False),
        ("PUT", "/radio/x", [(b"transfer-encoding", b"chunked")], False),
        ("PUT", "/media/x", [(b"Expect", b"100-continue")], False),
        ("POST", "/radio/x", [], False),
    ],
)
def test_only_sources_have_a_body_without_framing(
    method: str, path: str, fields: list[tuple[bytes, bytes]], expected: bool
) -> None:
    assert has_unframed_body(method, path, fields) is expected
