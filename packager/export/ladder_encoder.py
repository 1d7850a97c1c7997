"""Encodes the renditions of a film into the folder of its unfinished package.

A segment that has its name there is whole, for it was on disk before it got the name. So a run that was cut
short goes on with the segments that are missing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from media.errors import MalformedError, MediaError
from packager.concurrency import running_tasks
from packager.encode.renditions import EncodedRendition
from packager.encode.segment_encoder import INIT, encode_piece, encoders_at_once
from packager.export.film_outputs import Film
from packager.export.ladder import EncodingProgress
from packager.export.package_record import write, written
from packager.export.single_file import as_single_file
from packager.process.ffmpeg_discovery import Tools
from packager.safe_files import OpenFolder
from packager.threads import SHARED_THREADS
from packager.vod.index.file_index import OfferedTrack
from packager.vod.movie.versioned_addresses import UNVERSIONED
from packager.vod.playlists import INIT_NAME, SEGMENT_SUFFIX

MAX_INIT_BYTES = 1 << 20
"""Longest init segment of an encoded rendition."""


@dataclass(frozen=True, slots=True)
class _EncodedPiece:
    """A segment, or the init segment, of a rendition.

    Attributes:
        seconds: the film's time that the piece stands for, such that all pieces together last as long as it.
    """

    rendition: EncodedRendition
    number: int
    seconds: float

    @property
    def folder(self) -> str:
        return self.rendition.track.name

    @property
    def name(self) -> str:
        return INIT_NAME if self.number == INIT else f"{self.number}{SEGMENT_SUFFIX}"

    @property
    def path(self) -> str:
        return f"{self.folder}/{self.name}"


def encode_ladder(film: Film, tools: Tools, folder: OpenFolder, told: EncodingProgress, name: str) -> Film:
    """Encode what the folder doesn't have yet, and return the film with the true sizes of all segments.

    Args:
        folder: of the unfinished package, which the film refers to from now on.
        told: called with each piece that is found or encoded; its exceptions end the encoding.
        name: of the film, for these calls.

    Raises:
        MediaError: a segment can't be encoded; the text says which, and why.
        ShortReadError, OSError: the film can't be read, or a segment can't be written.
    """
    pieces = list(_pieces(film))
    there = {path: size for path, size in written(folder).items() if size > 0}
    for one in pieces:
        if one.path in there:
            told(name, one.seconds, False)
    missing = (one for one in pieces if one.path not in there)
    asyncio.run(_encode(film, tools, folder, missing, lambda one: told(name, one.seconds, True)))
    return _measured(film, folder, written(folder))


def _pieces(film: Film) -> Iterator[_EncodedPiece]:
    """Return the pieces in the order of the film's time, so that the work is spread evenly over it."""
    whole = sum(one.track.duration for one in film.renditions)
    found: list[tuple[float, _EncodedPiece]] = []
    for rendition in film.renditions:
        track = rendition.track
        if not track.init:
            yield _EncodedPiece(rendition, INIT, 0.0)
        for number, lasts in enumerate(track.durations):
            begin = float(track.times[number]) / track.timescale
            found.append(
                (begin, _EncodedPiece(rendition, number, float(film.index.duration * lasts / whole)))
            )
    yield from (one for _, one in sorted(found, key=lambda pair: pair[0]))


async def _encode(
    film: Film,
    tools: Tools,
    folder: OpenFolder,
    missing: Iterator[_EncodedPiece],
    done: Callable[[_EncodedPiece], None],
) -> None:
    """Encode pieces, as many at once as the processor has room for."""

    async def work() -> None:
        for one in missing:
            data = await _encoded(film, tools, one)
            await SHARED_THREADS.run(_keep, folder, one, data)
            done(one)

    at_once = encoders_at_once()
    async with running_tasks(*(work() for _ in range(at_once))) as working:
        await asyncio.gather(*working)


async def _encoded(film: Film, tools: Tools, one: _EncodedPiece) -> bytes:
    read = film.index.reading(film.file.pread)
    try:
        return await encode_piece(tools, one.rendition, one.number, None, read)
    except MediaError as error:
        what = "its beginning" if one.number == INIT else f"segment {one.number}"
        raise MalformedError(f"{one.folder}: {what} can't be encoded: {error}") from None


def _keep(folder: OpenFolder, one: _EncodedPiece, data: bytes) -> None:
    with folder.folder(one.folder, make=True) as inner:
        write(inner, one.name, data, synchronized=True)


def _measured(film: Film, folder: OpenFolder, there: Mapping[str, int]) -> Film:
    """Return a film whose encoded tracks have the init segments and the sizes of what was encoded."""
    tracks: list[OfferedTrack] = []
    for rendition in film.renditions:
        track = rendition.track
        count = len(track.sizes)
        sizes = np.array([there[_EncodedPiece(rendition, at, 0.0).path] for at in range(count)], np.int64)
        init = track.init
        if not init:
            with folder.folder(track.name) as inner:
                init = inner.read(INIT_NAME, MAX_INIT_BYTES)
        track = replace(track, init=init, sizes=sizes, is_bounded=False, version=UNVERSIONED)
        tracks.append(as_single_file(track, sizes) if film.single_file else track)
    index = replace(film.index, encoded=tuple(tracks))
    return replace(film, offered=replace(film.offered, index=index), encoded=folder)
