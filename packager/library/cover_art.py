"""Covers that music files contain, and a picture of a film: small JPEGs of an ffmpeg each, kept in memory."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import PurePosixPath

from media.mp4.codecs.colour import Colour
from packager.bounded_dict import BoundedDict
from packager.fair_queue import FairSemaphore, TooManyWaitingError
from packager.ffmpeg.arguments import local_input
from packager.ffmpeg.colours import known_colour
from packager.ffmpeg.cover_art import cover_arguments, poster_arguments
from packager.library.file_endings import CONTAINERS
from packager.library.file_listing import ListedFiles
from packager.library.file_probe import MAX_MEMORY_BYTES
from packager.library.local_storage import NotFoundError
from packager.library.storage_interface import Identity, Storage
from packager.process.ffmpeg_discovery import BusyError, Tools, ToolsError
from packager.process.process import read_only_sandbox, run
from packager.process.sandbox import Sandbox

AT_ONCE = 1
"""How many covers are drawn at the same time."""

MAX_WAITING = 64
"""Most requests that wait for a cover."""

MAX_KEPT = 128
"""Most covers that are kept, and files that are known to have none."""

MAX_COVER_BYTES = 512 << 10
"""Size of the largest cover: of so few pixels it is a tenth."""

SECONDS = 20.0
"""Longest time in which a cover is drawn."""

POSTER_SECONDS = (60, 5, 0)
"""Times of a film of which the first that it has is drawn: behind logos and black."""

JPEG_BEGIN = b"\xff\xd8\xff"


class CoverArt:
    """Draws the covers that files of a library contain, and a picture of films of which there are no others.

    Args:
        storage: opens files, whose identities say whether a kept cover is still theirs.
        files: gives other programs a path of each file.
        colour: returns the colours of a film's picture; None where they aren't known. It may block.
    """

    def __init__(
        self, storage: Storage, files: ListedFiles, tools: Tools, colour: Callable[[str], Colour | None]
    ) -> None:
        self._storage = storage
        self._files = files
        self._tools = tools
        self._colour = colour
        self._turns = FairSemaphore(AT_ONCE, AT_ONCE, MAX_WAITING)
        # The cover that wasn't asked for for longest comes first; None: the file has none.
        self._kept = BoundedDict[tuple[Identity, bool], bytes | None](MAX_KEPT)

    async def cover(self, name: str, client: str = "") -> bytes:
        """Return the cover of a file as JPEG.

        Args:
            client: such as a network; clients take turns.

        Raises:
            NotFoundError: there is no such file, or no cover in it.
            BusyError: too many covers are asked for, or no program can be started now.
            OSError: the file can't be read.
        """
        return await self._drawn(name, client, poster=False)

    async def poster(self, name: str, client: str = "") -> bytes:
        """Return a picture of a film as JPEG; raises as ``cover`` does."""
        return await self._drawn(name, client, poster=True)

    async def _drawn(self, name: str, client: str, *, poster: bool) -> bytes:
        identity = await self._storage.threads.of(client, ("identity", name)).run(self._identity, name)
        key = identity, poster
        if key not in self._kept:
            try:
                async with self._turns.held(client):
                    if key not in self._kept:
                        self._kept[key] = await self._draw(name, client, poster=poster)
            except TooManyWaitingError as error:
                raise BusyError("too many covers are asked for") from error
        picture = self._kept.use(key)
        if picture is None:
            raise NotFoundError(f"{name} has no {'picture' if poster else 'cover'}")
        return picture

    def _identity(self, name: str) -> Identity:
        if PurePosixPath(name).suffix.lower() not in CONTAINERS:
            raise NotFoundError(name)
        with self._storage.open(name) as file:
            return file.identity

    async def _draw(self, name: str, client: str, *, poster: bool) -> bytes | None:
        told = await self._storage.threads.of(client).run(self._colour, name) if poster else None
        colour = known_colour(told, self._tools)
        readable = await self._files.threads.of(client).opened(self._files.readable_path, name)
        with contextlib.closing(readable):
            source = local_input(readable.path), CONTAINERS[readable.path.suffix.lower()]
            tries = (
                [poster_arguments(*source, seconds, colour) for seconds in POSTER_SECONDS]
                if poster
                else [cover_arguments(*source)]
            )
            sandbox = Sandbox(read=read_only_sandbox(readable.path).read, memory=MAX_MEMORY_BYTES)
            for words in tries:
                try:
                    data = await run(
                        [self._tools.ffmpeg, *words],
                        limit=SECONDS,
                        max_bytes=MAX_COVER_BYTES,
                        sandbox=sandbox,
                    )
                except BusyError:
                    raise
                except ToolsError:
                    continue
                if data.startswith(JPEG_BEGIN):
                    return data
        return None
