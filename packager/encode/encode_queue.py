"""Encoded segments of films: found in a cache, or encoded in turn, once for all who ask.

As many encoders run as the processor has room for. A segment that somebody waits for comes before one that is
read ahead, and clients are served in turn. A segment of a prepared film comes last.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import structlog

from media.errors import MalformedError, MediaError
from packager.bounded_dict import BoundedDict
from packager.encode.encoder_choice import record_choice
from packager.encode.encoder_speed import record_speed, recorded_height
from packager.encode.renditions import EncodedRendition, find_rendition
from packager.encode.segment_encoder import (
    INIT,
    LEAST_DEVICE_SECONDS,
    EncodeSegment,
    encode_piece,
    encode_segment,
    encoders_at_once,
    with_parameter_sets,
)
from packager.fair_queue import FairQueue, TooManyWaitingError
from packager.ffmpeg.picture_encoder import PROFILES, SOFTWARE, PictureEncoder
from packager.hashed_file_cache import FileKind, HashedFileCache, HashedFileLimits, Place
from packager.library.local_storage import NotFoundError
from packager.library.storage_interface import LibraryFile
from packager.process.ffmpeg_discovery import BusyError, Tools
from packager.safe_files import DataFolder
from packager.threads import SHARED_THREADS
from packager.transient_errors import NotReadyError
from packager.vod.movie.movie_reader import Read
from packager.vod.movie.versioned_addresses import MediaVersion
from packager.vod.segments.segment import ShortReadError
from packager.vod.titles import Titles

if TYPE_CHECKING:
    from packager.s3.segment_cache import BucketSegmentCache

log = structlog.get_logger()

SEGMENTS = FileKind("encoded segments", ".m4s", b"\0", 256 << 20)

MAX_FAILURES = 1000
"""Most segments whose failures are remembered."""

MAX_DEVICE_FAILURES = 3
"""Failures of a device in a row behind which only software encodes."""

READ_AHEAD = 2
"""Segments behind a requested one that are encoded while nobody waits for others."""

MAX_READ_AHEAD = 32
"""Most segments that wait to be read ahead; the oldest are dropped."""


MAX_FILMS = 500
"""Most prepared films."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodeLimits:
    """The limits of encoding on request and ahead of time.

    Attributes:
        at_once: how many encoders run at the same time, each with two threads at a low priority.
        waiting: most segments that requests wait for.
        wait_seconds: how long a request waits for its segment.
        idle_seconds: how long nothing is encoded at least before the machine's speed is measured.
        prepared_retry_seconds: pause before the next attempt where a film or the disk couldn't be used.
        prepared_check_seconds: pause before prepared films are compared with the library again.
        missing_seconds: for how long a film may be missing from the library, such as on a disk that isn't
            mounted, before it is dropped from the list.
    """

    at_once: int = field(default_factory=encoders_at_once)
    waiting: int = 64
    wait_seconds: float = 25.0
    idle_seconds: float = 5.0
    cache: HashedFileLimits = field(
        default_factory=lambda: HashedFileLimits(
            disk_bytes=10 << 30, disk_files=100_000, memory_bytes=64 << 20
        )
    )
    prepared_films: int = MAX_FILMS
    prepared_retry_seconds: float = 30.0
    prepared_check_seconds: float = 300.0
    missing_seconds: float = 86_400.0


@dataclass(frozen=True, slots=True)
class WantedSegment:
    """A segment that is asked for.

    Attributes:
        film: name of the film, relative to the library.
        bounds: begin and end of a clip's share in ticks; None: the whole segment.
    """

    film: str
    rendition: EncodedRendition
    number: int
    bounds: tuple[int, int] | None = None

    @property
    def place(self) -> Place:
        """The segment's place in the caches, the same on every server of the library."""
        track = self.rendition.track
        # The name, too: several films may have one size and one time of change, as the files of a DVD do.
        facts = repr((self.film, track.version.name, track.name, self.number < 0, self.bounds))
        return hashlib.sha256(facts.encode()).hexdigest()[:32], max(self.number, 0)

    def with_encoder(self, encoder: str, profile: str = "") -> WantedSegment:
        """Return the segment of the same name that another encoder encodes; see `EncodedRendition`."""
        return replace(self, rendition=self.rendition.with_encoder(encoder, profile))

    def is_shared(self) -> bool:
        """Return whether the segment is kept for other servers, too."""
        # A film that is replaced within a second may keep its version: the former one's segments would stay.
        return self.bounds is None and self.rendition.track.version.is_settled(time.time())


class _SegmentJob:
    """The encoding of a segment for all who wait for it.

    Attributes:
        waiting: how many requests wait for the segment.
        prepares: whether the segment is of a prepared film, so that it is encoded even if no request waits.
    """

    def __init__(self, wanted: WantedSegment, client: str) -> None:
        self.wanted = wanted
        self.client = client
        self.done: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.done.add_done_callback(_retrieved)
        self.waiting = 0
        self.prepares = False
        self.task: asyncio.Task[bytes] | None = None


class EncodedMedia:
    """The encoded segments of a library's films.

    Args:
        folder: where segments are kept; None: only in memory.
        encode: encodes a segment; tests hand in others.
        shared: a slower cache behind the folder, of whole segments; None: there is none.

    Attributes:
        cache: the segments that were encoded.
        encoders: how many encoders run at the same time.
        picture_encoder: as of the renditions; where it fails, software encodes.
    """

    name = "encoder"

    def __init__(
        self,
        titles: Titles,
        tools: Tools,
        folder: DataFolder | None,
        limits: EncodeLimits,
        encode: EncodeSegment = encode_segment,
        shared: BucketSegmentCache | None = None,
    ) -> None:
        self._shared = shared
        self.picture_encoder = SOFTWARE
        # Failures of hardware in a row, why it failed last, and whether it is left for the rest of the run.
        self._device_failures, self._device_fault, self._is_device_left = 0, "", False
        self._encode_segment = encode
        self._titles = titles
        self._tools = tools
        self._limits = limits
        self._folder = folder
        self.cache = HashedFileCache(SEGMENTS, folder, limits.cache)
        self.encoders = limits.at_once
        self._jobs: dict[Place, _SegmentJob] = {}
        # Segments that requests wait for, segments that may be asked for next, and those of prepared films.
        self._asked = FairQueue[_SegmentJob](limits.waiting)
        self._ahead: OrderedDict[Place, _SegmentJob] = OrderedDict()
        self._prepared: OrderedDict[Place, _SegmentJob] = OrderedDict()
        self._more = asyncio.Event()
        # Why segments couldn't be encoded.
        self._failures = BoundedDict[Place, str](MAX_FAILURES)

    @property
    def waiting(self) -> int:
        """How many requests wait for segments."""
        return sum(job.waiting for job in self._jobs.values())

    @property
    def running(self) -> int:
        """How many segments are being encoded."""
        return sum(job.task is not None for job in self._jobs.values())

    async def run(self) -> None:
        """Encode what is wanted, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self.encoders):
                group.create_task(self._work())
            if self._shared is not None:
                group.create_task(self._shared.run())
            if self._folder is not None:
                await self._measure(self._folder)

    async def _measure(self, folder: DataFolder) -> None:
        """Measure how fast this machine encodes, unless that is known, some time after it has begun to."""
        await self._more.wait()
        if await SHARED_THREADS.run(recorded_height, self._tools, folder, self.picture_encoder) is not None:
            return
        while True:
            await asyncio.sleep(self._limits.idle_seconds)
            if not self._jobs:
                break
        await record_speed(self._tools, folder, self.picture_encoder)

    def close(self) -> None:
        """Release the waiting requests."""
        for job in self._jobs.values():
            job.done.cancel()
        self._asked.clear()
        self._ahead.clear()
        self._prepared.clear()

    async def init(
        self, film: str, track: str, version: str | None = None, *, client: str = ""
    ) -> tuple[bytes, MediaVersion]:
        """Return the init segment of a rendition, and the rendition's version.

        Args:
            client: the network of the request; networks are served in turn.

        Raises:
            NotFoundError: there is no such film or rendition, or it is another version.
            NotReadyError: many others wait, or the encoding takes longer than a request waits.
            MediaError: it can't be encoded; the text says in one line why.
            OSError: the film can't be read.
        """
        rendition = await self._find(film, track, version, client)
        if rendition.track.init:
            return rendition.track.init, rendition.track.version
        return await self._wait(WantedSegment(film, rendition, INIT), client), rendition.track.version

    async def segment(
        self,
        film: str,
        track: str,
        number: int,
        bounds: tuple[int, int] | None = None,
        version: str | None = None,
        *,
        client: str = "",
    ) -> tuple[bytes, MediaVersion]:
        """Return a segment of a rendition, or a clip's share of it; the rest as for :meth:`init`."""
        rendition = await self._find(film, track, version, client)
        times = rendition.track.times
        if not 0 <= number < len(times) - 1:
            raise NotFoundError(f"{film}: {track} has no segment {number}")
        if bounds is not None:
            begin, end = bounds
            unit = rendition.track.unit
            if not times[number] <= begin < end <= times[number + 1] or begin % unit or end % unit:
                raise NotFoundError(f"{film}: {track} has no such part of segment {number}")
        data = await self._wait(WantedSegment(film, rendition, number, bounds), client)
        if bounds is None:
            self._read_ahead(film, rendition, number)
        return data, rendition.track.version

    async def prepare(self, wanted: WantedSegment) -> bytes:
        """Return a segment of a prepared film, which is encoded once no encoder has anything else to do.

        Raises:
            NotFoundError: the film is gone, or is another version.
            NotReadyError: the machine has no room for an encoder now, or the server ends.
            MediaError: it can't be encoded; the text says in one line why.
            OSError: the film can't be read.
        """
        place = wanted.place
        if (data := await self._look_up(place)) is not None:
            return data
        job = self._jobs.get(place)
        if job is None:
            job = self._jobs[place] = self._prepared[place] = _SegmentJob(wanted, "")
            self._more.set()
        job.prepares = True
        try:
            return await asyncio.shield(job.done)
        except asyncio.CancelledError:
            if job.done.cancelled():  # the server ends
                raise NotReadyError from None
            raise

    async def _find(self, film: str, track: str, version: str | None, client: str) -> EncodedRendition:
        threads = self._titles.threads.of(client, ("rendition", film, track))
        found = await threads.run(self._rendition, film, track)
        if version in (None, found.track.version.name):
            return found
        # This server had another encoder at a former start, or another server of the library has one.
        others = [found.with_encoder(self._tools.version, profile) for profile in PROFILES]
        other = next((one for one in others if one.track.version.name == version), None)
        if other is None:
            raise NotFoundError(f"{film} is another version")
        return other

    def _rendition(self, film: str, track: str) -> EncodedRendition:
        found = find_rendition(self._titles.files.find(film).index, track)
        if found is None:
            raise NotFoundError(f"{film} has no track {track}")
        return found

    async def _wait(self, wanted: WantedSegment, client: str) -> bytes:
        """Return a segment from the cache, or once it is encoded."""
        place = wanted.place
        if (data := await self._look_up(place, client)) is not None:
            return data
        job = self._jobs.get(place)
        if job is None or job.waiting == 0:
            job = self._ask(wanted, client)
        job.waiting += 1
        try:
            async with asyncio.timeout(self._limits.wait_seconds):
                return await asyncio.shield(job.done)
        except TimeoutError:
            raise NotReadyError from None
        except asyncio.CancelledError:
            if job.done.cancelled():  # the server ends
                raise NotReadyError from None
            raise
        finally:
            job.waiting -= 1
            if job.waiting == 0 and not job.done.done():
                self._drop(job)

    async def _look_up(self, place: Place, client: str = "") -> bytes | None:
        """Return a segment from the cache, or None; MalformedError of one that can't be encoded."""
        if (reason := self._failures.get(place)) is not None:
            raise MalformedError(reason)
        return await SHARED_THREADS.of(client, (self, place)).run(self.cache.find, place)

    def _ask(self, wanted: WantedSegment, client: str) -> _SegmentJob:
        """Put a segment into the queue of those that somebody waits for, unless it is being encoded."""
        place = wanted.place
        job = self._jobs.get(place) or _SegmentJob(wanted, client)
        if job.task is None:
            job.client = client
            try:
                dropped = self._asked.push(client, job)
            except TooManyWaitingError:
                raise NotReadyError from None
            if dropped is not None:
                del self._jobs[dropped.wanted.place]
                dropped.done.set_exception(NotReadyError())
            self._ahead.pop(place, None)
            self._prepared.pop(place, None)
            self._jobs[place] = job
            self._more.set()
        return job

    def _drop(self, job: _SegmentJob) -> None:
        """End the encoding of a segment that nobody waits for any more."""
        place = job.wanted.place
        was_asked = self._asked.remove(job.client, job)
        if job.prepares:
            if was_asked:
                self._prepared[place] = job
            return
        if self._jobs.get(place) is job:
            del self._jobs[place]
        if job.task is not None:
            job.task.cancel()
        job.done.cancel()

    def _read_ahead(self, film: str, rendition: EncodedRendition, number: int) -> None:
        """Let the next segments of a rendition be encoded, in place of those that were next before."""
        for place, job in list(self._ahead.items()):
            if job.wanted.rendition.track.version == rendition.track.version:
                self._drop_ahead(place)
        following = range(number + 1, min(number + 1 + READ_AHEAD, len(rendition.track.sizes)))
        for one in following:
            wanted = WantedSegment(film, rendition, one)
            if (later := self._prepared.pop(wanted.place, None)) is not None:
                self._ahead[wanted.place] = later
            elif wanted.place not in self._jobs:
                self._ahead[wanted.place] = self._jobs[wanted.place] = _SegmentJob(wanted, "")
        while len(self._ahead) > MAX_READ_AHEAD:
            self._drop_ahead(next(iter(self._ahead)))
        self._more.set()

    def _drop_ahead(self, place: Place) -> None:
        """Read a segment no longer ahead; that of a prepared film is encoded later."""
        job = self._ahead.pop(place)
        if job.prepares:
            self._prepared[place] = job
        else:
            del self._jobs[place]

    async def _work(self) -> None:
        while True:
            while not self._asked and not self._ahead and not self._prepared:
                self._more.clear()
                await self._more.wait()
            asked = self._asked.pop()
            job = (self._ahead or self._prepared).popitem(last=False)[1] if asked is None else asked[1]
            place = job.wanted.place
            job.task = asyncio.create_task(self._make(job.wanted))
            try:
                await asyncio.wait((job.task,))
            finally:
                job.task.cancel()
                if self._jobs.get(place) is job:
                    del self._jobs[place]
            _settle(job)

    async def _make(self, wanted: WantedSegment) -> bytes:
        """Encode a segment and keep it, unless it is in a cache."""
        place, shared = wanted.place, self._shared if wanted.is_shared() else None
        if (data := await SHARED_THREADS.run(self.cache.find, place)) is not None:
            return data
        data = None if shared is None else await shared.find(place)
        if data is None:
            software = wanted.with_encoder(self._tools.version)
            if software.place == place:
                data = await self._encode(wanted)
            else:
                encoded = await self._encode_by_device(wanted)
                if isinstance(encoded, str):
                    return await self._make_in_software(wanted, software, failed=encoded)
                data = encoded
            if shared is not None:
                shared.keep(place, data)
        # Clips' shares are only kept in memory: there are as many as there are clips.
        keep = self.cache.keep if wanted.bounds is None else self.cache.remember
        await SHARED_THREADS.run(keep, place, data)
        return data

    async def _encode_by_device(self, wanted: WantedSegment) -> bytes | str:
        """Encode a segment by hardware, or return why that failed: "" where software must encode."""
        own = wanted.with_encoder(self._tools.version, self.picture_encoder.profile)
        if wanted.place != own.place or self._device_failures >= MAX_DEVICE_FAILURES or self._is_device_left:
            return ""
        began = time.monotonic()
        try:
            data = await self._run_encoder(wanted, self.picture_encoder)
        except asyncio.CancelledError:
            # Nobody waits any longer: a device that is stuck isn't waited for by all who come.
            if time.monotonic() - began > LEAST_DEVICE_SECONDS:
                self._device_failures, self._device_fault = self._device_failures + 1, "it takes too long"
            raise
        except MediaError as error:
            self._device_failures, self._device_fault = self._device_failures + 1, str(error)
            return self._device_fault
        self._device_failures = 0
        return data

    async def _make_in_software(self, wanted: WantedSegment, software: WantedSegment, failed: str) -> bytes:
        """Return a segment of hardware's rendition, made of software's segment.

        Args:
            failed: why the hardware failed; "" if it wasn't used.
        """
        try:
            data = await self._make(software)
            if wanted.number != INIT:
                init = await self._make(replace(software, number=INIT, bounds=None))
                data = await SHARED_THREADS.run(with_parameter_sets, init, data, wanted.number)
        except MalformedError as error:
            if failed:  # the film is to blame
                self._device_failures = max(0, self._device_failures - 1)
            self._remember_failure(wanted, str(error))
            raise
        if self._device_failures >= MAX_DEVICE_FAILURES and not self._is_device_left:
            self._is_device_left = True
            name = self.picture_encoder.name
            log.warning("hardware doesn't encode any more", encoder=name, reason=self._device_fault)
            await SHARED_THREADS.run(record_choice, self._folder, {})
        await SHARED_THREADS.run(self.cache.remember, wanted.place, data)
        return data

    async def _encode(self, wanted: WantedSegment) -> bytes:
        """Encode a segment in software; raises as `init`."""
        try:
            return await self._run_encoder(wanted, SOFTWARE)
        except MediaError as error:
            raise MalformedError(self._refuse(wanted, str(error))) from None

    async def _run_encoder(self, wanted: WantedSegment, encoder: PictureEncoder) -> bytes:
        """Encode a segment; raises as `init`."""
        try:
            opened = await self._titles.threads.opened(_open, self._titles, wanted)
            try:
                return await encode_piece(
                    self._tools,
                    replace(wanted.rendition, encoder=encoder),
                    wanted.number,
                    wanted.bounds,
                    opened.read,
                    self._encode_segment,
                )
            finally:
                await SHARED_THREADS.run(opened.close)
        except BusyError:
            raise NotReadyError from None
        except ShortReadError as error:
            raise OSError(str(error)) from None

    def _refuse(self, wanted: WantedSegment, reason: str) -> str:
        """Remember why a segment can't be encoded; return the sentence that says so."""
        log.warning(
            "a film can't be encoded",
            film=wanted.film,
            rendition=wanted.rendition.track.name,
            segment=wanted.number,
            reason=reason,
        )
        return self._remember_failure(wanted, f"it can't be encoded: {reason}")

    def _remember_failure(self, wanted: WantedSegment, sentence: str) -> str:
        self._failures[wanted.place] = sentence
        return sentence


@dataclass(frozen=True, slots=True)
class _OpenedFilm:
    """A film that is being encoded, which the holder closes."""

    file: LibraryFile
    read: Read

    def close(self) -> None:
        """Close the film."""
        self.file.close()


def _open(titles: Titles, wanted: WantedSegment) -> _OpenedFilm:
    """Open the film of a segment; FileChangedError or NotFoundError where it is no longer the same."""
    file = titles.files.open(wanted.film)
    try:
        index = titles.files.index(file)
        if index.version.name != wanted.rendition.film_version:
            raise NotFoundError(f"{wanted.film} is another version")
        return _OpenedFilm(file, index.reading(file.pread))
    except BaseException:
        file.close()
        raise


def _settle(job: _SegmentJob) -> None:
    """Pass the result of an encoding on to all who wait for it."""
    task = job.task
    if task is None or job.done.done():
        return
    if task.cancelled():
        job.done.cancel()
    elif (error := task.exception()) is not None:
        job.done.set_exception(error)
    else:
        job.done.set_result(task.result())


def _retrieved(made: asyncio.Future[bytes]) -> None:
    """Retrieve a failure for which no request waits; the log has it."""
    if not made.cancelled():
        made.exception()
