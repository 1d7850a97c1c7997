"""Workers serve the listeners of stations, who count over all processes and lose nothing but their worker."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.programs import environment
from tests.conftest import ServerProcess
from tests.origin.workers.asking import metric, ready, workers_of
from tests.origin.workers.conftest import started
from tests.processes import end
from tests.waiting import wait_for

LIMIT = 120.0
LISTENERS = 8
STATION = """
[[radio]]
name = "one.mp3"
source = "publish"
source_password = "sesame"
aliases = ["/morning.mp3"]

[[radio]]
name = "protected.mp3"
source = "publish"
source_password = "sesame"
listener_password = "hush"
"""
REQUEST = b"GET %b HTTP/1.1\r\nHost: localhost\r\nIcy-MetaData: 1\r\nUser-Agent: VLC\r\n\r\n"


@pytest.fixture(scope="module")
def two(library: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    server = started(tmp_path_factory.mktemp("two"), library, 2, STATION)
    made = ["-re", "-f", "lavfi", "-i", "sine", "-b:a", "64k", "-content_type", "audio/mpeg", "-f", "mp3"]
    to = f"icecast://source:sesame@{server.url.partition('://')[2]}/radio/one.mp3"
    source = subprocess.Popen(["ffmpeg", "-nostdin", "-v", "error", *made, to], env=environment())
    try:
        wait_for(lambda: status(server) is not None, "the source")
        # Also in the workers, by whom the first listeners are answered from then on.
        wait_for(lambda: has_worker_listeners(server), "the stations' logs")
        yield server
    finally:
        end(source)
        assert server.stop() == 0


def asked(server: ServerProcess, path: str) -> str:
    """Ask as the station's source may."""
    fields = {"Authorization": f"Basic {b64encode(b'source:sesame').decode()}"}
    request = urllib.request.Request(server.url + path, headers=fields)
    with urllib.request.urlopen(request, timeout=LIMIT) as answer:
        text: str = answer.read().decode()
        return text


def status(server: ServerProcess) -> dict[str, object] | None:
    """Give what Icecast's status says of the station on air; None before."""
    found = json.loads(asked(server, "/status-json.xsl"))["icestats"]["source"]
    return next(iter(found), None)


def listeners(server: ServerProcess) -> object:
    found = status(server)
    return None if found is None else found["listeners"]


def handed_over(server: ServerProcess) -> float:
    return metric(server, "headwater_handed_over_connections_total")


def has_worker_listeners(server: ServerProcess) -> bool:
    """Tell whether listeners that come now, to any worker, aren't handed over."""
    before = handed_over(server)
    for listener in [Listener(server) for _ in range(LISTENERS)]:
        listener.close()
    return handed_over(server) == before + 1


class Listener:
    """A listener on a bare socket."""

    def __init__(self, server: ServerProcess, path: bytes = b"/radio/one.mp3") -> None:
        port = int(server.url.rpartition(":")[2])
        self.socket = socket.create_connection(("127.0.0.1", port), LIMIT)
        self.socket.sendall(REQUEST % path)
        self.received = b""
        self.is_cut = False
        while b"\r\n\r\n" not in self.received:
            self.receive()
        self.head, _, self.received = self.received.partition(b"\r\n\r\n")

    def receive(self) -> bool:
        """Receive some more; return whether the connection is still there."""
        try:
            data = self.socket.recv(1 << 16)
        except ConnectionResetError:
            data = b""
        self.received += data
        self.is_cut = not data
        return bool(data)

    def close(self) -> None:
        self.socket.close()


def test_listeners_of_workers_hear_titles_and_are_counted_and_disconnected_one_by_one(
    two: ServerProcess,
) -> None:
    wait_for(lambda: listeners(two) == 0, "the end of the first one")
    before = handed_over(two)
    some = [Listener(two, path) for path in (b"/radio/one.mp3", b"/morning.mp3") * (LISTENERS // 2)]
    assert handed_over(two) == before + 1, "what was asked here"
    heads = {re.sub(rb"date: [^\r]*\r\n", b"", one.head) for one in some}
    assert len(heads) == 1
    assert b"icy-metaint: 16000\r\n" in heads.pop()
    wait_for(lambda: listeners(two) == LISTENERS, "the reports")
    assert metric(two, 'headwater_radio_listeners{mount="one.mp3"}') == LISTENERS
    asked(two, "/admin/metadata?mode=updinfo&mount=/radio/one.mp3&song=Dawn")
    for one in some:
        while b"StreamTitle='Dawn';" not in one.received:
            assert one.receive()
    listed = asked(two, "/admin/listclients?mount=/radio/one.mp3")
    numbers = re.findall(r"<ID>(\d+)</ID>", listed)
    assert len(set(numbers)) == LISTENERS == listed.count("<UserAgent>VLC</UserAgent>")
    assert "<return>1</return>" in asked(two, f"/admin/killclient?mount=/radio/one.mp3&id={numbers[0]}")
    wait_for(lambda: listeners(two) == LISTENERS - 1, "its end")
    for one in some:
        one.close()
    wait_for(lambda: listeners(two) == 0, "the end of all")


def test_listeners_of_a_killed_worker_come_again_and_the_others_hear_on(two: ServerProcess) -> None:
    some = [Listener(two) for _ in range(LISTENERS)]
    wait_for(lambda: listeners(two) == LISTENERS, "the reports")
    killed = workers_of(two)[0]
    os.kill(killed, signal.SIGKILL)
    wait_for(lambda: killed not in workers_of(two), "its end")
    asked(two, "/admin/metadata?mode=updinfo&mount=/radio/one.mp3&song=Dusk")
    for one in some:
        # Each hears on, or is cut off.
        while b"StreamTitle='Dusk';" not in one.received and one.receive():
            pass
    there = [one for one in some if not one.is_cut]
    wait_for(lambda: listeners(two) == len(there), "the count without those")
    again = [Listener(two) for one in some if one.is_cut]
    assert all(one.head.startswith(b"HTTP/1.1 200") for one in again)
    wait_for(lambda: listeners(two) == LISTENERS, "the reports of all")
    ready(two, 2)
    for one in some + again:
        one.close()
    wait_for(lambda: listeners(two) == 0, "the end of all")


def test_who_needs_a_password_and_what_is_not_sound_goes_to_the_started_process(two: ServerProcess) -> None:
    for path in ("/radio/protected.mp3", "/radio/one.mp3.m3u", "/radio/nobody.mp3"):
        before = handed_over(two)
        listener = Listener(two, path.encode())
        assert handed_over(two) == before + 2
        listener.close()
