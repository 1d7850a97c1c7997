"""RFC 9110 and 9112 for the library's files, over a socket."""

from __future__ import annotations

import email
import email.policy
import socket
import subprocess
from pathlib import Path

import pytest

from tests.conformance.conftest import ETAG, FILM, MODIFIED, Running
from tests.conformance.raw import Answer, Client
from tests.programs import program
from tests.waiting import wait_for

SIZE = len(FILM)


@pytest.mark.clause("RFC 9110 §8.3", "RFC 9110 §8.6", "RFC 9110 §8.8")
def test_a_whole_file_has_its_length_type_and_validators(files_origin: Running) -> None:
    answer = files_origin.ask()
    assert (answer.status, answer.body) == (200, FILM)
    assert answer["content-length"] == str(SIZE)
    assert answer["content-type"] == "video/mp4"
    assert answer["etag"] == ETAG
    assert answer["last-modified"] == MODIFIED
    assert answer["accept-ranges"] == "bytes"
    assert answer["cache-control"] == "public, max-age=600"
    assert answer["x-content-type-options"] == "nosniff"
    assert "date" in answer
    assert "transfer-encoding" not in answer
    assert "vary" not in answer


@pytest.mark.clause("RFC 9110 §9.3.2", "RFC 9110 §14.2")
def test_head_has_the_fields_of_get_and_no_body(files_origin: Running) -> None:
    """With a Range too, and the connection goes on."""
    with files_origin.connect() as client:
        for fields in ((), ("Range: bytes=0-1",)):
            answer = client.ask("/media/film.mp4", *fields, method="HEAD")
            assert answer.status == 200
            assert answer["content-length"] == str(SIZE)
            assert answer["accept-ranges"] == "bytes"
            assert "content-range" not in answer
        assert client.ask("/media/small.mp3").body == b"0123456789"


@pytest.mark.clause("RFC 9110 §15.5.6", "RFC 9110 §9.1")
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_other_methods_are_not_allowed(files_origin: Running, method: str) -> None:
    answer = files_origin.ask("Content-Length: 0", method=method)
    assert answer.status == 405
    assert answer["allow"] == "GET, HEAD, OPTIONS"


@pytest.mark.clause("RFC 9110 §9.3.7", "RFC 9110 §9.1", "RFC 9110 §15.5.6")
def test_options_names_the_methods(files_origin: Running) -> None:
    answer = files_origin.ask(method="OPTIONS")
    assert answer.status == 204
    assert answer["allow"] == "GET, HEAD, OPTIONS"


@pytest.mark.clause("RFC 9110 §14.1.2", "RFC 9110 §15.3.7.1", "CVE-2017-7529")
@pytest.mark.parametrize(
    ("field", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=0-499", 0, 499),
        ("bytes=500-", 500, SIZE - 1),
        ("bytes=-1", SIZE - 1, SIZE - 1),
        ("bytes=-500", SIZE - 500, SIZE - 1),
        (f"bytes=-{SIZE + 1}", 0, SIZE - 1),
        ("BYTES=1-2", 1, 2),
        ("bytes=0-99999999999999999999999", 0, SIZE - 1),
        ("bytes=00000000000000000000007-8", 7, 8),
        ("bytes=0-" + "9" * 5000, 0, SIZE - 1),
        ("bytes=-" + "9" * 5000, 0, SIZE - 1),
        (f"bytes={SIZE - 1}-{SIZE + 5}", SIZE - 1, SIZE - 1),
        ("bytes=0-1, ,", 0, 1),
        (f"bytes=0-1,{SIZE}-", 0, 1),
        ("bytes=-0,3-4", 3, 4),
        ("bytes=0-10,5-20", 0, 20),
        ("bytes=0-1,4-5", 0, 5),
    ],
)
def test_one_range_is_exactly_its_bytes(files_origin: Running, field: str, first: int, last: int) -> None:
    """Ranges that overlap or lie close are one."""
    answer = files_origin.ask(f"Range: {field}")
    assert answer.status == 206
    assert answer["content-range"] == f"bytes {first}-{last}/{SIZE}"
    assert answer["content-length"] == str(last - first + 1)
    assert answer["content-type"] == "video/mp4"
    assert answer["accept-ranges"] == "bytes"
    assert answer["etag"] == ETAG
    assert answer.body == FILM[first : last + 1]


@pytest.mark.clause("RFC 9110 §14.2", "CVE-2017-7529")
@pytest.mark.parametrize(
    "field",
    [
        "items=0-1",
        "bytes=",
        "bytes=,",
        "bytes=a-b",
        "bytes=5-2",
        "bytes=--1",
        "bytes=-",
        "bytes 0-1",
        "bytes=0 -1",
        "bytes=0-+1",
        "bytes=0-1_0",
        "bytes=0x1-2",
        "bytes=0-\u00b2",
        "bytes=\u00a01-2",
        "bytes=0-1;4-5",
        "bytes=0-1,5-2",
        "bytes=0-1,x",
        "bytes=99999999999999999999999999-99999999999999999999999998",
    ],
)
def test_a_range_that_does_not_parse_is_ignored(files_origin: Running, field: str) -> None:
    answer = files_origin.ask(f"Range: {field}", target="/media/small.mp3")
    assert (answer.status, answer.body) == (200, b"0123456789")


@pytest.mark.clause("RFC 9110 §5.3", "RFC 9110 §14.2")
def test_two_range_lines_are_one_list_that_does_not_parse(files_origin: Running) -> None:
    assert files_origin.ask("Range: bytes=0-1", "Range: bytes=4-5").status == 200


@pytest.mark.clause("RFC 9110 §15.5.17")
@pytest.mark.parametrize(
    "field",
    [f"bytes={SIZE}-", f"bytes={SIZE}-{SIZE + 9}", "bytes=-0", f"bytes=-0,{SIZE}-"],
)
def test_a_set_without_a_satisfiable_range_is_416(files_origin: Running, field: str) -> None:
    """The connection goes on."""
    with files_origin.connect() as client:
        answer = client.ask("/media/film.mp4", f"Range: {field}")
        assert answer.status == 416
        assert answer["content-range"] == f"bytes */{SIZE}"
        assert answer["accept-ranges"] == "bytes"
        assert client.ask("/media/small.mp3").status == 200


@pytest.mark.clause("RFC 9110 §14.1.2", "RFC 9110 §14.1.1", "RFC 9110 §15.5.17")
def test_an_empty_file_has_no_range(files_origin: Running) -> None:
    answer = files_origin.ask("Range: bytes=0-", target="/media/empty.wav")
    assert (answer.status, answer["content-range"]) == (416, "bytes */0")
    for fields in ((), ("Range: bytes=-5",)):
        answer = files_origin.ask(*fields, target="/media/empty.wav")
        assert (answer.status, answer.body, answer["content-length"]) == (200, b"", "0")


def parts_of(answer: Answer) -> list[tuple[str, str, bytes]]:
    """The parts as Python's own MIME parser sees them."""
    assert answer.body.startswith(b"\r\n--")
    head = f"Content-Type: {answer['content-type']}\r\n".encode()
    message = email.message_from_bytes(head + b"\r\n" + answer.body, policy=email.policy.HTTP)
    assert not message.defects
    assert message.get_content_type() == "multipart/byteranges"
    found = []
    for part in message.iter_parts():
        body = part.get_payload(decode=True)
        assert isinstance(body, bytes)
        found.append((part["content-type"], part["content-range"], body))
    return found


@pytest.mark.clause("RFC 9110 §14.6", "RFC 9110 §15.3.7.2")
def test_several_ranges_are_a_multipart_body_in_the_order_asked(files_origin: Running) -> None:
    answer = files_origin.ask("Range: bytes=500000-500009, ,0-9,-10")
    assert answer.status == 206
    assert "content-range" not in answer
    assert not answer.closed
    assert parts_of(answer) == [
        ("video/mp4", f"bytes 500000-500009/{SIZE}", FILM[500000:500010]),
        ("video/mp4", f"bytes 0-9/{SIZE}", FILM[:10]),
        ("video/mp4", f"bytes {SIZE - 10}-{SIZE - 1}/{SIZE}", FILM[-10:]),
    ]
    assert len(answer.body) == int(answer["content-length"])
    assert answer.body.endswith(b"--\r\n")


@pytest.mark.clause("RFC 9110 §17.15", "CVE-2011-3192")
@pytest.mark.parametrize(
    "ranges",
    [
        [f"{start}-" for start in range(64)],
        ["0-", "0-"],
        ["0-0"] * 2000,
        [f"{start * 2000}-{start * 2000}" for start in range(65)],
    ],
    ids=["overlapping", "twice", "many", "one too many"],
)
def test_a_hostile_set_gets_the_file_once(files_origin: Running, ranges: list[str]) -> None:
    answer = files_origin.ask("Range: bytes=" + ",".join(ranges))
    assert answer.status == 200
    assert answer.body == FILM


@pytest.mark.clause("CWE-22", "CWE-59", "Nothing but a regular file is served", "Hidden files are not there")
@pytest.mark.parametrize(
    "path",
    [
        "../outside/secret.mp4",
        "%2e%2e/outside/secret.mp4",
        "..%2f..%2fetc/passwd",
        "%2e%2e%2f%2e%2e%2f%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "/etc/passwd",
        "%2Fetc/passwd",
        "folder%5c..%5cfilm.mp4",
        "..%5c..%5cetc%5cpasswd",
        "%c0%ae%c0%ae/etc/passwd",
        "folder/../film.mp4",
        "./film.mp4",
        "folder//s%C3%B6ng%20nr%201.ogg",
        ".hidden.mp4",
        "headwater.toml",
        "film.mp4.part",
        "leads-out.mp4",
        "out/secret.mp4",
        "fifo.mp4",
        "folder",
        "folder/",
        "film.mp4/",
        "",
        "no-such.mp4",
        "x" * 5000,
    ],
)
def test_what_may_not_be_seen_is_as_if_it_were_not_there(files_origin: Running, path: str) -> None:
    """The same 404 for all of them, which caches may keep for a short time."""
    answer = files_origin.ask(target=f"/media/{path}")
    assert (answer.status, answer.body) == (404, b"Not Found\n")
    assert answer["cache-control"] == "public, max-age=5"


@pytest.mark.parametrize("path", ["a.mp4%00", "a.mp4%00.jpg", "a.mp4%0a", "%1ba.mp4", "a%7f.mp4"])
def test_a_control_character_in_a_path_is_refused_at_any_address(files_origin: Running, path: str) -> None:
    answer = files_origin.ask(target=f"/media/{path}")
    assert (answer.status, answer.body) == (400, b"control characters in the path\n")


@pytest.mark.clause("RFC 3986 §2.5")
def test_names_in_addresses_are_utf_8(files_origin: Running) -> None:
    """What hides files must not cost a legal name."""
    assert files_origin.ask(target="/media/folder/s%C3%B6ng%20nr%201.ogg").body == b"song"


def test_curl_continues_a_download(files_origin: Running, tmp_path: Path) -> None:
    """With a client that isn't ours."""
    curl = program("curl")
    host, port = files_origin.address
    target = tmp_path / "film.mp4"
    target.write_bytes(FILM[:300_000])
    command = [curl, "-sS", "-C", "-", "-o", str(target), f"http://{host}:{port}/media/film.mp4"]
    subprocess.run(command, check=True, timeout=180)
    assert target.read_bytes() == FILM


@pytest.mark.clause("RFC 9112 §9.3", "RFC 9112 Appendix C.2.2")
def test_http_1_0_works_and_ends_with_the_connection(files_origin: Running) -> None:
    with files_origin.connect() as client:
        client.send("GET /media/small.mp3 HTTP/1.0\r\n\r\n")
        answer = client.answer()
        assert (answer.status, answer.body, answer["content-length"]) == (200, b"0123456789", "10")
        assert client.is_closed()


@pytest.mark.clause("RFC 9112 §3.2.2", "CWE-22")
def test_an_absolute_form_target_is_the_same_file(files_origin: Running) -> None:
    assert files_origin.ask(target="http://elsewhere:99/media/small.mp3?x=1").body == b"0123456789"


@pytest.mark.clause("RFC 9112 §9.3.2")
def test_pipelined_requests_are_answered_in_order(files_origin: Running) -> None:
    """Of every kind, sent at once."""
    with files_origin.connect() as client:
        requests = [
            ("/media/film.mp4", ""),
            ("/media/film.mp4", "Range: bytes=10-19\r\n"),
            ("/media/nothing", ""),
            ("/media/film.mp4", f"If-None-Match: {ETAG}\r\n"),
            ("/media/film.mp4", "Range: bytes=0-9,500000-500009\r\n"),
            ("/media/small.mp3", ""),
            ("/media/film.mp4", ""),
        ]
        client.send("".join(f"GET {path} HTTP/1.1\r\nHost: a\r\n{field}\r\n" for path, field in requests))
        answers = [client.answer() for _ in requests]
        assert [answer.status for answer in answers] == [200, 206, 404, 304, 206, 200, 200]
        assert answers[0].body == answers[-1].body == FILM
        assert answers[1].body == FILM[10:20]
        assert answers[5].body == b"0123456789"
        assert len(parts_of(answers[4])) == 2


@pytest.mark.clause("RFC 9112 §9.6")
def test_a_client_that_has_ended_its_side_gets_the_whole_answer(files_origin: Running) -> None:
    """Half-closing is how some say that this was their last request."""
    with files_origin.connect() as client:
        client.send("GET /media/film.mp4 HTTP/1.1\r\nHost: a\r\n\r\n")
        client.socket.shutdown(socket.SHUT_WR)
        assert client.answer().body == FILM
        assert client.is_closed()


@pytest.mark.clause("A client that goes away leaves nothing open")
def test_every_answer_gives_its_file_back(files_origin: Running) -> None:
    """Whole, part, refused, or left in the middle."""
    for fields in ((), ("Range: bytes=0-1",), (f"If-None-Match: {ETAG}",), (f"Range: bytes={SIZE}-",)):
        files_origin.ask(*fields)
    for _ in range(5):
        with Client(files_origin.address, receive_buffer=4096) as client:
            client.send("GET /media/film.mp4 HTTP/1.1\r\nHost: a\r\n\r\n")
            client.socket.recv(1000)
    wait_for(lambda: files_origin.open_files() == 0, "all files to be closed")
