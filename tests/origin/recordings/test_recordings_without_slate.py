"""Recordings of channels with a slate, which is never in them."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import m3u8
import pytest

from tests.conftest import ServerProcess, start_server
from tests.keys import ADMIN_TOKEN
from tests.patience import CLIENT_SECONDS
from tests.programmed_channel import ADMIN, kill, recordings
from tests.waiting import wait_for

KEY = "a-key-of-publishers"
RATE = 10
PUBLISHED = "160x120"
CODING = "-c:v libx264 -preset ultrafast -tune zerolatency -pix_fmt yuv420p -g 10 -c:a aac -ar 48000"
MUXED = "-f mpegts -muxdelay 0 -muxpreload 0"


def make(path: Path, picture: str, seconds: int) -> Path:
    """Make a film of a picture of ffmpeg's and a tone."""
    words = f"-f lavfi -i {picture}:rate={RATE} -f lavfi -i sine=330:sample_rate=48000 -t {seconds} {CODING}"
    subprocess.run(["ffmpeg", "-v", "error", *words.split(), str(path)], check=True)
    return path


def shown(address: str | Path) -> list[str]:
    """Return the hashes of the pictures that ffmpeg shows of an address."""
    words = "-map 0:v -fps_mode passthrough -vf scale=64:48:flags=neighbor -f framemd5 -"
    done = subprocess.run(
        ["ffmpeg", "-nostdin", "-v", "error", "-i", str(address), *words.split()],
        check=True, capture_output=True, text=True, timeout=CLIENT_SECONDS,
    )  # fmt: skip
    return [line.rpartition(",")[2].strip() for line in done.stdout.splitlines() if line[0] != "#"]


def publish(server: ServerProcess, film: Path) -> None:
    words = (
        f"-nostdin -v error -re -i {film} -c copy {MUXED} -method PUT {server.url}/live/p/ingest?key={KEY}"
    )
    subprocess.run(["ffmpeg", *words.split()], check=True, timeout=CLIENT_SECONDS)


@pytest.fixture
def films(tmp_path: Path, request: pytest.FixtureRequest) -> tuple[Path, Path]:
    """The slate, and what is published: of other sizes, so that no decoder goes on from one to the other."""
    size = getattr(request, "param", "640x360")
    slate = make(tmp_path / "slate.mp4", f"color=red:size={size}", 2)
    return slate, make(tmp_path / "published.ts", f"testsrc2=size={PUBLISHED}", 4)


@pytest.fixture
def channel(tmp_path: Path, films: tuple[Path, Path]) -> Iterator[Callable[..., ServerProcess]]:
    """Starts a server with a channel that has a slate, with further keys."""
    servers = []

    def start(*keys: str) -> ServerProcess:
        lines = (
            '[server]\nport = 0\ndata = "data"',
            f'admin_token = "{ADMIN_TOKEN}"\n[[live]]\nname = "p"\nsource = "publish"\npublish_key = "{KEY}"',
            f'ladder = ["source"]\nsegment_duration = 1.0\npart_duration = 0.25\noffline = "{films[0]}"',
        )
        (tmp_path / "headwater.toml").write_text("\n".join([*lines, *keys]))
        servers.append(start_server(cwd=tmp_path))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


def wait_for_slate(server: ServerProcess, streams: int) -> m3u8.M3U8:
    """Wait until the slate is listed behind so many other streams; return the media playlist."""

    def shown() -> m3u8.M3U8 | None:
        listed = m3u8.loads(httpx.get(f"{server.url}/live/p/source/media.m3u8", timeout=CLIENT_SECONDS).text)
        media = [one for one in listed.segments if not one.gap_tag]
        maps = list(dict.fromkeys(one.init_section.uri for one in media if one.init_section))
        return listed if len(maps) > streams else None

    return wait_for(shown, "the slate")


def check(server: ServerProcess, recording: dict[str, Any], film: Path, times: int = 1) -> None:
    """Check that a recording has the pictures of a film, once or more often, and no other ones."""
    published = shown(film)
    for kind in ("hls", "mp4"):
        assert recording[kind] is not None, recording
        found = shown(server.url + recording[kind])
        # Of MPEG-TS the last two pictures aren't known to be whole.
        whole = [one for _ in range(times) for one in published[: len(found) // times]]
        assert len(published) - 2 <= len(found) / times <= len(published), kind
        assert found == whole, kind
    assert not recording["mp4_stretches"]
    assert recording["duration"] == pytest.approx(times * len(published) / RATE, abs=0.5)
    (variant,) = m3u8.loads(httpx.get(server.url + recording["hls"]).text).playlists
    assert variant.stream_info.resolution == (160, 120), "what is recorded, and not the slate"
    sizes = re.findall(r' width="(\d+)"', httpx.get(server.url + recording["dash"]).text)
    assert set(sizes) == {"160"}, sizes


# Larger than what is published, smaller and upright, and of the same size.
@pytest.mark.parametrize("films", ["640x360", "90x160", PUBLISHED], indirect=True)
def test_a_publication_begins_with_the_publishers_first_picture_and_ends_with_the_last(
    channel: Callable[..., ServerProcess], films: tuple[Path, Path]
) -> None:
    server = channel('record = "publications"', 'dvr = "10m"')
    wait_for_slate(server, 0)
    publish(server, films[1])
    wait_for_slate(server, 2)
    # A publisher who comes back at once goes on with the same recording.
    publish(server, films[1])
    wait_for(lambda: recordings(server, "p"), "the recording", seconds=90)
    (recording,) = recordings(server, "p")
    check(server, recording, films[1], times=2)


def test_neither_a_programme_nor_a_span_that_somebody_keeps_has_the_slate(
    channel: Callable[..., ServerProcess], films: tuple[Path, Path], tmp_path: Path
) -> None:
    server = channel('record = "programmes"', 'dvr = "10m"')
    begin = time.time()
    wait_for_slate(server, 0)
    publish(server, films[1])
    wait_for_slate(server, 2)
    # What the slate was is known behind a restart, too.
    kill(server)
    server = channel('record = "programmes"', 'dvr = "10m"')
    wait_for_slate(server, 3)
    end = time.time()
    programmes = [{"id": "show", "start": begin, "end": end, "title": "Show"}]
    address = f"{server.url}/live/p"
    answer = httpx.put(f"{address}/programmes", json=programmes, headers=ADMIN, timeout=CLIENT_SECONDS)
    assert answer.status_code == 200, answer.text
    span = {"start": begin, "end": end, "title": "Kept"}
    httpx.post(f"{address}/recordings", json=span, headers=ADMIN, timeout=CLIENT_SECONDS).raise_for_status()
    wait_for(lambda: len(recordings(server, "p")) == 2, "both recordings", seconds=90)
    for recording in recordings(server, "p"):
        check(server, recording, films[1])
    assert {one["title"] for one in recordings(server, "p")} == {"Show", "Kept"}
    # Of the slate alone nothing is kept.
    nothing = {"start": begin, "end": begin + 1}
    refused = httpx.post(f"{address}/recordings", json=nothing, headers=ADMIN, timeout=CLIENT_SECONDS)
    assert refused.status_code == 404, refused.text


def test_the_recording_of_an_event_has_no_slate(
    channel: Callable[..., ServerProcess], films: tuple[Path, Path]
) -> None:
    server = channel("event = true", 'dvr = "10m"')
    wait_for_slate(server, 0)
    publish(server, films[1])
    wait_for_slate(server, 2)
    httpx.post(f"{server.url}/live/p/end", headers=ADMIN, timeout=CLIENT_SECONDS).raise_for_status()
    wait_for(lambda: recordings(server, "p"), "the recording")
    (recording,) = recordings(server, "p")
    check(server, recording, films[1])


@pytest.mark.parametrize(("size", "status"), [("640x360", 409), ("160x120", 200)])
def test_a_clip_over_the_slate_is_one_file_if_the_publishers_encoder_has_made_it(
    channel: Callable[..., ServerProcess], films: tuple[Path, Path], size: str, status: int
) -> None:
    films[0].unlink()
    make(films[0], f"color=red:size={size}", 2)
    begin = time.time()
    server = channel('dvr = "10m"')
    wait_for_slate(server, 0)
    publish(server, films[1])
    wait_for_slate(server, 2)
    clip = f"{server.url}/live/p/clip.mp4?start={begin}&end={time.time()}"

    def answered() -> httpx.Response | None:
        found = httpx.get(clip, follow_redirects=True, timeout=CLIENT_SECONDS)
        return None if found.status_code == 404 else found

    answer = wait_for(answered, "all of the span")
    assert answer is not None
    assert answer.status_code == status, answer.text
    if status == 409:
        first, *parts = answer.text.splitlines()
        advice = "a slate fits that the publisher's encoder has made with the same settings"
        assert advice in first
        assert len(parts) > 1
