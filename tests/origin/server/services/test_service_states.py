"""What ``/health`` and ``/metrics`` say of channels and stations that aren't on air, of a real server."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from packager.sources.publication import Publisher
from packager.sources.published_source import PublishedSource
from tests.conftest import ServerProcess, start_server
from tests.ports import kept_port
from tests.waiting import wait_for

CONFIG = """
[library]
path = "{folder}"
[[live]]
name = "nowhere"
source = "http://127.0.0.1:{port}/stream.ts"
ladder = ["240p"]
[[live]]
name = "text"
source = "{folder}/text.mp4"
ladder = ["240p"]
[[live]]
name = "studio"
source = "publish"
ladder = ["240p"]
[[radio]]
name = "guests.mp3"
source = "publish"
[[radio]]
name = "copy.mp3"
source = "relay"
url = "http://127.0.0.1:{port}/radio"
[[radio]]
name = "empty.mp3"
folder = "{folder}/music"
"""
REASONS = {
    "live/nowhere": "source: ConnectError",
    "live/text": "source: live source",
    "radio/copy.mp3": "source: All connection attempts failed",
    "radio/empty.mp3": "source: no tracks: ",
}
WAITING = ("live/studio", "radio/guests.mp3")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("states")
    (folder / "music").mkdir()
    (folder / "text.mp4").write_text("no film")
    config = folder / "headwater.toml"
    with kept_port() as port:
        config.write_text(CONFIG.format(folder=folder, port=port))
        one = start_server("--config", str(config), "--port", "0")
        yield one
        one.stop()


def health(server: ServerProcess) -> dict[str, Any]:
    with urllib.request.urlopen(f"{server.url}/health", timeout=60) as answer:
        found: dict[str, Any] = json.load(answer)
        return found


def settled(server: ServerProcess) -> dict[str, Any]:
    """The answer once all that can't play is known not to."""

    def look() -> dict[str, Any]:
        found = health(server)
        troubles = found.get("troubles", {})
        return found if all(name in troubles for name in REASONS) else {}

    return wait_for(look, what="every reason")


def test_a_source_that_was_never_there_is_down_with_its_reason(server: ServerProcess) -> None:
    found = settled(server)
    assert found["status"] == "degraded"
    for name, reason in REASONS.items():
        assert found["services"][name] == "down"
        assert found["troubles"][name].startswith(reason), found["troubles"][name]


def test_who_waits_for_a_publisher_is_idle_and_has_no_trouble(server: ServerProcess) -> None:
    found = settled(server)
    assert [found["services"][name] for name in WAITING] == ["idle", "idle"]
    assert not [name for name in WAITING if name in found["troubles"]]


def test_who_would_hear_nothing_is_told_so_although_the_station_only_waits(server: ServerProcess) -> None:
    def status() -> int:
        request = urllib.request.Request(f"{server.url}/radio/guests.mp3", method="HEAD")
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    wait_for(lambda: status() == 503, what="the silence")


def test_a_server_whose_publishers_are_awaited_is_not_degraded(tmp_path: Path) -> None:
    config = tmp_path / "headwater.toml"
    config.write_text(
        f'[library]\npath = "{tmp_path}"\n[[live]]\nname = "studio"\nsource = "publish"\n'
        '[[radio]]\nname = "guests.mp3"\nsource = "publish"\n'
    )
    server = start_server("--config", str(config), "--port", "0")
    try:
        assert wait_for(lambda: health(server)["status"] == "ok", what="all well")
    finally:
        assert server.stop() == 0


def test_the_metric_of_state_says_one_for_the_state_that_it_is_in(server: ServerProcess) -> None:
    settled(server)
    with urllib.request.urlopen(f"{server.url}/metrics", timeout=60) as answer:
        lines = answer.read().decode().splitlines()
    for name in REASONS:
        assert f'headwater_state{{service="{name}",state="down"}} 1.0' in lines
        assert f'headwater_state{{service="{name}",state="live"}} 0.0' in lines
    for name in WAITING:
        assert f'headwater_state{{service="{name}",state="idle"}} 1.0' in lines
    assert 'headwater_radio_source_connected{mount="guests.mp3"} 0.0' in lines


async def test_nothing_follows_a_publisher_that_has_gone() -> None:
    """The log says that another stream follows only where one does."""
    source = PublishedSource("test")
    first = source.begin(Publisher("http", ""), "mpegts")
    source.offer(first)
    second = source.begin(Publisher("http", ""), "mpegts")
    told = [source.has_stream]
    first.end()
    told.append(source.has_stream)
    source.offer(second)
    assert [*told, source.has_stream] == [True, False, True]
