"""Stations of nodes of a cluster: sent to any packager, heard at each node, and from another behind it."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import httpx

from tests.conftest import ServerProcess
from tests.origin.cluster.node_stations import STATION, Listener, made, state
from tests.origin.cluster.nodes import nodes
from tests.redis_server import RedisServer
from tests.station_source import sending
from tests.waiting import wait_for

SOURCE = ("source", "sesame")


def owns(one: ServerProcess) -> bool:
    metrics = httpx.get(f"{one.url}/metrics", timeout=60).text
    return 'headwater_cluster_station_owner{mount="one.mp3"} 1.0' in metrics


def told_titles(one: ServerProcess) -> list[str]:
    """Read the titles that the station's events tell."""
    events = httpx.get(f"{one.url}/events/news?since=0-0", timeout=60).json()
    return [json.loads(each["data"])["title"]["title"] for each in events if each["event"] == "title"]


def titled(one: ServerProcess, title: str) -> bool:
    """Set a title as a source client does, at the node to which it sends."""
    query = {"mode": "updinfo", "mount": "/radio/one.mp3", "song": title}
    return httpx.get(f"{one.url}/admin/metadata", params=query, auth=SOURCE, timeout=60).status_code == 200


def test_a_station_is_heard_at_each_node_whoever_sends(tmp_path: Path, redis_server: RedisServer) -> None:
    channels = STATION.format(fallback=made(tmp_path))
    with nodes(tmp_path, redis_server, "packager", "packager", "edge", channels=channels) as every:
        owner, other, edge = every
        wait_for(lambda: state(edge) == "live", "the fallback at an edge")
        listeners = [Listener(one) for one in (edge, other)]
        try:
            wait_for(lambda: all("Nobody" in each.titles for each in listeners), "the fallback's title")
            with contextlib.ExitStack() as sources:
                sources.enter_context(sending(owner, "one.mp3"))
                wait_for(lambda: titled(owner, "Song of the owner"), "its source")
                wait_for(lambda: all("Song of the owner" in each.titles for each in listeners), "its title")
                # States and titles are told by one node, and read at any.
                wait_for(lambda: "Song of the owner" in told_titles(edge), "the title as an event")
                sources.enter_context(sending(other, "one.mp3"))
                wait_for(lambda: titled(other, "Song of the other"), "the reserve's source")
                refused = httpx.put(
                    f"{edge.url}/radio/one.mp3",
                    content=b"x",
                    auth=SOURCE,
                    headers={"content-type": "audio/mpeg"},
                )
                assert refused.status_code == 403
                assert "packager of this cluster" in refused.text
                assert told_titles(edge).count("Song of the owner") == 1
                owner.process.kill()
                wait_for(lambda: owns(other), "another owner")
                listener = listeners[0]
                wait_for(lambda: "Song of the other" in listener.titles, "the other's title")
                heard = listener.heard
                wait_for(lambda: listener.heard > heard + (64 << 10) // 4, "sound behind the takeover")
                assert not listener.is_gone
            wait_for(lambda: listener.titles[-1] == "Nobody", "the fallback once nobody sends")
        finally:
            for each in listeners:
                each.close()
