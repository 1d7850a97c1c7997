"""The recording of a published stream has its first pictures and its last ones, whatever encodes it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.origin.ingest.studio import KEY, Studio, encoding, studio
from tests.waiting import wait_for

# An encoder that falls behind its clock is cut off, and has a recording in two stretches.
pytestmark = [pytest.mark.timeout(300), pytest.mark.realtime]

RATE, SECONDS = 25, 7.24
PICTURES = round(RATE * SECONDS)
"""The last pictures follow the last key frame, and don't fill a part."""
BLACK = 16
"""ITU-R BT.601's range of luma: picture n of the stream has the luma ``BLACK`` + n."""

STREAM = (
    f"-nostdin -v error -re -f lavfi -i color=black:s=320x180:r={RATE},geq=lum={BLACK}+N:cb=128:cr=128"
    f" -re -f lavfi -i sine=sample_rate=48000 -t {SECONDS}"
    f" -c:v libx264 -preset ultrafast -qp 4 -pix_fmt yuv420p -c:a aac -g {RATE} -f mpegts -method PUT"
)
LONG_SECONDS = 9
FURTHEST = 4
"""By how many steps of luma a picture differs that was encoded twice."""


def lumas(file: Path) -> list[int]:
    """Return the luma of each picture of a film, as ffmpeg decodes it."""
    command = f"-v error -i {file} -vf scale=1:1:out_range=tv -f rawvideo -pix_fmt yuv444p -"
    done = subprocess.run(["ffmpeg", *command.split()], check=True, capture_output=True, timeout=60)
    return list(done.stdout[::3])


def recorded(one: Studio, folder: Path) -> Path:
    """End the channel's event; return the MP4 of its recording."""
    answer = one.client.post(f"{one.server.url}/live/studio/end", headers={"Authorization": f"Bearer {KEY}"})
    # 202 where a busy machine needs longer for the recording than the answer waits.
    assert answer.status_code in (200, 202)
    wait_for(lambda: [each.get("mp4") for each in one.channel()["recordings"]] not in ([], [None]), "the MP4")
    film = folder / "event.mp4"
    film.write_bytes(one.client.get(one.server.url + one.channel()["recordings"][0]["mp4"]).content)
    return film


@pytest.mark.parametrize("ladder", ['"source"', '"source", "240p"', '"240p"'])
def test_a_recording_has_the_stream_from_its_first_picture_to_its_last(tmp_path: Path, ladder: str) -> None:
    head = f'[server]\ndata = "{tmp_path / "data"}"\n'
    with studio(tmp_path, f'dvr = "1h"\nladder = [{ladder}]\n', head, ladder=False) as one:
        with encoding(*STREAM.split(), f"{one.address}?key={KEY}") as encoder:
            assert encoder.wait(120) == 0
        wait_for(lambda: "source ended" in one.server.text(), "the end of the stream")
        found = lumas(recorded(one, tmp_path))
    assert found[0] <= BLACK + FURTHEST
    assert found[-1] >= BLACK + PICTURES - 1 - FURTHEST


@pytest.mark.parametrize("ladder", ['"source", "240p"', '"240p"'])
def test_so_has_the_recording_of_a_stream_that_comes_in_bursts(tmp_path: Path, ladder: str) -> None:
    fragments = "-f mp4 -movflags +empty_moov+default_base_moof -frag_duration 2000000 -method PUT"
    words = STREAM.replace("-f mpegts -method PUT", fragments).replace(f"-t {SECONDS}", f"-t {LONG_SECONDS}")
    head = f'[server]\ndata = "{tmp_path / "data"}"\n'
    with studio(tmp_path, f'dvr = "1h"\nladder = [{ladder}]\n', head, ladder=False) as one:
        with encoding(*words.split(), f"{one.address}?key={KEY}") as encoder:
            assert encoder.wait(120) == 0
        wait_for(lambda: "source ended" in one.server.text(), "the end of the stream")
        found = lumas(recorded(one, tmp_path))
    assert found[0] <= BLACK + FURTHEST
    assert found[-1] >= BLACK + RATE * LONG_SECONDS - 1 - FURTHEST
