"""Two hours of film: sound and picture of encoded renditions are together at the end as at the begin."""

from __future__ import annotations

import asyncio
import re
import subprocess
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from packager.encode.renditions import EncodedRenditions
from packager.library.local_storage import Library
from packager.process.ffmpeg_discovery import Tools
from packager.vod import Titles
from tests.packager.encode.encoded_library import encoding
from tests.packager.films import FFMPEG, run_ffmpeg

RATE, SAMPLE_RATE = Fraction(30_000, 1001), 32_000
"""Pictures and samples per second. The samples aren't those of encoded sound, whose frames fit neither."""

FRAMES, FLASH, ROUNDS = 1800, 930, 120
"""Pictures of a minute, which is repeated; in the middle of a group of pictures one is white, with a tone."""

CLOCK = 90_000
LOUD = 0.1
EXACT, HEARD = 0.001, 0.005
"""Seconds by which a picture, and the begin of a tone, may differ from the film's own."""


def make_film(folder: Path) -> Path:
    """Encode a minute, and repeat it without encoding it again."""
    begin = float(FLASH / RATE)
    white = f"drawbox=color=white:t=fill:enable='between(n,{FLASH},{FLASH + 5})'"
    picture = f"color=black:size=160x90:rate={RATE},{white},trim=end_frame={FRAMES}"
    tone = f"aevalsrc='0.5*sin(2*PI*1000*t)*between(t,{begin},{begin + 0.2})':s={SAMPLE_RATE}"
    run_ffmpeg(
        *("-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", f"{tone}:d={float(FRAMES / RATE)}"),
        *("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "60", "-bf", "2"),
        *("-c:a", "ac3", folder / "minute.mp4"),
    )
    repeated = ("-stream_loop", str(ROUNDS - 1), "-i", folder / "minute.mp4", "-c", "copy")
    run_ffmpeg(*repeated, folder / "library" / "film.mp4")
    return folder / "library"


def first_white(path: Path, *words: str) -> float:
    """Return the time of the first white picture in seconds, by ffmpeg."""
    told = run(
        path, words, "-map", "0:v:0", "-vf", f"settb=1/{CLOCK},showinfo", "-f", "null", "-"
    ).stderr.decode()
    found = re.findall(r"pts: *(-?\d+) .* mean:\[(\d+)", told)
    return next(int(time) / CLOCK for time, luma in found if int(luma) > 128)


def first_tone(path: Path, *words: str) -> float:
    """Return the time at which the first tone begins in seconds, by ffmpeg."""
    rate = 48_000
    filters = f"aresample={rate},asettb=1/{rate},ashowinfo"
    answer = run(path, words, "-map", "0:a:0", "-af", filters, "-ac", "1", "-f", "f32le", "pipe:1")
    begin = re.search(r"pts: *(-?\d+) ", answer.stderr.decode())
    assert begin is not None
    loud = np.flatnonzero(np.abs(np.frombuffer(answer.stdout, np.float32)) > LOUD)
    return (int(begin[1]) + int(loud[0])) / rate


def run(path: Path, before: tuple[str, ...], *words: str) -> subprocess.CompletedProcess[bytes]:
    command = [FFMPEG, "-nostdin", "-hide_banner", "-copyts", *before, "-i", str(path), *words]
    return subprocess.run(command, check=True, capture_output=True)


@pytest.mark.timeout(600)
async def test_sound_and_picture_are_together_after_two_hours(tools: Tools, tmp_path: Path) -> None:
    (tmp_path / "library").mkdir()
    folder = make_film(tmp_path)
    titles = Titles(Library(folder), encoded=EncodedRenditions("all", "x").tracks)
    index = (await asyncio.to_thread(titles.files.find, "film.mp4")).index
    assert index.duration > 7200
    async with encoding(folder, tools) as media:
        for number in (0, ROUNDS // 2, ROUNDS - 1):
            # Within the minute: the frames of its sound don't fit it, so that the last one is cut off.
            span = ("-ss", f"{float(number * index.duration / ROUNDS) + 10:.3f}", "-t", "40")
            own = first_white(folder / "film.mp4", *span), first_tone(folder / "film.mp4", *span)
            times = list[float]()
            for name, measure in (("video-90p", first_white), ("audio-aac", first_tone)):
                track = index.track(name)
                assert track is not None
                begins = track.times / track.timescale
                segment = int(begins.searchsorted(own[0], "right")) - 1
                # The picture and the tone are far enough from the segment's ends.
                assert begins[segment] + 0.3 < own[0] < begins[segment + 1] - 0.5
                init, _ = await media.init("film.mp4", name)
                data, _ = await media.segment("film.mp4", name, segment)
                path = tmp_path / f"{name}-{number}.mp4"
                path.write_bytes(init + data)
                times.append(measure(path))
            assert times == [pytest.approx(own[0], abs=EXACT), pytest.approx(own[1], abs=HEARD)], number
            assert abs(times[0] - times[1]) < 1 / RATE, number
