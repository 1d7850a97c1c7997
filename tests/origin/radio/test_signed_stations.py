"""A station for holders of tokens has HLS, its past and recordings, by a token for either address."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urljoin

import httpx
import m3u8
import pytest

from origin.config import stations
from origin.config.load import validate
from tests.conftest import ServerProcess, start_server
from tests.keys import ADMIN_TOKEN, BEARER
from tests.origin.radio.listed_stations import SENT_SOUND
from tests.patience import CLIENT_SECONDS, patient_server
from tests.processes import end
from tests.station_source import source_client
from tests.waiting import wait_for

CONFIG = f"""
[server]
port = 0
data = "data"
admin_token = "{ADMIN_TOKEN}"

[[radio]]
name = "talk"
source = "publish"
source_password = "sesame"
access = "signed"
record = "programmes"
dvr = "1h"
hls_bitrates = [64]

[[radio]]
name = "open"
source = "publish"
source_password = "sesame"
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("signed")
    (folder / "headwater.toml").write_text(CONFIG)
    process = start_server(cwd=folder, program=patient_server())
    source = source_client(process, "talk", SENT_SOUND)
    try:
        yield process
    finally:
        end(source)
    assert process.stop() == 0


def get(server: ServerProcess, path: str, **options: Any) -> httpx.Response:
    return httpx.get(urljoin(server.url, path), timeout=CLIENT_SECONDS, **options)


def signed(server: ServerProcess, path: str, **options: Any) -> str:
    wanted = {"path": path, "for": "1h", **options}
    answer = httpx.post(f"{server.url}/api/sign", json=wanted, headers=BEARER, timeout=CLIENT_SECONDS)
    return f"/t/{answer.json()['token']}"


@pytest.fixture(scope="module", params=["/radio/talk", "/live/talk"])
def token(server: ServerProcess, request: pytest.FixtureRequest) -> str:
    return signed(server, request.param, clips=True)


def segments(server: ServerProcess, token: str, query: str = "") -> m3u8.M3U8:
    master = m3u8.loads(get(server, f"{token}/live/talk/master.m3u8{query}").text)
    if not master.playlists:
        return master
    address = urljoin(f"{server.url}{token}/live/talk/master.m3u8", master.playlists[0].uri)
    return m3u8.loads(get(server, address).text, uri=address)


def test_a_token_plays_a_signed_station_in_hls_and_its_past(server: ServerProcess, token: str) -> None:
    wait_for(lambda: len(segments(server, token).segments) >= 3, "three segments")
    live = segments(server, token)
    assert get(server, live.segments[0].absolute_uri).status_code == 200
    assert get(server, f"{token}/live/talk/manifest.mpd").status_code == 200
    begin = live.segments[0].program_date_time.timestamp()
    past = segments(server, token, f"?start={begin}&end={begin + 4}")
    assert past.is_endlist
    assert get(server, past.segments[0].absolute_uri).status_code == 200
    clip = get(server, f"{token}/radio/talk?start={begin}&end={begin + 4}", follow_redirects=True)
    assert (clip.status_code, clip.headers["content-type"]) == (200, "audio/mp4")
    with httpx.stream("GET", f"{server.url}{token}/radio/talk", timeout=CLIENT_SECONDS) as stream:
        assert stream.status_code == 200


def test_a_token_plays_the_recordings_of_a_signed_station(server: ServerProcess, token: str) -> None:
    wait_for(lambda: len(segments(server, token).segments) >= 3, "three segments")
    begin = segments(server, token).segments[0].program_date_time.timestamp()
    programme = [{"id": "news", "start": begin, "end": begin + 4, "title": "News"}]
    url = f"{server.url}/live/talk/programmes"
    assert httpx.put(url, json=programme, headers=BEARER, timeout=CLIENT_SECONDS).status_code == 200

    def recorded() -> list[dict[str, Any]]:
        (station,) = [one for one in get(server, f"{token}/api/radio").json() if one["name"] == "talk"]
        found: list[dict[str, Any]] = station["recordings"]
        return found

    (recording,) = wait_for(recorded, "the recording")
    assert m3u8.loads(get(server, recording["hls"]).text).playlists
    assert get(server, recording["mp4"]).status_code == 200
    stranger = recording["hls"].removeprefix(token)
    assert get(server, stranger).status_code == 403
    listed = get(server, f"{token}/api/live/talk/programmes").json()
    assert [one["title"] for one in listed] == ["News"]


@pytest.mark.parametrize(
    "path", ["master.m3u8", "manifest.mpd", "64k/media.m3u8", "clip.m4a?start=-5&end=-1"]
)
@pytest.mark.parametrize("address", ["", "/radio/open", "/live/talk/64k/media.m3u8/more"])
def test_nobody_else_hears_a_signed_station(server: ServerProcess, path: str, address: str) -> None:
    token = signed(server, address) if address else ""
    assert get(server, f"{token}/live/talk/{path}").status_code == 403


def test_a_token_without_clips_leads_to_no_past(server: ServerProcess) -> None:
    token = signed(server, "/radio/talk")
    assert get(server, f"{token}/live/talk/master.m3u8").status_code == 200
    assert get(server, f"{token}/live/talk/master.m3u8?start=-5&end=-1").status_code == 403
    assert get(server, f"{token}/radio/talk?start=-5&end=-1").status_code == 403


@pytest.mark.parametrize(("channels", "is_in_hls"), [([], False), (["talk"], True)])
def test_in_a_cluster_a_signed_station_is_in_hls_where_all_nodes_may_know_of_it(
    channels: list[str], is_in_hls: bool
) -> None:
    layer = {
        "cluster": {"url": "redis://127.0.0.1:6379/0"},
        "access": {"keys": ["k:a-secret-of-16-signs"], "channels": channels},
        "radio": [{"name": "talk", "source": "publish", "access": "signed"}],
    }
    config = validate(layer, "headwater.toml")
    assert stations.is_in_hls(config.radio[0], config) is is_in_hls
