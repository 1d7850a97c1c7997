"""Conditional requests (RFC 9110 §13) for files."""

from __future__ import annotations

import os

import pytest

from tests.conformance.conftest import ETAG, FILM, MODIFIED, Running

OTHER_DATE = "Tue, 14 Nov 2023 22:13:19 GMT"


@pytest.mark.clause("RFC 9110 §13.1.5")
@pytest.mark.parametrize(
    ("value", "status"),
    [
        (ETAG, 206),
        (f"W/{ETAG}", 200),
        ('"other"', 200),
        (f'{ETAG}, "other"', 200),
        ("*", 200),
        ("", 200),
        (MODIFIED, 206),
        ("Tuesday, 14-Nov-23 22:13:20 GMT", 206),
        ("Tue Nov 14 22:13:20 2023", 206),
        (OTHER_DATE, 200),
        ("Tue, 14 Nov 2023 22:13:21 GMT", 200),
    ],
)
def test_if_range_needs_the_very_same_version(files_origin: Running, value: str, status: int) -> None:
    answer = files_origin.ask(f"If-Range: {value}", "Range: bytes=0-3")
    assert answer.status == status
    assert answer.body == (FILM[:4] if status == 206 else FILM)


@pytest.mark.clause("RFC 9110 §13.1.5")
def test_if_range_without_range_has_no_effect(files_origin: Running) -> None:
    assert files_origin.ask(f"If-Range: {ETAG}").status == 200


@pytest.mark.clause("RFC 9110 §13.1", "RFC 9110 §13.2.2")
@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ([f"If-None-Match: {ETAG}"], 304),
        ([f"If-None-Match: W/{ETAG}"], 304),
        ([f'If-None-Match: "a,b", {ETAG}'], 304),
        ([f'If-None-Match: "a", ,{ETAG},'], 304),
        (['If-None-Match: "a"', f"If-None-Match: {ETAG}"], 304),
        (["If-None-Match: *"], 304),
        (['If-None-Match: "other"'], 200),
        ([f"If-None-Match: {ETAG[1:-1]}"], 200),
        ([f"If-None-Match: {ETAG}, bad"], 200),
        ([f'If-None-Match: "x{ETAG}'], 200),
        ([f"If-Modified-Since: {MODIFIED}"], 304),
        (["If-Modified-Since: Tuesday, 14-Nov-23 22:13:20 GMT"], 304),
        (["If-Modified-Since: Tue Nov 14 22:13:20 2023"], 304),
        ([f"If-Modified-Since: {OTHER_DATE}"], 200),
        (["If-Modified-Since: Fri, 01 Jan 2100 00:00:00 GMT"], 200),
        (["If-Modified-Since: 2023-11-14T22:13:20Z"], 200),
        (['If-None-Match: "other"', f"If-Modified-Since: {MODIFIED}"], 200),
        ([f"If-Match: {ETAG}"], 200),
        (["If-Match: *"], 200),
        ([f'If-Match: "a", {ETAG}'], 200),
        ([f"If-Match: W/{ETAG}"], 412),
        (['If-Match: "other"'], 412),
        ([f"If-Unmodified-Since: {MODIFIED}"], 200),
        ([f"If-Unmodified-Since: {OTHER_DATE}"], 412),
        (["If-Unmodified-Since: yesterday"], 200),
        ([f"If-Match: {ETAG}", f"If-Unmodified-Since: {OTHER_DATE}"], 200),
        (['If-Match: "other"', f"If-None-Match: {ETAG}"], 412),
        ([f"If-Match: {ETAG}", f"If-None-Match: {ETAG}"], 304),
        ([f"If-None-Match: {ETAG}", "Range: bytes=0-1"], 304),
        (['If-Match: "other"', "Range: bytes=0-1"], 412),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_preconditions(files_origin: Running, fields: list[str], status: int, method: str) -> None:
    """The connection goes on."""
    with files_origin.connect() as client:
        answer = client.ask("/media/film.mp4", *fields, method=method)
        assert answer.status == status
        assert client.ask("/media/small.mp3").body == b"0123456789"


@pytest.mark.clause("RFC 9110 §15.4.5")
def test_304_says_what_a_cache_needs(files_origin: Running) -> None:
    answer = files_origin.ask(f"If-None-Match: {ETAG}")
    assert (answer.status, answer["etag"], answer["last-modified"]) == (304, ETAG, MODIFIED)
    assert answer["cache-control"] == "public, max-age=600"
    assert "date" in answer
    assert "content-length" not in answer


@pytest.mark.clause("RFC 9110 §15.5.13")
def test_412_has_a_short_body(files_origin: Running) -> None:
    answer = files_origin.ask('If-Match: "other"')
    assert answer.status == 412
    assert 0 < len(answer.body) < 100


@pytest.mark.clause("RFC 9111 §3")
@pytest.mark.parametrize("field", ['If-Match: "other"', "Range: bytes=99999999-"])
def test_a_refusal_of_one_client_is_kept_by_no_cache(files_origin: Running, field: str) -> None:
    """The file's own Cache-Control would have shared caches give it to others."""
    answer = files_origin.ask(field)
    assert answer.status in (412, 416)
    assert answer["cache-control"] == "no-store"
    assert answer["etag"] == ETAG


@pytest.mark.clause("RFC 9110 §8.8.1", "RFC 9110 §13.1.5")
def test_a_file_changed_just_now_has_a_weak_tag(files_origin: Running) -> None:
    """So its ranges can't be continued (§13.1.5), and it can be revalidated."""
    path = files_origin.library / "fresh.mp4"
    path.write_bytes(b"fresh")
    try:
        os.utime(path, (path.stat().st_mtime + 60,) * 2)  # So that this test may be slow.
        answer = files_origin.ask(target="/media/fresh.mp4")
        assert answer["etag"].startswith('W/"')
        tag = answer["etag"]
        again = files_origin.ask(f"If-Range: {tag}", "Range: bytes=0-0", target="/media/fresh.mp4")
        assert (again.status, again.body) == (200, b"fresh")
        assert files_origin.ask(f"If-None-Match: {tag}", target="/media/fresh.mp4").status == 304
    finally:
        path.unlink()
