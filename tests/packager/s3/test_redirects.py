"""A hostile bucket that leads to other hosts: no request goes there, and no credential."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest

from packager.s3.client import S3Client, UnavailableError
from packager.s3.endpoint import proxy_of
from packager.s3.limits import S3Limits

LIMITS = S3Limits(retries=0, failures=1000)
OBJECT = {"etag": '"e"', "last-modified": "Wed, 01 Jan 2020 00:00:00 GMT", "content-range": "bytes 0-0/1"}


class Host:
    """An HTTP server that leads to an address, or that has an object of one byte.

    Attributes:
        requests: the header fields of what was asked for.
    """

    def __init__(self, address: str) -> None:
        self.location = ""
        self.status = 307
        self.requests: list[dict[str, str]] = []
        self.paths: list[str] = []
        host = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                host.requests.append({name.lower(): value for name, value in self.headers.items()})
                host.paths.append(self.path)
                self.rfile.read(int(self.headers.get("content-length", 0)))
                self.send_response(host.status if host.location else 206)
                fields = {"location": host.location + self.path} if host.location else OBJECT
                for name, value in {**fields, "content-length": "0" if host.location else "1"}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(b"" if host.location else b"x")

            do_HEAD = do_PUT = do_DELETE = do_POST = do_GET  # noqa: N815  # their names

        self.server = http.server.ThreadingHTTPServer((address, 0), Handler)
        self.url = f"http://{address}:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()


@contextmanager
def running(address: str) -> Iterator[Host]:
    host = Host(address)
    yield host
    host.server.shutdown()
    host.server.server_close()


@pytest.fixture
def inner() -> Iterator[Host]:
    """A host that no stranger should reach by way of the server."""
    with running("127.0.0.2") as host:
        yield host


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    with running("127.0.0.1") as host:
        monkeypatch.setenv("AWS_ENDPOINT_URL", host.url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        monkeypatch.setenv("AWS_SESSION_TOKEN", "a-token-of-the-session")
        yield host


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_bucket_cannot_lead_to_another_host(bucket: Host, inner: Host, status: int) -> None:
    bucket.location, bucket.status = inner.url, status
    client = S3Client("s3://bucket", LIMITS)
    calls: Sequence[Callable[[], object]] = (
        lambda: client.read_first("a", 1),
        lambda: client.describe("a"),
        lambda: client.put("a", b"secret", "text/plain"),
        lambda: client.delete("a"),
        lambda: client.folders(""),
        lambda: next(client.objects()),
    )
    for number, call in enumerate(calls):
        with pytest.raises(UnavailableError):
            call()
        assert len(bucket.requests) > number, "the bucket itself was asked"
    assert inner.requests == []


def test_the_reason_says_that_the_bucket_leads_elsewhere(bucket: Host, inner: Host) -> None:
    bucket.location = inner.url
    with pytest.raises(UnavailableError, match="leads to another host"):
        S3Client("s3://bucket", LIMITS).read_first("a", 1)


def test_a_bucket_without_redirects_is_read_though_requests_elsewhere_are_refused(bucket: Host) -> None:
    assert S3Client("s3://bucket", LIMITS).read_first("a", 1)[1] == b"x"


@pytest.mark.parametrize(
    ("variables", "hosts"),
    [
        ({"AWS_ACCESS_KEY_ID": "k"}, {"s3.us-east-1.amazonaws.com"}),
        ({"AWS_ACCESS_KEY_ID": "k", "AWS_REGION": "eu-west-1"}, {"s3.eu-west-1.amazonaws.com"}),
        ({"AWS_ACCESS_KEY_ID": "k", "AWS_ENDPOINT_URL": "http://[::1]:9000"}, {"::1"}),
        (
            {"AWS_WEB_IDENTITY_TOKEN_FILE": "/f", "AWS_REGION": "eu-west-1"},
            {"s3.eu-west-1.amazonaws.com", "sts.eu-west-1.amazonaws.com"},
        ),
        (
            {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://169.254.170.23/v1/credentials"},
            {"s3.us-east-1.amazonaws.com", "169.254.170.23"},
        ),
        ({}, {"s3.us-east-1.amazonaws.com", "169.254.169.254"}),
    ],
)
def test_requests_go_to_the_bucket_and_to_where_the_credentials_are(
    variables: dict[str, str], hosts: set[str]
) -> None:
    found = proxy_of("bucket", variables)
    assert found is not None
    assert set(found[1].split(",")) == hosts


def test_a_proxy_of_the_system_decides_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    assert proxy_of("bucket", {"AWS_ACCESS_KEY_ID": "k"}) is None


@pytest.mark.parametrize("name", ["My_Old.Bucket", "Tenant_1:bucket-2", "a.b-c"])
def test_old_buckets_and_those_of_tenants_are_asked_for_by_their_names(bucket: Host, name: str) -> None:
    data = S3Client(f"s3://{name}/films", S3Limits()).read_first("a.mp4", 1)[1]
    assert (data, bucket.paths) == (b"x", [f"/{name}/films/a.mp4"])


@pytest.mark.parametrize("name", ["a", "-bucket", "a b", "..", "a/../b?", "t:u:bucket", "key@bucket"])
def test_what_is_no_name_of_a_bucket_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="allowed: s3://bucket/prefix"):
        S3Client(f"s3://{name}", S3Limits())
