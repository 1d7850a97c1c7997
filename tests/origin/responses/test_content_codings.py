"""A body with a content coding is refused by all that take bodies, who would read its bytes as they are."""

from __future__ import annotations

import gzip
from collections.abc import Iterator

import httpx
import pytest

from tests.conftest import ServerProcess, start_server
from tests.keys import BEARER
from tests.patience import CLIENT_SECONDS

CONFIG = """
[server]
port = 0
data = "data"
[[live]]
name = "studio"
source = "publish"
publish_key = "sesame"
ladder = ["source"]
dvr = "1h"
[[events]]
name = "news"
publish_token = "publish-here-publish"
[[relay]]
name = "answers"
upstreams = ["http://127.0.0.1:9/v1"]
"""

BODIES = [
    ("POST", "/events/news", "text/plain"),
    ("POST", "/events/news", "application/x-ndjson"),
    ("POST", "/events", "application/json"),
    ("POST", "/relay/answers/v1/chat/completions", "application/json"),
    ("POST", "/api/sign", "application/json"),
    ("PUT", "/live/studio/ingest", "video/mp2t"),
    ("PUT", "/live/studio/ingest/0.m4s", "video/mp4"),
    ("POST", "/live/studio/metadata", "application/json"),
    ("POST", "/live/studio/captions/en", "text/vtt"),
    ("PUT", "/live/studio/programmes", "application/json"),
    ("POST", "/live/studio/recordings", "application/json"),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("codings")
    (folder / "headwater.toml").write_text(CONFIG)
    server = start_server(cwd=folder)
    yield server
    assert server.stop() == 0


@pytest.mark.parametrize(("method", "path", "media_type"), BODIES)
def test_a_compressed_body_is_refused_with_the_reason(
    server: ServerProcess, method: str, path: str, media_type: str
) -> None:
    fields = {**BEARER, "content-type": media_type, "content-encoding": "gzip"}
    answer = httpx.request(
        method, f"{server.url}{path}", headers=fields, content=gzip.compress(b"{}"), timeout=CLIENT_SECONDS
    )
    # RFC 9110 §15.5.16 and §12.5.3.
    assert (answer.status_code, answer.headers["accept-encoding"]) == (415, "identity")
    assert "Content-Encoding" in answer.text


def test_no_coding_may_be_named(server: ServerProcess) -> None:
    fields = {**BEARER, "content-type": "text/plain", "content-encoding": "identity"}
    answer = httpx.post(f"{server.url}/events/news", headers=fields, content=b"x", timeout=CLIENT_SECONDS)
    assert answer.status_code == 200
