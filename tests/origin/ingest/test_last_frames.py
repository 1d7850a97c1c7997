"""A recording has the last picture and the last sound of a copied stream, whatever container has them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import httpx
import pytest

from tests.conftest import start_server
from tests.keys import BEARER
from tests.packager.films import run_ffmpeg
from tests.patience import CLIENT_SECONDS
from tests.ports import kept_port
from tests.waiting import wait_for

KEY = "a-publish-key-of-tests"
FORMATS = {
    "ts": "-f mpegts",
    "ts-aligned": "-f mpegts -pes_payload_size 0",
    "mkv": "-f matroska",
    "flv": "-f flv",
    "fmp4": "-f mp4 -movflags empty_moov+default_base_moof+frag_every_frame",
    "rtmp": "-f flv",
    "srt": "-f mpegts",
}
"""How each channel's stream is written."""

CHANNEL = """
[[live]]
name = "{name}"
source = "publish"
publish_key = "{key}"
ladder = ["source"]
dvr = "1h"
"""

SOURCE = "-f lavfi -i testsrc2=s=320x180:r=25:d=4 -f lavfi -i sine=sample_rate=48000:d=4"
CODECS = "-c:v libx264 -preset ultrafast -bf 2 -g 25 -pix_fmt yuv420p -c:a aac"


def packets(film: Path, kind: str) -> int:
    """Return how many packets a film's stream has, as ffprobe counts them."""
    words = f"-v error -select_streams {kind} -count_packets -show_entries stream=nb_read_packets -of csv=p=0"
    done = subprocess.run(["ffprobe", *words.split(), film], check=True, capture_output=True, timeout=60)
    return int(done.stdout)


@pytest.mark.realtime
def test_a_copied_streams_recording_has_its_last_picture_and_its_last_sound(tmp_path: Path) -> None:
    film = tmp_path / "film.mkv"
    run_ffmpeg(*SOURCE.split(), *CODECS.split(), film)
    with kept_port() as rtmp, kept_port() as srt:
        head = f'[server]\nport = 0\nrtmp_port = {rtmp}\nsrt_port = {srt}\ndata = "data"\n'
        channels = "".join(CHANNEL.format(name=name, key=KEY) for name in FORMATS)
        (tmp_path / "headwater.toml").write_text(head + channels)
        with start_server(cwd=tmp_path) as server:
            targets = {
                "rtmp": f"rtmp://127.0.0.1:{rtmp}/live/rtmp?key={KEY}",
                # Without linger, ffmpeg itself drops what it hasn't sent when it ends.
                "srt": f"srt://127.0.0.1:{srt}?linger=5&streamid=srt?key={KEY}",
            }
            publishers = []
            for name, words in FORMATS.items():
                ingest = f"{server.url}/live/{name}/ingest?key={KEY}"
                options = words if name in targets else f"{words} -method PUT"
                command = f"ffmpeg -v error -re -i {film} -c copy {options} {targets.get(name, ingest)}"
                publishers.append(subprocess.Popen(command.split(), stdin=subprocess.DEVNULL))
            assert [one.wait(120) for one in publishers] == [0] * len(publishers)
            wait_for(lambda: server.text().count("source ended") == len(FORMATS), "the ends of all streams")
            found = {}
            with httpx.Client(base_url=server.url, headers=BEARER, timeout=CLIENT_SECONDS) as client:
                for name in FORMATS:

                    def is_recorded(name: str = name) -> bool:
                        return client.post(f"/live/{name}/end").json()["recording"] is not None

                    wait_for(is_recorded, "the recording")
                    (recording,) = client.get(f"/api/live/{name}/recordings").json()
                    made = tmp_path / f"{name}.mp4"
                    made.write_bytes(client.get(recording["mp4"]).content)
                    found[name] = packets(made, "v"), packets(made, "a")
    pictures, sounds = packets(film, "v"), packets(film, "a")
    assert {name: one for name, (one, _) in found.items() if one != pictures} == {}
    # A recording begins with its first picture: sound before that isn't in it.
    assert {name: one for name, (_, one) in found.items() if not sounds - 2 <= one <= sounds} == {}
