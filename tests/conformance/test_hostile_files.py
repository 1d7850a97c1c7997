"""Hostile requests for files: ranges by the thousand, paths that lead elsewhere."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import pytest

from origin.http.byte_ranges import WHOLE, select
from tests.conformance.conftest import FILM, Running, served_files, serving


@pytest.mark.clause("CVE-2011-3192")
@pytest.mark.parametrize(
    "field", ["bytes=" + ",".join(f"{n}-{n}" for n in range(0, 18_000, 2)), "bytes=" + "0-," * 34_000]
)
def test_thousands_of_ranges_are_ignored_in_linear_time(field: str) -> None:
    """Ten times the ranges cost about ten times the time, and in all less than 5 ms."""
    started = time.process_time()
    for _ in range(10):
        assert select(field, 1 << 40) == WHOLE
    assert (time.process_time() - started) / 10 < 0.005


@pytest.mark.clause("RFC 9110 §17.15")
def test_overlapping_ranges_never_send_more_than_the_file(origin: Running) -> None:
    """Within the header's limit."""
    with origin.connect() as client:
        client.ask("/media/film.mp4", method="HEAD")
        answer = client.ask("/media/film.mp4", "Range: bytes=" + "0-," * 1000)
        assert (answer.status, len(answer.body)) == (200, len(FILM))


@pytest.mark.clause("RFC 9110 §14.1.1", "CVE-2017-7529")
@pytest.mark.parametrize(
    ("field", "status"),
    [
        ("bytes=0-18446744073709551615", 206),
        (f"bytes=-{2**70}", 206),
        ("bytes=0-1_0", 200),
        ("bytes=\u0660-1", 200),
        ("bytes=0x1-2", 200),
        ("bytes= 1 - 2 ", 200),
        ("bytes= 0-1", 200),
    ],
)
def test_numbers_are_digits_of_any_length(origin: Running, field: str, status: int) -> None:
    """The first range follows the "=" without a space."""
    with origin.connect() as client:
        client.ask("/media/film.mp4", method="HEAD")
        client.send(f"GET /media/film.mp4 HTTP/1.1\r\nHost: a\r\nRange: {field}\r\n\r\n".encode())
        answer = client.answer()
        assert (answer.status, answer.body) == (status, FILM)


@pytest.mark.clause("RFC 9110 §13.1.1", "RFC 9110 §13.1.2")
@pytest.mark.parametrize("tags", ["bad", '{} "b"', '{}, "', "*, {}", '"a b", {}', ""])
def test_a_malformed_list_of_tags_matches_nothing_and_is_no_error(origin: Running, tags: str) -> None:
    """What is no list of entity-tags is "otherwise", step 3."""
    with origin.connect() as client:
        tags = tags.format(client.ask("/media/film.mp4")["etag"])
        assert client.ask("/media/film.mp4", f"If-None-Match: {tags}").status == 200
        assert client.ask("/media/film.mp4", f"If-Match: {tags}").status == 412


@pytest.mark.clause("CVE-2023-29159")
def test_a_sibling_of_the_library_is_not_in_it(tmp_path: Path) -> None:
    (tmp_path / "library").mkdir()
    (tmp_path / "library-secret").mkdir()
    (tmp_path / "library-secret" / "x").write_bytes(b"secret")
    served = served_files(tmp_path / "library")
    with (
        serving(served.app, tmp_path, "uvloop", fast_path=served.fast_path, at_end=served.close) as running,
        running.connect() as client,
    ):
        for path in ("../library-secret/x", "..%2flibrary-secret/x", "%2e%2e/library-secret/x", "-secret/x"):
            assert client.ask(f"/media/{path}").status == 404


@pytest.mark.clause("CWE-59", "Nothing but a regular file is served", "Hidden files are not there")
def test_links_that_go_in_circles_and_files_of_others_are_not_there(tmp_path: Path) -> None:
    (tmp_path / "loop.mp4").symlink_to(tmp_path / "loop.mp4")
    (tmp_path / "passwd.mp4").symlink_to("/etc/passwd")
    (tmp_path / "device.mp4").symlink_to("/dev/zero")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "config").write_bytes(b"x")
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(tmp_path / "socket.mp4"))
        served = served_files(tmp_path)
        with (
            serving(
                served.app, tmp_path, "uvloop", fast_path=served.fast_path, at_end=served.close
            ) as running,
            running.connect() as client,
        ):
            for path in ("loop.mp4", "passwd.mp4", "device.mp4", "socket.mp4", ".git/config"):
                assert client.ask(f"/media/{path}").status == 404


@pytest.mark.clause("RFC 9110 §9.3.8", "RFC 9110 §9.1", "RFC 9110 §15.5.6")
@pytest.mark.parametrize(("method", "status"), [("PROPFIND", 405), ("TRACE", 405), ("X" * 10_000, 501)])
def test_methods_that_no_file_has(origin: Running, method: str, status: int) -> None:
    """Nothing is echoed."""
    with origin.connect() as client:
        client.send(f"{method} /media/film.mp4 HTTP/1.1\r\nHost: a\r\nSecret: canary\r\n\r\n")
        answer = client.answer()
        assert answer.status == status
        assert b"canary" not in answer.body
        if status == 405:
            assert answer["allow"] == "GET, HEAD, OPTIONS"


@pytest.mark.clause("RFC 9110 §9.1")
@pytest.mark.parametrize(
    ("start", "status"), [(b"BREW ", 501), (b"get ", 501), (b"GE\x01T ", 400), (b"\x16\x03\x01\x02 ", 400)]
)
def test_a_method_that_is_not_known_is_not_implemented(origin: Running, start: bytes, status: int) -> None:
    """Methods are case-sensitive, and one that isn't recognised is answered with 501."""
    with origin.connect() as client:
        client.send(start + b"/media/film.mp4 HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.answer().status == status


@pytest.mark.clause("RFC 9110 §14.1.1", "RFC 9110 §15.5.17")
def test_a_file_larger_than_any_disk_has_its_last_bytes(tmp_path: Path) -> None:
    """Positions beyond 2^42."""
    size = 8 << 40
    path = tmp_path / "sparse.mp4"
    with path.open("wb") as file:
        try:
            file.truncate(size)
        except OSError:
            pytest.skip("no file of 8 TiB on this file system")
    os.utime(path, (1_700_000_000, 1_700_000_000))
    served = served_files(tmp_path)
    with (
        serving(served.app, tmp_path, "uvloop", fast_path=served.fast_path, at_end=served.close) as running,
        running.connect() as client,
    ):
        for _ in range(2):
            answer = client.ask("/media/sparse.mp4", "Range: bytes=-5")
            assert answer["content-range"] == f"bytes {size - 5}-{size - 1}/{size}"
            assert answer.body == bytes(5)
