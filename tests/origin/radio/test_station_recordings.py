"""What source clients sent to a station, and its programmes, become recordings by rule, with their titles."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import httpx
import m3u8
import pytest

from origin.config.load import validate
from origin.config.warnings import unserved
from tests.conftest import ServerProcess, start_server
from tests.keys import ADMIN_TOKEN, BEARER
from tests.origin.radio.listed_stations import SENT, SENT_SOUND, get, listed, media, pitches
from tests.patience import CLIENT_SECONDS, patient_server
from tests.processes import end
from tests.station_source import source_client
from tests.waiting import wait_for

pytestmark = pytest.mark.timeout(900)

CONFIG = f"""
[server]
port = 0
data = "data"
admin_token = "{ADMIN_TOKEN}"
[[radio]]
name = "talk"
source = "publish"
source_password = "sesame"
record = "all"
hls_bitrates = [64]
"""
RENDITION = "/live/talk/64k/media.m3u8"


def sent(server: ServerProcess) -> list[m3u8.Segment]:
    return media(listed(server, RENDITION))


def recordings(server: ServerProcess) -> dict[str, dict[str, Any]]:
    (station,) = get(server, "/api/radio").json()
    return {one["title"]: one for one in station["recordings"]}


def share_of_tone(file: Path) -> float:
    """How much of a file is the tone that was sent, as ffmpeg decodes it."""
    heard = pitches(file)
    return heard.count(SENT) / len(heard)


@pytest.mark.promise("radio.record", "radio.recordings")
def test_a_source_client_and_a_programme_become_recordings_with_titles(tmp_path: Path) -> None:
    (tmp_path / "headwater.toml").write_text(CONFIG)
    server = start_server(cwd=tmp_path, program=patient_server())
    source = source_client(server, "talk", SENT_SOUND)
    try:
        wait_for(lambda: sent(server), "the first segment")
        song = {"mount": "/radio/talk", "mode": "updinfo", "song": "Ada - Hello"}
        get(server, "/admin/metadata", params=song, auth=("source", "sesame")).raise_for_status()
        wait_for(lambda: "Ada - Hello" in get(server, RENDITION).text, "its title")
        wait_for(lambda: len(sent(server)) >= 6, "six segments")
        heard = sent(server)
        begin = heard[1].program_date_time.timestamp() + 0.1
        programme = [{"id": "news", "start": begin, "end": begin + 6, "title": "News"}]
        url = f"{server.url}/live/talk/programmes"
        assert httpx.put(url, json=programme, headers=BEARER, timeout=CLIENT_SECONDS).status_code == 200
        wait_for(lambda: "News" in recordings(server), "the programme's recording")
        end(source)
        wait_for(lambda: len(recordings(server)) == 2, "what the source client has sent")
        kept, ended = recordings(server), time.time()
        for title, wanted in (("News", heard[1:3]), ("", heard)):
            playlist = get(server, kept[title]["hls"].replace("master", "64k/media"))
            found = m3u8.loads(playlist.text)
            assert found.is_endlist
            assert {one.uri for one in wanted} <= {one.uri for one in found.segments}
        assert 'X-TITLE="Ada - Hello"' in playlist.text
        (tmp_path / "sent.mp4").write_bytes(get(server, kept[""]["mp4"]).raise_for_status().content)
        assert share_of_tone(tmp_path / "sent.mp4") > 0.8
        assert server.stop() == 0
        (tmp_path / "headwater.toml").write_text(f'{CONFIG}recordings = "1s"\n')
        wait_for(lambda: time.time() > ended + 1.0, "the time for which it is kept to be over")
        server = start_server(cwd=tmp_path, program=patient_server())
        wait_for(lambda: recordings(server).keys() == {"News"}, "the old recording of a client to be removed")
    finally:
        end(source)
        assert server.stop() == 0


def test_the_file_of_a_recorded_programme_stays_at_its_address(tmp_path: Path) -> None:
    (tmp_path / "headwater.toml").write_text(f'{CONFIG}dvr = "8s"\n')
    server = start_server(cwd=tmp_path, program=patient_server())
    source = source_client(server, "talk", SENT_SOUND)
    try:
        wait_for(lambda: len(sent(server)) >= 3, "some segments")
        begin = sent(server)[1].program_date_time.timestamp() + 0.1
        programme = [{"id": "news", "start": begin, "end": begin + 6, "title": "News"}]
        url = f"{server.url}/live/talk/programmes"
        assert httpx.put(url, json=programme, headers=BEARER, timeout=CLIENT_SECONDS).status_code == 200
        wait_for(lambda: "News" in recordings(server), "the programme's recording")
        wait_for(lambda: sent(server)[0].program_date_time.timestamp() > begin + 6, "it has left the station")
        answer = get(server, "/live/talk/clip.m4a?programme=news", follow_redirects=True)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "audio/mp4"), answer.text
        assert answer.url.path == recordings(server)["News"]["mp4"]
        (tmp_path / "news.m4a").write_bytes(answer.content)
        assert share_of_tone(tmp_path / "news.m4a") > 0.8
    finally:
        end(source)
        assert server.stop() == 0


@pytest.mark.parametrize(
    ("station", "sections", "told"),
    [
        ({"hls": False}, {"server": {"data": "data"}}, "only a station in HLS has recordings"),
        ({}, {}, "recordings are made in server.data"),
        (
            {"record": "publications"},
            {"server": {"data": "data"}},
            "only source = 'publish' has source clients",
        ),
        (
            {},
            {"server": {"data": "data"}, "cluster": {"url": "redis://127.0.0.1"}},
            "nodes of a cluster keep recordings in server.dvr_path alone",
        ),
        (
            {},
            {"server": {"dvr_path": "s3://a/b"}, "cluster": {"url": "redis://127.0.0.1", "role": "packager"}},
            "recordings are made in server.data",
        ),
    ],
)
def test_a_rule_without_effect_is_told_at_the_start(
    station: dict[str, Any], sections: dict[str, Any], told: str
) -> None:
    config = validate({"radio": [{"name": "fm", "record": "all", **station}], **sections}, "a test")
    assert list(unserved(config)) == [f"radio 'fm': record: {told}"]
