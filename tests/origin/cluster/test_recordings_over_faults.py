"""Recordings of a cluster's station where Redis, S3 or an owner stands still, and without a data folder."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from packager.live.limits import LiveLimits
from tests.origin.cluster.recorded_stations import (
    begin_of,
    get,
    judge,
    keep,
    listed,
    owns,
    put_programmes,
    recording_nodes,
    recordings,
    wait_for_recording,
)
from tests.redis_server import RedisServer
from tests.s3_server import S3Proxy, S3Server
from tests.waiting import wait_for

pytestmark = pytest.mark.timeout(900)

SEGMENT_SECONDS = 4


def test_what_ends_while_redis_or_s3_is_away_is_recorded_behind_that(
    tmp_path: Path, redis: RedisServer, s3_server: S3Server, s3_proxy: S3Proxy
) -> None:
    with recording_nodes(tmp_path, redis, s3_server.environment(s3_proxy.url)) as nodes:
        # Who owns the station keeps its recordings, and without a data folder there are none.
        bare = nodes.start("bare", data=False)
        assert nodes.owner() == "bare"
        one = nodes.start("one")
        wait_for(lambda: all(len(listed(each)) > 2 for each in nodes.every), "the station")
        past = begin_of(listed(one)[0]), begin_of(listed(one)[1])
        assert [keep(each, *past, "Past").status_code for each in (bare, one)] == [501, 501]
        nodes.kill("bare")
        assert nodes.owner() == "one"
        taken_over = time.time()
        two = nodes.start("two")

        start = time.time()
        wait_for(lambda: keep(two, start, start + 14, "Behind Redis").status_code == 202, "the next owner")
        redis.kill()
        wait_for(lambda: keep(one, *past, "Refused").status_code == 503, "a refusal")
        for each in (one, two):
            refused = keep(each, *past, "Refused")
            assert (refused.status_code, int(refused.headers["retry-after"]) > 0) == (503, True)
        wait_for(lambda: time.time() > start + 18, "the end of the span")
        assert not recordings(one)
        redis.start()
        made = wait_for_recording(nodes.every, "Behind Redis")
        judge(nodes.every, made, 14, tmp_path, takeovers=1)

        # Dates step by what the takeover took once no earlier arrival counts.
        settled = taken_over + 2 * LiveLimits().clock_bucket_seconds + SEGMENT_SECONDS
        wait_for(lambda: time.time() > settled, "dates that are those of the new owner's station")
        with s3_proxy.refusing():
            start = time.time()
            put_programmes(two, {"id": "on", "start": start, "end": start + 4, "title": "Behind S3"})
            wait_for(lambda: time.time() > start + 22, "what late segments are waited for")
            assert "Behind S3" not in recordings(one)
        made = wait_for_recording(nodes.every, "Behind S3")
        judge(nodes.every, made, 4, tmp_path)
        assert len(get(two, "/api/radio").json()[0]["recordings"]) == 2


def test_an_owner_that_stood_still_makes_no_second_recording(
    tmp_path: Path, redis_server: RedisServer, s3_server: S3Server
) -> None:
    with recording_nodes(tmp_path, redis_server, s3_server.environment()) as nodes:
        for name in ("one", "two"):
            nodes.start(name)
        wait_for(lambda: all(len(listed(each)) > 2 for each in nodes.every), "the station")
        start = time.time()
        put_programmes(nodes.every[0], {"id": "on", "start": start, "end": start + 24, "title": "The show"})
        assert keep(nodes.every[1], start, start + 18, "Asked for").status_code == 202
        first = nodes.owner()
        still = nodes.running[first]
        (other,) = (each for name, each in nodes.running.items() if name != first)
        still.process.send_signal(signal.SIGSTOP)
        wait_for(lambda: owns(other), "another owner")
        still.process.send_signal(signal.SIGCONT)
        wait_for(lambda: not owns(still), "that it owns nothing any more")
        for title, seconds in (("Asked for", 18), ("The show", 24)):
            made = wait_for_recording(nodes.every, title)
            judge(nodes.every, made, seconds, tmp_path, takeovers=1)
        assert len(get(still, "/api/radio").json()[0]["recordings"]) == 2
        objects = s3_server.store(f"{tmp_path.name}/recordings/radio/fm").list().collect()
        assert len({one["path"].partition("/")[0] for one in objects}) == 2
