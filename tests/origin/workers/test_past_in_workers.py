"""A channel's past behind its live playlist, as all workers of a server serve it: with the same bytes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from origin.server.services.limits import Limits, ServerLimits
from tests.conformance.raw import Client
from tests.conftest import ServerProcess, start_server
from tests.copied_channel import copied_channel
from tests.origin.workers.asking import address_of, health, ready
from tests.origin.workers.connections import to_all
from tests.patience import program
from tests.waiting import wait_for

pytestmark = pytest.mark.timeout(600)

COUNT = 3
OPTIONS = (
    'dvr = "1h"',
    'playlist_window = "1s"',
    "segment_duration = 1.0",
    "part_duration = 0.25",
    'captions = ["en"]',
)
PLAYLIST = "/live/test/source/media.m3u8"
BEHIND = 25
"""Segments behind the first one that is listed that have left the windows, too."""

NAMES = ("source/media.m3u8", "audio/media.m3u8", "captions-en/media.m3u8", "manifest.mpd", "master.m3u8")
TURNS = 200
"""How often all workers are asked, until one answers in the same state of the channel as the others."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("past")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[ServerProcess]:
    """Serve a channel that was restarted once, and whose beginning isn't listed any more."""
    text = f'[server]\nport = 0\nworkers = {COUNT}\ndata = "data"\n{copied_channel("test", *OPTIONS)}'
    (folder / "headwater.toml").write_text(text)
    limits = program(Limits(server=ServerLimits(spares=0)))
    before = start_server(cwd=folder, program=limits)
    wait_for(lambda: health(before)["services"].get("live/test") == "live" and len(numbers(before)) > 5, "it")
    assert before.stop() == 0
    server = start_server(cwd=folder, program=limits)
    ready(server, COUNT)
    wait_for(lambda: health(server)["services"].get("live/test") == "live", "the channel")
    newest = numbers(server)[-1]
    wait_for(lambda: numbers(server)[0] > newest + BEHIND, "all of the first start has left the list")
    yield server
    assert server.stop() == 0
    assert "Traceback" not in server.text()


def numbers(server: ServerProcess) -> list[int]:
    with Client(address_of(server)) as client:
        found = client.ask(PLAYLIST)
    text = found.body.decode() if found.status == 200 else ""
    return [int(one) for one in re.findall(r"^(\d+)\.m4s$", text, re.MULTILINE)]


def start_of(folder: Path) -> int:
    """Return the number of one of the channel's first segments, which is its date, about."""
    return sorted(int(one.stem) for one in folder.glob("data/live/test/dvr/source/**/*.m4s"))[3]


def assert_same(clients: list[Client], target: str, *fields: str) -> bytes:
    """Ask all workers until they are in the same state; return what all of them say then."""
    bodies: set[tuple[int, str, bytes]] = set()
    for _ in range(TURNS):
        answers = [client.ask(target, *fields) for client in clients]
        bodies = {(one.status, dict(one.fields).get("etag", ""), one.body) for one in answers}
        if len(bodies) == 1:
            break
    ((status, tag, body),) = bodies
    assert (status, bool(tag)) == (200, True)
    return body


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("fields", [(), ("Accept-Encoding: gzip",)], ids=["plain", "gzip"])
def test_a_start_over_has_the_same_bytes_at_all_workers(
    server: ServerProcess, folder: Path, name: str, fields: tuple[str, ...]
) -> None:
    target = f"/live/test/{name}?start={start_of(folder)}.5"
    with to_all(server, PLAYLIST) as clients:
        first = assert_same([*clients.values()], target, *fields)
        newest = numbers(server)[-1]
        wait_for(lambda: numbers(server)[-1] > newest + 2, "more")
        # They have followed it meanwhile; one that is asked for the first time reads it.
        later = assert_same([*clients.values()], target, *fields)
    if name.endswith("media.m3u8") and not fields:
        begun = re.search(r"#EXT-X-MEDIA-SEQUENCE:(\d+)", first.decode())
        assert begun is not None
        assert abs(int(begun[1]) - start_of(folder)) < 3
        assert later.count(b"\n#EXTINF") > first.count(b"\n#EXTINF")
        assert b"#EXT-X-DISCONTINUITY\n" in later


@pytest.mark.parametrize("name", NAMES)
def test_a_delayed_channel_has_the_same_bytes_at_all_workers(server: ServerProcess, name: str) -> None:
    with to_all(server, PLAYLIST) as clients:
        assert_same([*clients.values()], f"/live/test/{name}?delay={BEHIND + 2}")


def test_delta_updates_of_a_start_over_wait_at_all_workers(server: ServerProcess, folder: Path) -> None:
    target = f"{PLAYLIST}?start={start_of(folder)}.5"
    with to_all(server, PLAYLIST) as clients:
        for client in clients.values():
            number = numbers(server)[-1] + 2
            update = client.ask(f"{target}&_HLS_msn={number}&_HLS_part=0&_HLS_skip=YES").body.decode()
            assert f"{number}.0.m4s" in update
            skipped = int(update.partition("SKIPPED-SEGMENTS=")[2].partition("\n")[0])
            listed = re.search(r"^(\d+)\.m4s$", update, re.MULTILINE)
            first = re.search(r"#EXT-X-MEDIA-SEQUENCE:(\d+)", update)
            assert listed is not None
            assert first is not None
            assert int(listed[1]) == int(first[1]) + skipped


def test_what_has_left_the_list_is_at_its_live_address(server: ServerProcess, folder: Path) -> None:
    number = start_of(folder)
    with to_all(server, PLAYLIST) as clients:
        for name in (f"source/{number}.m4s", f"audio/{number}.m4s", f"captions-en/{number}.m4s"):
            # It is asked of the control process, which keeps the connection.
            bodies = {client.ask(f"/live/test/{name}").body for client in clients.values()}
            assert len(bodies) == 1, name
            assert next(iter(bodies))[4:8] == b"moof"
