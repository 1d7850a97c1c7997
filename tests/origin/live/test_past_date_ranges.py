"""Date ranges and timed metadata of what has left the live playlist: as they were while it was listed."""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import httpx
import m3u8
import pytest

from tests.conftest import ServerProcess, start_server
from tests.copied_channel import copied_channel
from tests.keys import ADMIN_TOKEN
from tests.patience import CLIENT_SECONDS
from tests.programmed_channel import ADMIN
from tests.s3_server import BUCKET, S3Proxy, S3Server
from tests.waiting import wait_for

pytestmark = pytest.mark.timeout(600)

EVENT = "{urn:mpeg:dash:schema:mpd:2011}Event"
OPTIONS = 'dvr = "1h"', 'playlist_window = "1s"', "segment_duration = 1.0", "part_duration = 0.25"


@pytest.fixture(scope="module", params=["disk", "s3"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, s3_server: S3Server
) -> Iterator[tuple[ServerProcess, float]]:
    """Serve a channel of which the server before had date ranges; return also when these began."""
    folder: Path = tmp_path_factory.mktemp("ranges")
    is_in_s3 = request.param == "s3"
    env = s3_server.environment() if is_in_s3 else {}
    place = f'dvr_path = "s3://{BUCKET}/past-ranges"\n' if is_in_s3 else ""
    head = f'[server]\nport = 0\ndata = "data"\nadmin_token = "{ADMIN_TOKEN}"\n{place}'
    (folder / "headwater.toml").write_text(head + copied_channel("a", *OPTIONS))
    before = start_server(cwd=folder, env=env)
    wait_for(lambda: listed(before), "some segments")
    began = published(before, {"id": "long", "duration": 3000, "attributes": {"X-LABEL": "long"}})
    published(before, {"id": "short", "duration": 2, "id3": {"TIT2": "Short"}})
    published(before, {"id": "open", "planned_duration": 1})
    last = listed(before)[-1]
    wait_for(lambda: listed(before)[0] > last + 1, "the ranges have left the list")
    if is_in_s3:
        before.stop(signal.SIGKILL)
    else:
        assert before.stop() == 0
    with start_server(cwd=folder, env=env) as running:
        wait_for(lambda: listed(running)[:1] > [last + 20], "what is listed has left the ranges")
        yield running, began


def published(server: ServerProcess, body: dict[str, Any]) -> float:
    """Publish timed metadata, and return the date of the time that is on air."""
    answer = httpx.post(f"{server.url}/live/a/metadata", json=body, headers=ADMIN, timeout=CLIENT_SECONDS)
    assert answer.status_code < 300, answer.text
    return time.time()


def get(server: ServerProcess, name: str) -> httpx.Response:
    answer = httpx.get(f"{server.url}/live/a/{name}", timeout=CLIENT_SECONDS, follow_redirects=True)
    assert answer.status_code in (200, 503), answer.text
    return answer


def listed(server: ServerProcess) -> list[int]:
    found = m3u8.loads(get(server, "source/media.m3u8").text)
    return [int(one.uri.partition(".")[0]) for one in found.segments if one.uri and not one.gap_tag]


def told(text: str) -> list[str]:
    return list(dict.fromkeys(re.findall(r'^#EXT-X-DATERANGE:ID="([a-z-]+)"', text, re.MULTILINE)))


def told_in_dash(content: bytes) -> list[str]:
    events = ElementTree.fromstring(content).iter(EVENT)
    return sorted({json.loads(one.text or "{}")["ID"] for one in events})


def test_a_film_of_the_past_tells_its_date_ranges_over_a_restart(server: tuple[ServerProcess, float]) -> None:
    running, began = server
    whole = f"start={began - 3:.3f}&end={began + 6:.3f}"
    assert told(get(running, f"source/media.m3u8?{whole}").text) == ["long", "short", "open"]
    assert told_in_dash(get(running, f"manifest.mpd?{whole}").content) == ["long", "open", "short"]
    later = f"start={began + 8:.3f}&end={began + 10:.3f}"
    assert "short" not in told(get(running, f"source/media.m3u8?{later}").text)
    assert "long" in told(get(running, f"source/media.m3u8?{later}").text), "it began before, and lasts"


def test_a_span_that_grows_tells_them_too(server: tuple[ServerProcess, float]) -> None:
    running, began = server
    query = f"start={began - 3:.3f}"
    assert told(get(running, f"source/media.m3u8?{query}").text)[:3] == ["long", "short", "open"]
    assert told_in_dash(get(running, f"manifest.mpd?{query}").content) == ["long", "open", "short"]
    assert "long" in told(get(running, f"audio/media.m3u8?start={time.time() - 20:.3f}").text)


def test_a_channel_that_is_late_tells_those_of_then(server: tuple[ServerProcess, float]) -> None:
    running, began = server
    delay = time.time() - began - 3
    assert told(get(running, f"source/media.m3u8?delay={delay:.1f}").text) == ["long", "short", "open"]
    assert "short" in told_in_dash(get(running, f"manifest.mpd?delay={delay:.1f}").content)


def test_a_range_that_was_left_open_ends_with_the_process_that_left_it(
    server: tuple[ServerProcess, float],
) -> None:
    running, _ = server
    now = f"start={time.time() - 8:.3f}&end={time.time() - 5:.3f}"
    assert told(get(running, f"source/media.m3u8?{now}").text) == ["long"]


def test_a_recording_of_the_past_has_them(server: tuple[ServerProcess, float]) -> None:
    running, began = server
    url, body = f"{running.url}/live/a/recordings", {"start": began - 3, "end": began + 6}

    def made() -> dict[str, Any]:
        answer = httpx.post(url, json=body, headers=ADMIN, timeout=CLIENT_SECONDS)
        found: dict[str, Any] = answer.json().get("recording", {})
        return found

    kept = wait_for(made, "the recording of the span")
    assert told(get(running, f"recordings/{kept['id']}/source/media.m3u8").text) == ["long", "short", "open"]


def test_timed_metadata_stay_in_the_media(server: tuple[ServerProcess, float]) -> None:
    running, began = server
    found = m3u8.loads(get(running, f"source/media.m3u8?start={began - 3:.3f}&end={began + 6:.3f}").text)
    media = [get(running, f"source/{one.uri}").content for one in found.segments if not one.gap_tag]
    assert sum(b"Short" in one for one in media) == 1


def test_a_film_that_caches_keep_for_ever_has_no_later_end_of_a_range(
    server: tuple[ServerProcess, float],
) -> None:
    running, _ = server
    published(running, {"id": "lasting", "planned_duration": 3000})
    begin = time.time() - 3
    query = f"start={begin:.3f}&end={begin + 6:.3f}"
    names = [f"{name}?{query}" for name in ("source/media.m3u8", "audio/media.m3u8", "manifest.mpd")]

    def kept() -> list[httpx.Response]:
        found = [get(running, name) for name in names]
        return found if all("immutable" in one.headers["cache-control"] for one in found) else []

    before = wait_for(kept, "what caches keep for ever", seconds=120)
    assert "lasting" in told(before[0].text)
    assert "lasting" in told_in_dash(before[2].content)
    published(running, {"id": "lasting", "duration": 100})
    wait_for(lambda: ",DURATION=100.000" in get(running, "source/media.m3u8").text, "the end of the range")
    for name, one in zip(names, before, strict=True):
        again = get(running, name)
        assert (again.content, again.headers["etag"]) == (one.content, one.headers["etag"]), name


def test_a_film_that_caches_keep_for_ever_has_nothing_that_comes_later(
    server: tuple[ServerProcess, float],
) -> None:
    running, _ = server
    published(running, {"id": "going-on", "planned_duration": 3000})
    begin = time.time() - 3
    queries = [f"start={begin + at:.3f}&end={begin + at + 6:.3f}" for at in (0, 12)]
    names = [f"{name}?{one}" for one in queries for name in ("source/media.m3u8", "manifest.mpd")]

    def kept() -> list[httpx.Response]:
        # The second one is still to come.
        found = [get(running, name) for name in names] if time.time() > begin + 20 else []
        return found if all("immutable" in one.headers.get("cache-control", "") for one in found) else []

    before = wait_for(kept, "what caches keep for ever", seconds=150)
    assert all("going-on" in told(one.text) for one in before[::2])
    date = datetime.fromtimestamp(begin + 4, UTC).isoformat()
    published(running, {"id": "late", "start": date, "duration": 2})
    # It was over before the second span.
    published(running, {"id": "going-on", "duration": 5})
    programme = {"id": "show", "start": begin, "end": time.time() + 600, "title": "Show"}
    url = f"{running.url}/live/a/programmes"
    assert httpx.put(url, json=[programme], headers=ADMIN, timeout=CLIENT_SECONDS).status_code == 200

    def late(query: str = "") -> list[str]:
        lines = get(running, f"source/media.m3u8{query}").text.splitlines()
        return ["".join(told(line)) or "programme" for line in lines if ",X-ADDED=" in line]

    # The first one touches nothing that is listed.
    wait_for(lambda: late() == ["going-on", "programme"], "what came late")
    for name, one in zip(names, before, strict=True):
        again = get(running, name)
        assert (again.content, again.headers["etag"]) == (one.content, one.headers["etag"]), name
    # Who asks for a longer one gets all that touches it.
    end = f"end={time.time() - 5:.3f}"
    wait_for(lambda: late(f"?start={begin:.3f}&{end}") == ["late", "going-on", "programme"], "all of it")
    assert late(f"?start={begin + 12:.3f}&{end}") == ["going-on", "programme"]


@pytest.mark.promise("POST /live/CHANNEL/metadata")
def test_what_says_when_a_range_came_is_the_servers(server: tuple[ServerProcess, float]) -> None:
    body = {"attributes": {"X-ADDED": "2026-11-29T00:00:00.000Z"}}
    url = f"{server[0].url}/live/a/metadata"
    answer = httpx.post(url, json=body, headers=ADMIN, timeout=CLIENT_SECONDS)
    assert answer.status_code == 400
    assert "X-ADDED" in answer.text


def test_who_has_started_over_goes_on_where_ranges_cannot_be_read(
    tmp_path: Path, s3_server: S3Server
) -> None:
    proxy = S3Proxy(s3_server)
    head = f'[server]\nport = 0\ndata = "data"\nadmin_token = "{ADMIN_TOKEN}"\n'
    place = f'dvr_path = "s3://{BUCKET}/unread-ranges"\nworkers = 2\n'
    (tmp_path / "headwater.toml").write_text(head + place + copied_channel("a", *OPTIONS))
    running = start_server(cwd=tmp_path, env=s3_server.environment(proxy.url))
    wait_for(lambda: listed(running), "some segments")
    last = listed(running)[-1]
    wait_for(lambda: listed(running)[0] > last, "segments have left the list")
    # The last ones may be open.
    segment = m3u8.loads(get(running, "source/media.m3u8").text).segments[-3]
    assert segment.current_program_date_time is not None
    start = segment.current_program_date_time.timestamp() + 0.1

    def seen() -> list[str]:
        path = f"source/media.m3u8?start={start:.3f}"
        answer = httpx.get(f"{running.url}/live/a/{path}", timeout=CLIENT_SECONDS, follow_redirects=True)
        assert answer.status_code == 200
        return told(answer.text)

    # Of each process.
    assert [seen() for _ in range(12)] == [[]] * 12
    with proxy.refusing():
        published(running, {"id": "first", "planned_duration": 1})
        wait_for(lambda: seen() == ["first"], "the range is told")
    assert running.stop() == 0
    proxy.close()
