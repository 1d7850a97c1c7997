"""Sprites of films are made in the background: an ffmpeg for each, which is fed the film's key frames.

A sprite is one JPEG of many small pictures, for the seek bar. The key frames are found by the film's index,
so that little of the film is read; ffmpeg itself opens nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from media.errors import MediaError, UnsupportedError
from packager.bounded_dict import BoundedDict
from packager.ffmpeg.colours import known_colour
from packager.ffmpeg.sprites import sprite_arguments
from packager.hashed_file_cache import FileKind, HashedFileCache, HashedFileLimits, Place
from packager.library.local_storage import NotFoundError
from packager.process.ffmpeg_discovery import BusyError, Tools, ToolsError
from packager.process.process import Process, run
from packager.process.sandbox import Sandbox
from packager.reader_guard import ReaderGuard
from packager.safe_files import DataFolder
from packager.threads import SHARED_THREADS
from packager.transient_errors import NotReadyError
from packager.vod.movie.movie_reader import Read
from packager.vod.movie.versioned_addresses import MediaVersion
from packager.vod.pictures.storyboard import Storyboard
from packager.vod.segments.segment import ShortReadError
from packager.vod.titles import Titles

log = structlog.get_logger()

SPRITES = FileKind("thumbnails", ".jpg", b"\xff\xd8\xff", 8 << 20)

SPRITE_SECONDS = 120.0
"""Longest time in which a sprite is drawn."""

FAILED_SECONDS = 300.0
"""Seconds for which no sprite is made of a film whose last one failed."""

FFMPEG_MEMORY_BYTES = 3 << 29
"""Most memory of an ffmpeg that draws."""

MAX_FAILURES = 1000
"""Most films whose failure is remembered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpriteLimits:
    """The limits of the making of sprites.

    Attributes:
        at_once: how many ffmpegs run at the same time; each has one thread, at the lowest priority.
        waiting: most sprites that wait to be made because somebody asked for them, and as many that may be
            asked for.
        wait_seconds: how long a request waits for its sprite.
    """

    at_once: int = 1
    waiting: int = 1000
    wait_seconds: float = 20.0
    cache: HashedFileLimits = field(default_factory=HashedFileLimits)


@dataclass(slots=True, eq=False)
class _Wanted:
    """A sprite that is to be made.

    Attributes:
        client: the client whose request waits for it, the last one of several.
    """

    storyboard: Storyboard
    number: int
    made: asyncio.Future[bytes]
    client: str = ""

    @property
    def place(self) -> Place:
        return self.storyboard.key, self.number


class RemoteDrawing(Protocol):
    """Draws sprites on other machines."""

    async def draw(self, storyboard: Storyboard, number: int) -> bytes | None:
        """Return a sprite; None where nobody can draw it now.

        Raises:
            ToolsError: it can't be drawn anywhere.
        """

    async def aclose(self) -> None:
        """Close the connections."""


class SpriteMaker:
    """Has the sprites of a library's films made when somebody asks for them or for the files that name them.

    Args:
        folder: where sprites are kept; None: only in memory.
        clock: seconds, of failures' age.
        elsewhere: draws sprites on other machines; None: all are drawn here.
    """

    name = "thumbnails"

    def __init__(
        self,
        titles: Titles,
        tools: Tools,
        folder: DataFolder | None,
        limits: SpriteLimits,
        clock: Callable[[], float],
        elsewhere: RemoteDrawing | None = None,
    ) -> None:
        self._titles = titles
        self._elsewhere = elsewhere
        self._tools = tools
        self._limits = limits
        self._clock = clock
        self._cache = HashedFileCache(SPRITES, folder, limits.cache)
        # Sprites that were requested, the newest request first, and sprites that may be requested next.
        self._asked: OrderedDict[Place, _Wanted] = OrderedDict()
        self._wanted: OrderedDict[Place, _Wanted] = OrderedDict()
        self._making: dict[Place, _Wanted] = {}
        # Numbers of the last turns of the clients whose requests wait.
        self._turns: dict[str, int] = {}
        self._turn = 0
        self._more = asyncio.Event()
        # When a film's last sprite failed, and why.
        self._failed = BoundedDict[str, tuple[float, str]](MAX_FAILURES)

    async def run(self) -> None:
        """Make the sprites that are wanted, until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._limits.at_once):
                    group.create_task(self._work())
        finally:
            if self._elsewhere is not None:
                await self._elsewhere.aclose()

    def close(self) -> None:
        """Release the waiting requests."""
        for one in (*self._asked.values(), *self._wanted.values(), *self._making.values()):
            one.made.cancel()
        self._asked.clear()
        self._wanted.clear()

    async def vtt(self, name: str, *, client: str = "") -> str:
        """Write a film's WebVTT; its sprites are made from now on.

        Args:
            client: such as a network; clients take turns.

        Raises:
            NotFoundError: there is no such film.
            MediaError: it has no picture, or none that can be decoded.
        """
        storyboard = await self._storyboard(name, client)
        threads, key = self._titles.threads, storyboard.key
        lacking = await threads.of(client, ("sprites", key)).run(self._lacking, storyboard)
        if lacking:
            decodable = threads.of(client, ("decodable", key))
            await decodable.run(_require_decodable, self._titles, storyboard, 0)
        for number in lacking:
            if len(self._wanted) < self._limits.waiting:
                self._want(storyboard, number)
        return await threads.of(client, ("thumbnails.vtt", key)).run(storyboard.vtt)

    async def playlist(self, name: str, *, client: str = "") -> str:
        """Write a film's image playlist (HLS); raises as :meth:`vtt`."""
        storyboard = await self._storyboard(name, client)
        key = "thumbnails.m3u8", storyboard.key
        return await self._titles.threads.of(client, key).run(lambda: storyboard.playlist().render())

    async def version(self, name: str, *, client: str = "") -> MediaVersion:
        """Return the version of a film's sprites; raises as :meth:`vtt`."""
        return (await self._storyboard(name, client)).version

    async def sprite(self, name: str, number: int, version: str | None = None, *, client: str = "") -> bytes:
        """Return a sprite as JPEG, once it is made.

        Args:
            version: the name of the required version of the film; None: the present one.
            client: such as a network; clients take turns.

        Raises:
            NotFoundError: there is no such film, or no such sprite of it.
            MediaError: as :meth:`vtt`.
            NotReadyError: making the sprite takes longer than a request waits.
        """
        storyboard = await self._storyboard(name, client)
        if number >= storyboard.sprites or version not in (None, storyboard.version.name):
            raise NotFoundError(f"{name} has no sprite {number}")
        place = storyboard.key, number
        threads = self._titles.threads.of(client, ("sprite", place))
        if (data := await threads.run(self._cache.find, place)) is not None:
            return data
        one = self._want(storyboard, number, client)
        await asyncio.wait((one.made,), timeout=self._limits.wait_seconds)
        if not one.made.done() or one.made.cancelled():
            raise NotReadyError
        return one.made.result()

    async def _storyboard(self, name: str, client: str) -> Storyboard:
        threads = self._titles.threads.of(client, ("storyboard", name))
        storyboard = await threads.run(self._titles.storyboard, name)
        when, reason = self._failed.get(storyboard.key, (0.0, ""))
        if reason and self._clock() - when < FAILED_SECONDS:
            raise UnsupportedError(reason)
        return storyboard

    def _lacking(self, storyboard: Storyboard) -> list[int]:
        places = ((storyboard.key, number) for number in range(storyboard.sprites))
        return [place[1] for place in places if not self._cache.has(place)]

    def _want(self, storyboard: Storyboard, number: int, client: str | None = None) -> _Wanted:
        """Queue a sprite to be made; sprites that requests wait for come first.

        Args:
            client: the client whose request waits for it; None: no request does.
        """
        place = storyboard.key, number
        one = self._making.get(place) or self._asked.get(place) or self._wanted.get(place)
        if one is None:
            made = asyncio.get_running_loop().create_future()
            one = self._wanted[place] = _Wanted(storyboard, number, made)
            one.made.add_done_callback(_retrieved)
        if client is not None and place not in self._making:
            one.client = client
            self._wanted.pop(place, None)
            self._asked[place] = one
            self._asked.move_to_end(place, last=False)
            self._bound_asked()
        self._more.set()
        return one

    def _bound_asked(self) -> None:
        """Drop requested sprites beyond the limit."""
        while len(self._asked) > self._limits.waiting:
            # Of all of the client that waits for most, this one has waited longest, and mostly waits no more.
            most = Counter(one.client for one in self._asked.values()).most_common(1)[0][0]
            place = next(place for place, one in reversed(self._asked.items()) if one.client == most)
            self._asked.pop(place).made.cancel()

    def _next(self) -> tuple[Place, _Wanted]:
        """Remove the next sprite to be made: the newest of the client whose turn is longest ago."""
        if not self._asked:
            return self._wanted.popitem(last=False)
        clients = {one.client for one in self._asked.values()}
        self._turns = {client: turn for client, turn in self._turns.items() if client in clients}
        place = min(self._asked, key=lambda place: self._turns.get(self._asked[place].client, 0))
        one = self._asked.pop(place)
        self._turns[one.client] = self._turn = self._turn + 1
        return place, one

    async def _work(self) -> None:
        while True:
            while not self._asked and not self._wanted:
                self._more.clear()
                await self._more.wait()
            place, one = self._next()
            self._making[place] = one
            try:
                with ReaderGuard("a sprite"):
                    data = await self._make(one)
                await self._titles.threads.run(self._cache.keep, place, data)
                _settle(one, data)
            except (ToolsError, MediaError, NotFoundError, ShortReadError, OSError) as error:
                self._fail(one, error)
            finally:
                del self._making[place]
                one.made.cancel()

    def _fail(self, one: _Wanted, error: Exception) -> None:
        reason = f"no thumbnails can be made of it: {error}"
        log.warning(
            "thumbnails can't be made", file=one.storyboard.path, sprite=one.number, reason=str(error)
        )
        if not isinstance(error, (BusyError, OSError, NotFoundError, ShortReadError)):
            self._failed[one.storyboard.key] = self._clock(), reason
            self._drop(one.storyboard.key, reason)
        if not one.made.done():
            one.made.set_exception(UnsupportedError(reason))

    def _drop(self, key: str, reason: str) -> None:
        """Refuse all sprites of a film that wait: each might take as long to fail, while others wait."""
        for queue in (self._asked, self._wanted):
            for place in [place for place in queue if place[0] == key]:
                made = queue.pop(place).made
                if not made.done():
                    made.set_exception(UnsupportedError(reason))

    async def _make(self, one: _Wanted) -> bytes:
        """Have a sprite drawn by a worker, if there is one, or draw it here."""
        if self._elsewhere is not None:
            data = await self._elsewhere.draw(one.storyboard, one.number)
            if data is not None:
                return data
        return await draw_sprite(self._titles, self._tools, one.storyboard, one.number)


async def draw_sprite(titles: Titles, tools: Tools, storyboard: Storyboard, number: int) -> bytes:
    """Draw a sprite's JPEG by an ffmpeg that is fed with the key frames.

    Raises:
        MediaError, ToolsError: the sprite can't be drawn.
        NotFoundError, ShortReadError, OSError: the film can't be read now.
    """
    await titles.threads.run(_require_decodable, titles, storyboard, number)
    words = sprite_arguments(
        storyboard.size, storyboard.layout, known_colour(storyboard.entry.taken_colour, tools)
    )
    opened = await titles.threads.opened(titles.pictures.open_storyboard, storyboard)
    try:
        data = await run(
            [tools.ffmpeg, *words],
            limit=SPRITE_SECONDS,
            max_bytes=SPRITES.most_bytes,
            sandbox=Sandbox(memory=FFMPEG_MEMORY_BYTES, niceness=19),
            feed=lambda process: _feed(process, storyboard, number, opened.samples),
        )
    finally:
        opened.close()
    if not data.startswith(SPRITES.begin):
        raise ToolsError("its pictures can't be decoded")
    return data


def _require_decodable(titles: Titles, storyboard: Storyboard, number: int) -> None:
    with contextlib.closing(titles.pictures.open_storyboard(storyboard)) as opened:
        storyboard.require_decodable(opened.samples, number)


async def _feed(process: Process, storyboard: Storyboard, number: int, samples: Read) -> None:
    pieces = storyboard.movie(samples, number)
    try:
        while piece := await SHARED_THREADS.run(next, pieces, b""):
            await process.write(piece)
    except (BrokenPipeError, ShortReadError):  # ffmpeg ended before, and says why
        pass
    finally:
        process.close_stdin()


def _settle(one: _Wanted, data: bytes) -> None:
    if not one.made.done():
        one.made.set_result(data)


def _retrieved(made: asyncio.Future[bytes]) -> None:
    """Retrieve a failure for which no request waits; the log has it."""
    if not made.cancelled():
        made.exception()
