"""Strangers ask for the HLS of many stations at once: few encoders begin at a time, and all do in the end."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from packager.process.ffmpeg_discovery import Tools
from packager.radio.limits import StationLimits
from packager.radio.simulcast import StartLimit
from tests.conftest import ServerProcess, start_server
from tests.waiting import wait_for

STATIONS = 4
AT_ONCE = 2
STATION = """
[[radio]]
name = "{}.mp3"
folder = "music"
"""


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory, tools: Tools) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("stations")
    for name in ("library", "music"):
        (folder / name).mkdir()
    words = ["-loglevel", "error", "-f", "lavfi", "-i", "sine", "-t", "10", "-b:a", "128k"]
    subprocess.run([tools.ffmpeg, *words, folder / "music" / "sine.mp3"], check=True)
    stations = "".join(STATION.format(number) for number in range(STATIONS))
    text = f"[server]\nport = 0\n{stations}\n[limits]\nhls_starts = {AT_ONCE}\n"
    (folder / "headwater.toml").write_text(text)
    with start_server("--config", "headwater.toml", "--library", "library", cwd=folder) as server:
        yield server


@pytest.mark.promise("limits.hls_starts")
@pytest.mark.clause("What is kept and what runs at once is bounded, however much is asked for")
def test_no_more_encoders_begin_at_once_than_may(server: ServerProcess) -> None:
    def ask(number: int) -> httpx.Response:
        return httpx.get(f"{server.url}/live/{number}.mp3/master.m3u8", timeout=120)

    with ThreadPoolExecutor(STATIONS) as executor:
        answers = list(executor.map(ask, range(STATIONS)))
    refused = [answer for answer in answers if answer.status_code == 503]
    # One that has begun meanwhile makes room.
    assert STATIONS - len(refused) <= len(server.children()) + 1
    assert len(refused) >= 1
    assert all(1 <= int(answer.headers["retry-after"]) <= 10 for answer in refused)
    for number in range(STATIONS):
        wait_for(lambda number=number: ask(number).status_code == 200, "each in the end")  # type: ignore[misc]


def test_a_channel_that_never_comes_holds_its_place_for_a_while_only() -> None:
    now, limits = 0.0, StationLimits(starts=AT_ONCE)
    starts = StartLimit(limits, lambda: now)
    beginning = dict.fromkeys("abcd", True)
    asked = {name: (lambda name=name: beginning[name]) for name in beginning}
    assert [starts.may_begin(asked[name]) for name in "abc"] == [True, True, False]
    beginning["a"] = False
    assert starts.may_begin(asked["c"])
    assert not starts.may_begin(asked["d"])
    now = limits.start_seconds
    assert starts.may_begin(asked["d"])
