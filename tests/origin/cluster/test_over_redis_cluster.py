"""Servers share channels, events and stations over a Redis Cluster, and go on where it loses a master."""

from __future__ import annotations

import contextlib
from pathlib import Path

from packager.cluster.event_streams import NEWS
from packager.cluster.lease import LogKeys
from packager.replication.live_log import LIVE
from tests.keys import ADMIN_TOKEN
from tests.origin.cluster import created_channels as created
from tests.origin.cluster import node_events as events
from tests.origin.cluster import node_stations as radio
from tests.origin.cluster.nodes import get, nodes, owns, playlist, plays, post, segments, shared_channel
from tests.redis_cluster import redis_cluster_running
from tests.waiting import wait_for


def test_live_events_and_stations_go_on_where_a_master_is_lost(tmp_path: Path) -> None:
    servers, data = tmp_path / "redis", tmp_path / "nodes"
    servers.mkdir()
    data.mkdir()
    station = radio.STATION.format(fallback=radio.made(data))
    with contextlib.ExitStack() as stack:
        redis = stack.enter_context(redis_cluster_running(servers))
        channels = shared_channel() + station + events.EVENTS
        packager, edge = stack.enter_context(nodes(data, redis, "packager", "edge", channels=channels))
        wait_for(lambda: plays(edge) and owns(packager), "the channel")
        assert post(edge, "metadata", ADMIN_TOKEN, {"id": "by-edge"}).status_code == 201
        assert 'ID="by-edge"' in playlist(packager)
        wait_for(lambda: radio.state(edge) == radio.state(packager), "the station")
        listener = radio.Listener(edge)
        stack.callback(listener.close)
        reader = events.SseReader()
        stack.enter_context(reader.reading(packager))
        events.publish(edge, "a")
        wait_for(lambda: len(reader.events) == 1, "an event of another node")
        wait_for(lambda: listener.heard, "the station's sound")
        wait_for(lambda: get(edge, "/live/one.mp3/master.m3u8").status_code == 200, "the station's HLS")
        for key in (LogKeys(LIVE, "shared").entries, NEWS):
            newest, heard = segments(playlist(edge))[-1], listener.heard
            redis.lose_master_of(key)
            wait_for(lambda: segments(playlist(edge))[-1] > newest, "live media")  # noqa: B023
            wait_for(lambda: listener.heard > heard, "the station's sound")  # noqa: B023
        events.publish(edge, "b")
        wait_for(lambda: [data for _, data in reader.events] == ["a", "b"], "the next event")
        wait_for(lambda: not get(edge, "/health").json().get("troubles", {}).get("cluster"), "all to be well")
        for one in (packager, edge):
            assert one.process.poll() is None
            assert "Traceback" not in one.text()


def test_channels_made_at_run_time_go_on_where_a_master_is_lost(tmp_path: Path) -> None:
    servers, data = tmp_path / "redis", tmp_path / "nodes"
    servers.mkdir()
    data.mkdir()
    with contextlib.ExitStack() as stack:
        redis = stack.enter_context(redis_cluster_running(servers))
        one, other = stack.enter_context(nodes(data, redis, "all", "edge", channels=created.CONFIG))
        made, gone = created.make(one, name="talk"), created.make(other, name="gone")
        ids = [created.publish(other, "talk", made["publish_token"], "a")]
        created.publish(one, "gone", gone["publish_token"], "a")
        assert created.ask(one, "DELETE", "/events/gone").status_code == 204
        wait_for(lambda: created.status(other, "gone") == 410, "it gone")
        redis.lose_master_of(NEWS)
        token = made["publish_token"]
        answers = iter(lambda: created.ask(one, "POST", "/events/talk", token, content=b"b"), None)
        wait_for(lambda: next(answers).status_code == 200, "an event behind it")
        ids.append(created.publish(one, "talk", token, "c"))
        wait_for(lambda: created.last(other, "talk", made) == ids[-1], "it at the other node")
        assert created.kept(other, "talk", made["read_token"])[0] == (ids[0], "a")
        assert created.status(one, "gone") == 410
        wait_for(lambda: created.ask(other, "POST", "/events", json={}).status_code == 201, "another channel")
