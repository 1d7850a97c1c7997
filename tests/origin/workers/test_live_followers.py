"""Who follows what is live misses nothing when a worker is killed, or a new version takes over."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest

from origin.server.services.limits import Limits, ServerLimits
from tests.conformance.raw import Client
from tests.conftest import STOP_SECONDS, ServerProcess, start_server
from tests.copied_channel import copied_channel
from tests.descriptors import open_files
from tests.origin.workers.asking import CLIENT_SECONDS, address_of, health, ready, workers_of
from tests.origin.workers.connections import process_of
from tests.origin.workers.followers import EventReader, Listener, Viewer
from tests.patience import patient_server, program
from tests.succession import Succession, end
from tests.waiting import wait_for

pytestmark = pytest.mark.timeout(900)

SERVER = """
[server]
workers = {workers}
data = "{folder}/data"
"""
CHANNEL = ("part_duration = 0.25", "segment_duration = 1.0")
RENDITION = "/live/test/source"

WITHOUT_SPARE = ServerLimits(spares=0)
"""Limits of a server no worker of which is killed: one that would wait for that imports everything, too."""


def test_none_of_many_viewers_gets_a_404_when_one_of_two_workers_is_killed(tmp_path: Path) -> None:
    config = tmp_path / "headwater.toml"
    config.write_text(SERVER.format(workers=2, folder=tmp_path) + copied_channel("test", *CHANNEL))
    options = ("--config", str(config), "--library", str(tmp_path), "--port", "0")
    server = start_server(*options, program=patient_server())
    ready(server, 2)
    wait_for(lambda: health(server)["services"].get("live/test") == "live", "the channel")
    viewers = [Viewer(address_of(server), RENDITION) for _ in range(6)]
    with contextlib.ExitStack() as watching:
        for viewer in viewers:
            watching.enter_context(viewer)
        for viewer in viewers:
            viewer.more(4)
        killed, *others = workers_of(server)
        os.kill(killed, signal.SIGKILL)
        for viewer in viewers:
            viewer.more(8)
        wait_for(lambda: len({*workers_of(server)} - {killed, *others}) == 1, "another worker")
        ready(server, 2)
        for viewer in viewers:
            viewer.more(8)
    assert [viewer.failures for viewer in viewers] == [[]] * len(viewers)
    # Only what was under way at the killed one was cut off, and asked for again.
    assert all(viewer.broken <= 1 for viewer in viewers)
    assert server.stop() == 0


STATION_AND_EVENTS = """
[limits]
shutdown_seconds = 5.0

[[radio]]
name = "one.mp3"
source = "folder"
folder = "{folder}/music"

[[events]]
name = "news"
publish_token = "token"
history = "1h"
"""


def publish(address: tuple[str, int], text: str) -> None:
    """Publish an event, which is answered, whoever serves."""
    headers = {"Authorization": "Bearer token", "Content-Type": "text/plain", "Connection": "close"}
    url = "http://{}:{}/events/news".format(*address)
    with urllib.request.urlopen(urllib.request.Request(url, text.encode(), headers), timeout=CLIENT_SECONDS):
        pass


def make_music(folder: Path) -> None:
    (folder / "music").mkdir()
    tone = ["-f", "lavfi", "-i", "sine=frequency=440:duration=10", str(folder / "music" / "tone.mp3")]
    subprocess.run(["ffmpeg", "-nostdin", "-v", "error", *tone], check=True, timeout=300)


def test_viewers_listeners_and_readers_go_on_with_the_next_version(tmp_path: Path) -> None:
    make_music(tmp_path)
    config = tmp_path / "headwater.toml"
    own = STATION_AND_EVENTS.format(folder=tmp_path) + copied_channel("test", *CHANNEL, 'dvr = "1h"')
    config.write_text(SERVER.format(workers=2, folder=tmp_path) + own)
    with contextlib.ExitStack() as stack:
        # A viewer that stood still has connected and not asked yet.
        patient = replace(WITHOUT_SPARE, first_request_seconds=CLIENT_SECONDS)
        program = patient_server(patient)
        servers = Succession(tmp_path, stack, "--config", str(config), program=program)
        server = servers.start()
        following = stack.enter_context(contextlib.ExitStack())
        viewers = [Viewer(servers.address, RENDITION) for _ in range(3)]
        listener = Listener(servers.address, "/radio/one.mp3")
        reader = EventReader(servers.address, "/events/news")
        followers = (*viewers, listener, reader)
        for one in followers:
            following.enter_context(one)
        published: list[str] = []

        def more() -> None:
            for _ in range(5):
                published.append(str(len(published)))
                publish(servers.address, published[-1])
            for viewer in viewers:
                viewer.more(8)
            listener.more(16)
            wait_for(lambda: reader.events[-1:] == published[-1:] or reader.failures, "the events")

        wait_for(lambda: reader.streams, "the reader's stream")
        more()
        next_server = servers.start()
        more()
        # Streams without an end are ended in good order, and who had them comes again.
        end(server)
        more()
        following.close()
        assert [one.failures for one in followers] == [[]] * len(followers)
        assert [one.broken for one in followers] == [0] * len(followers)
        assert (listener.streams, reader.streams) == (2, 2)
        assert reader.events == published
        end(next_server)


class Listeners:
    """Listeners of a server's station, by the process that serves each."""

    def __init__(self, server: ServerProcess, closing: contextlib.ExitStack) -> None:
        self.of: dict[int, Client] = {}
        self._server = server
        self._closing = closing

    def are_at(self, *pids: int) -> bool:
        """Listen once more; tell whether each of some processes serves one."""
        client = self._closing.enter_context(Client(address_of(self._server)))
        client.send("GET /radio/one.mp3 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert client.take(len("HTTP/1.1 200")) == b"HTTP/1.1 200"
        self.of.setdefault(process_of(client, pids) or 0, client)
        return {*pids} <= {*self.of}


def listening_sockets(server: ServerProcess) -> set[str]:
    """Give the files of all sockets that listen on a server's port."""
    port = f":{address_of(server)[1]:04X}"
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {f"socket:[{one[9]}]" for one in lines if one[1].endswith(port) and one[3] == "0A"}


def test_nobody_is_released_while_another_worker_may_still_take_who_comes_again(tmp_path: Path) -> None:
    make_music(tmp_path)
    config = tmp_path / "headwater.toml"
    config.write_text(SERVER.format(workers=2, folder=tmp_path) + STATION_AND_EVENTS.format(folder=tmp_path))
    limits = Limits(server=replace(WITHOUT_SPARE, closing_seconds=CLIENT_SECONDS))
    options = ("--config", str(config), "--library", str(tmp_path), "--port", "0")
    server = start_server(*options, program=program(limits))
    ready(server, 2)
    one, other = workers_of(server)
    with contextlib.ExitStack() as closing:
        listeners = Listeners(server, closing)
        wait_for(lambda: listeners.are_at(one, other), "a listener of each worker")
        os.kill(other, signal.SIGSTOP)
        server.process.send_signal(signal.SIGTERM)
        wait_for(lambda: not listening_sockets(server) & {*open_files(one)}, "the end of listening")
        # What was written before is read; what comes behind that shows that the stream goes on.
        listener = listeners.of[one].socket
        listener.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while listener.recv(1 << 16):
                pass
        listener.settimeout(CLIENT_SECONDS)
        received = bytearray()
        while len(received) < 32 << 10:
            received += (data := listener.recv(1 << 16))
            assert data, "the stream has ended"
        os.kill(other, signal.SIGCONT)
        # It is read until its end: what a listener doesn't take is dropped after a while.
        while data := listener.recv(1 << 16):
            received += data
        assert received.endswith(b"\r\n0\r\n\r\n"), "the stream's good end"
        assert server.process.wait(STOP_SECONDS) == 0
