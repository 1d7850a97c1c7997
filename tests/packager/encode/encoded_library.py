"""A library whose films are encoded on request, and what ffmpeg finds in the encoded renditions."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
from collections.abc import AsyncIterator
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from packager.concurrency import background_task
from packager.encode.encode_queue import EncodedMedia, EncodeLimits
from packager.encode.renditions import EncodedRenditions, Mode
from packager.encode.segment_encoder import EncodeSegment, encode_segment, encoders_at_once
from packager.library.local_storage import Library, NotFoundError
from packager.process.ffmpeg_discovery import Tools
from packager.s3.library import S3Library
from packager.s3.segment_cache import BucketSegmentCache
from packager.safe_files import DataFolder
from packager.vod.titles import Titles
from tests.packager.films import FFMPEG, FFPROBE, film


@contextlib.asynccontextmanager
async def encoding(
    library: Path | S3Library,
    tools: Tools,
    folder: Path | None = None,
    mode: Mode = "all",
    encode: EncodeSegment = encode_segment,
    waiting: int = 100,
    at_once: int = encoders_at_once(),
    idle_seconds: float = 3600,
    shared: BucketSegmentCache | None = None,
) -> AsyncIterator[EncodedMedia]:
    renditions = EncodedRenditions(mode, tools.version)
    storage = Library(library) if isinstance(library, Path) else library
    titles = Titles(storage, encoded=renditions.tracks)
    data = None if folder is None else DataFolder(folder) / "encoded"
    limits = EncodeLimits(waiting=waiting, wait_seconds=240, at_once=at_once, idle_seconds=idle_seconds)
    media = EncodedMedia(titles, tools, data, limits, encode, shared)
    async with background_task(media.run()):
        yield media


def library(tmp_path: Path, *names: str) -> Path:
    """Make a library of films by their recipes."""
    folder = tmp_path / "library"
    folder.mkdir(exist_ok=True)
    for name in names:
        shutil.copy(film(name), folder / name)
    return folder


async def joined(media: EncodedMedia, name: str, track: str, folder: Path) -> Path:
    """Join a rendition's init segment and all its segments."""
    data, _ = await media.init(name, track)
    number = 0
    with contextlib.suppress(NotFoundError):
        while True:
            segment, _ = await media.segment(name, track, number)
            data, number = data + segment, number + 1
    path = folder / f"{track}.mp4"
    path.write_bytes(data)
    return path


def decoded(path: Path, *words: str) -> str:
    """Decode a file with ffmpeg, which must not have anything to say."""
    command = [FFMPEG, "-nostdin", "-v", "warning", "-i", str(path), *words, "pipe:1"]
    answer = subprocess.run(command, check=True, capture_output=True, text=True)
    assert answer.stderr == ""
    return answer.stdout


def picture_times(path: Path) -> list[Fraction]:
    """Return when the pictures of a file are presented, in seconds, by ffprobe."""
    words = ["-select_streams", "v", "-of", "json"]
    words += ["-show_entries", "frame=best_effort_timestamp:stream=time_base"]
    answer = subprocess.run(
        [FFPROBE, "-v", "error", *words, str(path)], check=True, capture_output=True, text=True
    )
    found = json.loads(answer.stdout)
    base = Fraction(found["streams"][0]["time_base"])
    return [one["best_effort_timestamp"] * base for one in found["frames"]]


def sound_of(path: Path, channel: int = 0, rate: int | None = None) -> NDArray[np.float32]:
    """Decode a file's sound, at its own rate unless another one is given; return one of its two channels."""
    command = [FFMPEG, "-nostdin", "-v", "error", "-i", str(path), "-map", "0:a:0", "-ac", "2", "-f", "f32le"]
    words = [] if rate is None else ["-ar", str(rate)]
    answer = subprocess.run([*command, *words, "pipe:1"], check=True, capture_output=True)
    return np.frombuffer(answer.stdout, np.float32)[channel::2]
