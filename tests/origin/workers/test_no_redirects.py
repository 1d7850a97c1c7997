"""No address leads to where a request's Host field says, in one process or several."""

from __future__ import annotations

import pytest

from tests.conformance.raw import Client
from tests.conftest import ServerProcess

PATHS = (
    "/media",
    "/media/film.mp4/",
    "/vod",
    "/vod/film.mp4/master.m3u8/",
    "/player",
    "/player/page.js/",
    "/embed/vod/",
    "/api/time/",
    "/api/signed/",
    "/api/library/",
    "/events/news/",
    "/radio/",
    "/live/",
    "/metrics/",
    "/health/",
    "/status-json.xsl/",
    "/admin",
    "/admin/stats/",
)


@pytest.mark.clause("RFC 9110 §7.2", "CWE-601")
@pytest.mark.parametrize("path", PATHS)
def test_no_address_leads_to_where_the_host_field_says(
    alone: ServerProcess, three: ServerProcess, path: str
) -> None:
    statuses = set()
    for server in (alone, three):
        host, _, port = server.url.removeprefix("http://").rpartition(":")
        with Client((host, int(port))) as client:
            client.send(f"GET {path} HTTP/1.1\r\nHost: localhost.elsewhere.localhost\r\n\r\n")
            answer = client.answer()
        assert "elsewhere" not in str(answer.fields)
        statuses.add(answer.status)
    assert len(statuses) == 1
    assert not statuses & set(range(300, 400))
