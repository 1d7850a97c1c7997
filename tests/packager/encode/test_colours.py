"""Colours: those of pictures in RGB are encoded as they are, and tagged."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from packager.process.ffmpeg_discovery import Tools
from tests.packager.encode.encoded_library import encoding, joined
from tests.packager.films import FFPROBE, run_ffmpeg

CHART = {"red": (255, 0, 0), "lime": (0, 255, 0), "blue": (0, 0, 255), "gray": (128, 128, 128)}
"""The colours of four stripes from left to right: ffmpeg's names, and red, green and blue."""

RGB_FILMS = {
    "ffv1.mkv": "-c:v ffv1 -pix_fmt bgr0",
    "ten-bits.mkv": "-c:v ffv1 -pix_fmt gbrp10le",
    "huffyuv.avi": "-c:v huffyuv -pix_fmt rgb24",
    "animation.mov": "-c:v qtrle -pix_fmt rgb24",
    "png.mov": "-c:v png -pix_fmt rgb24",
    "h264.mp4": "-c:v libx264rgb -preset ultrafast -qp 0",
    "hevc.mkv": "-c:v libx265 -preset ultrafast -x265-params log-level=none -pix_fmt gbrp",
    "vp9.webm": "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -pix_fmt gbrp -colorspace rgb",
}


def chart(size: str) -> str:
    stripes = [f"color={name}:size={size}:rate=2:duration=2,format=gbrp" for name in CHART]
    return f"{';'.join(f'{one}[{place}]' for place, one in enumerate(stripes))};[0][1][2][3]hstack=4"


def shown(tools: Tools, source: Path | bytes, filters: str) -> NDArray[np.float64]:
    """Return red, green and blue of the first picture of a file: its rows of pixels."""
    given = "pipe:0" if isinstance(source, bytes) else str(source)
    words = ["-i", given, "-vf", f"{filters},format=rgb24", "-frames:v", "1", "-f", "rawvideo", "pipe:1"]
    data = source if isinstance(source, bytes) else None
    command = [str(tools.ffmpeg), "-v", "error", *words]
    answer = subprocess.run(command, input=data, check=True, capture_output=True)
    return np.frombuffer(answer.stdout, np.uint8).reshape(36, 64, 3).astype(float)


def tagged_matrix(path: Path) -> str:
    words = [FFPROBE, "-v", "error", "-show_entries", "stream=color_space", "-of", "csv=p=0", str(path)]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.parametrize("name", RGB_FILMS)
async def test_pictures_in_rgb_come_back_as_they_were(name: str, tools: Tools, tmp_path: Path) -> None:
    library = tmp_path / "library"
    library.mkdir()
    words = ("-f", "lavfi", "-i", chart("320x720"), *RGB_FILMS[name].split())
    await asyncio.to_thread(run_ffmpeg, *words, library / name)
    async with encoding(library, tools, mode="auto") as media:
        path = await joined(media, name, "video-720p", tmp_path)
    assert tagged_matrix(path) == "bt709"
    # zscale goes by the tags, and refuses to guess.
    stripes = shown(tools, path, "zscale=w=64:h=36:matrix=gbr,format=gbrp").reshape(36, 4, 16, 3)[:, :, 4:12]
    assert np.abs(stripes.mean(axis=(0, 2)) - list(CHART.values())).max() <= 3


@pytest.mark.parametrize(("tags", "matrix"), [("", "smpte170m"), ("-colorspace bt709", "bt709")])
async def test_small_pictures_are_tagged_as_players_take_untagged_ones(
    tags: str, matrix: str, tools: Tools, tmp_path: Path
) -> None:
    library = tmp_path / "library"
    library.mkdir()
    words = ("-f", "lavfi", "-i", f"{chart('64x144')},format=yuv420p", "-c:v", "ffv1", *tags.split())
    await asyncio.to_thread(run_ffmpeg, *words, library / "film.mkv")
    async with encoding(library, tools, mode="auto") as media:
        path = await joined(media, "film.mkv", "video-144p", tmp_path)
    assert tagged_matrix(path) == matrix
    ours, theirs = shown(tools, path, "scale=64:36"), shown(tools, library / "film.mkv", "scale=64:36")
    assert np.abs(ours - theirs).mean() < 3
