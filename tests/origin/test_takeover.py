import pytest

from origin.takeover import HeadEnd, has_endless_body

HEAD = b"SOURCE /radio/x HTTP/1.0\r\nContent-Type: audio/mpeg\r\n\r\n"


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, len(HEAD), len(HEAD) + 3])
def test_a_heads_end_is_found_however_it_is_cut(size: int) -> None:
    stream = HEAD + b"\xff\xfb\r\n\r\naudio"
    finder, taken = HeadEnd(), 0
    for start in range(0, len(stream), size):
        piece = stream[start : start + size]
        end = finder.find(piece)
        taken += len(piece) if end is None else end
        if end is not None:
            break
    assert taken == len(HEAD)


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
    assert has_endless_body(method, path, fields) is expected
