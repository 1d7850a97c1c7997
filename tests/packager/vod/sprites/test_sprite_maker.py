"""Sprites: pictures are the film's at their times, made once, kept within limits; nothing foreign goes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import subprocess
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from media.errors import UnsupportedError
from packager.concurrency import background_task
from packager.hashed_file_cache import HashedFileCache, HashedFileLimits
from packager.library.local_storage import Library, NotFoundError
from packager.process.ffmpeg_discovery import Tools
from packager.safe_files import DataFolder
from packager.transient_errors import NotReadyError
from packager.vod import Titles
from packager.vod.sprites.sprite_maker import SPRITES, SpriteLimits, SpriteMaker
from tests.packager import films
from tests.packager.films import FFMPEG, FFPROBE, run_ffmpeg
from tests.processes import children_of
from tests.small_disk import small_disk

LIMITS = SpriteLimits(wait_seconds=60)
JPEG = b"\xff\xd8\xff\xe0" + bytes(96)
CUE = re.compile(
    r"([\d:.]+) --> ([\d:.]+)\nthumbnails/v_[0-9a-f]{12}/(\d+)\.jpg#xywh=(\d+),(\d+),(\d+),(\d+)\n"
)

RATE = 5
"""Pictures per second of films; a key frame comes every two seconds."""

CODECS = {
    "h264.mp4": ("-c:v", "libx264", "-preset", "ultrafast", "-g", "10", "-bf", "2"),
    # open groups of pictures, whose key frames say their place by those before them
    "hevc.mp4": ("-c:v", "libx265", "-preset", "ultrafast", "-g", "10", "-x265-params",
                 "open-gop=1:bframes=4:log-level=none", "-tag:v", "hvc1"),
    "vp9.mp4": ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-g", "10", "-b:v", "300k"),
    "portrait.mp4": ("-vf", "transpose", "-c:v", "libx264", "-preset", "ultrafast", "-g", "10"),
}  # fmt: skip


def make_film(path: Path, name: str = "h264.mp4", seconds: int = 65) -> Path:
    source = ("-f", "lavfi", "-i", f"testsrc=size=320x180:rate={RATE}:duration={seconds}")
    run_ffmpeg(*source, *(OPEN if name == "open.mp4" else CODECS[name]), "-pix_fmt", "yuv420p", path)
    return path


OPEN = ("-c:v", "libx264", "-preset", "ultrafast", "-x264-params", "open-gop=1:keyint=10:bframes=3")


@contextlib.asynccontextmanager
async def running(
    library: Path, tools: Tools, folder: Path | None = None, limits: SpriteLimits = LIMITS
) -> AsyncIterator[SpriteMaker]:
    titles = Titles(Library(library), thumbnails=True)
    data = None if folder is None else DataFolder(folder) / "thumbnails"
    sprites = SpriteMaker(titles, tools, data, limits, time.monotonic)
    async with background_task(sprites.run()):
        yield sprites


def without_ffmpeg(tools: Tools) -> Tools:
    return replace(tools, ffmpeg=Path("/nonexistent/ffmpeg"))


def seconds_of(text: str) -> float:
    hours, minutes, seconds = text.split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


def pixels(source: bytes | Path, *filters: str) -> NDArray[np.int64]:
    """Decode the pictures of a JPEG or of a film to grey pixels, as ffmpeg does by itself."""
    given = "pipe:0" if isinstance(source, bytes) else str(source)
    words = [FFMPEG, "-v", "error", "-i", given, "-vf", ",".join((*filters, "format=gray"))]
    words += ["-fps_mode", "passthrough", "-f", "rawvideo", "-"]
    data = source if isinstance(source, bytes) else b""
    done = subprocess.run(words, input=data, capture_output=True, check=True)
    return np.frombuffer(done.stdout, np.uint8).astype(np.int64)


def size_of(data: bytes) -> list[int]:
    words = [FFPROBE, "-v", "error", "-show_entries", "stream=width,height", "-of", "csv=p=0", "-"]
    done = subprocess.run(words, input=data, capture_output=True, check=True)
    return [int(text) for text in done.stdout.split(b",")]


@pytest.mark.parametrize("name", CODECS)
async def test_each_picture_is_the_films_own_at_that_time(name: str, tools: Tools, tmp_path: Path) -> None:
    path = await asyncio.to_thread(make_film, tmp_path / name, name)
    async with running(tmp_path, tools) as sprites:
        vtt = await sprites.vtt(name)
        sprite = await sprites.sprite(name, 0)
    assert vtt.startswith("WEBVTT\n\n")
    cues = CUE.findall(vtt)
    assert [(seconds_of(cue[0]), seconds_of(cue[1])) for cue in cues] == [
        *((10 * number, 10 * number + 10) for number in range(6)),
        (60, 65),
    ]
    width, height = size_of(sprite)
    # One picture each ten seconds, from the first one on.
    filters = (f"select=not(mod(n\\,{10 * RATE}))", "scale={}:{}".format(*cues[0][5:]))
    film = (await asyncio.to_thread(pixels, path, *filters)).reshape(len(cues), -1)
    whole = (await asyncio.to_thread(pixels, sprite)).reshape(height, width)
    for number, cue in enumerate(cues):
        x, y, across, down = map(int, cue[3:])
        assert x + across <= width
        assert y + down <= height
        shown = whole[y : y + down, x : x + across].ravel()
        far = [float(np.abs(shown - other).mean()) for other in film]
        assert far.index(min(far)) == number
        assert min(far) < 6


def test_the_key_frame_that_is_nearest_to_a_time_is_taken(tmp_path: Path) -> None:
    path = make_film(tmp_path / "film.mp4")
    run_ffmpeg("-i", path, "-c", "copy", "-movflags", "+frag_keyframe+empty_moov", tmp_path / "late.mp4")
    titles = Titles(Library(tmp_path), thumbnails=True)
    film, late = (titles.storyboard(name) for name in ("film.mp4", "late.mp4"))
    # without an edit list all pictures are later by the reordering of two
    assert (float(film.seconds), float(late.seconds)) == (65.0, 65.4)
    assert film.sizes.tolist() == late.sizes.tolist()


async def test_what_was_made_is_kept_over_a_restart_and_made_anew_when_the_film_changes(
    tools: Tools, tmp_path: Path
) -> None:
    library, data = tmp_path / "library", tmp_path / "data"
    library.mkdir()
    path = await asyncio.to_thread(make_film, library / "film.mp4", seconds=12)
    async with running(library, tools, data) as sprites:
        first = await sprites.sprite("film.mp4", 0)
    (kept,) = (data / "thumbnails").iterdir()
    assert kept.read_bytes() == first
    async with running(library, without_ffmpeg(tools), data) as sprites:
        assert await sprites.sprite("film.mp4", 0) == first
    os.utime(path, (1_700_000_000, 1_700_000_000))
    async with running(library, without_ffmpeg(tools), data) as sprites:
        with pytest.raises(UnsupportedError, match="no thumbnails can be made"):
            await sprites.sprite("film.mp4", 0)
    async with running(library, tools, data) as sprites:
        assert await sprites.sprite("film.mp4", 0) == first
    assert len(list((data / "thumbnails").iterdir())) == 2


async def test_the_text_has_all_sprites_made_in_the_background(tools: Tools, tmp_path: Path) -> None:
    library, data = tmp_path / "library", tmp_path / "data"
    library.mkdir()
    await asyncio.to_thread(make_film, library / "film.mp4", seconds=12)
    async with running(library, tools, data) as sprites:
        await sprites.vtt("film.mp4")
        end = time.monotonic() + 60
        while not list((data / "thumbnails").glob("*.jpg")):
            assert time.monotonic() < end
            await asyncio.sleep(0.05)
        with pytest.raises(NotFoundError):
            await sprites.sprite("film.mp4", 1)


def test_of_a_titles_renditions_the_smallest_that_suffices_is_taken(tmp_path: Path) -> None:
    for height in (90, 180, 360):
        words = f"-f lavfi -i testsrc=size={height * 16 // 9}x{height}:rate=25:duration=12 -g 50 -c:v libx264"
        run_ffmpeg(*words.split(), "-preset", "ultrafast", tmp_path / f"film.{height}p.mp4")
    titles = Titles(Library(tmp_path), thumbnails=True)
    assert titles.storyboard("film").path == "film.180p.mp4"
    assert 'URI="thumbnails.m3u8"' in titles.multivariant_playlist("film")
    assert titles.manifest("film").count(b"thumbnail_tile") == 1
    assert len(CUE.findall(titles.storyboard("film").vtt())) == 2


def test_a_film_without_a_picture_has_no_thumbnails() -> None:
    path = films.film("sound.m4a")
    titles = Titles(Library(path.parent), thumbnails=True)
    with pytest.raises(UnsupportedError, match="no picture"):
        titles.storyboard("sound.m4a")
    assert "IMAGE" not in titles.multivariant_playlist("sound.m4a")
    assert b"thumbnail" not in titles.manifest("sound.m4a")


async def test_key_frames_that_only_recover_from_what_was_before_give_no_thumbnails(
    tools: Tools, tmp_path: Path
) -> None:
    await asyncio.to_thread(make_film, tmp_path / "film.mp4", "open.mp4")
    async with running(tmp_path, tools) as sprites:
        for ask in (sprites.vtt("film.mp4"), sprites.sprite("film.mp4", 0)):
            with pytest.raises(UnsupportedError, match="decoded by themselves"):
                await ask


async def test_pictures_that_no_decoder_takes_are_tried_once_and_then_refused(
    tools: Tools, tmp_path: Path
) -> None:
    path = await asyncio.to_thread(make_film, tmp_path / "film.mp4", seconds=12)
    data = path.read_bytes()
    begin = data.index(b"mdat") + 4
    end = data.index(b"moov") - 4
    path.write_bytes(data[:begin] + b"\xff" * (end - begin) + data[end:])
    async with running(tmp_path, tools) as sprites:
        with pytest.raises(UnsupportedError, match="no thumbnails can be made"):
            await sprites.sprite("film.mp4", 0)
        with pytest.raises(UnsupportedError, match="no thumbnails can be made"):
            await sprites.vtt("film.mp4")


async def test_of_many_films_only_so_many_are_decoded_at_once(tools: Tools, tmp_path: Path) -> None:
    first = await asyncio.to_thread(make_film, tmp_path / "film-0.mp4", seconds=65)
    for number in range(1, 5):
        await asyncio.to_thread(shutil.copy, first, tmp_path / f"film-{number}.mp4")
    async with running(tmp_path, tools) as sprites:
        asked = asyncio.gather(*(sprites.sprite(f"film-{number}.mp4", 0) for number in range(5)))
        most = 0
        while not asked.done():
            most = max(most, await asyncio.to_thread(drawing))
            await asyncio.sleep(0.005)
        assert len(set(await asked)) == 1
    assert most <= LIMITS.at_once


def drawing() -> int:
    """Count the children of this process that draw a sprite."""
    found = 0
    for child in children_of():
        with contextlib.suppress(OSError):
            found += b"tile=" in Path(f"/proc/{child}/cmdline").read_bytes()
    return found


async def test_a_request_waits_no_longer_than_it_may(tools: Tools, tmp_path: Path) -> None:
    await asyncio.to_thread(make_film, tmp_path / "film.mp4", seconds=12)
    limits = replace(LIMITS, wait_seconds=0.001)
    titles = Titles(Library(tmp_path), thumbnails=True)
    sprites = SpriteMaker(titles, tools, None, limits, time.monotonic)  # which nobody runs
    with pytest.raises(NotReadyError):
        await sprites.sprite("film.mp4", 0)
    waiting = asyncio.ensure_future(
        SpriteMaker(titles, tools, None, LIMITS, time.monotonic).sprite("film.mp4", 0)
    )
    sprites.close()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


# What is kept


def cache_of(folder: Path, **limits: int) -> HashedFileCache:
    return HashedFileCache(SPRITES, DataFolder(folder), HashedFileLimits(**{"memory_bytes": 1, **limits}))


def test_the_sprites_that_were_not_asked_for_for_longest_go_first(tmp_path: Path) -> None:
    cache = cache_of(tmp_path, disk_bytes=350)
    for number in range(3):
        cache.keep(("a" * 32, number), JPEG)
    assert cache.find(("a" * 32, 0)) == JPEG
    cache.keep(("a" * 32, 3), JPEG)
    assert [cache.has(("a" * 32, number)) for number in range(4)] == [True, False, True, True]
    assert len(list(tmp_path.iterdir())) == 3
    few = cache_of(tmp_path, disk_files=2)
    few.keep(("b" * 32, 0), JPEG)
    assert len(list(tmp_path.iterdir())) == 2


def test_foreign_and_changed_files_are_neither_served_nor_removed(tmp_path: Path) -> None:
    cache = cache_of(tmp_path)
    for number in range(2):
        cache.keep(("a" * 32, number), JPEG)
    first, second = sorted(tmp_path.iterdir())
    first.write_bytes(b"mine")
    for name in ("holiday.jpg", f"{'a' * 32}-7.jpg", f"{'a' * 32}-8-{'0' * 32}.jpg", "x.12345678.tmp"):
        (tmp_path / name).write_bytes(b"foreign")
    (tmp_path / f"{'a' * 32}-9-{'0' * 32}.jpg").symlink_to(second)
    (tmp_path / f"{second.name}.12345678.tmp").write_bytes(JPEG[:50])  # left by a kill
    (tmp_path / f"{first.name}.12345678.tmp").write_bytes(b"foreign")
    again = cache_of(tmp_path, disk_bytes=1)
    for number in (0, 7, 8, 9):
        assert again.find(("a" * 32, number)) is None
    assert again.find(("a" * 32, 1)) == JPEG
    again.keep(("b" * 32, 0), JPEG)
    left = {path.name for path in tmp_path.iterdir()}
    assert f"{second.name}.12345678.tmp" not in left
    assert second.name not in left
    assert {first.name, "holiday.jpg", f"{'a' * 32}-7.jpg", "x.12345678.tmp"} < left
    assert {f"{'a' * 32}-8-{'0' * 32}.jpg", f"{'a' * 32}-9-{'0' * 32}.jpg"} < left
    assert f"{first.name}.12345678.tmp" in left


def test_a_folder_that_takes_nothing_costs_an_error_line_and_no_answer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data").write_bytes(b"")
    cache = cache_of(tmp_path / "data")
    cache.keep(("a" * 32, 0), JPEG)
    assert cache.find(("a" * 32, 0)) == JPEG
    assert "a file can't be stored" in capsys.readouterr().out


def test_a_full_disk_leaves_no_half_sprite(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with small_disk(tmp_path, 16 << 10):
        cache = cache_of(tmp_path)
        cache.keep(("a" * 32, 0), JPEG * 1000)
        assert cache.find(("a" * 32, 0)) == JPEG * 1000
        assert list(tmp_path.iterdir()) == []
    assert "No space left" in capsys.readouterr().out
