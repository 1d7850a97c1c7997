"""Recordings of a cluster's station: asked for at any node, made by whoever owns its log, served by all."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import httpx
import pytest

from tests.conftest import ServerProcess
from tests.origin.cluster.recorded_stations import (
    HERTZ,
    begin_of,
    get,
    judge,
    keep,
    listed,
    newest,
    playlist,
    put_programmes,
    recording_nodes,
    recordings,
    remove,
    wait_for_recording,
)
from tests.redis_server import RedisServer
from tests.s3_server import S3Server
from tests.station_source import sending
from tests.waiting import wait_for

pytestmark = pytest.mark.timeout(900)

SENT = 'source = "publish"\nsource_password = "sesame"\ndvr = "20s"\nrecord = "publications"'
"""A station of source clients, whose recordings are longer than its DVR."""


def test_recordings_go_on_over_takeovers_and_are_the_same_at_all_nodes(
    tmp_path: Path, redis_server: RedisServer, s3_server: S3Server
) -> None:
    with recording_nodes(tmp_path, redis_server, s3_server.environment()) as nodes:
        for name in ("one", "two"):
            nodes.start(name)
        edge = nodes.start("edge", "edge", data=False)
        first = nodes.owner()
        reserve = next(one for name, one in nodes.running.items() if name not in (first, "edge"))
        wait_for(lambda: all(len(listed(one)) > 3 for one in nodes.every), "the station")

        # Of the past: asked for at nodes that don't keep it, and once alone.
        heard = listed(edge)
        start, until = begin_of(heard[0]) + 0.5, begin_of(heard[2]) + 0.5
        for one in (edge, reserve):
            answer = keep(one, start, until, "Past")
            assert answer.status_code in (201, 202), answer.text
        judge(nodes.every, wait_for_recording(nodes.every, "Past"), until - start, tmp_path)

        # What is in the making goes on at the next owner, and at the one behind that.
        now = time.time()
        put_programmes(reserve, {"id": "show", "start": now - 3, "end": now + 45, "title": "The show"})
        assert keep(reserve, now - 2, now + 32, "Asked for").status_code == 202
        wait_for(lambda: 'X-TITLE="The show"' in playlist(edge), "its title")
        nodes.kill(first)
        second = nodes.owner()
        third = nodes.start(first)
        wait_for(lambda: listed(third) and newest(third) == newest(edge), "the node that is back")
        wait_for(lambda: time.time() > now + 14, "some of it from the second owner")
        nodes.kill(second)
        assert nodes.owner() == first
        assert 'X-TITLE="The show"' in playlist(edge)
        asked = wait_for_recording(nodes.every, "Asked for")
        judge(nodes.every, asked, 34, tmp_path, takeovers=2)
        show = wait_for_recording(nodes.every, "The show")
        assert show["programme"] == "show"
        text = judge(nodes.every, show, 48, tmp_path, takeovers=2)
        assert 'X-TITLE="The show"' in text
        assert 'X-TITLE="A tone"' in text

        # Each is there once, and goes for all where one node is asked to remove it.
        assert len(get(edge, "/api/radio").json()[0]["recordings"]) == 3
        assert remove(edge, asked["id"]) == 204
        wait_for(lambda: all("Asked for" not in recordings(one) for one in nodes.every), "its end")
        assert {get(one, asked["hls"]).status_code for one in nodes.every} == {404}
        objects = s3_server.store(f"{tmp_path.name}/recordings/radio/fm").list().collect()
        assert not [one["path"] for one in objects if one["path"].startswith(f"{asked['id']}/")]
        assert [one["path"] for one in objects if one["path"].startswith(f"{show['id']}/")]


def is_heard(one: ServerProcess) -> bool:
    return bool(httpx.get(f"{one.url}/api/radio", timeout=60).json()[0]["state"] == "live")


def test_a_reserve_goes_on_with_what_a_source_client_has_sent_beyond_the_dvr(
    tmp_path: Path, redis_server: RedisServer, s3_server: S3Server
) -> None:
    with recording_nodes(tmp_path, redis_server, s3_server.environment(), SENT) as nodes:
        two, edge = nodes.start("two"), nodes.start("edge", "edge", data=False)
        sent = time.time()
        with sending(two, "fm", f"sine={HERTZ}"), contextlib.ExitStack() as reserve:
            wait_for(lambda: is_heard(edge), "the first source")
            began = time.time()
            assert nodes.owner() == "two"
            reserve.enter_context(sending(nodes.start("one"), "fm", f"sine={HERTZ}"))
            wait_for(lambda: len(listed(edge)) > 3, "the station")
            first = newest(edge)
            wait_for(lambda: first not in playlist(edge), "more than the DVR", seconds=180)
            nodes.kill("two")
            wait_for(lambda: nodes.owner() == "one", "the next owner")
            killed = time.time()
            wait_for(lambda: listed(edge) and begin_of(listed(edge)[-1]) > killed, "the reserve")
            reserve.close()
            seconds = time.time() - began
        made = wait_for_recording(nodes.every, "")
        judge(nodes.every, made, seconds, tmp_path, takeovers=1, spare=began - sent)
        assert not made["pinned"]
        assert len(get(edge, "/api/radio").json()[0]["recordings"]) == 1
