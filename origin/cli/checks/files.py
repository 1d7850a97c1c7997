"""Rules for files over HTTP: ranges and conditions (RFC 9110), and the headers of playlists."""

from __future__ import annotations

from collections.abc import Sequence

import httpx

from origin.cli.checks.fetching import MAX_PLAYLIST_BYTES, Fetcher
from origin.cli.checks.report import CheckReport
from origin.http.media_types import media_type_in


async def fetch_text(
    fetcher: Fetcher, report: CheckReport, url: str, media_types: Sequence[str], clause: str
) -> bytes | None:
    """Fetch a playlist or a manifest, and judge how it is sent; None where it isn't."""
    answer, content = await fetcher.fetch(url)
    if not report.expect(answer.status_code == 200, url, f"answers {answer.status_code}, where 200 is right"):
        return None
    if fetcher.is_server:
        _judge_headers(report, url, answer, media_types, clause)
    large = f"is larger than {MAX_PLAYLIST_BYTES} bytes"
    return content if report.expect(len(content) <= MAX_PLAYLIST_BYTES, url, large) else None


def _judge_headers(
    report: CheckReport, url: str, answer: httpx.Response, media_types: Sequence[str], clause: str
) -> None:
    expect = report.expect
    media_type = media_type_in(answer.headers.get("content-type", ""))
    # RFC 8216bis §4: a path that ends with .m3u8 will do.
    is_named = httpx.URL(url).path.endswith(".m3u8")
    right = " or ".join(media_types)
    told = f"has Content-Type {media_type or 'none'}, where {right} is right ({clause})"
    expect(media_type in media_types, url, told, is_must=not is_named)
    told = "has no Cache-Control (RFC 8216bis Appendix B)"
    expect("cache-control" in answer.headers, url, told, is_must=False)
    told = "has Age, which an origin doesn't send (RFC 9111 §5.1)"
    expect("age" not in answer.headers, url, told, is_must=False)
    coding = answer.headers.get("content-encoding", "identity")
    told = f"has Content-Encoding {coding}, which Accept-Encoding doesn't name (RFC 9110 §12.5.3)"
    expect(coding == "identity", url, told, is_must=False)


async def judge_file(fetcher: Fetcher, report: CheckReport, url: str) -> None:
    """Judge how a file's address answers ranges and conditions."""
    fetcher.show(url)
    expect = report.expect
    head = await fetcher.head(url)
    if not fetcher.is_server:
        expect(head.status_code == 200, url, "isn't there")
        return
    if not expect(head.status_code == 200, url, f"answers HEAD with {head.status_code} (RFC 9110 §9.3.2)"):
        return
    size = int(head.headers.get("content-length", -1))
    told = "has no Content-Length header (RFC 9110 §8.6)"
    if not expect(size >= 0, url, told, is_must=False) or size == 0:
        return
    # A server may ignore ranges (RFC 9110 §14.2), and send whole files: their first bytes are read.
    first, _ = await fetcher.fetch(url, 1, {"range": "bytes=0-0"})
    status = first.status_code
    has_ranges = expect(status == 206, url, _answers("a range", status, "§14.2"), is_must=False)
    told = f"{_content_range(first)}, where it is bytes 0-0/{size} (RFC 9110 §14.4)"
    if has_ranges:
        expect(first.headers.get("content-range") == f"bytes 0-0/{size}", url, told)
    _, last = await fetcher.fetch(url, 1, {"range": "bytes=-1"})
    told = "a suffix range isn't answered (RFC 9110 §14.1.2)"
    expect(len(last) == 1, url, told, is_must=has_ranges)
    beyond, _ = await fetcher.fetch(url, 1, {"range": f"bytes={size}-"})
    told = _answers("a range beyond the end", beyond.status_code, "§15.5.17")
    if expect(beyond.status_code == 416, url, told, is_must=False):
        told = f"{_content_range(beyond)}, where 416 has bytes */{size} (RFC 9110 §14.4)"
        expect(beyond.headers.get("content-range") == f"bytes */{size}", url, told, is_must=False)
    tag = head.headers.get("etag")
    if expect(tag is not None, url, "has no ETag header (RFC 9110 §8.8.3)", is_must=False):
        known, _ = await fetcher.fetch(url, 1, {"if-none-match": tag})
        status = known.status_code
        expect(status == 304, url, f"If-None-Match gives {status} (RFC 9110 §13.1.2)")


def _answers(what: str, status: int, section: str) -> str:
    return f"answers {what} with {status} (RFC 9110 {section})"


def _content_range(answer: httpx.Response) -> str:
    """Describe the Content-Range of an answer."""
    value = answer.headers.get("content-range")
    return "has no Content-Range header" if value is None else f"has Content-Range {value}"
