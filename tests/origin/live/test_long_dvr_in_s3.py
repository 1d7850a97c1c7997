"""A DVR in S3 that is longer than the live playlist: all processes find its past by its index there."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import httpx
import m3u8
import pytest

from tests.conftest import start_server
from tests.copied_channel import copied_channel
from tests.long_dvr import STEP, LongDvr, make_long_bucket
from tests.origin.live.long_server import SECONDS, WINDOW, WINDOW_SECONDS, Long
from tests.patience import CLIENT_SECONDS
from tests.s3_server import BUCKET, S3Proxy, S3Server
from tests.waiting import wait_for

pytestmark = pytest.mark.timeout(600)

PLACE = "long"


@pytest.fixture(scope="module")
def proxy(s3_server: S3Server) -> Iterator[S3Proxy]:
    found = S3Proxy(s3_server)
    yield found
    found.close()


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory, s3_server: S3Server, proxy: S3Proxy) -> Iterator[Long]:
    """A server that lists a minute of what one listed before, and was killed in between."""
    folder, until = tmp_path_factory.mktemp("long"), round(time.time() - 60, 3)
    place = LongDvr(folder / "data" / "live" / "long", until, SECONDS, SECONDS, 20, ((0, until),))
    make_long_bucket(place, s3_server.store(PLACE))
    options = f'dvr_path = "s3://{BUCKET}/{PLACE}"\nworkers = 2\n'
    one = Long(folder, until, options, s3_server.environment(proxy.url))
    one.start()
    one.listed = one.answers()
    assert one.server.stop() == 0
    one.start(WINDOW)
    one.server.stop(signal.SIGKILL)
    one.start(WINDOW)
    yield one
    assert one.server.stop() == 0
    assert "Traceback" not in one.server.text()


def test_the_live_playlist_lists_no_more_than_its_window(long: Long) -> None:
    found = m3u8.loads(long.get("720p/media.m3u8").text)
    assert sum(one.duration for one in found.segments) < WINDOW_SECONDS + 10 * 2 + 2 * float(STEP)


def test_the_list_of_channels_says_from_when_on_there_is_something(long: Long) -> None:
    (channel,) = httpx.get(f"{long.server.url}/api/live", timeout=CLIENT_SECONDS).json()
    assert channel["available_from"] == pytest.approx(long.until - SECONDS, abs=4)


def test_a_span_of_the_past_has_the_bytes_that_it_had_when_it_was_listed(long: Long) -> None:
    assert all(status in (200, 409) for status, _, _ in long.listed.values())
    for _ in range(2):  # of several processes
        assert long.answers() == long.listed


def test_segments_and_init_segments_of_the_past_are_at_their_live_addresses(long: Long) -> None:
    long.check_segments()


def test_caches_may_keep_what_has_passed_for_ever(long: Long) -> None:
    long.check_validators()


def test_a_span_of_the_past_becomes_a_recording(long: Long) -> None:
    long.check_recording()


def test_a_picture_of_the_past_is_drawn(long: Long) -> None:
    answer = long.get(f"snapshot.jpg?at={long.until - 2900:.3f}")
    assert answer.status_code == 200
    assert answer.content[:2] == b"\xff\xd8"


def test_what_is_older_than_the_dvr_or_never_was_is_not_there(long: Long) -> None:
    assert long.get(f"720p/media.m3u8?{long.query(-9000, -8000)}").status_code == 404
    cut = long.get(f"720p/media.m3u8?{long.query(-5000, -3500)}")
    assert cut.status_code == 200
    assert float(cut.headers["x-available-from"]) == pytest.approx(long.until - SECONDS, abs=4)
    number = int((long.until - 2 * SECONDS) // float(STEP))
    assert long.get(f"720p/{number}.m4s").status_code == 404
    assert long.get(f"720p/init-{number}.mp4").status_code == 404


def test_while_s3_is_away_the_past_is_said_to_be_there_later(long: Long, proxy: S3Proxy) -> None:
    names = (
        f"master.m3u8?{long.query(-2400, -2300)}",
        f"720p/media.m3u8?{long.query(-2400, -2300)}",
        f"manifest.mpd?{long.query(-2400, -2300)}",
        f"thumbnails.vtt?{long.query(-2400, -2300)}",
        f"clip.mp4?{long.query(-2400, -2300)}",
        f"snapshot.jpg?at={long.until - 2400:.3f}",
        f"720p/{int((long.until - 2400) // float(STEP))}.m4s",
    )
    long.server.stop()
    long.start(WINDOW)
    with proxy.refusing():
        for name in names:
            answer = long.get(name)
            assert (answer.status_code, "retry-after" in answer.headers) == (503, True), name
        assert long.get("720p/media.m3u8").status_code == 200
        (channel,) = httpx.get(f"{long.server.url}/api/live", timeout=CLIENT_SECONDS).json()
        assert channel["name"] == "long"
    for name in names:
        wait_for(partial(is_there, long, name), name)


def test_who_has_started_over_goes_on_while_s3_is_away(long: Long, proxy: S3Proxy) -> None:
    start = long.until - 1200
    names = [f"{name}/media.m3u8?start={start:.3f}" for name in ("720p", "audio")]
    # Of each process.
    before = {name: [long.get(name) for _ in range(12)][-1] for name in names}
    assert {one.status_code for one in before.values()} == {200}
    with proxy.refusing():
        for name in names:
            again = long.get(name)
            assert again.status_code == 200
            numbers = re.findall(r"^[0-9]+\.m4s$", before[name].text, re.MULTILINE)
            assert len(numbers) > 600
            assert re.findall(r"^[0-9]+\.m4s$", again.text, re.MULTILINE)[: len(numbers)] == numbers


def is_there(long: Long, name: str) -> bool:
    return long.get(name).status_code == 200


def test_what_leaves_the_playlist_is_found_and_stays_the_same_over_a_kill(
    s3_server: S3Server, tmp_path: Path
) -> None:
    options = 'dvr = "1h"', 'playlist_window = "1s"', "segment_duration = 1.0", "part_duration = 0.25"
    server = f'[server]\nport = 0\ndata = "data"\ndvr_path = "s3://{BUCKET}/leaving"\n'
    (tmp_path / "headwater.toml").write_text(server + copied_channel("long", *options))
    one = Long(tmp_path, 0.0)
    one.server = start_server(cwd=tmp_path, env=s3_server.environment())

    def stored() -> list[int]:
        keys = (found["path"] for found in s3_server.store("leaving").list().collect())
        names = (re.search(r"/source/([0-9]+)-[0-9]+\.m4s", key) for key in keys)
        return sorted(int(name[1]) for name in names if name is not None)

    def first_of_the_past() -> int:
        live = m3u8.loads(one.get("source/media.m3u8").text).media_sequence
        return min((number for number in stored() if number < live - 3), default=0)

    first = wait_for(first_of_the_past, "some segments have left the playlist")
    assert one.get(f"source/{first}.m4s").status_code == 200
    dates = m3u8.loads(one.get("source/media.m3u8").text)
    start = dates.segments[0].program_date_time.timestamp() - (dates.media_sequence - first) + 0.5
    found = m3u8.loads(one.get(f"source/media.m3u8?start={start:.3f}").text)
    numbers = [int(each.uri.partition(".")[0]) for each in found.segments if each.uri]
    assert numbers == list(range(first, numbers[-1] + 1)), "from S3, and from the live playlist"
    span = f"source/media.m3u8?start={start:.3f}&end={start + 4:.3f}"
    before = one.get(span)
    assert before.status_code == 200
    one.server.stop(signal.SIGKILL)
    one.server = start_server(cwd=tmp_path, env=s3_server.environment())
    wait_for(lambda: one.get("source/media.m3u8").status_code == 200, "the channel again")
    again = one.get(span)
    assert (again.content, again.headers["etag"]) == (before.content, before.headers["etag"])
    assert one.server.stop() == 0
    assert "Traceback" not in one.server.text()
