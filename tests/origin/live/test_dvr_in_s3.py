"""A server with its channels' DVR in S3: the same answers from it and its workers, and over restarts."""

from __future__ import annotations

from pathlib import Path

import httpx
import m3u8
import pytest

from tests.conftest import ServerProcess, start_server
from tests.copied_channel import copied_channel
from tests.e2e.station_tones import tone
from tests.s3_server import BUCKET, SECRET, S3Proxy, S3Server
from tests.waiting import wait_for

LISTED = "/live/one.toml/source/"


@pytest.mark.promise("server.dvr_path")
def test_a_dvr_in_s3_is_served_by_workers_and_after_a_restart(
    s3_server: S3Server, s3_proxy: S3Proxy, tmp_path: Path
) -> None:
    config = tmp_path / "headwater.toml"
    channel = copied_channel("one.toml", "segment_duration = 1.0", "part_duration = 0.5", 'dvr = "1h"')
    config.write_text(f'[server]\nport = 0\nworkers = 1\ndvr_path = "s3://{BUCKET}/restarted"\n{channel}')
    environment = s3_server.environment(s3_proxy.url)
    server = start_server("--config", str(config), env=environment)
    try:
        first = wait_for(lambda: _listed(server)[:1], "a segment")[0]
        data = httpx.get(f"{server.url}{LISTED}{first}", timeout=60)
        wait_for(lambda: len(_listed(server)) > 9, "the first segment to leave memory")
    finally:
        server.stop()
    assert s3_proxy.asked("PUT", f"/live/one.toml/dvr/source/{first.partition('.')[0]}-")
    server = start_server("--config", str(config), env=environment)
    try:
        wait_for(lambda: first in _listed(server), "what was there before")
        again = httpx.get(f"{server.url}{LISTED}{first}", timeout=60)
        assert (again.content, again.headers["etag"]) == (data.content, data.headers["etag"])
        part = httpx.get(f"{server.url}{LISTED}{first}", headers={"range": "bytes=10-99"}, timeout=60)
        assert (part.status_code, part.content) == (206, data.content[10:100])
        assert s3_proxy.asked("GET", f"/source/{first.partition('.')[0]}-")
        second = _listed(server)[1]
        before = _listed(server)
        wait_for(lambda: len(set(_listed(server)).difference(before)) > 1, "two segments of this start")
        asked = len(s3_proxy.asked("GET", "/source/"))
        for name in _listed(server)[-2:]:
            assert httpx.get(f"{server.url}{LISTED}{name}", timeout=60).status_code == 200
        assert len(s3_proxy.asked("GET", "/source/")) == asked  # live media is never fetched from S3
        with s3_proxy.refusing():
            assert httpx.get(f"{server.url}{LISTED}{first}", timeout=60).content == data.content
            refused = httpx.get(f"{server.url}{LISTED}{second}", timeout=60)
            assert (refused.status_code, "retry-after" in refused.headers) == (503, True)
            live = _listed(server)
            wait_for(lambda: _listed(server)[-1] != live[-1], "live media")
            wait_for(
                lambda: "S3" in str(httpx.get(f"{server.url}/health").json().get("troubles")), "the trouble"
            )
        wait_for(lambda: httpx.get(f"{server.url}{LISTED}{second}", timeout=60).status_code == 200, "S3")
    finally:
        server.stop()
    assert "Traceback" not in server.text()
    assert SECRET not in server.text()


def test_a_clip_of_a_dvr_in_s3_is_the_same_from_all_processes_and_after_a_restart(
    s3_server: S3Server, s3_proxy: S3Proxy, tmp_path: Path
) -> None:
    config = tmp_path / "headwater.toml"
    channel = copied_channel("one.toml", "segment_duration = 1.0", "part_duration = 0.5", 'dvr = "1h"')
    config.write_text(f'[server]\nport = 0\nworkers = 2\ndvr_path = "s3://{BUCKET}/clips"\n{channel}')
    environment = s3_server.environment(s3_proxy.url)
    server = start_server("--config", str(config), env=environment)
    try:
        wait_for(lambda: len(_listed(server)) > 9, "the first segment to leave memory")
        playlist = m3u8.loads(httpx.get(f"{server.url}{LISTED}media.m3u8", timeout=60).text)
        segments = [one for one in playlist.segments if one.uri][:5]
        dates = [one.program_date_time.timestamp() for one in segments]
        address = f"/live/one.toml/clip.mp4?start={dates[1] + 0.3:.3f}&end={dates[4] + 0.3:.3f}"
        media = b""
        for one in segments[1:]:
            for rendition in ("source", "audio"):
                place = f"{server.url}/live/one.toml/{rendition}/{one.uri}"
                media += httpx.get(place, timeout=60).content
        answers = [httpx.get(server.url + address, timeout=60) for _ in range(4)]
    finally:
        server.stop()
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.headers["etag"] for answer in answers} == {answers[0].headers["etag"]}
    assert answers[0].content.endswith(media), "the media are those of live"
    server = start_server("--config", str(config), env=environment)
    try:
        wait_for(lambda: segments[0].uri in _listed(server), "what was there before")
        with s3_proxy.refusing():
            refused = httpx.get(server.url + address, timeout=60)
            assert (refused.status_code, "retry-after" in refused.headers) == (503, True)
        wait_for(lambda: httpx.get(server.url + address, timeout=60).status_code == 200, "S3")
        again = httpx.get(server.url + address, headers={"range": "bytes=-5000"}, timeout=60)
        assert (again.status_code, again.content) == (206, answers[0].content[-5000:])
        assert httpx.get(server.url + address, timeout=60).content == answers[0].content
    finally:
        server.stop()
    assert "Traceback" not in server.text()


def test_what_a_station_has_played_is_in_s3_and_there_after_a_restart(
    s3_server: S3Server, s3_proxy: S3Proxy, tmp_path: Path
) -> None:
    (tmp_path / "music").mkdir()
    (tmp_path / "music" / "one.mp3").write_bytes(tone(440, 30))
    station = '[[radio]]\nname = "fm"\nfolder = "music"\nbitrate = 64\nhls_bitrates = [64]\n'
    station += 'dvr = "1h"\nplaylist_window = "1s"\n'
    dvr = f'dvr_path = "s3://{BUCKET}/station"'
    (tmp_path / "headwater.toml").write_text(f"[server]\nport = 0\n{dvr}\n{station}")
    environment, folder = s3_server.environment(s3_proxy.url), "/live/fm/64k/"
    server = start_server(cwd=tmp_path, env=environment)
    try:
        first = wait_for(lambda: _listed(server, folder)[:1], "a segment")[0]
        playlist = m3u8.loads(httpx.get(f"{server.url}{folder}media.m3u8", timeout=60).text)
        start = playlist.segments[0].program_date_time.timestamp()
        span = f"{folder}media.m3u8?start={start + 0.1:.3f}&end={start + 3:.3f}"
        data = httpx.get(f"{server.url}{folder}{first}", timeout=60).content
        wait_for(
            lambda: (listed := _listed(server, folder)) and first not in listed, "what has left the list"
        )
        # A live channel of that name would be beside it.
        assert s3_proxy.asked("PUT", f"/radio/fm/dvr/64k/{first.partition('.')[0]}-")
        before = httpx.get(f"{server.url}{span}", timeout=60)
        assert (before.status_code, first in before.text) == (200, True)
    finally:
        assert server.stop() == 0
    server = start_server(cwd=tmp_path, env=environment)
    try:
        wait_for(lambda: httpx.get(f"{server.url}{span}", timeout=60).status_code == 200, "what was there")
        again = httpx.get(f"{server.url}{span}", timeout=60)
        assert [one.uri for one in m3u8.loads(again.text).segments] == [first]
        assert httpx.get(f"{server.url}{folder}{first}", timeout=60).content == data
    finally:
        assert server.stop() == 0


def _listed(server: ServerProcess, folder: str = LISTED) -> list[str]:
    answer = httpx.get(f"{server.url}{folder}media.m3u8", timeout=60)
    return [line for line in answer.text.splitlines() if line.endswith(".m4s") and not line.startswith("#")]
