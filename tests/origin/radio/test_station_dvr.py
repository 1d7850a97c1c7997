"""What stations have played, as a real server keeps it: rewound, as files, and over a kill."""

from __future__ import annotations

import itertools
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import m3u8
import numpy as np
import pytest

from origin.config.load import validate
from origin.config.warnings import unserved
from tests.conftest import ServerProcess, start_server
from tests.keys import ADMIN_TOKEN, BEARER
from tests.origin.radio.listed_stations import (
    SENT,
    SENT_SOUND,
    date,
    get,
    listed,
    media,
    number,
    pitches,
    write_tunes,
)
from tests.patience import CLIENT_SECONDS, patient_server
from tests.processes import end
from tests.station_source import source_client
from tests.waiting import wait_for

pytestmark = pytest.mark.timeout(1800)

CONFIG = f"""
[server]
port = 0
data = "data"
admin_token = "{ADMIN_TOKEN}"
[[radio]]
name = "fm"
folder = "music"
bitrate = 64
dvr = "1h"
[[radio]]
name = "talk"
source = "publish"
source_password = "sesame"
dvr = "1h"
hls_bitrates = [64]
[[radio]]
name = "plain"
folder = "music"
hls = false
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stations")
    write_tunes(folder, 600, 1000, 1400)
    (folder / "headwater.toml").write_text(CONFIG)
    return folder


def fetched(server: ServerProcess, station: str, segments: list[m3u8.Segment]) -> dict[str, bytes]:
    return {
        str(one.uri): get(server, f"/live/{station}/64k/{one.uri}").raise_for_status().content
        for one in segments
    }


def is_stored(folder: Path, station: str, segment: m3u8.Segment) -> bool:
    index = folder / "data" / "radio" / station / "dvr" / "64k" / "index"
    return f'"number":{number(segment)},' in index.read_text()


class Run:
    """A server that was killed, and runs again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.known: dict[str, dict[str, bytes]] = {}
        server = start_server(cwd=folder, program=patient_server())
        source = source_client(server, "talk", SENT_SOUND)
        try:
            for station in ("fm", "talk"):
                path = f"/live/{station}/64k/media.m3u8"
                segments = wait_for(
                    lambda path=path: found if len(found := media(listed(server, path))) >= 6 else [],  # type: ignore[misc]
                    what=f"six segments of {station}",
                )
                wait_for(
                    lambda station=station, last=segments[-1]: is_stored(folder, station, last),  # type: ignore[misc]
                    what="the segments on disk",
                )
                self.known[station] = fetched(server, station, segments)
        finally:
            server.process.kill()
            server.process.wait()
            end(source)
        self.killed = time.time()
        self.server = start_server(cwd=folder, program=patient_server())
        self.source = source_client(self.server, "talk", SENT_SOUND)

    def behind(self, station: str) -> list[m3u8.Segment]:
        """The segments since the kill."""
        found = media(listed(self.server, f"/live/{station}/64k/media.m3u8"))
        return [one for one in found if date(one) > self.killed]

    def end(self) -> int:
        end(self.source)
        return self.server.stop()


@pytest.fixture(scope="module")
def run(folder: Path) -> Iterator[Run]:
    run = Run(folder)
    try:
        for station in run.known:
            wait_for(
                lambda station=station: len(run.behind(station)) >= 3,  # type: ignore[misc]
                what="segments behind the restart",
            )
        yield run
    finally:
        status = run.end()
    assert status == 0


@pytest.mark.parametrize("station", ["fm", "talk"])
def test_a_kill_loses_nothing_that_was_stored_and_dates_never_go_back(run: Run, station: str) -> None:
    known, path = run.known[station], f"/live/{station}/64k/media.m3u8"
    segments = listed(run.server, path)
    numbers = [number(one) for one in segments]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    kept = [one for one in media(segments) if str(one.uri) in known]
    assert fetched(run.server, station, kept) == known
    begins = [one for one in segments if one.discontinuity]
    assert len(begins) == 1, "one for the restart"
    assert date(begins[0]) > run.killed - 1
    for before, after in itertools.pairwise(segments):
        assert date(after) > date(before) + before.duration - 0.5


def test_what_was_before_a_kill_and_behind_it_is_one_file(run: Run, tmp_path: Path) -> None:
    segments = media(listed(run.server, "/live/talk/64k/media.m3u8"))
    since = run.behind("talk")
    start, stop = date(segments[1]), date(since[2])
    answer = get(run.server, f"/radio/talk?start={start:.3f}&end={stop:.3f}", follow_redirects=True)
    assert (answer.status_code, answer.url.path) == (200, "/live/talk/clip.m4a"), answer.text
    assert [one.status_code for one in answer.history] == [302]
    (tmp_path / "clip.m4a").write_bytes(answer.content)
    told = subprocess.run(
        ["ffprobe", "-v", "error", "-show_format", "-of", "json", str(tmp_path / "clip.m4a")],
        check=True,
        capture_output=True,
        timeout=CLIENT_SECONDS,
    )
    wanted = sum(one.duration for one in segments if start <= date(one) < stop - 0.1)
    assert float(json.loads(told.stdout)["format"]["duration"]) == pytest.approx(wanted, abs=0.6)
    heard = pitches(tmp_path / "clip.m4a")
    assert heard.count(SENT) > 0.9 * len(heard), "the pause between the two is left out"


def test_a_title_is_told_at_the_tune_that_is_rewound(run: Run, tmp_path: Path) -> None:
    text = get(run.server, "/live/fm/64k/media.m3u8").text
    ranges = [line for line in text.split("\n") if "X-TITLE=" in line]
    first = next(line for line in ranges[1:] if "Tone" in line)
    begin = np.datetime64(first.partition('START-DATE="')[2].partition('Z"')[0]).astype("datetime64[ms]")
    start = begin.astype(int) / 1000 + 0.5
    path = f"/radio/fm?start={start:.3f}&end={start + 4:.3f}"
    wait_for(lambda: get(run.server, path, follow_redirects=True).status_code == 200, what="four seconds")
    answer = get(run.server, path, follow_redirects=True)
    (tmp_path / "clip.m4a").write_bytes(answer.content)
    pitch = int(first.partition('X-TITLE="Tone ')[2].partition('"')[0])
    assert set(pitches(tmp_path / "clip.m4a")[1:-1]) == {pitch}


@pytest.mark.promise("radio.dvr")
def test_a_station_is_rewound_and_delayed_as_a_channel(run: Run) -> None:
    segments = media(listed(run.server, "/live/fm/64k/media.m3u8"))
    start = date(segments[1]) + 0.1
    text = get(run.server, f"/live/fm/64k/media.m3u8?start={start:.3f}").text
    assert "#EXT-X-PLAYLIST-TYPE:EVENT" in text
    assert media(m3u8.loads(text).segments)[0].uri == segments[1].uri
    age = time.time() - date(segments[2])
    later = m3u8.loads(get(run.server, f"/live/fm/64k/media.m3u8?delay={age:.0f}").text)
    assert abs(number(media(later.segments)[-1]) - number(segments[2])) <= 2


def test_requests_of_a_stations_past_that_cant_be_are_refused(run: Run) -> None:
    never = get(run.server, "/radio/fm?start=never", follow_redirects=True)
    assert (never.status_code, "now-90m" in never.text) == (400, True)
    early = get(run.server, "/radio/fm?start=1700000000&end=1700000060", follow_redirects=True)
    assert early.status_code == 404
    plain = get(run.server, "/radio/plain?start=-60")
    assert (plain.status_code, plain.headers["cache-control"]) == (404, "no-store")
    assert "isn't in HLS" in plain.text
    # Other parameters are the listeners' own.
    for query in ("end=5", "player=x", "strict=1"):
        with httpx.stream("GET", f"{run.server.url}/radio/fm?{query}", timeout=CLIENT_SECONDS) as answer:
            assert (answer.status_code, answer.headers["content-type"]) == (200, "audio/mpeg")


def test_a_programme_of_a_station_has_an_address(run: Run) -> None:
    segments = media(listed(run.server, "/live/fm/64k/media.m3u8"))
    bounds = {"start": f"{date(segments[0]) + 0.1:.3f}", "end": f"{date(segments[2]) - 0.1:.3f}"}
    body = [{"id": "news", **bounds, "title": "News"}]
    url = f"{run.server.url}/live/fm/programmes"
    assert httpx.put(url, json=body, headers=BEARER, timeout=CLIENT_SECONDS).status_code == 200
    (told,) = get(run.server, "/api/live/fm/programmes").json()
    assert (told["id"], told["title"]) == ("news", "News")
    found = m3u8.loads(get(run.server, "/live/fm/64k/media.m3u8?programme=news").text)
    assert found.is_endlist
    assert [one.uri for one in found.segments] == [one.uri for one in segments[:2]]
    answer = get(run.server, "/live/fm/clip.m4a?programme=news", follow_redirects=True)
    assert answer.status_code == 200
    url = f"{run.server.url}/live/fm/recordings"
    kept = httpx.post(url, json={**bounds, "title": "News"}, headers=BEARER, timeout=CLIENT_SECONDS)
    assert (kept.status_code, kept.json()["state"]) == (201, "recorded"), kept.text
    (station,) = [one for one in get(run.server, "/api/radio").json() if one["name"] == "fm"]
    assert station["available_from"] == pytest.approx(date(segments[0]), abs=0.01)
    assert [one["title"] for one in station["recordings"]] == ["News"]
    recorded = get(run.server, kept.json()["recording"]["hls"].replace("master", "64k/media"))
    assert [one.uri for one in m3u8.loads(recorded.text).segments] == [one.uri for one in segments[:2]]


@pytest.mark.parametrize(
    ("station", "sections", "told"),
    [
        ({"hls": False}, {}, "only a station in HLS has one"),
        ({"listener_password": "sesame"}, {}, "only a station in HLS has one"),
        (
            {},
            {"cluster": {"url": "redis://127.0.0.1"}},
            "nodes of a cluster serve a DVR in server.dvr_path alone",
        ),
        (
            {"hls": False},
            {"cluster": {"url": "redis://127.0.0.1"}, "server": {"dvr_path": "s3://bucket/dvr"}},
            "only a station in HLS has one",
        ),
    ],
)
def test_a_dvr_that_a_station_cant_have_is_told_at_the_start(
    station: dict[str, Any], sections: dict[str, Any], told: str
) -> None:
    config = validate({"radio": [{"name": "fm", "dvr": "2h", **station}], **sections}, "a test")
    assert list(unserved(config)) == [f"radio 'fm': dvr: {told}"]
    usual = validate({"radio": [{"name": "fm", "dvr": "2h"}]}, "a test")
    assert not list(unserved(usual))
