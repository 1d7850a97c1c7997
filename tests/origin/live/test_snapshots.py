"""Pictures of a channel's past, beside those that ffmpeg decodes of the channel's segments."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urljoin

import httpx
import m3u8
import pytest

from tests.conftest import ServerProcess, start_server
from tests.copied_channel import HEIGHT, WIDTH, copied_channel
from tests.patience import CLIENT_SECONDS
from tests.waiting import wait_for

ALIKE = 30.0
"""Decibels of two pictures that are the same but for JPEG; other seconds of the film have less than 20."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("pictures")
    # Two key frames in a segment.
    (folder / "headwater.toml").write_text(
        '[server]\nport = 0\ndata = "data"\nworkers = 2\n'
        + copied_channel("a", 'dvr = "1h"', "segment_duration = 2.0", "part_duration = 0.25")
        + '[[radio]]\nname = "quiet.mp3"\nsource = "publish"\n'
    )
    with start_server(cwd=folder) as running:
        wait_for(lambda: len(live(running)) > 4, "some segments")
        yield running


def live(server: ServerProcess) -> list[m3u8.Segment]:
    answer = httpx.get(f"{server.url}/live/a/source/media.m3u8")
    text = answer.text if answer.status_code == 200 else "#EXTM3U\n"
    return [one for one in m3u8.loads(text).segments if one.uri]


def picture(server: ServerProcess, query: str) -> httpx.Response:
    return httpx.get(f"{server.url}/live/a/snapshot.jpg?{query}", timeout=CLIENT_SECONDS)


def decibels(jpeg: bytes, segment: Path, seconds: float) -> float:
    """Return the ratio of peak to noise of a JPEG beside the picture that ffmpeg decodes of a segment."""
    jpeg_path = segment.with_suffix(".jpg")
    jpeg_path.write_bytes(jpeg)
    command = f"ffmpeg -nostdin -v error -i {segment} -i {jpeg_path} -filter_complex"
    compare = f"[0:v]trim=start={seconds},setpts=PTS-STARTPTS,format=yuv420p[a];"
    compare += "[1:v]scale=out_range=tv,format=yuv420p,setpts=PTS-STARTPTS[b];"
    compare += "[a][b]psnr=stats_file=-:shortest=1"
    words = [*command.split(), compare, "-frames:v", "1", "-f", "null", "-"]
    done = subprocess.run(words, check=True, capture_output=True, text=True, timeout=CLIENT_SECONDS)
    (found,) = [word for word in done.stdout.split() if word.startswith("psnr_y:")]
    return float(found.partition(":")[2])


@pytest.mark.promise("/live/CHANNEL/snapshot.jpg?at=TIME")
def test_the_picture_is_that_of_the_key_frame_before(server: ServerProcess, tmp_path: Path) -> None:
    base = f"{server.url}/live/a/source/"
    one = live(server)[1]
    begin = one.program_date_time.timestamp()
    path = tmp_path / "segment.mp4"
    path.write_bytes(httpx.get(base + one.init_section.uri).content + httpx.get(base + one.uri).content)
    tags = set()
    for into, key_frame in ((0.0, 0.0), (0.7, 0.0), (1.1, 1.0), (1.9, 1.0)):
        answer = picture(server, f"at={begin + into:.3f}")
        assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jpeg"), answer.text
        assert "immutable" in answer.headers["cache-control"]
        command = ["ffprobe", "-v", "error", "-show_entries", "stream=width,height", "-of", "csv=p=0", "-"]
        told = subprocess.run(command, input=answer.content, check=True, capture_output=True)
        assert told.stdout.decode().strip() == f"{WIDTH},{HEIGHT}"
        assert decibels(answer.content, path, key_frame) > ALIKE
        assert decibels(answer.content, path, 1.0 - key_frame) < ALIKE
        tags.add(answer.headers["etag"])
    assert len(tags) == 2
    again = httpx.get(
        f"{server.url}/live/a/snapshot.jpg?at={begin:.3f}",
        headers={"if-none-match": picture(server, f"at={begin:.3f}").headers["etag"]},
    )
    assert again.status_code == 304


def test_times_before_now_lead_to_the_date_of_a_segment(server: ServerProcess) -> None:
    for query in ("at=now", "at=-4", "at=now-5s&rendition=source"):
        answer = picture(server, f"{query}&token=mine")
        assert answer.status_code == 302, answer.text
        target = urljoin(str(answer.url), answer.headers["location"])
        found = httpx.URL(target).params
        dates = [one.program_date_time.timestamp() for one in live(server)]
        assert min(abs(float(found["at"]) - date) for date in dates) < 0.002
        assert (found["token"], found.get("rendition")) == ("mine", "source" if "rend" in query else None)
        assert httpx.get(target, timeout=CLIENT_SECONDS).content.startswith(b"\xff\xd8\xff")


@pytest.mark.promise("/live/CHANNEL/thumbnails.vtt")
def test_thumbnails_name_a_small_picture_for_each_ten_seconds(server: ServerProcess) -> None:
    wait_for(lambda: len(live(server)) > 8, "sixteen seconds")
    segments = live(server)
    start = segments[0].program_date_time.timestamp() + 1
    end = segments[7].program_date_time.timestamp()
    url = f"{server.url}/live/a/thumbnails.vtt"
    answer = httpx.get(f"{url}?start={start:.3f}&end={end:.3f}&token=mine", timeout=CLIENT_SECONDS)
    assert answer.headers["content-type"].startswith("text/vtt")
    head, *cues = answer.text.strip().split("\n\n")
    assert head == "WEBVTT"
    assert 1 <= len(cues) <= 3
    assert cues[0].startswith("00:00:00.000 --> "), "the beginning has a picture, too"
    for cue in cues:
        times, address = cue.split("\n")
        found = httpx.URL(urljoin(url, address))
        assert float(found.params["at"]) % 10 == 0 or cue == cues[0]
        assert found.params["token"] == "mine"
        hours, minutes, seconds = times.partition(" --> ")[0].split(":")
        begin = 3600 * int(hours) + 60 * int(minutes) + float(seconds)
        assert begin == pytest.approx(max(float(found.params["at"]) - start, 0), abs=0.002)
        picture = httpx.get(found.copy_with(fragment=None), timeout=CLIENT_SECONDS)
        command = ["ffprobe", "-v", "error", "-show_entries", "stream=width,height", "-of", "csv=p=0", "-"]
        told = subprocess.run(command, input=picture.content, check=True, capture_output=True)
        assert told.stdout.decode().strip() == "192,108"
        assert found.fragment == "xywh=0,0,192,108"
    assert httpx.get(f"{url}?start=-6", timeout=CLIENT_SECONDS).status_code == 302
    assert httpx.get(url, timeout=CLIENT_SECONDS).text.count("snapshot.jpg") >= len(cues)
    assert httpx.get(f"{url}?start=1000&end=2000").status_code == 404
    assert httpx.get(f"{url}?start=never").status_code == 400


def test_many_who_ask_at_once_get_the_same_picture(server: ServerProcess) -> None:
    at = live(server)[2].program_date_time.timestamp() + 0.5
    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(lambda _: picture(server, f"at={at:.3f}"), range(48)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", 400),
        ("at=yesterday", 400),
        ("at=1&at=2", 400),
        ("start=-5", 400),
        ("at=-4&width=193", 400),
        ("at=1000", 404),
        ("at=4000000000", 404),
        ("at=-4&rendition=audio", 404),
        ("at=-4&rendition=1080p", 404),
    ],
)
def test_what_has_no_picture_is_refused_with_the_reason(
    server: ServerProcess, query: str, status: int
) -> None:
    answer = picture(server, query)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "text/plain; charset=utf-8")
    assert len(answer.text) > 10
