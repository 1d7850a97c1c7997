"""The past of a station in a cluster: kept in S3 by whoever makes the station, and the same at all nodes."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import httpx
import m3u8
import pytest

from tests.conftest import ServerProcess, start_server
from tests.e2e.station_tones import tone
from tests.keys import ADMIN_TOKEN, BEARER
from tests.origin.cluster.nodes import nodes, segments
from tests.patience import CLIENT_SECONDS
from tests.redis_server import RedisServer
from tests.s3_server import BUCKET, SECRET, S3Proxy, S3Server
from tests.waiting import wait_for

pytestmark = pytest.mark.timeout(900)

STATION = f"""
[server]
admin_token = "{ADMIN_TOKEN}"
[[radio]]
name = "fm"
folder = "music"
bitrate = 64
dvr = "1h"
playlist_window = "1s"
hls_bitrates = [48]
"""
RENDITION = "/live/fm/48k"
TUNE_SECONDS = 6
AWAY = 3
"""Segments that have left the list, behind the one that is asked for: also the titles of a span are gone."""


def test_every_node_has_the_same_past_of_a_station_over_takeovers_and_restarts(
    tmp_path: Path,
    redis_server: RedisServer,
    s3_server: S3Server,
    s3_proxy: S3Proxy,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in s3_server.environment(s3_proxy.url).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HEADWATER_SERVER_DVR_PATH", f"s3://{BUCKET}/stations")
    (tmp_path / "music").mkdir()
    for pitch in (600, 1000):
        (tmp_path / "music" / f"{pitch}.mp3").write_bytes(tone(pitch, TUNE_SECONDS, title=f"Tone {pitch}"))
    with nodes(tmp_path, redis_server, "packager", "packager", "edge", channels=STATION) as every:
        # Nobody has asked for it.
        wait_for(lambda: all(map(_encodes, every[:2])), "the encoders")
        wait_for(lambda: sum(map(_owns, every)) == 1, "an owner")
        wait_for(lambda: all(map(_listed, every)), "the station everywhere")
        first = _listed(every[2])[0]
        began = _date(every[2]) + 0.5
        wait_for(lambda: all(_has_left(one, first) for one in every), "what leaves the playlist")
        number = first.partition(".")[0]
        assert s3_proxy.asked("PUT", f"/radio/fm/dvr/48k/{number}-")
        assert not s3_proxy.asked("/live/fm"), "a live channel may have the name"
        window = f"?start={began:.3f}&end={began + 9:.3f}"
        span, heard = f"{RENDITION}/media.m3u8{window}", f"/radio/fm{window}"
        wait_for(lambda: all(_is_for_ever(one, span) for one in every), "what doesn't change any more")
        known = {
            path: _same(every, path)
            for path in (span, heard, f"/live/fm/manifest.mpd{window}", f"{RENDITION}/{first}")
        }
        assert first in known[span].text
        assert known[heard].url.path == "/live/fm/clip.m4a"
        assert len({(one["available_from"], one["window_hours"]) for one in map(_described, every)}) == 1
        assert _described(every[2])["available_from"] < began
        programme = [{"id": "news", "start": began, "end": began + 9, "title": "News"}]
        put = httpx.put(f"{every[2].url}/live/fm/programmes", json=programme, headers=BEARER, timeout=30)
        assert put.status_code == 200, put.text
        for one in every:
            wait_for(lambda one=one: _titles(one) == ["News"], "its programme")  # type: ignore[misc]

        owner = next(one for one in every if _owns(one))
        left = [one for one in every if one is not owner]
        owner.process.send_signal(signal.SIGKILL)
        owner.process.wait()
        wait_for(lambda: sum(map(_owns, left)) == 1, "the standby's lease")
        killed = _listed(left[1])[-1]
        wait_for(lambda: all(_has_left(one, killed) for one in left), "what came before the kill")
        until = _date(left[1]) - TUNE_SECONDS - 2
        over = f"{RENDITION}/media.m3u8?start={began:.3f}&end={until:.3f}"
        wait_for(lambda: all(_is_for_ever(one, over) for one in left), "what doesn't change any more")
        known[over] = _same(left, over)
        listed = [int(one.partition(".")[0]) for one in segments(known[over].text)]
        missing = set(range(listed[0], listed[-1] + 1)).difference(listed)
        assert len(missing) <= 4, "what nobody made before the takeover"
        _check_same(left, known)

        # Once all packagers are gone, another one finds in S3 what was there.
        left[0].process.kill()
        left[0].process.wait()
        every.append(start_server("--config", str(tmp_path / "headwater.toml"), "--port", "0", cwd=tmp_path))
        wait_for(lambda: _owns(every[-1]), "the lease of a third one")
        newest = _listed(left[1])[-1:]
        wait_for(lambda: _listed(every[-1])[-1:] > newest, "what it makes")
        both = [left[1], every[-1]]
        wait_for(lambda: _listed(both[0])[-1:] == _listed(both[1])[-1:], "what it makes, at the edge")
        _check_same(both, known)

        # Who asks while Redis is away is answered from S3, too.
        redis_server.kill()
        try:
            wait_for(lambda: "cluster" in str(_get(both[0], "/health").json().get("troubles")), "the outage")
            _check_same(both, known)
        finally:
            redis_server.start()
        assert all(SECRET not in one.text() for one in every)
        assert all("Traceback" not in one.text() for one in every)


def _get(one: ServerProcess, path: str) -> httpx.Response:
    return httpx.get(f"{one.url}{path}", timeout=CLIENT_SECONDS, follow_redirects=True)


def _encodes(one: ServerProcess) -> bool:
    return any(b"output_ts_offset" in line for line in one.command_lines().values())


def _owns(one: ServerProcess) -> bool:
    if one.process.poll() is not None:
        return False
    return 'headwater_cluster_owner{channel="fm"} 1.0' in _get(one, "/metrics").text


def _listed(one: ServerProcess) -> list[str]:
    answer = _get(one, f"{RENDITION}/media.m3u8")
    return segments(answer.text) if answer.status_code == 200 else []


def _date(one: ServerProcess) -> float:
    found = m3u8.loads(_get(one, f"{RENDITION}/media.m3u8").text).segments[0].program_date_time
    assert found is not None
    return float(found.timestamp())


def _has_left(one: ServerProcess, name: str) -> bool:
    listed = _listed(one)
    return bool(listed) and int(listed[0].partition(".")[0]) > int(name.partition(".")[0]) + AWAY


def _is_for_ever(one: ServerProcess, path: str) -> bool:
    return "immutable" in _get(one, path).headers.get("cache-control", "")


def _same(every: list[ServerProcess], path: str) -> httpx.Response:
    """Ask all nodes; return their answer, which is one."""
    answers = [_get(one, path) for one in every]
    assert {one.status_code for one in answers} == {200}, path
    assert len({(one.content, one.headers["etag"]) for one in answers}) == 1, path
    return answers[0]


def _check_same(every: list[ServerProcess], known: dict[str, httpx.Response]) -> None:
    """Check that nodes answer as before."""
    for path, answer in known.items():
        again = _same(every, path)
        assert (again.content, again.headers["etag"]) == (answer.content, answer.headers["etag"]), path


def _described(one: ServerProcess) -> dict[str, float]:
    (station,) = _get(one, "/api/radio").json()
    return {name: station[name] for name in ("available_from", "window_hours")}


def _titles(one: ServerProcess) -> list[str]:
    answer = _get(one, f"/api/live/fm/programmes?start=now-1h&end={time.time():.0f}")
    return [each["title"] for each in answer.json()] if answer.status_code == 200 else []
