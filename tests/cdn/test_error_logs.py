"""What nginx writes about requests that fail has no token of a viewer, and no key."""

from __future__ import annotations

import http.client
from pathlib import Path

import pytest

from tests.cdn.caches import running
from tests.patience import CLIENT_SECONDS
from tests.ports import kept_port

SECRET = "v1.2026-11.1795723200.anna.2.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
ADDRESSES = (
    f"/t/{SECRET}/live/demo/master.m3u8",
    f"/t/{SECRET}/media/film.mp4",
    f"/live/demo/master.m3u8?token={SECRET}",
    f"/live/demo/ingest?key={SECRET}",
    f"/events/chat?token={SECRET}",
)


@pytest.mark.parametrize("kind", ["signed", "secure-link", "plain", "websocket", "fleet"])
def test_an_origin_that_is_away_leaves_no_token_in_the_logs(kind: str, tmp_path: Path) -> None:
    (tmp_path / "secrets.conf").write_text(
        'map "" $link_secret { default "a secret"; }\nmap "" $origin_token { default "v1.x"; }\n'
    )
    with (
        kept_port() as nobody,
        running(kind, f"127.0.0.1:{nobody}", tmp_path) as cache,
    ):
        for address in ADDRESSES:
            connection = http.client.HTTPConnection(*cache.address, timeout=CLIENT_SECONDS)
            connection.request("GET", address)
            assert connection.getresponse().status >= 400
            connection.close()
    written = [path for path in tmp_path.rglob("*") if path.is_file() and SECRET in path.read_text("latin-1")]
    assert written == []
