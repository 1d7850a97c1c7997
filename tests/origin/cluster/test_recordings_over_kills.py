"""Recordings of a cluster's stations where an owner is killed in an upload, or is cut off from Redis."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import m3u8
import pytest

from origin.server.services.limits import Limits, ServerLimits
from packager.s3.limits import S3Limits
from tests.conftest import ServerProcess
from tests.origin.cluster.recorded_stations import (
    FOLDER,
    begin_of,
    get,
    judge,
    keep,
    listed,
    newest,
    owns,
    playlist,
    put_programmes,
    recording_nodes,
    recordings,
    wait_for_recording,
)
from tests.patience import program
from tests.redis_server import RedisServer
from tests.s3_server import S3Proxy, S3Server
from tests.tcp_proxy import TcpProxy
from tests.waiting import wait_for

pytestmark = pytest.mark.timeout(900)

STATIONS = ("fm", "am", "lw", "mw", "sw")
"""More than recordings are put into S3 at once."""

STATION = f"""
[[radio]]
name = "%s"
bitrate = 64
hls_bitrates = [48]
{FOLDER}
"""

HELD = "PUT /", "/recordings/", "/media.m3u8"
"""The requests that come behind the segments of a recording."""

HOLDING = program(
    Limits(
        s3=S3Limits(silent_seconds=60, request_seconds=90),
        server=ServerLimits(spares=0),
    )
)
"""Held requests don't fail: behind three that had, nothing is stored in S3, and a kill loses more."""

POST_SECONDS = 10
"""How long a request for a span waits for the recording at most."""


def test_what_was_cut_in_its_upload_is_finished_by_the_next_owner_and_by_one_that_is_back(
    tmp_path: Path, redis_server: RedisServer, s3_server: S3Server, s3_proxy: S3Proxy
) -> None:
    environment = {**s3_server.environment(s3_proxy.url), "HEADWATER_SERVER_WORKERS": "2"}
    more = "".join(STATION % name for name in STATIONS[1:])
    with recording_nodes(tmp_path, redis_server, environment, FOLDER + more, HOLDING) as nodes:
        one = nodes.start("one")
        wait_for(lambda: all(owns(one, name) for name in STATIONS), "the owner")
        two = nodes.start("two")
        wait_for(lambda: all(len(listed(two, name)) > 2 for name in STATIONS), "the stations")
        past = begin_of(listed(one)[0]), begin_of(listed(one)[1])
        start = int(time.time())
        for name in STATIONS:
            show = {"id": "show", "start": start, "end": start + 8, "title": "The show"}
            put_programmes(two, show, station=name)
        with s3_proxy.holding(*HELD):
            wait_for(lambda: len({line.split("/")[5] for line in s3_proxy.asked(*HELD)}) > 3, "uploads")
            # Neither viewers wait for S3, nor those who ask for a span, for longer than may be.
            before = newest(one)
            wait_for(lambda: is_kept_in_time(one, *past, "Past"), "the span")
            wait_for(lambda: newest(one) != before, "live media")
            nodes.kill("one")
            wait_for(lambda: all(owns(two, name) for name in STATIONS), "the next owner")
            asked = len(s3_proxy.asked(*HELD))
            wait_for(lambda: len(s3_proxy.asked(*HELD)) > asked, "its uploads")
            assert not any(recordings(two, name) for name in STATIONS)
            nodes.kill("two")
        assert "recording" not in {path.rpartition("/")[2] for path in stored(s3_server, tmp_path)}
        nodes.start("two")
        nodes.start("one")
        for name in STATIONS:
            made = wait_for_recording(nodes.every, "The show", name)
            judge(nodes.every, made, 8, tmp_path)
        judge(nodes.every, wait_for_recording(nodes.every, "Past"), past[1] - past[0], tmp_path)
        made_of = {tuple(path.split("/")[:2]) for path in stored(s3_server, tmp_path)}
        assert len(made_of) == len(STATIONS) + 1


def is_kept_in_time(one: ServerProcess, start: float, end: float, title: str) -> bool:
    """Ask for a span; on a slow machine Redis may answer too late, for which nothing is held here."""
    began = time.monotonic()
    answer = keep(one, start, end, title)
    assert time.monotonic() - began < 2 * POST_SECONDS
    assert answer.status_code == 202 or "Redis is away" in answer.text, answer.text
    assert answer.status_code == 202 or "retry-after" in answer.headers
    return answer.status_code == 202


def stored(server: S3Server, folder: Path) -> list[str]:
    """Name what S3 has of recordings, by station."""
    store = server.store(f"{folder.name}/recordings/radio")
    return [str(one["path"]) for one in store.list().collect()]


def numbered(one: ServerProcess, text: str, folder: str) -> dict[int, bytes]:
    """Return the segments of a playlist that are no gaps, by number."""
    found = [str(each.uri) for each in m3u8.loads(text).segments if each.uri and not each.gap_tag]
    return {int(uri.partition(".")[0]): get(one, f"{folder}/{uri}").content for uri in found}


def test_who_was_cut_off_from_redis_alone_records_the_segments_of_the_other_owner(
    tmp_path: Path, redis_server: RedisServer, s3_server: S3Server
) -> None:
    redis = TcpProxy(redis_server.port)
    environment = s3_server.environment()
    with contextlib.closing(redis), recording_nodes(tmp_path, redis_server, environment) as nodes:
        one = nodes.start("one", redis=f"redis://127.0.0.1:{redis.port}/0")
        assert nodes.owner() == "one"
        two = nodes.start("two")
        wait_for(lambda: all(len(listed(each)) > 2 for each in nodes.every), "the station")
        start = time.time()
        assert keep(one, start, start + 34, "The show").status_code == 202
        before = newest(one)
        wait_for(lambda: newest(one) != before, "a segment")
        next_at, last = time.time() + listed(one)[-1].duration, int(newest(one).partition(".")[0])
        # Its next segment is the first one that Redis lacks, and comes as soon as it can.
        wait_for(lambda: time.time() > next_at - 0.8, "the end of the next one")
        wait_for(lambda: time.time() > next_at - 0.3, "the end of the next one")
        with redis.refusing():
            wait_for(lambda: owns(two), "the other owner")
            wait_for(lambda: int(newest(two).partition(".")[0]) > last + 2, "its segments")
            wait_for(lambda: int(newest(one).partition(".")[0]) > last + 2, "those that nobody else has")
            own = numbered(one, playlist(one), "/live/fm/48k")
        wait_for(lambda: not owns(one) and newest(one) == newest(two), "one log again")
        log = numbered(two, playlist(two), "/live/fm/48k")
        doubted = [number for number in own if number > last and own[number] != log.get(number)]
        assert doubted
        nodes.kill("two")
        assert nodes.owner() == "one"
        made = wait_for_recording(nodes.every, "The show")
        text = judge(nodes.every, made, 34, tmp_path, takeovers=2)
        recorded = numbered(one, text, made["hls"].rpartition("/")[0] + "/48k")
        assert {number: recorded.get(number) for number in doubted} == {
            number: log.get(number) for number in doubted
        }
