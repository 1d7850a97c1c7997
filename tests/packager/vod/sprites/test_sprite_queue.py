"""Which sprites are made first where many are wanted, and what films that can't be drawn cost the others."""

from __future__ import annotations

import asyncio
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest

from media.errors import UnsupportedError
from packager.concurrency import background_task
from packager.library.local_storage import Library
from packager.process.ffmpeg_discovery import Tools
from packager.transient_errors import NotReadyError
from packager.vod import Titles
from packager.vod.sprites.sprite_maker import SpriteLimits, SpriteMaker
from tests.packager.films import run_ffmpeg

LIMITS = SpriteLimits(wait_seconds=60)


def make_films(folder: Path, count: int, seconds: int) -> list[str]:
    """Make equal films of one small picture in a second, each a key frame."""
    first = folder / "0.mp4"
    picture = ("-f", "lavfi", "-i", f"testsrc=size=64x36:rate=1:duration={seconds}")
    run_ffmpeg(*picture, "-c:v", "libx264", "-preset", "ultrafast", "-g", "1", first)
    for number in range(1, count):
        shutil.copy(first, folder / f"{number}.mp4")
    return [f"{number}.mp4" for number in range(count)]


def sprites_of(folder: Path, tools: Tools, limits: SpriteLimits) -> SpriteMaker:
    return SpriteMaker(Titles(Library(folder), thumbnails=True), tools, None, limits, time.monotonic)


async def test_what_somebody_asks_for_is_made_however_much_may_be_asked_for(
    tools: Tools, tmp_path: Path
) -> None:
    names = await asyncio.to_thread(make_films, tmp_path, 3, 12)
    sprites = sprites_of(tmp_path, tools, replace(LIMITS, waiting=2))
    for name in names:
        await sprites.vtt(name)
    asked = asyncio.ensure_future(sprites.sprite(names[2], 0))
    while not sprites._asked and not asked.done():
        await asyncio.sleep(0.005)
    async with background_task(sprites.run()):
        assert (await asked).startswith(b"\xff\xd8")


async def test_of_more_than_may_wait_what_was_asked_for_first_is_given_up(
    tools: Tools, tmp_path: Path
) -> None:
    names = await asyncio.to_thread(make_films, tmp_path, 3, 12)
    sprites = sprites_of(tmp_path, tools, replace(LIMITS, waiting=2))
    asked = []
    for number, name in enumerate(names, 1):
        asked.append(asyncio.ensure_future(sprites.sprite(name, 0)))
        while len(sprites._asked) < min(number, 2) or (number == 3 and not asked[0].done()):
            await asyncio.sleep(0.005)
    with pytest.raises(NotReadyError):
        await asked[0]
    async with background_task(sprites.run()):
        assert await asked[1] == await asked[2]


async def test_a_film_that_can_not_be_drawn_is_given_up_with_its_first_sprite(
    tools: Tools, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (name,) = await asyncio.to_thread(make_films, tmp_path, 1, 2500)
    path = tmp_path / name
    data = await asyncio.to_thread(path.read_bytes)
    begin, end = data.index(b"mdat") + 4, data.index(b"moov") - 4
    await asyncio.to_thread(path.write_bytes, data[:begin] + b"\xff" * (end - begin) + data[end:])
    sprites = sprites_of(tmp_path, tools, LIMITS)
    asked = [asyncio.ensure_future(sprites.sprite(name, number)) for number in range(3)]
    while len(sprites._asked) < 3:
        await asyncio.sleep(0.005)
    async with background_task(sprites.run()):
        for one in asked:
            with pytest.raises(UnsupportedError, match="no thumbnails can be made"):
                await one
    assert not sprites._asked
    assert capsys.readouterr().out.count("thumbnails can't be made") == 1


async def test_clients_take_turns_with_sprites(tools: Tools, tmp_path: Path) -> None:
    names = await asyncio.to_thread(make_films, tmp_path, 5, 12)
    sprites = sprites_of(tmp_path, tools, replace(LIMITS, waiting=4, at_once=1))
    done: list[str] = []

    async def ask(name: str, client: str) -> None:
        await sprites.sprite(name, 0, client=client)
        done.append(client + name)

    asked = []
    for number, (name, client) in enumerate(zip(names, "baaaa", strict=True), 1):
        asked.append(asyncio.ensure_future(ask(name, client)))
        while len(sprites._asked) < min(number, 4) and not asked[-1].done():
            await asyncio.sleep(0.005)
    with pytest.raises(NotReadyError):
        await asked[1]
    async with background_task(sprites.run()):
        await asyncio.gather(*asked[:1], *asked[2:])
    # The newest first, then that of the client with one request, although it is the oldest of all.
    assert done == ["a4.mp4", "b0.mp4", "a3.mp4", "a2.mp4"]
