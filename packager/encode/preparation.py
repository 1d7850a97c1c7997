"""Prepared films: all their encoded segments are made ahead of time, and stay in the cache.

The list of these films is a file beside the segments. Which segments there are is known from the cache alone,
so a server that was killed goes on with those that are missing.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import time
from collections import deque
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
import structlog

from media.errors import MediaError, UnsupportedError
from packager.concurrency import wait_within
from packager.encode.encode_queue import MAX_FILMS, EncodedMedia, EncodeLimits, WantedSegment
from packager.encode.renditions import ENCODING, EncodedRendition, EncodedRenditions, find_rendition
from packager.encode.segment_encoder import INIT
from packager.library.local_storage import NotFoundError
from packager.reader_guard import ReaderGuard
from packager.safe_files import DataFolder, NotOursError
from packager.threads import SHARED_THREADS
from packager.transient_errors import NotReadyError
from packager.vod.file_lookup import offered_indexes
from packager.vod.titles import Titles

log = structlog.get_logger()

RECORD, RECORD_BYTES = "prepared.json", 16 << 20
"""Name of the file with the list, and its largest size."""

MEASURED_SEGMENTS = 64
"""The newest segments, from which the speed is measured."""

NO_ROOM = "library.encoded_size has no room for it: raise that, or take another film back"
NO_RENDITIONS = "nothing of it is encoded"
MISSING = "it isn't in the library now"
BROKEN = "the server failed at it: see its log"
BUSY = "the machine has no room for an encoder now"

Renditions = list[tuple[str, EncodedRendition]]
"""Encoded renditions of a film, each with the path of its file: a title has several."""

Key = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}\Z")]
State = Literal["", "waiting", "encoding", "prepared", "failed"]


class TooManyPreparedError(Exception):
    """As many films are prepared as may be."""


class PreparedFilm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A film of the list.

    Attributes:
        path: relative to the library; the file's, or the common part of those of a title.
        version: the name of the film's version.
        keys: of its segments in the cache.
        segments: number of its segments and init segments; 0: unknown.
        seconds: the playing time of all its encoded renditions together.
        failed: why it can't be prepared; "" if it can.
    """

    path: str
    version: str
    keys: frozenset[Key] = frozenset()
    segments: Annotated[int, msgspec.Meta(ge=0)] = 0
    seconds: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    failed: str = ""


class _PreparedList(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file with the list.

    Attributes:
        profile: describes the renditions of films; under another one, films have other segments.
    """

    profile: str
    films: Annotated[tuple[PreparedFilm, ...], msgspec.Meta(max_length=MAX_FILMS)]


_LIST = msgspec.json.Decoder(_PreparedList)


@dataclass(frozen=True, slots=True)
class FilmState:
    """How far the preparation of a film is.

    Attributes:
        state: "" of a film that isn't in the list.
        reason: why it waits or failed, in one line.
        segments: number of its segments; 0 if that isn't known, or nothing of it is encoded.
        encoded_segments: number of those that are on disk.
        nbytes: size of the encoded segments.
        seconds: the playing time of the missing segments.
    """

    path: str
    state: State
    reason: str = ""
    segments: int = 0
    encoded_segments: int = 0
    nbytes: int = 0
    seconds: float = 0.0


class Preparation:
    """Prepares the films of a list, one after the other, the oldest entry first.

    All encoders that nobody else needs take part: a request waits until the first of them is done with its
    segment, so the more there are, the less it waits.

    Args:
        folder: where the encoded segments are kept.
    """

    name = "preparation"

    def __init__(
        self,
        media: EncodedMedia,
        titles: Titles,
        renditions: EncodedRenditions,
        folder: DataFolder,
        limits: EncodeLimits,
    ) -> None:
        self._media = media
        self._titles = titles
        self._folder = folder
        self._limits = limits
        self._profile = repr((ENCODING, renditions))
        # By their paths, the oldest entry first. Only who holds the lock changes them.
        self._films: dict[str, PreparedFilm] = {}
        self._changing = asyncio.Lock()
        self._changed = asyncio.Event()
        self._is_foreign = self._is_unsaved = False
        self._current: PreparedFilm | None = None
        self._reasons: dict[str, str] = {}
        self._missing_since: dict[str, float] = {}
        # When the newest segments were done, and how long they play; the beginning is before the first one.
        self._done = deque[tuple[float, float]](maxlen=MEASURED_SEGMENTS)
        # Before anything is encoded that may displace their segments.
        self._load()

    @property
    def speed(self) -> float | None:
        """Seconds of encoded media that are made in a second; None where that isn't known."""
        done = tuple(self._done)
        seconds = sum(seconds for _, seconds in done[1:])
        # An init segment plays for no time.
        return seconds / max(done[-1][0] - done[0][0], 1e-3) if seconds else None

    async def states(self) -> list[FilmState]:
        """Return how far all films of the list are, the oldest entry first."""
        return await SHARED_THREADS.run(lambda: [self._state(film) for film in tuple(self._films.values())])

    async def state(self, path: str) -> FilmState:
        """Return how far a film is, whether it is in the list or not.

        Raises:
            NotFoundError: there is no such film.
            OSError: it can't be read.
        """
        if (film := self._films.get(path)) is not None:
            return await SHARED_THREADS.run(self._state, film)
        try:
            with ReaderGuard(path):
                entry = await self._titles.threads.run(self._new_entry, path)
        except MediaError:
            return FilmState(path, "")
        return FilmState(path, "", segments=entry.segments)

    async def add(self, path: str) -> None:
        """Put a film into the list, unless it is there already.

        Raises:
            TooManyPreparedError: there are as many as may be.
            NotFoundError: there is no such film.
            MediaError: it can't be packaged, or nothing of it is encoded.
            OSError: it can't be read, or the list can't be written.
        """
        entry = await self._titles.threads.run(self._new_entry, path)
        async with self._changing:
            before = self._films.get(path)
            if before is not None and before.version == entry.version and not before.failed:
                return
            if before is None and len(self._films) >= self._limits.prepared_films:
                raise TooManyPreparedError
            try:
                self._films.pop(path, None)
                self._films[path] = entry
                await SHARED_THREADS.run(self._save)
            except BaseException:
                self._films.pop(path, None)
                if before is not None:
                    self._films[path] = before
                self._is_unsaved = True
                raise
            await SHARED_THREADS.run(self._pin, before, entry)
        self._reasons.pop(path, None)
        self._changed.set()

    async def remove(self, path: str) -> None:
        """Take a film out of the list; its segments stay in the cache until others need the room.

        Raises:
            NotFoundError: it isn't in the list.
        """
        async with self._changing:
            film = self._films.get(path)
            if film is None:
                raise NotFoundError(path)
            await self._replace(film, None)

    async def run(self) -> None:
        """Prepare the films of the list, and look at times whether they are the same, until cancelled."""
        async with self._changing:
            await SHARED_THREADS.run(self._load)
        for film in [*self._films.values()][::-1]:
            if await SHARED_THREADS.run(self._media.cache.has_room, 0):
                break
            await self._fail(film, NO_ROOM)
        while True:
            self._changed.clear()
            self._reasons = {path: why for path, why in self._reasons.items() if path in self._films}
            is_disk_usable = True
            with contextlib.suppress(OSError):
                await SHARED_THREADS.run(self._media.cache.forget_removed)
            for film in [*self._films.values()]:
                is_disk_usable = is_disk_usable and await self._guarded(film, self._prepare(film))
            is_settled = is_disk_usable and not self._reasons and not self._is_unsaved
            pause = self._limits.prepared_check_seconds if is_settled else self._limits.prepared_retry_seconds
            await wait_within(pause, self._changed.wait())
            async with self._changing:
                await self._save_later()

    def _load(self) -> None:
        """Read the list, and pin the films' segments."""
        try:
            with self._folder.open() as folder:
                record = _LIST.decode(folder.read(RECORD, RECORD_BYTES))
        except FileNotFoundError:
            record = _PreparedList(self._profile, ())
        except (OSError, ValueError, RecursionError) as error:
            log.error("the list of prepared films can't be read", folder=str(self._folder), reason=str(error))
            self._is_foreign = True
            return
        self._is_foreign = False
        is_known = record.profile == self._profile
        films = {film.path: film if is_known else _renewed(film) for film in record.films}
        before, self._films = self._films, films
        kept = {key for film in record.films for key in film.keys}
        self._media.cache.unpin({key for film in before.values() for key in film.keys} - kept)
        self._media.cache.pin(kept)

    def _save(self) -> None:
        """Write the list; OSError if it can't be written, or the file isn't such a list."""
        if self._is_foreign:
            reason = f"{RECORD} is no list of prepared films; move it away, and restart"
            raise NotOursError(f"{self._folder}/{RECORD}", reason)
        data = msgspec.json.encode(_PreparedList(self._profile, tuple(self._films.values())))
        if len(data) > RECORD_BYTES:
            raise OSError(errno.EFBIG, f"the list has more than {RECORD_BYTES} bytes")
        with self._folder.open(make=True) as folder:
            folder.write_whole(RECORD, data)
        self._is_unsaved = False

    async def _save_later(self) -> None:
        """Write the list unless it is written; where that fails, the next attempt follows."""
        if not self._is_unsaved:
            return
        try:
            await SHARED_THREADS.run(self._save)
        except OSError as error:
            log.warning("the list of prepared films can't be written", reason=str(error))

    def _pin(self, before: PreparedFilm | None, after: PreparedFilm | None) -> None:
        """Pin the segments of an entry in place of those of another one."""
        old = frozenset[str]() if before is None else before.keys
        new = frozenset[str]() if after is None else after.keys
        self._media.cache.pin(new)
        self._media.cache.unpin(old - new)

    async def _replace(self, film: PreparedFilm, new: PreparedFilm | None) -> None:
        """Replace an entry that is in the list, or remove it; the lock must be held."""
        if new is None:
            del self._films[film.path]
        else:
            self._films[film.path] = new
        self._reasons.pop(film.path, None)
        self._missing_since.pop(film.path, None)
        self._is_unsaved = True
        await SHARED_THREADS.run(self._pin, film, new)
        await self._save_later()

    async def _fail(self, film: PreparedFilm, reason: str) -> None:
        """Stop to prepare a film until somebody adds it again, and let its segments make room for others."""
        async with self._changing:
            if self._films.get(film.path) is film:
                log.warning("a film can't be prepared", film=film.path, reason=reason)
                failed = msgspec.structs.replace(film, keys=frozenset(), failed=reason)
                await self._replace(film, failed)

    async def _drop(self, film: PreparedFilm, reason: str) -> None:
        async with self._changing:
            if self._films.get(film.path) is film:
                log.warning("a film is no longer prepared", film=film.path, reason=reason)
                await self._replace(film, None)

    async def _guarded(self, film: PreparedFilm, work: Coroutine[Any, Any, bool]) -> bool:
        """Return a result of work at a film, which fails alone if it breaks the server's code."""
        try:
            return await work
        except Exception:
            log.exception("the preparation of a film broke", film=film.path)
            await self._fail(self._films.get(film.path, film), BROKEN)
            return True

    async def _prepare(self, film: PreparedFilm) -> bool:
        """Have the missing segments of a film encoded; return False where the disk takes none."""
        if self._films.get(film.path) is not film or film.failed:
            return True
        self._reasons.pop(film.path, None)
        try:
            with ReaderGuard(film.path):
                found = await self._titles.threads.run(self._look_at, film)
        except NotFoundError:
            await self._note_missing(film)
            return True
        except MediaError as error:
            await self._fail(film, str(error))
            return True
        except OSError as error:
            self._reasons[film.path] = error.strerror or str(error)
            return True
        self._missing_since.pop(film.path, None)
        if found is None:
            return True
        version, renditions = found
        if version != film.version:
            await self._drop(film, "it has changed")
            return True
        if (entry := _entry(film.path, version, renditions)) != film:
            async with self._changing:
                if self._films.get(film.path) is not film:
                    return True
                await self._replace(film, entry)
            film = entry
        return await self._encode_missing(film, renditions)

    def _look_at(self, film: PreparedFilm) -> tuple[str, Renditions] | None:
        """Return a film's version and renditions, none where it has changed; None where none is missing."""
        version = self._titles.files.version_name(film.path)
        if version != film.version:
            return version, []
        if film.segments == self._state(film).encoded_segments > 0:
            return None
        return self._renditions(film.path)

    def _new_entry(self, path: str) -> PreparedFilm:
        return _entry(path, *self._renditions(path))

    def _renditions(self, path: str) -> tuple[str, Renditions]:
        """Return the version of a film or a title, and what is encoded of it."""
        version = self._titles.files.version_name(path)
        try:
            files = [self._titles.files.find(path)]
            version = files[0].index.version.name
        except NotFoundError:
            files = self._titles.files.resolve(path)
        renditions = Renditions()
        for one, index in zip(files, offered_indexes(files), strict=True):
            tracks = (*index.encoded, *filter(None, (index.encoded_i_frames,)))
            found = [find_rendition(index, track.name) for track in tracks]
            renditions += [(one.path, rendition) for rendition in found if rendition is not None]
        if not renditions:
            raise UnsupportedError(NO_RENDITIONS)
        return version, renditions

    async def _note_missing(self, film: PreparedFilm) -> None:
        since = self._missing_since.setdefault(film.path, time.monotonic())
        self._reasons[film.path] = MISSING
        if time.monotonic() - since >= self._limits.missing_seconds:
            await self._drop(film, MISSING)

    async def _encode_missing(self, film: PreparedFilm, renditions: Renditions) -> bool:
        missing = iter(await SHARED_THREADS.run(self._missing, renditions))
        self._current = film
        self._done.append((time.monotonic(), 0.0))
        try:
            async with asyncio.TaskGroup() as group:
                # No exception leaves the group: in Python 3.11 the next timeout of a task whose group failed
                # raises CancelledError in place of TimeoutError.
                encoders = [
                    group.create_task(self._guarded(film, self._encode(film, missing)))
                    for _ in range(self._media.encoders)
                ]
        finally:
            self._current = None
            self._done.clear()
        return all(encoder.result() for encoder in encoders)

    def _missing(self, renditions: Renditions) -> list[WantedSegment]:
        """Return the missing segments by their times, so that all renditions go on together at one speed."""
        missing = list[tuple[float, WantedSegment]]()
        for path, rendition in renditions:
            track = rendition.track
            begins = (track.times / track.timescale).tolist()
            for numbers in _numbers(rendition):
                key, _ = WantedSegment(path, rendition, numbers[0]).place
                there = self._media.cache.pinned_sizes(key)
                missing += [
                    (begins[max(number, 0)], WantedSegment(path, rendition, number))
                    for number in numbers
                    if max(number, 0) not in there
                ]
        return [wanted for _, wanted in sorted(missing, key=lambda one: one[0])]

    async def _encode(self, film: PreparedFilm, missing: Iterator[WantedSegment]) -> bool:
        """Have segments of a film encoded until none is missing; return False where the disk takes none."""
        cache = self._media.cache
        for wanted in missing:
            if self._films.get(film.path) is not film or film.path in self._reasons:
                break
            track, number = wanted.rendition.track, max(wanted.number, 0)
            if not await SHARED_THREADS.run(cache.has_room, int(track.sizes[number])):
                await self._fail(film, NO_ROOM)
                break
            try:
                data = await self._media.prepare(wanted)
            except NotFoundError:
                self._reasons[film.path] = MISSING
                break
            except MediaError as error:
                await self._fail(film, f"{track.name}: {error}")
                break
            except NotReadyError:
                self._reasons[film.path] = BUSY
                break
            except OSError as error:
                self._reasons[film.path] = error.strerror or str(error)
                break
            try:
                await SHARED_THREADS.run(cache.store, wanted.place, data)
            except OSError as error:
                self._reasons[film.path] = f"its segments can't be stored: {error.strerror}"
                return False
            begin, end = track.times[number : number + 2].tolist()
            seconds = 0.0 if wanted.number == INIT else (end - begin) / track.timescale
            self._done.append((time.monotonic(), seconds))
        return True

    def _state(self, film: PreparedFilm) -> FilmState:
        sizes = [self._media.cache.pinned_sizes(key) for key in film.keys]
        encoded = sum(map(len, sizes))
        state: State = "waiting"
        if film.failed:
            state = "failed"
        elif film.segments and encoded >= film.segments:
            state = "prepared"
        elif film is self._current:
            state = "encoding"
        left = film.seconds * (1 - encoded / film.segments) if film.segments else 0.0
        return FilmState(
            film.path,
            state,
            film.failed or self._reasons.get(film.path, ""),
            film.segments,
            encoded,
            sum(sum(one.values()) for one in sizes),
            0.0 if film.failed else left,
        )


def _renewed(film: PreparedFilm) -> PreparedFilm:
    """Return the entry of a film whose segments aren't known any more."""
    return PreparedFilm(film.path, film.version, film.keys)


def _numbers(rendition: EncodedRendition) -> Iterator[range]:
    """Return the numbers of a rendition's segments, and that of its init segment if it is encoded."""
    if not rendition.track.init:
        yield range(INIT, INIT + 1)
    yield range(len(rendition.track.sizes))


def _entry(path: str, version: str, renditions: Renditions) -> PreparedFilm:
    """Return the entry of a film with some renditions."""
    places = [(file, one, numbers) for file, one in renditions for numbers in _numbers(one)]
    keys = frozenset(WantedSegment(file, one, numbers[0]).place[0] for file, one, numbers in places)
    times = [(one.track.times[-1] - one.track.times[0]) / one.track.timescale for _, one in renditions]
    segments = sum(len(numbers) for *_, numbers in places)
    return PreparedFilm(path, version, keys, segments, float(sum(times)))
