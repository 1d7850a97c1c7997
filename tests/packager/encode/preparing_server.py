"""Libraries whose films are prepared, with an encoder that only counts."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

from packager.concurrency import background_task
from packager.encode.encode_queue import EncodedMedia, EncodeLimits
from packager.encode.preparation import FilmState, Preparation
from packager.encode.renditions import EncodedRendition, EncodedRenditions, Mode
from packager.encode.segment_encoder import EncodeSegment, encode_segment
from packager.hashed_file_cache import HashedFileLimits
from packager.library.local_storage import Library
from packager.process.ffmpeg_discovery import Tools
from packager.safe_files import DataFolder
from packager.vod.movie.movie_reader import Read
from packager.vod.titles import Titles
from tests.packager.films import film

SOUND = "sound.m4a"
"""A film of five encoded segments of sound, whose init segment needs no encoder."""

SEGMENT_BYTES = 20_000

QUICK = EncodeLimits(prepared_retry_seconds=0.05, prepared_check_seconds=0.05)


@dataclass(frozen=True)
class Prepared:
    media: EncodedMedia
    preparation: Preparation

    async def reaches(self, path: str, condition: Callable[[FilmState], object]) -> FilmState:
        """Wait until a film's state is as it should be."""
        states = list[FilmState]()
        async with asyncio.timeout(120):
            while not states or not condition(states[-1]):
                await asyncio.sleep(0.02)
                states.append(await self.preparation.state(path))
        return states[-1]


@contextlib.asynccontextmanager
async def preparing(
    library: Path,
    tools: Tools,
    folder: Path,
    encode: EncodeSegment = encode_segment,
    limits: EncodeLimits = QUICK,
    disk_bytes: int = 10 << 20,
    at_once: int = 1,
    mode: Mode = "all",
) -> AsyncIterator[Prepared]:
    renditions = EncodedRenditions(mode, tools.version)
    titles = Titles(Library(library), encoded=renditions.tracks)
    data = DataFolder(folder) / "encoded"
    cache = HashedFileLimits(disk_bytes=disk_bytes, memory_bytes=1)
    encode_limits = EncodeLimits(at_once=at_once, wait_seconds=240, idle_seconds=3600, cache=cache)
    media = EncodedMedia(titles, tools, data, encode_limits, encode)
    preparation = Preparation(media, titles, renditions, data, limits)
    async with background_task(media.run()), background_task(preparation.run()):
        yield Prepared(media, preparation)


def library(tmp_path: Path, *names: str) -> Path:
    """Make a library of films with sound alone, by these names."""
    folder = tmp_path / "library"
    folder.mkdir(exist_ok=True)
    for name in names:
        shutil.copy(film(SOUND), folder / name)
    return folder


class Encoder:
    """Encodes nothing, but writes down which segments it should, and waits for its turns if there are any."""

    def __init__(self, turns: int | None = None) -> None:
        self.encoded: list[int] = []
        self.turns = None if turns is None else asyncio.Semaphore(turns)

    async def encode(
        self, _tools: Tools, _rendition: EncodedRendition, number: int, _bounds: object, _read: Read
    ) -> bytes:
        self.encoded.append(number)
        if self.turns is not None:
            await self.turns.acquire()
        return bytes([number]) * SEGMENT_BYTES


def is_prepared(state: FilmState) -> bool:
    return state.state == "prepared"
