"""Titles of a station whose DVR is kept: spans of the past say the same before and behind a restart."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest

from tests.conftest import ServerProcess, start_server
from tests.origin.radio.listed_stations import (
    STATION,
    TUNE_SECONDS,
    date,
    get,
    listed,
    media,
    number,
    write_tunes,
)
from tests.s3_server import BUCKET, S3Server
from tests.waiting import wait_for

pytestmark = pytest.mark.timeout(600)

RENDITION = "/live/fm/64k/media.m3u8"
AWAY = 3


@pytest.mark.parametrize("place", ["disk", "s3"])
@pytest.mark.parametrize("window", ["6h", "1s"], ids=["listed", "behind"])
def test_a_span_has_the_same_titles_before_and_behind_a_restart(
    window: str, place: str, tmp_path: Path, s3_server: S3Server
) -> None:
    env = {"HEADWATER_SERVER_DATA": "data"}
    if place == "s3":
        env = {**s3_server.environment(), "HEADWATER_SERVER_DVR_PATH": f"s3://{BUCKET}/titles-{window}"}
    write_tunes(tmp_path)
    config = f'[server]\nport = 0\n{STATION}playlist_window = "{window}"\n'
    (tmp_path / "headwater.toml").write_text(config)
    server = start_server(cwd=tmp_path, env=env)
    first = wait_for(lambda: media(listed(server)), "the first segment")[0]
    wait_for(lambda: newest(server) > number(first) + 6, "some tunes")
    began = date(first)
    span = f"?start={began + 1:.3f}&end={began + 1 + 2 * TUNE_SECONDS:.3f}"
    if window == "1s":
        wait_for(
            lambda: number(media(listed(server))[0]) > number(first) + 2 * AWAY, "what has left the list"
        )
    paths = [f"{RENDITION}{span}", f"/live/fm/manifest.mpd{span}", f"/live/fm/clip.m4a{span}"]
    wait_for(lambda: all(is_for_ever(server, path) for path in paths), "what doesn't change any more")
    before = [get(server, path) for path in paths]
    assert set(titles(before[0].text)) == {"Tone 600", "Tone 1000"}
    last = newest(server)

    server.stop(signal.SIGKILL)
    server = start_server(cwd=tmp_path, env=env)
    wait_for(lambda: newest(server) > last, "what comes behind the restart")
    for path, known in zip(paths, before, strict=True):
        again = get(server, path)
        assert (again.content, again.headers["etag"]) == (known.content, known.headers["etag"]), path
    if window != "1s":
        assert titles(get(server, RENDITION).text)[:2] == titles(before[0].text)[:2], "the live playlist"
    assert server.stop() == 0


def newest(server: ServerProcess) -> int:
    return max(map(number, media(listed(server))), default=-1)


def titles(text: str) -> list[str]:
    return re.findall(r'X-TITLE="([^"]+)"', text)


def is_for_ever(server: ServerProcess, path: str) -> bool:
    return "immutable" in get(server, path).headers.get("cache-control", "")
