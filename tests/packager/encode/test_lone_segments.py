"""Encoded segments by themselves, complete plans before any is made, and encoders that are killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path

import m3u8
import pytest

from media.errors import UnsupportedError
from packager.encode.renditions import EncodedRendition, EncodedRenditions
from packager.encode.segment_encoder import encode_segment
from packager.library.local_storage import Library
from packager.process.ffmpeg_discovery import Tools
from packager.vod import Titles
from packager.vod.movie.movie_reader import Read
from tests.packager.encode.encoded_library import decoded, encoding, library, picture_times
from tests.packager.films import film, run_ffmpeg
from tests.processes import children_of

TRACK = "video-180p"


@pytest.mark.parametrize("name", ["bframes.mp4", "longgop.mp4"])
async def test_each_segment_decodes_by_itself_and_their_durations_add_up_to_the_films(
    name: str, tools: Tools, tmp_path: Path
) -> None:
    titles = Titles(Library(library(tmp_path, name)), encoded=EncodedRenditions("all", tools.version).tracks)
    playlist = m3u8.loads(await asyncio.to_thread(titles.media_playlist, name, TRACK))
    times = await asyncio.to_thread(picture_times, film(name))
    pictures = 0
    async with encoding(tmp_path / "library", tools) as media:
        init, _ = await media.init(name, TRACK)
        for number in range(len(playlist.segments)):
            segment, _ = await media.segment(name, TRACK, number)
            path = tmp_path / f"{number}.mp4"
            path.write_bytes(init + segment)
            lines = (await asyncio.to_thread(decoded, path, "-f", "framemd5")).splitlines()
            pictures += sum(not line.startswith("#") for line in lines)
    assert pictures == len(times)
    shown = float(times[-1] - times[0] + (times[-1] - times[0]) / (len(times) - 1))
    frame = shown / len(times)
    assert sum(one.duration for one in playlist.segments) == pytest.approx(shown, abs=frame)


async def test_an_ffmpeg_that_is_killed_costs_no_byte(tools: Tools, tmp_path: Path) -> None:
    killed = list[int]()

    async def encode(
        tools: Tools, rendition: EncodedRendition, number: int, bounds: tuple[int, int] | None, read: Read
    ) -> bytes:
        before = set(await asyncio.to_thread(children_of))
        task = asyncio.create_task(encode_segment(tools, rendition, number, bounds, read))
        if not killed:
            while not (begun := set(await asyncio.to_thread(children_of)) - before):
                await asyncio.sleep(0)
            killed.extend(begun)
            for pid in killed:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        return await task

    folder = library(tmp_path, "bframes.mp4")
    async with encoding(folder, tools) as media:
        whole, _ = await media.segment("bframes.mp4", TRACK, 1)
    async with encoding(folder, tools, encode=encode) as media:
        found, _ = await media.segment("bframes.mp4", TRACK, 1)
    assert killed
    assert found == whole


async def test_pictures_that_no_decoder_may_have_are_in_no_plan(tmp_path: Path) -> None:
    folder = tmp_path / "library"
    folder.mkdir()
    picture = "-f lavfi -i testsrc2=size=64x48:rate=5:duration=3 -c:v mjpeg"
    await asyncio.to_thread(run_ffmpeg, *picture.split(), folder / "small.avi")
    data = (folder / "small.avi").read_bytes()
    at = data.index(b"strf") + 12
    size = (16_384).to_bytes(4, "little")
    (folder / "bomb.avi").write_bytes(data[:at] + size + size + data[at + 8 :])
    titles = Titles(Library(folder), encoded=EncodedRenditions("auto", "x").tracks)

    def encoded(name: str) -> list[str]:
        return [track.name for track in titles.files.find(name).index.encoded]

    assert await asyncio.to_thread(encoded, "small.avi") == ["video-48p"]
    with pytest.raises(UnsupportedError):
        await asyncio.to_thread(encoded, "bomb.avi")
