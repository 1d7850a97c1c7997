"""The cost of an encoder: its memory has a bound, and a film in segments costs little more than one pass."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TypedDict

import pytest

from packager.encode.segment_encoder import ENCODER_MEMORY_BYTES
from tests.packager.encode import measured_encoder
from tests.packager.films import run_ffmpeg

MOST_OF_A_PASS = 1.5
"""Processor time of all segments of a short film, with the starts of its encoders, by that of one pass."""

TURNS = 3

HDR = (
    "-pix_fmt",
    "yuv420p10le",
    "-color_primaries",
    "bt2020",
    "-colorspace",
    "bt2020nc",
    "-color_trc",
    "smpte2084",
)
H264 = ("-c:v", "libx264", "-preset", "ultrafast")
HEVC = (
    "-c:v",
    "libx265",
    "-preset",
    "ultrafast",
    "-x265-params",
    "log-level=none:bframes=3",
    "-tag:v",
    "hvc1",
)
SOURCES = {
    "4K": ("testsrc2=size=3840x2160", (*H264, "-bf", "3", "-refs", "4", "-pix_fmt", "yuv420p"), 768 << 20),
    "4K in HDR": ("testsrc2=size=3840x2160", (*HEVC, *HDR), 768 << 20),
    "8K in HDR": ("color=gray:size=7680x4320", (*H264, *HDR), ENCODER_MEMORY_BYTES),
}
"""Large films, and the most bytes of memory of an encoder that makes them smaller: see `docs/library.md`."""


class Cost(TypedDict):
    """Processor time in seconds, peak of memory in bytes, and bytes of the result."""

    seconds: float
    peak: int
    size: int


def cost(film: Path, height: int, way: str) -> Cost:
    command = [sys.executable, "-m", measured_encoder.__name__, str(film), str(height), way]
    answer = subprocess.run(command, check=True, capture_output=True, text=True)
    found: Cost = json.loads(answer.stdout)
    return found


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", SOURCES)
def test_an_encoder_of_a_large_film_takes_bounded_memory(name: str, tmp_path: Path) -> None:
    picture, words, most = SOURCES[name]
    film = tmp_path / "film.mp4"
    run_ffmpeg("-f", "lavfi", "-i", f"{picture}:rate=10:duration=0.8", *words, "-g", "20", film)
    found = cost(film, 1080, "segments")
    assert found["peak"] < most
    assert found["size"] > 1000


@pytest.mark.timeout(600)
def test_a_film_in_segments_costs_little_more_than_one_pass(tmp_path: Path) -> None:
    film = tmp_path / "film.mp4"
    picture = "testsrc2=size=1280x720:rate=25:duration=16"
    words = ("-c:v", "libx264", "-preset", "ultrafast", "-g", "100", "-pix_fmt", "yuv420p")
    run_ffmpeg("-f", "lavfi", "-i", picture, *words, film)
    turns = list[tuple[float, float]]()
    # Neighbours change how much a processor does in a second, so that a second turn may decide.
    while len(turns) < TURNS and not any(ours < MOST_OF_A_PASS * one_pass for one_pass, ours in turns):
        turns.append((cost(film, 360, "pass")["seconds"], cost(film, 360, "segments")["seconds"]))
    assert any(ours < MOST_OF_A_PASS * one_pass for one_pass, ours in turns), turns
