"""I-frame playlists of spans that are over: each range is one picture of its time."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx
import m3u8
import pytest

from tests.conftest import ServerProcess, start_server
from tests.copied_channel import HEIGHT, WIDTH, copied_channel
from tests.fork_server import run_headwater
from tests.patience import CLIENT_SECONDS
from tests.waiting import wait_for

SEGMENTS = 8


def started(folder: Path, *lines: str) -> ServerProcess:
    channel = copied_channel("a", "segment_duration = 1.0", "part_duration = 0.25", *lines)
    (folder / "headwater.toml").write_text(f'[server]\nport = 0\ndata = "data"\n{channel}')
    running = start_server(cwd=folder)
    wait_for(lambda: len(dates(running)) > SEGMENTS + 1, "some segments")
    return running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    running = started(tmp_path_factory.mktemp("kept"), 'dvr = "1h"')
    yield running
    assert running.stop() == 0


def dates(server: ServerProcess) -> list[float]:
    answer = httpx.get(f"{server.url}/live/a/source/media.m3u8", timeout=CLIENT_SECONDS)
    text = answer.text if answer.status_code == 200 else "#EXTM3U\n"
    return [one.program_date_time.timestamp() for one in m3u8.loads(text).segments if one.uri]


def master_of(server: ServerProcess, start: float, end: float) -> str:
    return f"{server.url}/live/a/master.m3u8?start={start:.3f}&end={end:.3f}"


def i_frames_of(master: str) -> tuple[str, m3u8.IFramePlaylist]:
    """Return the address of the one I-frame playlist of a multivariant playlist, and its entry."""
    (entry,) = m3u8.loads(httpx.get(master, timeout=CLIENT_SECONDS).text).iframe_playlists
    return urljoin(master, entry.uri), entry


def frames(data: bytes) -> list[dict[str, Any]]:
    """Return the pictures that ffprobe decodes."""
    shown = (
        "-v error -f mp4 -select_streams v -show_frames -show_entries frame=pts_time,pict_type,width,height"
    )
    command = ["ffprobe", *shown.split(), "-of", "json", "-i", "pipe:0"]
    done = subprocess.run(command, check=True, capture_output=True, input=data, timeout=CLIENT_SECONDS)
    found: list[dict[str, Any]] = json.loads(done.stdout)["frames"]
    return found


@pytest.mark.promise("/live/CHANNEL/RENDITION/iframes.m3u8?start=…&end=…")
@pytest.mark.clause("RFC 8216bis §4.4.3.6", "RFC 8216bis §4.4.6.3", "RFC 8216bis §4.4.4.2")
def test_each_range_with_its_init_segment_is_one_picture_of_its_time(server: ServerProcess) -> None:
    known = dates(server)
    start, end = known[1] + 0.25, known[SEGMENTS] + 0.25
    url, entry = i_frames_of(master_of(server, start, end))
    text = httpx.get(url, timeout=CLIENT_SECONDS).text
    found = m3u8.loads(text)
    assert found.is_i_frames_only
    assert found.is_endlist
    assert (found.playlist_type, len(found.segments)) == ("vod", SEGMENTS)
    media = m3u8.loads(httpx.get(url.replace("iframes", "media"), timeout=CLIENT_SECONDS).text)
    assert [one.uri for one in found.segments] == [one.uri for one in media.segments], "the live addresses"
    assert [one.duration for one in found.segments] == [one.duration for one in media.segments]
    first_shown = 0.0
    sizes = []
    for number, segment in enumerate(found.segments):
        assert segment.init_section is not None
        init = httpx.get(urljoin(url, segment.init_section.uri), timeout=CLIENT_SECONDS).content
        length, _, offset = segment.byterange.partition("@")
        asked = {"Range": f"bytes={offset}-{int(offset) + int(length) - 1}"}
        piece = httpx.get(urljoin(url, segment.uri), headers=asked, timeout=CLIENT_SECONDS)
        assert (piece.status_code, len(piece.content)) == (206, int(length))
        sizes.append(8 * int(length) / segment.duration)
        (picture,) = frames(init + piece.content)
        assert picture["pict_type"] == "I"
        assert (picture["width"], picture["height"]) == (WIDTH, HEIGHT)
        first_shown = first_shown or float(picture["pts_time"])
        date = segment.program_date_time.timestamp()
        passed = date - found.segments[0].program_date_time.timestamp()
        assert float(picture["pts_time"]) - first_shown == pytest.approx(passed, abs=0.002)
        assert date == pytest.approx(known[number + 1], abs=0.002)
        # Not a byte less: without the last one the picture isn't whole.
        assert len(piece.content) < len(httpx.get(urljoin(url, segment.uri), timeout=CLIENT_SECONDS).content)
    assert entry.iframe_stream_info.bandwidth == pytest.approx(max(sizes), abs=1)
    assert entry.iframe_stream_info.resolution == (WIDTH, HEIGHT)
    assert str(entry.iframe_stream_info.codecs).startswith("avc1.")


def test_the_check_finds_no_fault(server: ServerProcess) -> None:
    known = dates(server)
    judged = run_headwater("check", master_of(server, known[1], known[5]))
    assert (judged.returncode, judged.stdout.rpartition(", ")[2]) == (0, "0 didn't\n"), judged.stdout


def test_a_restarted_server_writes_the_same_playlist(tmp_path: Path) -> None:
    server = started(tmp_path, 'dvr = "1h"')
    known = dates(server)
    start, end = known[1] + 0.25, known[SEGMENTS - 1] + 0.25
    # Its segments have left memory.
    wait_for(lambda: time.time() > known[SEGMENTS] + 14, "more segments", CLIENT_SECONDS)
    before = httpx.get(i_frames_of(master_of(server, start, end))[0], timeout=CLIENT_SECONDS).text
    assert server.stop() == 0
    server = start_server(cwd=tmp_path)
    wait_for(lambda: bool(dates(server)), "the channel")
    after = httpx.get(i_frames_of(master_of(server, start, end))[0], timeout=CLIENT_SECONDS).text
    assert after == before
    assert after.count("#EXT-X-BYTERANGE") == SEGMENTS - 1
    assert server.stop() == 0


def test_what_is_of_a_span_that_grows_or_has_no_pictures_is_refused(server: ServerProcess) -> None:
    known = dates(server)
    span = f"start={known[1]:.3f}&end={known[4]:.3f}"
    growing = f"{server.url}/live/a/master.m3u8?start={known[1]:.3f}"
    assert "I-FRAME" not in httpx.get(growing, timeout=CLIENT_SECONDS).text
    for path, status in (
        (f"source/iframes.m3u8?start={known[1]:.3f}", 404),
        (f"audio/iframes.m3u8?{span}", 404),
        (f"nothing/iframes.m3u8?{span}", 404),
        ("source/iframes.m3u8?delay=5", 404),
        ("source/iframes.m3u8", 404),
        (f"source/iframes.m3u8?{span}", 200),
    ):
        answer = httpx.get(f"{server.url}/live/a/{path}", timeout=CLIENT_SECONDS)
        assert (answer.status_code, path) == (status, path)
