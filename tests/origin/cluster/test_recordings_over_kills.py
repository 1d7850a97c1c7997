"""Recordings of a cluster's stations where an owner is killed in an upload."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.origin.cluster.recorded_stations import (
    FOLDER,
    begin_of,
    judge,
    keep,
    listed,
    newest,
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

POST_SECONDS = 10
"""How long a request for a span waits for the recording at most."""


def test_what_was_cut_in_its_upload_is_finished_by_the_next_owner_and_by_one_that_is_back(
    tmp_path: Path, redis_server: RedisServer, s3_server: S3Server, s3_proxy: S3Proxy
) -> None:
    environment = {**s3_server.environment(s3_proxy.url), "HEADWATER_SERVER_WORKERS": "2"}
    more = "".join(STATION % name for name in STATIONS[1:])
    with recording_nodes(tmp_path, redis_server, environment, FOLDER + more) as nodes:
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
            before, began = newest(one), time.monotonic()
            assert keep(one, *past, "Past").status_code == 202
            assert time.monotonic() - began < 2 * POST_SECONDS
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


def stored(server: S3Server, folder: Path) -> list[str]:
    """Name what S3 has of recordings, by station."""
    store = server.store(f"{folder.name}/recordings/radio")
    return [str(one["path"]) for one in store.list().collect()]
