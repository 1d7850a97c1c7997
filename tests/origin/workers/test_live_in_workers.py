"""Live channels of a real server with three workers, which all serve them as one process does."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from origin.server.services.limits import Limits, ServerLimits
from tests.conformance.raw import Answer, Client
from tests.conftest import ServerProcess, start_server
from tests.copied_channel import copied_channel
from tests.keys import ADMIN_TOKEN
from tests.origin.workers.asking import address_of, asked, health, metric, ready, workers_of
from tests.origin.workers.connections import connections, to_all
from tests.patience import program
from tests.waiting import wait_for

pytestmark = pytest.mark.timeout(600)

COUNT = 3
CONFIG = """
[server]
workers = 3
data = "{data}"

[[radio]]
name = "tone.mp3"
source = "folder"
folder = "{music}"
"""
WITHOUT_SPARE = Limits(server=ServerLimits(spares=0))
MISSING = [
    "/live/test/source/1.m4s",
    "/live/test/source/none",
    "/live/test/none/media.m3u8",
    "/live/none/master.m3u8",
]
TIMES = ("part_duration = 0.25", "segment_duration = 1.0")
EVENT = 'event = true\ndvr = "1h"'
MASTER, PLAYLIST = "/live/test/master.m3u8", "/live/test/source/media.m3u8"


def playing(folder: Path, more: str = "") -> ServerProcess:
    config = folder / "headwater.toml"
    music = folder / "music"
    music.mkdir()
    tone = ["-f", "lavfi", "-i", "sine=frequency=440:duration=30", str(music / "tone.mp3")]
    subprocess.run(["ffmpeg", "-nostdin", "-v", "error", *tone], check=True, timeout=300)
    channel = copied_channel("test", *TIMES, 'captions = ["en"]', more)
    config.write_text(CONFIG.format(data=folder / "data", music=music) + channel)
    options = ("--config", str(config), "--library", str(folder), "--port", "0")
    server = start_server(*options, program=program(WITHOUT_SPARE))
    ready(server, COUNT)
    wait_for(lambda: health(server)["services"].get("live/test") == "live", "the channel")
    return server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    server = playing(tmp_path_factory.mktemp("live"))
    yield server
    assert server.stop() == 0


class Reader:
    """A low-latency player that asks for each thing on another connection."""

    def __init__(self, clients: list[Client]) -> None:
        self.clients = clients
        self._turn = itertools.count()
        self.parts: dict[str, bytes] = {}
        self.text = self.fetch(PLAYLIST).body.decode()
        self.follow()

    def fetch(self, target: str) -> Answer:
        client = self.clients[next(self._turn) % len(self.clients)]
        answer = client.ask(target)
        assert answer.status == 200, f"{target}: {answer}"
        return answer

    def follow(self) -> None:
        """Fetch the newest parts, and the one that is hinted at before it is there."""
        listed = re.findall(r'#EXT-X-PART:.*URI="([^"]+)"', self.text)[-2:]
        hinted = re.findall(r'PRELOAD-HINT:.*URI="([^"]+)"', self.text)
        for name in [*listed, *hinted]:
            client = self.clients[next(self._turn) % len(self.clients)]
            answer = client.ask(f"/live/test/source/{name}")
            if name in hinted and answer.status == 404:
                # RFC 8216bis §4.4.5.3: a hint is none to rely on; what an encoder's end cuts off never comes.
                assert f'"{name}"' not in client.ask(PLAYLIST).body.decode()
                continue
            assert answer.status == 200, f"{name}: {answer}"
            assert self.parts.setdefault(name, answer.body) == answer.body
        for line in self.text.splitlines()[-40:]:
            if re.fullmatch(r"\d+\.m4s", line):
                assert self.fetch(f"/live/test/source/{line}").body

    def reload(self) -> None:
        """Wait for the part that is hinted at."""
        hint = re.search(r'PRELOAD-HINT:.*URI="(\d+)\.(\d+)\.m4s"', self.text)
        assert hint is not None
        self.text = self.fetch(f"{PLAYLIST}?_HLS_msn={hint[1]}&_HLS_part={hint[2]}").body.decode()
        assert f"{hint[1]}.{hint[2]}.m4s" in self.text or f"\n{hint[1]}.m4s" in self.text
        self.follow()


def test_a_player_whose_every_request_goes_to_another_worker_finds_everything(server: ServerProcess) -> None:
    with to_all(server, MASTER) as clients:
        reader = Reader([*clients.values()])
        before = metric(server, "headwater_handed_over_connections_total")
        for _ in range(20):
            reader.reload()
        # The workers answered by themselves.
        handed_over = metric(server, "headwater_handed_over_connections_total") - before
        assert handed_over < 10


def test_who_asks_workers_is_counted_as_one_viewer(server: ServerProcess) -> None:
    def viewers() -> int:
        (found,) = json.loads(asked(server, "/api/live"))
        return int(found["viewers"])

    wait_for(lambda: viewers() == 0, "the end of other tests' viewers")
    with to_all(server, "/api/time") as clients:

        def are_counted() -> bool:
            for client in clients.values():
                assert client.ask(PLAYLIST).status == 200
            return viewers() > 0

        wait_for(are_counted, "the report")
        assert viewers() == 1


def test_a_worker_that_is_killed_is_back_with_all_channels(server: ServerProcess) -> None:
    with to_all(server, MASTER) as clients:
        reader, (killed, *others) = Reader([*clients.values()]), clients
        reader.reload()
        os.kill(killed, signal.SIGKILL)
        reader.clients = [clients[pid] for pid in others]
        reader.reload()
        wait_for(lambda: len({*workers_of(server)} - {killed}) == COUNT, "another worker")
        ready(server, COUNT)
    with to_all(server, MASTER) as clients:
        reader.clients = [*clients.values()]
        # On a busy machine a start takes longer than the list is long.
        reader.text = reader.fetch(PLAYLIST).body.decode()
        for _ in range(6):
            reader.reload()


def test_a_worker_that_stands_still_slows_nobody_and_goes_on(server: ServerProcess) -> None:
    with to_all(server, MASTER) as clients:
        stalled, *others = clients
        os.kill(stalled, signal.SIGSTOP)
        try:
            reader = Reader([clients[pid] for pid in others])
            for _ in range(12):
                reader.reload()
        finally:
            os.kill(stalled, signal.SIGCONT)
        # It may know no more than it did; what it lacks is asked of the control process.
        reader.clients = [*clients.values()]
        for _ in range(6):
            reader.reload()


def test_a_channel_whose_encoder_dies_goes_on_everywhere(server: ServerProcess) -> None:
    with to_all(server, MASTER) as clients:
        os.kill(server.encoder(b"film.mp4"), signal.SIGKILL)

        def have_break() -> bool:
            return all(b"#EXT-X-DISCONTINUITY\n" in one.ask(PLAYLIST).body for one in clients.values())

        wait_for(have_break, "the discontinuity")
        reader = Reader([*clients.values()])
        for _ in range(4):
            reader.reload()


def test_a_station_begins_for_who_asks_a_worker_which_then_serves_it(server: ServerProcess) -> None:
    master = "/live/tone.mp3/master.m3u8"

    def begins() -> bool:
        # Until it has begun, the control process answers, and keeps the connection.
        with to_all(server, "/api/time") as clients:
            return all(client.ask(master).status == 200 for client in clients.values())

    wait_for(begins, "the station's channel")
    with to_all(server, master) as clients:
        for client in clients.values():
            assert b"media.m3u8" in client.ask(master).body


def test_what_publishes_is_the_control_processes(server: ServerProcess) -> None:
    with to_all(server, MASTER) as clients:
        (client, *_) = clients.values()
        answer = client.ask("/live/test/metadata", "Content-Length: 0", method="POST")
        assert answer.status in (400, 401)
        assert client.ask(PLAYLIST).status == 200


def addresses(client: Client) -> list[str]:
    """Give all addresses of an event that is over."""
    found = [MASTER, "/live/test/manifest.mpd"]
    for name in ("source", "audio", "captions-en"):
        folder = f"/live/test/{name}"
        text = client.ask(f"{folder}/media.m3u8").body.decode()
        names = re.findall(r"^[^#\n]+$", text, re.MULTILINE) + re.findall(r'URI="([^".][^"]*)"', text)
        queries = ("", "?_HLS_skip=YES", "?token=a", "?_HLS_msn=a")
        found += [f"{folder}/media.m3u8{query}" for query in queries]
        numbers = [name.partition(".")[0] for name in names if name[0].isdigit()]
        found += [f"{folder}/{name}" for name in dict.fromkeys(names)]
        found += [f"{folder}/{number}.{index}.m4s" for number in numbers[:2] for index in range(3)]
    return found


def end_event(address: tuple[str, int]) -> None:
    with Client(address) as client:
        target = f"/live/test/end?key={ADMIN_TOKEN}"
        assert client.ask(target, "Content-Length: 0", method="POST").status < 300


def shown(answer: Answer) -> tuple[int, list[tuple[str, str]], bytes]:
    fields = [(name, value) for name, value in answer.fields if name.lower() != "date"]
    return answer.status, fields, answer.body


@pytest.fixture
def event(tmp_path: Path) -> Iterator[ServerProcess]:
    server = playing(tmp_path, EVENT)
    yield server
    assert server.stop() == 0


def test_captions_from_disk_are_answered_as_from_memory(event: ServerProcess, tmp_path: Path) -> None:
    captions = "/live/test/captions-en"
    with Client(address_of(event)) as client:

        def listed() -> list[str]:
            text = client.ask(f"{captions}/media.m3u8").body.decode()
            return re.findall(r"^\d+\.vtt$", text, re.MULTILINE)

        first, *_ = wait_for(listed, "captions")

        def asked_again() -> tuple[int, list[tuple[str, str]], bytes]:
            status, fields, body = shown(client.ask(f"{captions}/{first}"))
            # It grows with the playlist.
            return status, [field for field in fields if field[0] != "cache-control"], body

        fresh = asked_again()
        wait_for(lambda: len(listed()) > 15, "fifteen segments more")
        wait_for(lambda: [*tmp_path.glob(f"data/**/captions-en/{first}")], "the segment on disk")
        assert asked_again() == fresh


def test_every_worker_has_the_same_of_an_event_that_is_over_with_what_is_on_disk(
    event: ServerProcess, tmp_path: Path
) -> None:
    def has_disk(count: int) -> bool:
        return len([*tmp_path.glob("data/**/source/*.m4s")]) > count

    wait_for(lambda: has_disk(9), "segments that have left memory")
    with to_all(event, MASTER) as clients:
        (first, *_) = clients.values()
        oldest = re.findall(r"^\d+\.m4s$", first.ask(PLAYLIST).body.decode(), re.MULTILINE)[0]
        for client in clients.values():
            assert client.ask(f"/live/test/source/{oldest}").status == 200
        end_event(first.socket.getpeername())

        def has_ended() -> bool:
            return all(b"#EXT-X-ENDLIST" in one.ask(PLAYLIST).body for one in clients.values())

        wait_for(has_ended, "the end")
        wanted = addresses(first)
    pids = workers_of(event)
    # What no worker has takes a connection to the control process: each kind has its own.
    for group in (wanted[:40], wanted[40:], MISSING):
        with connections(event, pids, MASTER) as clients:
            for target in group:
                answers = [shown(client.ask(target)) for client in clients.values()]
                assert answers[1:] == answers[:-1], target
