"""A station that is hidden plays by its address, and stands in no list but the administrator's."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.conftest import start_server
from tests.e2e.station_tones import tone
from tests.keys import ADMIN_TOKEN, BEARER
from tests.patience import CLIENT_SECONDS
from tests.waiting import wait_for

CONFIG = f"""
[server]
port = 0
admin_token = "{ADMIN_TOKEN}"

[[radio]]
name = "secret"
folder = "music"
bitrate = 64
hidden = true

[[radio]]
name = "known"
folder = "music"
bitrate = 64
"""


@pytest.mark.promise("radio.hidden")
def test_a_hidden_station_plays_and_is_in_no_list(tmp_path: Path) -> None:
    (tmp_path / "music").mkdir()
    (tmp_path / "music" / "one.mp3").write_bytes(tone(440, 6))
    (tmp_path / "headwater.toml").write_text(CONFIG)
    server = start_server(cwd=tmp_path)
    with httpx.Client(base_url=server.url, timeout=CLIENT_SECONDS) as client:

        def names(**headers: str) -> set[str]:
            return {one["name"] for one in client.get("/api/radio", headers=headers).json()}

        wait_for(lambda: "/radio/known" in client.get("/status-json.xsl").text, "the stations are on air")
        with client.stream("GET", "/radio/secret") as stream:
            assert stream.status_code == 200
        assert names() == {"known"}
        assert names(**BEARER) == {"known", "secret"}
        assert [one["name"] for one in client.get("/api/item/radio/secret").json()] == ["secret"]
        for path in ("/status-json.xsl", "/status.xsl"):
            assert "secret" not in client.get(path).text
        for path in ("/admin/stats", "/admin/listmounts"):
            assert "secret" in client.get(path, auth=("admin", ADMIN_TOKEN)).text
    assert server.stop() == 0
