"""Stations of nodes of a cluster: sent to any packager, heard at each node, and from another behind it."""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx

from tests.clients.programs import environment
from tests.conftest import ServerProcess
from tests.origin.cluster.test_nodes import nodes
from tests.processes import end
from tests.redis_server import RedisServer
from tests.waiting import wait_for

STATION = """
[[radio]]
name = "one.mp3"
title = "One"
source = "publish"
source_password = "sesame"
fallback = "{fallback}"

[[events]]
name = "news"
include = ["radio/one.mp3"]
"""
SOURCE = ("source", "sesame")


def made(folder: Path) -> str:
    """Make what is heard while nobody sends; its place is known to packagers alone."""
    path = folder / "fallback.mp3"
    sound = ["-f", "lavfi", "-i", "sine=duration=20", "-b:a", "64k", "-metadata", "title=Nobody", str(path)]
    subprocess.run(["ffmpeg", "-nostdin", "-v", "error", *sound], check=True)
    return str(path)


@contextlib.contextmanager
def sending(one: ServerProcess) -> Iterator[None]:
    sound = ["-re", "-f", "lavfi", "-i", "sine", "-b:a", "64k", "-content_type", "audio/mpeg", "-f", "mp3"]
    to = f"icecast://source:sesame@{one.url.partition('://')[2]}/radio/one.mp3"
    process = subprocess.Popen(["ffmpeg", "-nostdin", "-v", "error", *sound, to], env=environment())
    try:
        yield
    finally:
        end(process)


class Listener:
    """Somebody who listens at a node, with titles.

    Attributes:
        heard: bytes of audio so far.
        titles: those that came, in order.
        is_gone: whether the node has let them go.
    """

    def __init__(self, one: ServerProcess) -> None:
        self.heard = 0
        self.titles: list[str] = []
        self.is_gone = False
        self._client = httpx.Client(timeout=120)
        request = self._client.build_request("GET", f"{one.url}/radio/one.mp3", headers={"icy-metadata": "1"})
        self._answer = self._client.send(request, stream=True)
        assert self._answer.status_code == 200
        self._metaint = int(self._answer.headers["icy-metaint"])
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        data = bytearray()
        with contextlib.suppress(httpx.HTTPError):
            for chunk in self._answer.iter_bytes():
                data += chunk
                while len(data) > self._metaint and len(data) > self._metaint + 16 * data[self._metaint]:
                    begin = self._metaint + 1
                    size = 16 * data[self._metaint]
                    if size:
                        self.titles.append(bytes(data[begin : begin + size]).decode().split("'")[1])
                    self.heard += self._metaint
                    del data[: begin + size]
        self.is_gone = True

    def close(self) -> None:
        with contextlib.suppress(OSError):
            # Closing alone doesn't wake who reads.
            self._answer.extensions["network_stream"].get_extra_info("socket").shutdown(2)
        self._thread.join(60)
        self._client.close()


def owns(one: ServerProcess) -> bool:
    metrics = httpx.get(f"{one.url}/metrics", timeout=60).text
    return 'headwater_cluster_station_owner{mount="one.mp3"} 1.0' in metrics


def state(one: ServerProcess) -> object:
    return httpx.get(f"{one.url}/health", timeout=60).json()["services"]["radio/one.mp3"]


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
                sources.enter_context(sending(owner))
                wait_for(lambda: titled(owner, "Song of the owner"), "its source")
                wait_for(lambda: all("Song of the owner" in each.titles for each in listeners), "its title")
                # States and titles are told by one node, and read at any.
                wait_for(lambda: "Song of the owner" in told_titles(edge), "the title as an event")
                sources.enter_context(sending(other))
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
