"""Films to package, made once by ffmpeg, and what ffprobe finds in files and playlists."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.made_once import VARIABLE, made_once

FFMPEG, FFPROBE = "ffmpeg", "ffprobe"
ZOO = Path(__file__).parents[3] / "shared" / "zoo"
"""Real files that others made; tests with them are skipped where the folder isn't."""

PICTURE = ("-f", "lavfi", "-i", "testsrc2=size=320x180:rate={rate}:duration={seconds}")
TONE = ("-f", "lavfi", "-i", "sine=frequency=440:sample_rate={hertz}:duration={seconds}")
H264 = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-sc_threshold", "0")

RECIPES: dict[str, tuple[str, ...]] = {
    "bframes.mp4": (*PICTURE, *TONE, *H264, "-bf", "2", "-g", "50", "-c:a", "aac", "-movflags", "+faststart"),
    "moovlast.mp4": (*PICTURE, *TONE, *H264, "-g", "60", "-keyint_min", "60", "-c:a", "aac"),
    "silent.mp4": (*PICTURE, *H264, "-bf", "2", "-g", "25"),
    "longgop.mp4": (*PICTURE, *TONE, *H264, "-g", "1000", "-c:a", "aac"),
    "sound.m4a": (*TONE, "-c:a", "aac"),
    "quicktime.mov": (*PICTURE, *TONE, *H264, "-bf", "2", "-g", "50", "-c:a", "aac"),
    "opus.mp4": (*PICTURE, *TONE, *H264, "-g", "50", "-c:a", "libopus", "-b:a", "64k"),
    "flac.mp4": (*TONE, "-c:a", "flac", "-strict", "-2"),
    "mp3.mp4": (*TONE, "-c:a", "libmp3lame"),
    "ac3.mp4": (*TONE, "-c:a", "ac3"),
    "hevc.mp4": (
        *(*PICTURE, *TONE, "-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=none"),
        *("-tag:v", "hvc1", "-g", "50", "-c:a", "aac"),
    ),
    "languages.mp4": (
        *(*PICTURE, *TONE, *TONE, *H264, "-g", "50", "-c:a", "aac", "-map", "0", "-map", "1", "-map", "2"),
        *("-metadata:s:a:0", "language=deu", "-metadata:s:a:1", "language=fra"),
    ),
    "late.mp4": (
        *(*PICTURE, "-itsoffset", "7.5", *TONE, *H264, "-g", "50", "-c:a", "aac"),
        *("-map", "0", "-map", "1"),
    ),
    "fragmented.mp4": (*PICTURE, *H264, "-movflags", "+frag_keyframe+empty_moov"),
    "raw.mov": (*PICTURE, "-c:v", "rawvideo", "-pix_fmt", "uyvy422", "-t", "0.2"),
}
SINGLE_FILES = {".mp4", ".m4a", ".mov", ".mkv", ".webm", ".ts", ".m2ts"}
"""What a muxer writes in one piece; others write playlists and segments."""

RATES = {"moovlast.mp4": "30000/1001", "longgop.mp4": "24"}
SECONDS = {"sound.m4a": 20, "hevc.mp4": 5, "longgop.mp4": 12}
HERTZ = {"moovlast.mp4": 44100}


@functools.cache
def folder() -> Path:
    """A folder for the films of this run, which goes with it."""
    return Path(_temporary().name)


@functools.cache
def _temporary() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="headwater-films-", ignore_cleanup_errors=True)


@functools.cache
def film(name: str) -> Path:
    """Make a film by its recipe, or skip the test when this ffmpeg can't."""
    path = folder() / name
    values = {
        "rate": RATES.get(name, "25"),
        "seconds": SECONDS.get(name, 14),
        "hertz": HERTZ.get(name, 48000),
    }
    words = [argument.format(**values) for argument in RECIPES[name]]
    made = made_once([name, *words], lambda folder: run_ffmpeg(*words, folder / name))
    shutil.copyfile(made / name, path)
    return path


def derived(name: str, source: str, *arguments: str, before: Sequence[str] = ()) -> Path:
    """Make a film out of another one without encoding."""
    path = folder() / name
    if not path.exists():
        run_ffmpeg(*before, "-i", str(film(source)), "-map", "0", "-c", "copy", *arguments, path)
    return path


def run_ffmpeg(*arguments: str | Path) -> None:
    """Run it; what it makes of drawn pictures and computed sound alone, it makes once in a run of tests."""
    words, path = tuple(map(str, arguments[:-1])), Path(arguments[-1])
    inputs = [number for number, word in enumerate(words) if word == "-i"]
    is_drawn = all(words[number - 2 : number] == ("-f", "lavfi") for number in inputs)
    # Benchmarks make films, too, and have no folder that they share.
    if inputs and is_drawn and path.suffix in SINGLE_FILES and VARIABLE in os.environ:
        made = made_once(
            [path.suffix, *words], lambda folder: _run(*words, str(folder / f"made{path.suffix}"))
        )
        shutil.copyfile(made / f"made{path.suffix}", path)
    else:
        _run(*words, str(path))


def _run(*arguments: str) -> None:
    argv = [FFMPEG, "-nostdin", "-hide_banner", "-loglevel", "error", "-y", *arguments]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
    if "Unknown encoder" in done.stderr:
        pytest.skip(f"this ffmpeg lacks an encoder: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr


@dataclass(frozen=True)
class Packet:
    """What ffprobe says of a packet; ``kept`` unless an edit list discards it."""

    pts: float
    dts: float
    digest: str
    key: bool
    kept: bool


def probe(source: str | Path, *arguments: str) -> dict[str, Any]:
    """Ask ffprobe; any complaint of its fails the test."""
    argv = [FFPROBE, "-v", "error", "-of", "json", *arguments]
    if str(source).endswith(".m3u8"):
        argv += ["-allowed_extensions", "ALL"]
    done = subprocess.run([*argv, str(source)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return {**answer, "complaints": done.stderr}


def packets(source: str | Path, stream: str) -> list[Packet]:
    """List the packets of one stream, such as ``v:0``, in the order of decoding."""
    answer = probe(source, "-select_streams", stream, "-show_packets", "-show_data_hash", "md5")
    return [
        Packet(
            pts=float(one["pts_time"]),
            dts=float(one.get("dts_time", "nan")),  # of Matroska it knows some only later
            digest=one["data_hash"],
            key="K" in one["flags"],
            kept="D" not in one["flags"],
        )
        for one in answer["packets"]
    ]


def wait_until(condition: Callable[[], bool], seconds: float = 120) -> None:
    """Wait for a condition; fail when it doesn't come."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"nothing happened for {seconds} s"
        time.sleep(0.02)


def indexed(folder: Path, size: str, seconds: int) -> tuple[Path, Path]:
    """Make the same film with its index at the end and in front, as ffmpeg writes it."""
    made, last, first = folder / "made.mp4", folder / "last.mp4", folder / "first.mp4"
    words = f"-f lavfi -i testsrc2=size={size}:rate=25 -f lavfi -i sine=sample_rate=44100 -t {seconds}"
    words += " -c:v libx264 -preset ultrafast -bf 2 -g 25 -c:a aac"
    run_ffmpeg(*words.split(), made)
    run_ffmpeg("-i", made, "-c", "copy", last)
    run_ffmpeg("-i", made, "-c", "copy", "-movflags", "+faststart", first)
    return last, first
