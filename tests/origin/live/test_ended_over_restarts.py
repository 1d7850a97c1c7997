"""Events that have ended, behind a restart of the server: what was listed has the same bytes."""

from __future__ import annotations

import re
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import ServerProcess, start_server
from tests.copied_channel import copied_channel
from tests.keys import BEARER
from tests.patience import CLIENT_SECONDS, patient_server
from tests.waiting import wait_for

pytestmark = pytest.mark.timeout(900)

DVR = 'dvr = "1h"'
TIMES = "segment_duration = 1.0", "part_duration = 0.25"
KEPT = {"copied": "source", "short": "source", "encoded": "240p"}
"""The channels whose events stay, and their first renditions."""

FORGOTTEN = "memory"
"""A channel without a DVR: nothing of its events stays."""

Answers = dict[str, tuple[int, bytes]]

SONG = {"id": "song", "class": "x", "duration": 1.5, "attributes": {"X-N": 1.5, "X-TEXT": "1.5, 2"}}
URI = re.compile(r'^(?!#)\S+|(?<=URI=")[^"]+', re.MULTILINE)


def listed(client: httpx.Client, server: ServerProcess, *paths: str) -> Answers:
    """Return the answers of playlists, and of all that they list, by their paths."""
    found: Answers = {}
    waiting = list(paths)
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        answer = client.get(server.url + path)
        found[path] = answer.status_code, answer.content
        if answer.status_code == 200 and path.endswith(".m3u8"):
            waiting += [str(httpx.URL(path).join(uri)) for uri in URI.findall(answer.text)]
    return found


def channel(client: httpx.Client, server: ServerProcess, name: str) -> dict[str, Any]:
    """Return what is told of a channel."""
    found: list[dict[str, Any]] = client.get(f"{server.url}/api/live").json()
    return next(one for one in found if one["name"] == name)


def answers(client: httpx.Client, server: ServerProcess, name: str) -> Answers:
    """Return the answers of all addresses of a channel and of its recordings."""
    paths = [f"/live/{name}/master.m3u8", f"/live/{name}/manifest.mpd"]
    for recording in channel(client, server, name)["recordings"]:
        paths += [recording[kind] for kind in ("hls", "dash", "mp4") if recording.get(kind)]
    return listed(client, server, *paths)


def wait_until_told(client: httpx.Client, url: str, pattern: str) -> None:
    """Wait until an answer has a text."""
    wait_for(lambda: re.search(pattern, client.get(url).text, re.DOTALL), f"{pattern} at {url}")


def configuration(folder: Path) -> str:
    """Return one with channels whose durations are chosen by the source's key frames, and by the server."""
    channels = (
        copied_channel("copied", DVR),
        copied_channel("short", DVR, *TIMES),
        copied_channel("encoded", DVR, *TIMES).replace('ladder = ["source"]', 'ladder = ["240p"]'),
        copied_channel(FORGOTTEN, *TIMES),
    )
    head = f'[server]\nport = 0\ndata = "{folder / "data"}"\n[library]\npath = "{folder / "library"}"\n'
    return head + "".join(channels)


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGKILL], ids=lambda one: one.name)
def test_behind_a_restart_an_ended_event_and_its_recording_have_the_same_bytes(
    tmp_path: Path, by: signal.Signals
) -> None:
    (tmp_path / "library").mkdir()
    (tmp_path / "headwater.toml").write_text(configuration(tmp_path))
    words = "--config", str(tmp_path / "headwater.toml")
    with httpx.Client(timeout=CLIENT_SECONDS, headers=BEARER) as client:
        server = start_server(*words, program=patient_server())
        try:
            for name, rendition in {**KEPT, FORGOTTEN: "source"}.items():
                path = f"{server.url}/live/{name}/{rendition}/media.m3u8"
                wait_until_told(client, path, "(#EXTINF.*){3}")
                told = client.post(f"{server.url}/live/{name}/metadata", json=SONG)
                assert told.status_code == 201, told.text
                assert client.post(f"{server.url}/live/{name}/end").status_code == 200
            for name in KEPT:
                path = f"{server.url}/live/{name}/manifest.mpd"
                wait_until_told(client, path, 'type="static"')
            before = {name: answers(client, server, name) for name in KEPT}
        finally:
            server.stop(by)
        for name, found in before.items():
            assert {status for status, _ in found.values()} == {200}, name
            (playlist,) = {path for path in found if path.endswith(f"/{name}/{KEPT[name]}/media.m3u8")}
            assert found[playlist][1].endswith(b"#EXT-X-ENDLIST\n")
            assert b'#EXT-X-DATERANGE:ID="song"' in found[playlist][1]
        server = start_server(*words, program=patient_server())
        try:
            for name in before:
                wait_until_told(client, f"{server.url}/live/{name}/master.m3u8", "#EXTM3U")
                assert channel(client, server, name)["state"] == "ended"
            assert_same(before, {name: answers(client, server, name) for name in before})
            assert client.get(f"{server.url}/live/{FORGOTTEN}/master.m3u8").status_code == 404
            assert not channel(client, server, FORGOTTEN)["recordings"]
            assert channel(client, server, FORGOTTEN)["hls"] is None, "what doesn't answer isn't listed"
        finally:
            assert server.stop() == 0
        assert "set aside" not in server.text()


def assert_same(before: dict[str, Answers], after: dict[str, Answers]) -> None:
    """Compare by the lines of what differs: whole media in a message help nobody."""
    for name, found in before.items():
        assert after[name].keys() == found.keys(), name
        for path, answer in found.items():
            if after[name][path] != answer:
                lines = [one[1].splitlines() for one in (answer, after[name][path])]
                assert [one for one in zip(*lines, strict=False) if one[0] != one[1]] == [], path
            assert after[name][path] == answer, path
