"""Multitrack video: a publisher asks what to encode, sends that, and each picture is a rendition as it came.

OBS of Debian can't do that; ffmpeg 8.1 stands for it, which sends its tracks in the same tags.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.fork_server import run_headwater
from tests.media.rtmp.newer_ffmpeg import newer_ffmpeg
from tests.origin.ingest.multitrack_requests import ASKED, CANVAS, changed
from tests.origin.ingest.studio import KEY, Studio, encoding, studio
from tests.ports import kept_port

pytestmark = pytest.mark.timeout(900)

STREAM_KEY = f"studio?key={KEY}"


@pytest.fixture(scope="module")
def hall(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """A channel with two renditions."""
    ladder = 'ladder = ["source", "240p"]\n'
    with kept_port() as port:
        server, folder = f"[server]\nrtmp_port = {port}\n", tmp_path_factory.mktemp("studio")
        with studio(folder, ladder, server, ladder=False) as one:
            yield one


def asked(stream_key: str = STREAM_KEY) -> dict[str, Any]:
    """Give what OBS says of itself, with a small canvas."""
    canvas = CANVAS | {"width": 480, "height": 270, "framerate": {"numerator": 25, "denominator": 1}}
    return changed(ASKED, authentication=stream_key, preferences={"canvases": [canvas]})


def configuration(hall: Studio, request: dict[str, Any]) -> dict[str, Any]:
    """Ask as OBS does; what isn't 200 it would show nothing of."""
    answer = hall.client.post(f"{hall.server.url}/live/studio/ingest/multitrack", json=request)
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    told: dict[str, Any] = answer.json()
    return told


def encoder_of(told: dict[str, Any]) -> list[str]:
    """Give the arguments of an ffmpeg that does what an answer says, and publishes there."""
    encoders, (endpoint,) = told["encoder_configurations"], told["ingest_endpoints"]
    first, rate = encoders[0], encoders[0]["framerate"]["numerator"]
    size = f"{first['width']}x{first['height']}"
    words = f"-nostdin -v error -re -f lavfi -i testsrc2=size={size}:rate={rate}"
    words += " -re -f lavfi -i sine=sample_rate=48000 -map 0:v -map 0:v -map 1:a -c:a aac"
    words += " -c:v libx264 -preset ultrafast -tune zerolatency -pix_fmt yuv420p"
    for index, one in enumerate(encoders):
        settings = one["settings"]
        words += f" -s:v:{index} {one['width']}x{one['height']} -b:v:{index} {settings['bitrate']}k"
        words += f" -g:v:{index} {rate * settings['keyint_sec']}"
    return [*words.split(), "-f", "flv", endpoint["url_template"].replace("{stream_key}", STREAM_KEY)]


@pytest.mark.clause("Pictures of several tracks are a channel's renditions, without any encoder")
def test_a_publisher_is_told_the_ladder_and_each_of_its_tracks_is_a_rendition(hall: Studio) -> None:
    url = f"{hall.server.url}/live/studio/master.m3u8"
    with encoding(*encoder_of(configuration(hall, asked())), program=newer_ffmpeg()):
        hall.wait_for_timeline(rendition="240p")
        told = hall.channel()["publisher"]
        assert (told["pictures"], told["is_encoded"]) == (2, False)
        run = run_headwater("check", url)
        assert run.returncode == 0, run.stdout
        words = f"ffprobe -v error -show_entries stream=codec_type,width,height -of csv=p=0 {url}"
        seen = subprocess.run(words.split(), capture_output=True, text=True, timeout=240).stdout
        assert set(seen.split()) >= {"video,480,270", "video,426,240", "audio"}, seen


@pytest.mark.clause("OBS is told what to encode once its key was checked, and shows why where it is refused")
@pytest.mark.parametrize(
    ("stream_key", "reason"),
    [
        ("studio?key=wrong", "publish_key"),
        ("studio", "publish_key"),
        ("", "publish_key"),
        (KEY, "publish_key"),
        (f"other?key={KEY}", "The stream key of this channel is studio?key=KEY."),
    ],
)
def test_who_has_no_key_is_told_nothing_but_that(hall: Studio, stream_key: str, reason: str) -> None:
    told = configuration(hall, asked(stream_key))
    assert told["status"]["result"] == "error"
    assert reason in told["status"]["html_en_us"].replace("&#x27;", "'")
    assert told["ingest_endpoints"] == told["encoder_configurations"] == []


def test_what_obs_would_not_send_is_refused(hall: Studio) -> None:
    address = f"{hall.server.url}/live/studio/ingest/multitrack"
    assert hall.client.post(address, content=b"{}" + b" " * (64 << 10)).status_code == 413
    assert hall.client.post(address, content=b"not JSON").status_code == 400
