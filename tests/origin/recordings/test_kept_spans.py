"""Spans that become recordings: by rule and by request, longer than the DVR, and over kills."""

from __future__ import annotations

import itertools
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx
import m3u8
import pytest

from packager.recordings.kept_spans import SPANS
from tests.conftest import start_server
from tests.copied_channel import RATE
from tests.patience import CLIENT_SECONDS
from tests.programmed_channel import (
    ADMIN,
    configure,
    dates,
    keep,
    kill,
    live,
    numbers,
    pictures,
    playlist,
    put,
    recordings,
)
from tests.waiting import wait_for

SHORT_DVR = 'dvr = "10s"'


def test_a_programme_longer_than_the_dvr_has_its_address_for_ever(tmp_path: Path) -> None:
    configure(tmp_path, SHORT_DVR, 'record = "programmes"')
    server = start_server(cwd=tmp_path)
    try:
        wait_for(lambda: len(live(server).segments) > 3, "some segments")
        start = dates(server)[2] + 0.5
        end = time.time() + 40
        assert put(server, [{"id": "long", "start": start, "end": end, "title": "Long"}]).status_code == 200
        first = numbers(playlist(server, "long"))[0]
        wait_for(lambda: dates(server)[0] > start + 3, "the DVR to forget its beginning")
        # The next process goes on with it.
        kill(server)
        server = start_server(cwd=tmp_path)
        wait_for(lambda: recordings(server), "the recording of the programme")
        (recording,) = recordings(server)
        assert (recording["title"], recording["programme"], recording["pinned"]) == ("Long", "long", True)
        wait_for(lambda: dates(server)[0] > start + 3, "the DVR")
        whole = playlist(server, "long")
        assert whole is not None
        assert whole.is_endlist
        found = numbers(whole)
        assert found[0] == first
        assert found[-1] - found[0] >= 38
        # Nothing is missing but what the server didn't make while it was away, behind a discontinuity.
        breaks = [one for one in whole.segments if one.discontinuity]
        holes = sum(after != before + 1 for before, after in itertools.pairwise(found))
        assert len(breaks) >= 1
        assert holes <= len(breaks)
        master = f"{server.url}/live/a/master.m3u8?programme=long"
        assert httpx.get(master).status_code == 302
        lone = httpx.get(f"{server.url}/live/a/source/iframes.m3u8?programme=long", follow_redirects=True)
        assert numbers(m3u8.loads(lone.text)) == found
        assert pictures(master) == sum(round(one.duration * RATE) for one in whole.segments)
        assert httpx.get(f"{server.url}/live/a/clip.mp4?programme=long").status_code == 302
        (entry,) = httpx.get(f"{server.url}/api/live/a/programmes").json()
        assert entry["recording"] == recording["id"]
        # What is a recording isn't changed any more.
        answer = put(server, [])
        assert answer.json() == {"programmes": 1, "unchanged": ["long"]}
        segment = f"{server.url}/live/a/source/{found[0]}.m4s"
        assert httpx.get(segment).status_code == 200, "the live address of a segment that left the DVR"
        pending = tmp_path / "data" / "live" / "a" / "pending"
        wait_for(lambda: not pending.exists(), "nothing to be left of what was collected")
        url = f"{server.url}/live/a/recordings/{recording['id']}"
        assert httpx.delete(url).status_code == 401
        assert httpx.delete(url, headers=ADMIN).status_code == 204
        assert httpx.delete(url, headers=ADMIN).status_code == 404
        wait_for(lambda: httpx.get(master).status_code == 404, "the programme to be gone")
    finally:
        server.stop()


@pytest.mark.promise("live.record")
def test_a_recorded_programme_has_the_pictures_and_the_sound_that_the_dvr_has(tmp_path: Path) -> None:
    configure(tmp_path, 'dvr = "1h"', 'playlist_window = "1s"', 'record = "programmes"')
    server = start_server(cwd=tmp_path)
    try:
        wait_for(lambda: len(live(server).segments) > 5, "some segments")
        start = dates(server)[1] + 0.5
        assert put(server, [{"id": "short", "start": start, "end": start + 2}]).status_code == 200
        wait_for(lambda: recordings(server), "the recording of the programme")
        wait_for(lambda: dates(server)[0] > start + 3, "it has left the list")
        master = f"{server.url}/live/a/master.m3u8?programme=short"
        assert "/recordings/" in httpx.get(master, follow_redirects=True).url.path
        for name, kind in (("thumbnails.vtt", "text/vtt"), ("clip.m4a", "audio/mp4")):
            url = f"{server.url}/live/a/{name}?programme=short"
            answer = httpx.get(url, follow_redirects=True, timeout=CLIENT_SECONDS)
            assert (answer.status_code, name in answer.url.path) == (200, True), answer.text
            assert answer.headers["content-type"].startswith(kind)
    finally:
        server.stop()


def test_a_programme_that_ends_while_the_server_is_away_is_kept_as_far_as_it_came(tmp_path: Path) -> None:
    configure(tmp_path, SHORT_DVR, 'record = "programmes"')
    server = start_server(cwd=tmp_path)
    pending = tmp_path / "data" / "live" / "a" / "pending" / "source"
    try:
        wait_for(lambda: len(live(server).segments) > 3, "some segments")
        start = dates(server)[1] + 0.5
        end = time.time() + 12
        assert put(server, [{"id": "cut", "start": start, "end": end}]).status_code == 200
        wait_for(lambda: len(list(pending.glob("*.m4s"))) > 4, "segments of the programme to be kept")
        kill(server)
        # Longer than the DVR, too.
        wait_for(lambda: time.time() > end + 12, "the end of the programme")
        server = start_server(cwd=tmp_path)
        wait_for(lambda: recordings(server), "the recording of the programme", seconds=90)
        (recording,) = recordings(server)
        assert recording["programme"] == "cut"
        assert recording["duration"] > 4
        wait_for(lambda: not pending.exists(), "nothing to be left of what was collected")
    finally:
        server.stop()


def test_who_has_a_span_kept_or_forgotten_asks_again_where_the_disk_takes_no_change(tmp_path: Path) -> None:
    configure(tmp_path, SHORT_DVR)
    server = start_server(cwd=tmp_path)
    spans = tmp_path / "data" / "live" / "a" / SPANS
    try:
        wait_for(lambda: len(live(server).segments) > 1, "some segments")
        start = time.time() + 3600
        kept = keep(server, start, start + 60).json()["span"]
        spans.rename(tmp_path / SPANS)
        (spans / "folder").mkdir(parents=True)
        for refused in (
            keep(server, start, start + 90),
            httpx.delete(f"{server.url}/live/a/recordings/{kept}", headers=ADMIN),
        ):
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "5"), refused.text
        (spans / "folder").rmdir()
        spans.rmdir()
        (tmp_path / SPANS).rename(spans)
        assert keep(server, start, start + 90).status_code == 202
        assert httpx.delete(f"{server.url}/live/a/recordings/{kept}", headers=ADMIN).status_code == 204
    finally:
        server.stop()


def shown(*arguments: str) -> list[str]:
    """Return the hashes of the pictures that ffmpeg shows of an address."""
    command = ["ffmpeg", "-nostdin", "-v", "error", *arguments, "-map", "0:v", "-fps_mode", "passthrough"]
    done = subprocess.run(
        [*command, "-f", "framemd5", "-"], check=True, capture_output=True, text=True, timeout=CLIENT_SECONDS
    )
    return [line.rpartition(",")[2].strip() for line in done.stdout.splitlines() if not line.startswith("#")]


def test_a_span_that_begins_and_ends_within_segments_is_kept_to_the_picture(tmp_path: Path) -> None:
    configure(tmp_path, SHORT_DVR)
    server = start_server(cwd=tmp_path)
    try:
        wait_for(lambda: len(live(server).segments) > 5, "some segments")
        begin = dates(server)[1]
        asked = keep(server, begin + 0.5, begin + 2.75)
        assert asked.status_code == 201, asked.text
        made = asked.json()["recording"]
        # What is shown, not the three segments.
        assert made["duration"] == pytest.approx(2.25, abs=0.01)
        address = f"{server.url}/live/a/recordings/{made['id']}"
        listed = m3u8.loads(httpx.get(f"{address}/source/media.m3u8").text)
        # ffmpeg shows whole segments: all that the span touches.
        whole = shown("-i", f"{address}/source/media.m3u8")
        assert len(whole) == len(listed.segments) * RATE == 3 * RATE
        assert len(set(whole)) == len(whole)
        assert shown("-i", f"{address}/event.mp4") == whole[RATE // 2 : 2 * RATE + 3 * RATE // 4]
        assert listed.start is not None
        assert listed.start.precise == "YES"
        seek = ("-i", f"{address}/source/media.m3u8", "-ss", str(listed.start.time_offset))
        assert shown(*seek) == whole[RATE // 2 :]
    finally:
        server.stop()


def test_any_span_is_kept_before_and_after_it_comes(tmp_path: Path) -> None:
    configure(tmp_path, SHORT_DVR)
    server = start_server(cwd=tmp_path)
    try:
        wait_for(lambda: len(live(server).segments) > 5, "some segments")
        begin = dates(server)[1]
        past = keep(server, begin + 0.5, begin + 2.5, "  After\nit ")
        assert past.status_code == 201, past.text
        made = past.json()["recording"]
        assert made["title"] == "After it"
        found = m3u8.loads(httpx.get(f"{server.url}/live/a/recordings/{made['id']}/source/media.m3u8").text)
        assert len(found.segments) == 3
        assert made["start"] == pytest.approx(begin, abs=0.05)
        again = keep(server, begin + 0.5, begin + 2.5, "  After\nit ").json()["recording"]
        assert again["id"] == made["id"], "the same request again makes no other one"
        now = time.time()
        coming = keep(server, now + 1, now + 6, "Before it")
        assert (coming.status_code, coming.json()["state"]) == (202, "waiting")
        dropped = keep(server, now + 100, now + 200).json()["span"]
        kill(server)
        server = start_server(cwd=tmp_path)
        url = f"{server.url}/live/a/recordings"
        assert httpx.delete(f"{url}/{dropped}", headers=ADMIN, timeout=60).status_code == 204
        assert httpx.delete(f"{url}/{dropped}", headers=ADMIN, timeout=60).status_code == 404
        wait_for(lambda: {one["title"] for one in recordings(server)} == {"After it", "Before it"}, "both")
        assert keep(server, 1000, 2000).status_code == 404, "nothing of that time is kept"
        bodies: list[Any] = [
            {"start": 2, "end": 1},
            {"start": 1},
            {"start": 1, "end": "x"},
            [],
            {"start": 0, "end": 1e10},
        ]
        for body in bodies:
            assert httpx.post(url, json=body, headers=ADMIN).status_code == 400, body
        key = {"authorization": "Bearer none"}
        assert httpx.post(url, json={"start": 1, "end": 2}, headers=key).status_code == 401
        json = {**ADMIN, "content-type": "application/json"}
        assert httpx.post(url, content=b"x" * 99_999, headers=json).status_code == 413
        assert httpx.get(f"{server.url}/health").json().get("troubles", {}) == {}
    finally:
        server.stop()


@pytest.mark.promise("live.recordings_size")
def test_pinned_recordings_have_a_bound_and_are_never_removed_by_age(tmp_path: Path) -> None:
    configure(tmp_path, SHORT_DVR, 'recordings = "1s"', 'recordings_size = "100000"')
    server = start_server(cwd=tmp_path)
    try:
        wait_for(lambda: len(live(server).segments) > 5, "some segments")
        begin = dates(server)[1]
        assert keep(server, begin + 0.5, begin + 3.5).status_code == 201
        assert keep(server, begin + 0.5, begin + 2.5).status_code == 507

        def troubles() -> str:
            found: dict[str, str] = httpx.get(f"{server.url}/health").json().get("troubles", {})
            return found.get("live/a", "")

        wait_for(lambda: "recordings_size" in troubles(), "the reason", seconds=90)
        # Older than the second for which recordings are kept, behind a look for old ones.
        assert len(recordings(server)) == 1
    finally:
        server.stop()


def test_a_publication_is_a_recording_when_its_publisher_has_gone(tmp_path: Path) -> None:
    channel = 'name = "p"\nsource = "publish"\npublish_key = "a-key-of-publishers"\nladder = ["source"]\n'
    rule = 'record = "publications"\nsegment_duration = 1.0\n'
    config = f'[server]\nport = 0\ndata = "data"\n[[live]]\n{channel}{rule}'
    (tmp_path / "headwater.toml").write_text(config)
    server = start_server(cwd=tmp_path)
    url = f"{server.url}/live/p/ingest?key=a-key-of-publishers"
    source = "-re -f lavfi -i testsrc2=size=320x180:rate=12 -f lavfi -i sine=sample_rate=48000 -t 6"
    coded = "-c:v libx264 -preset ultrafast -g 12 -pix_fmt yuv420p -c:a aac -f mpegts -method PUT"
    try:
        for count in (1, 2):
            words = ["ffmpeg", "-nostdin", "-v", "error", *source.split(), *coded.split(), url]
            subprocess.run(words, check=True, timeout=CLIENT_SECONDS)
            wait_for(lambda: len(recordings(server, "p")) == count, "the recording", seconds=90)  # noqa: B023
        channel_text = httpx.get(f"{server.url}/live/p/source/media.m3u8", timeout=60).text
        published = [one for one in m3u8.loads(channel_text).segments if not one.gap_tag]
        found = []
        for one in reversed(recordings(server, "p")):
            assert not one["pinned"]
            assert one["duration"] == pytest.approx(6, abs=0.5)
            text = httpx.get(server.url + one["hls"].replace("master", "source/media"), timeout=60).text
            found += (segments := m3u8.loads(text).segments)
            count = sum(round(each.duration * 12) for each in segments)
            assert pictures(server.url + one["hls"]) == count
            assert pictures(server.url + one["mp4"]) == count
        assert [one.uri for one in found] == [one.uri for one in published], "all that was published"
    finally:
        server.stop()


@pytest.mark.realtime  # A programme that runs has another peak after some segments.
def test_workers_answer_for_programmes_too(tmp_path: Path) -> None:
    configure(tmp_path, 'dvr = "10m"', server="workers = 2\n")
    server = start_server(cwd=tmp_path)
    try:
        wait_for(lambda: len(live(server).segments) > 3, "some segments")
        now = time.time()
        assert put(server, [{"id": "on", "start": now - 2, "end": now + 500}]).status_code == 200
        # Each connection may reach another worker.
        answers = [httpx.get(f"{server.url}/live/a/master.m3u8?programme=on", timeout=60) for _ in range(12)]
        assert {one.status_code for one in answers} == {200}
        assert len({one.text for one in answers}) == 1
        assert "on" in httpx.get(f"{server.url}/api/live/a/programmes", timeout=60).text
        growing = playlist(server, "on")
        assert growing is not None
        assert growing.playlist_type == "event"
        assert keep(server, now - 2, now).status_code in (201, 202)
        wait_for(lambda: recordings(server), "the recording")
        address = f"{server.url}/live/a/recordings/{recordings(server)[0]['id']}/master.m3u8"
        assert {httpx.get(address, timeout=60).status_code for _ in range(4)} == {200}
    finally:
        server.stop()
