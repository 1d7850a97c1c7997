"""Colours: those of RGB are encoded as they are, and pictures of HDR look like the encoded film."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from packager.encode.renditions import EncodedRenditions
from packager.library.cover_art import CoverArt
from packager.library.file_listing import ListedFolder
from packager.library.local_storage import Library
from packager.live.snapshot import draw_snapshot
from packager.process.ffmpeg_discovery import Tools
from packager.vod import Titles
from packager.vod.sprites.sprite_maker import draw_sprite
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

HDR = "-pix_fmt yuv420p10le -color_primaries bt2020 -colorspace bt2020nc -color_trc"
HEVC = f"-c:v libx265 -preset ultrafast -x265-params log-level=none -g 10 -tag:v hvc1 {HDR}"
HDR_FILMS = {"hdr10.mp4": f"{HEVC} smpte2084", "hlg.mp4": f"{HEVC} arib-std-b67"}


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
    require_chart(shown(tools, path, "zscale=w=64:h=36:matrix=gbr,format=gbrp"))


def require_chart(picture: NDArray[np.float64]) -> None:
    stripes = picture.reshape(36, 4, 16, 3)[:, :, 4:12]
    assert np.abs(stripes.mean(axis=(0, 2)) - list(CHART.values())).max() <= 3


TAGS = "-color_primaries bt709 -color_trc bt709 -colorspace bt709"


@pytest.mark.parametrize("tags", ["", TAGS], ids=["untagged", "tagged"])
async def test_thumbnails_have_the_colours_of_the_film(tags: str, tools: Tools, tmp_path: Path) -> None:
    words = "-vf scale=out_color_matrix=bt709,format=yuv420p -c:v libx264 -preset ultrafast -qp 4"
    film = ("-f", "lavfi", "-i", chart("320x720"), *words.split(), *tags.split())
    await asyncio.to_thread(run_ffmpeg, *film, tmp_path / "film.mp4")
    titles = Titles(Library(tmp_path), thumbnails=True)
    storyboard = await asyncio.to_thread(titles.storyboard, "film.mp4")
    require_chart(shown(tools, await draw_sprite(titles, tools, storyboard, 0), "scale=64:36"))
    art = CoverArt(Library(tmp_path), ListedFolder(tmp_path), tools, titles.facts.colour)
    require_chart(shown(tools, await art.poster("film.mp4"), "scale=64:36"))
    moment = ("-frames:v", "1", "-c", "copy", "-movflags", "frag_keyframe+empty_moov", tmp_path / "moment")
    await asyncio.to_thread(run_ffmpeg, "-i", tmp_path / "film.mp4", "-f", "mp4", *moment)
    drawn = await draw_snapshot(tools, (tmp_path / "moment").read_bytes())
    require_chart(shown(tools, drawn, "scale=64:36"))


async def test_a_picture_of_a_film_with_tags_of_its_own_keeps_these(tools: Tools, tmp_path: Path) -> None:
    # Pictures of JPEG have the matrix of ITU-R BT.601, also where they are large.
    words = "-c:v mjpeg -q:v 2 -pix_fmt yuvj420p -sws_flags accurate_rnd"
    await asyncio.to_thread(
        run_ffmpeg, "-f", "lavfi", "-i", chart("320x720"), *words.split(), tmp_path / "film.mov"
    )
    titles = Titles(Library(tmp_path), encoded=EncodedRenditions("auto").tracks)
    art = CoverArt(Library(tmp_path), ListedFolder(tmp_path), tools, titles.facts.colour)
    require_chart(shown(tools, await art.poster("film.mov"), "scale=64:36"))


async def test_smaller_pictures_are_tagged_as_players_take_a_large_untagged_film(
    tools: Tools, tmp_path: Path
) -> None:
    library = tmp_path / "library"
    library.mkdir()
    words = "-vf scale=out_color_matrix=bt709,format=yuv420p -c:v libx264 -preset ultrafast -qp 4"
    film = ("-f", "lavfi", "-i", chart("320x720"), *words.split())
    await asyncio.to_thread(run_ffmpeg, *film, library / "film.mp4")
    async with encoding(library, tools, mode="all") as media:
        path = await joined(media, "film.mp4", "video-360p", tmp_path)
    assert tagged_matrix(path) == "bt709"
    require_chart(shown(tools, path, "scale=64:36"))


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


async def test_small_pictures_of_hdr_look_like_the_encoded_film(tools: Tools, tmp_path: Path) -> None:
    library = tmp_path / "library"
    library.mkdir()
    picture = ("-f", "lavfi", "-i", "testsrc2=size=320x180:rate=5:duration=4")
    for name, words in HDR_FILMS.items():
        await asyncio.to_thread(run_ffmpeg, *picture, *words.split(), library / name)
    titles = Titles(Library(library), thumbnails=True)
    for name in HDR_FILMS:
        async with encoding(library, tools, mode="auto") as media:
            wanted = shown(tools, await joined(media, name, "video-180p", tmp_path), "scale=64:36")
        storyboard = await asyncio.to_thread(titles.storyboard, name)
        sprite = await draw_sprite(titles, tools, storyboard, 0)
        alike(shown(tools, sprite, "scale=64:36"), wanted)
        moment = tmp_path / name
        fragmented = ("-frames:v", "1", "-movflags", "frag_keyframe+empty_moov+default_base_moof")
        await asyncio.to_thread(run_ffmpeg, "-i", library / name, "-c", "copy", *fragmented, moment)
        alike(shown(tools, await draw_snapshot(tools, moment.read_bytes()), "scale=64:36"), wanted)


async def test_a_picture_of_a_film_in_hdr_looks_like_the_encoded_film(tools: Tools, tmp_path: Path) -> None:
    library = tmp_path / "library"
    library.mkdir()
    picture = ("-f", "lavfi", "-i", "testsrc2=size=320x180:rate=5:duration=3")
    words = f"-c:v prores_ks {HDR} arib-std-b67".replace("yuv420p10le", "yuv422p10le").split()
    await asyncio.to_thread(run_ffmpeg, *picture, *words, library / "film.mov")
    async with encoding(library, tools, mode="auto") as media:
        wanted = shown(tools, await joined(media, "film.mov", "video-180p", tmp_path), "scale=64:36")
    titles = Titles(Library(library), encoded=EncodedRenditions("auto").tracks)
    art = CoverArt(Library(library), ListedFolder(library), tools, titles.facts.colour)
    alike(shown(tools, await art.poster("film.mov"), "scale=64:36"), wanted)


def alike(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> None:
    """Assert that two pictures have about the same brightness, and the same saturation."""
    (bright, saturated), wanted = [(one.mean(), np.ptp(one, axis=2).mean()) for one in (ours, theirs)]
    assert (bright, saturated) == pytest.approx(wanted, rel=0.05)
