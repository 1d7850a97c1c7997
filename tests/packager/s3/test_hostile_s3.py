"""What an S3 server may send that isn't what was asked for: it is bounded, and taken for a failure."""

from __future__ import annotations

import contextlib
import http.server
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from packager.concurrency import background_task
from packager.library.file_listing import CatalogueLimits
from packager.library.storage_interface import FileChangedError
from packager.s3.client import S3Client, UnavailableError
from packager.s3.library import S3Library
from packager.s3.limits import S3Limits
from packager.s3.segment_cache import BucketSegmentCache
from tests.waiting import until

SIZE = 1 << 20
BLOCK = 64 << 10
LIMITS = S3Limits(
    retries=0,
    silent_seconds=30.0,
    request_seconds=4.0,
    failures=1000,
    block_bytes=BLOCK,
    memory_bytes=BLOCK,
    known_seconds=600.0,
)
GOOD = {"etag": '"e"', "last-modified": "Wed, 01 Jan 2020 00:00:00 GMT"}

Respond = Callable[[http.server.BaseHTTPRequestHandler], None]


class Hostile:
    """An S3 server that answers the first range as it should, and then as it is told.

    Attributes:
        respond: answers.
    """

    def __init__(self) -> None:
        self.respond: Respond = first_block
        hostile = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                self.close_connection = True
                self.rfile.read(int(self.headers.get("content-length", 0)))
                with contextlib.suppress(OSError):
                    hostile.respond(self)

            def do_HEAD(self) -> None:
                self.do_GET()

            def do_PUT(self) -> None:
                self.do_GET()

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()


def sent(
    status: int, fields: dict[str, str], body: bytes = b"", times: int = 1, pause: float = 0.0
) -> Respond:
    def respond(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("connection", "close")
        for name, value in fields.items():
            handler.send_header(name, value)
        handler.end_headers()
        for _ in range(times):
            handler.wfile.write(body)
            time.sleep(pause)

    return respond


def part(
    first: int = BLOCK, last: int = 2 * BLOCK - 1, size: int | str = SIZE, **fields: str
) -> dict[str, str]:
    found = {**GOOD, "content-range": f"bytes {first}-{last}/{size}", "content-length": str(last + 1 - first)}
    return {**found, **{name.replace("_", "-"): value for name, value in fields.items()}}


first_block = sent(206, part(0, BLOCK - 1), b"x" * BLOCK)


@pytest.fixture
def hostile(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hostile]:
    found = Hostile()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{found.server.server_port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    yield found
    found.server.shutdown()
    found.server.server_close()


@pytest.mark.slow
@pytest.mark.parametrize(
    "respond",
    [
        sent(200, {**GOOD, "content-length": str(BLOCK)}, b"x" * BLOCK),
        sent(206, part(0, BLOCK - 1), b"x" * BLOCK),
        sent(206, part(last=BLOCK + 9), b"x" * 10),
        sent(206, part(content_length="10"), b"x" * 10),
        sent(206, part(), b"x" * 10),
        sent(206, part(content_length=str(1 << 40)), b"x" * BLOCK, times=1 << 20),
        sent(
            206,
            {**part(), "transfer-encoding": "chunked"},
            b"fffff\r\n" + b"x" * 0xFFFFF + b"\r\n",
            times=1 << 10,
        ),
        sent(206, part(), b"x", times=BLOCK, pause=0.2),
        sent(206, part(size="9" * 40), b"x" * BLOCK),
        sent(206, {**part(), "etag": 'W/"e"'}, b"x" * BLOCK),
        sent(206, {**part(), "etag": '"\x7f"'}, b"x" * BLOCK),
        sent(500, {"content-length": "9"}, b"<secret/>"),
        sent(503, {"content-length": "0"}),
        sent(302, {"location": "/", "content-length": "0"}),
        sent(206, {"content-length": "1", "etag": '"e"'}, b"x"),
        sent(200, {"x": "y" * (1 << 20)}),
    ],
    ids=range(16),
)
def test_a_wrong_answer_is_a_failure_and_nothing_of_it_is_kept(
    hostile: Hostile, tmp_path: Path, respond: Respond
) -> None:
    library = S3Library("s3://bucket", tmp_path, LIMITS)
    with library.open("film.mp4") as file:
        assert file.pread(0, 5) == b"xxxxx"
        hostile.respond = respond
        with pytest.raises(UnavailableError) as failed:
            file.pread(BLOCK, 10)
        assert "secret" not in str(failed.value)
        hostile.respond = sent(206, part(), b"y" * BLOCK)
        assert file.pread(BLOCK, 10) == b"y" * 10
    library.close()


@pytest.mark.parametrize("fields", [part(etag='"other"'), part(size=SIZE + 1)], ids=["etag", "size"])
def test_another_version_is_refused_though_if_match_was_ignored(
    hostile: Hostile, tmp_path: Path, fields: dict[str, str]
) -> None:
    library = S3Library("s3://bucket", tmp_path, LIMITS)
    with library.open("film.mp4") as file:
        hostile.respond = sent(206, fields, b"x" * BLOCK)
        with pytest.raises(FileChangedError):
            file.pread(BLOCK, 10)
    library.close()


def listing(*keys: str, more: str = "") -> Respond:
    contents = "".join(
        f"<Contents><Key>{key}</Key><LastModified>2020-01-01T00:00:00.000Z</LastModified>"
        f'<ETag>"e"</ETag><Size>5</Size></Contents>'
        for key in keys
    )
    cut = f"<IsTruncated>{'true' if more else 'false'}</IsTruncated>"
    token = f"<NextContinuationToken>{more}</NextContinuationToken>" if more else ""
    body = f'<?xml version="1.0"?><ListBucketResult>{cut}{token}{contents}</ListBucketResult>'.encode()
    return sent(200, {"content-length": str(len(body))}, body)


def names(library: S3Library, limits: CatalogueLimits | None = None) -> list[str]:
    found = library.walk(frozenset({".mp4"}), limits or CatalogueLimits(), lambda: False)
    return [file.path for file in found.files]


def test_a_listing_without_end_stops_at_its_limits(hostile: Hostile, tmp_path: Path) -> None:
    library = S3Library("s3://bucket", tmp_path, LIMITS)
    hostile.respond = listing(*(f"{number}.mp4" for number in range(1000)), more="again")
    assert len(names(library, CatalogueLimits(most_files=2500))) == 2500
    assert len(names(library, CatalogueLimits(most_names=3001))) == 3001


def test_keys_that_no_address_can_have_are_left_out(hostile: Hostile, tmp_path: Path) -> None:
    library = S3Library("s3://bucket", tmp_path, LIMITS)
    hostile.respond = listing("b.mp4", "a.mp4", ".hidden.mp4", "x/.y/z.mp4", "c.toml", "d\\e.mp4", "folder/")
    assert names(library) == ["a.mp4", "b.mp4"]
    deep = "/".join("abcdefghijk") + "/film.mp4"
    hostile.respond = listing("a.mp4", deep)
    assert names(library) == ["a.mp4"]


@pytest.mark.parametrize("key", ["a//b.mp4", "../b.mp4", "a/./b.mp4", "&#1;.mp4", "a&#10;b.mp4"])
def test_a_key_that_breaks_a_page_doesnt_end_the_listing_behind_it(
    hostile: Hostile, tmp_path: Path, key: str
) -> None:
    library = S3Library("s3://bucket", tmp_path, LIMITS)
    asked: list[str] = []

    def respond(handler: http.server.BaseHTTPRequestHandler) -> None:
        asked.append(handler.path)
        (listing("c.mp4") if "start-after" in handler.path else listing("0.mp4", key))(handler)

    hostile.respond = respond
    with capture_logs() as logs:
        assert names(library) == ["c.mp4"]
        assert len(asked) == 2
        assert names(library) == ["c.mp4"]
    assert [line["event"] for line in logs] == ["an object in S3 can't be listed"]
    hostile.respond = listing("0.mp4", key)  # and again and again, as it can't be gone past
    assert names(library) == []


def test_a_listing_that_isnt_one_is_a_failure(hostile: Hostile, tmp_path: Path) -> None:
    library = S3Library("s3://bucket", tmp_path, LIMITS)
    for body in (
        b"",
        b"<html>",
        b"\xff\xfe",
        b'<?xml version="1.0"?><ListBucketResult><Contents><Key>\xff</Key>',
    ):
        hostile.respond = sent(200, {"content-length": str(len(body))}, body)
        with pytest.raises(UnavailableError):
            names(library)


@pytest.mark.parametrize("status", [200, 301, 404, 409, 412, 416, 500])
async def test_no_answer_to_what_concerns_encoded_segments_fails_their_caller(
    hostile: Hostile, status: int
) -> None:
    requests = list[str]()

    def respond(handler: http.server.BaseHTTPRequestHandler) -> None:
        requests.append(handler.command)
        sent(status, {"content-length": "0"})(handler)

    hostile.respond = respond
    limits = S3Limits(retries=0, failures=1000, trim_seconds=0.02)
    cache = BucketSegmentCache("s3://bucket", limits)
    place = "a" * 32, 0

    def is_tried() -> bool:
        cache.keep(place, b"segment")
        return "PUT" in requests and len(requests) > 5

    async with background_task(cache.run()):
        assert await cache.find(place) is None
        await until(is_tried, "more attempts to store, or to list what was stored")


def endless(entries: int) -> Respond:
    """Answer each request for a listing with a page that names a further one."""
    pages = itertools.count()

    def respond(handler: http.server.BaseHTTPRequestHandler) -> None:
        page = next(pages)
        keys = [f"f/{page:09}{number:04}" for number in range(entries)]
        folder = "<CommonPrefixes><Prefix>%s/</Prefix></CommonPrefixes>"
        named = "".join(f"{folder}{LISTED}" % (key, key) for key in keys)
        text = f"<IsTruncated>true</IsTruncated><NextContinuationToken>{page}</NextContinuationToken>{named}"
        body = f"<ListBucketResult>{text}</ListBucketResult>".encode()
        sent(200, {"content-length": str(len(body)), "content-type": "application/xml"}, body)(handler)

    return respond


LISTED = (
    "<Contents><Key>%s</Key><LastModified>2020-01-01T00:00:00.000Z</LastModified>"
    '<ETag>"e"</ETag><Size>1</Size></Contents>'
)


@pytest.mark.parametrize("entries", [0, 100])
def test_a_listing_without_an_end_is_a_failure(hostile: Hostile, entries: int) -> None:
    hostile.respond = endless(entries)
    limits = replace(LIMITS, listing_seconds=0.5, listed_keys=2000)
    client = S3Client("s3://bucket", limits)
    with pytest.raises(UnavailableError, match="doesn't end"):
        client.folders("f")
    with pytest.raises(UnavailableError, match="doesn't end"):
        for _ in client.objects("f"):
            pass


def test_a_listing_that_goes_on_for_long_is_a_failure_however_many_keys_it_has(hostile: Hostile) -> None:
    hostile.respond = endless(1000)
    # A second passes between two looks at the clock.
    client = S3Client("s3://bucket", LIMITS, clock=map(float, itertools.count()).__next__)
    with pytest.raises(UnavailableError, match="doesn't end"):
        list(client.objects("f"))
    assert client.counters.requests < LIMITS.listing_total_seconds
