"""The handler of VOD: HLS and DASH of the library's films at `/vod/PATH/…`."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple
from urllib.parse import quote

import structlog

from media.errors import MediaError, TooLargeError, UnsupportedError
from origin.answers import gzip_cache
from origin.answers.byte_sources import ThreadSource
from origin.answers.heads import RepresentationHead
from origin.answers.memfd_cache import MemfdCopy
from origin.answers.refusals import (
    ABSENT_FILE_SECONDS,
    FOLDER_GONE,
    FOLDER_RETRY_SECONDS,
    READING_RETRY_SECONDS,
    refusal,
)
from origin.answers.reply import Pending, PendingTask, Reply
from origin.answers.representation_replies import (
    RepresentationReplies,
    media_reply,
    text_reply,
    with_first_bytes,
)
from origin.answers.request import Request
from origin.files.open_files import OpenFileCache, SharedFile
from origin.http.byte_ranges import Span, select_span
from origin.http.client_limits import network_of
from origin.vod.addresses import PREFIX, Address, Kind, clip_of, find_address
from origin.vod.answer_cache import AnswerCache, CachedContent, Content
from origin.vod.cache_control import VodCaching
from origin.vod.contents import NO_MAKERS, MediaMakers, VodContents
from origin.vod.film_lookups import AwaitedFilm, FilmLookups, Opened
from origin.vod.segment_cache import CachedSegment, SegmentCache, VodCacheLimits, metadata_of
from packager.library.folder_state import FolderGoneError
from packager.library.local_storage import LocalFile, NotFoundError
from packager.library.storage_interface import FileChangedError, Identity, LibraryFile
from packager.reader_guard import ReaderGuard
from packager.transient_errors import NotReadyError
from packager.vod import FilmSegment, IFrameFile, OpenMedia, ShortReadError, Titles
from packager.vod.movie.versioned_addresses import version_of
from packager.vod.segments.clip import ClipError

log = structlog.get_logger()

PICTURE_RETRY_SECONDS = 2
"""Retry-After of a sprite that isn't made yet."""

QUICK_BYTES = 1 << 18
"""Most bytes of a content whose entity-tag is computed on the event loop."""

CLOSED_FILM = "the film of this clip needs a token, and the playlist none"

I_FRAMES = "iframes"
"""The part of an entity-tag that stands for a track's I-frames in place of a segment's name."""

REFUSALS = (NotFoundError, NotReadyError, ClipError, MediaError, ShortReadError, OSError)
"""Errors for which a request is refused with a reason."""


class VodHandler:
    """Answers requests for playlists, manifests, segments, subtitles and thumbnails of films; see `Handler`.

    Args:
        max_age: seconds for which caches may keep media whose addresses have no version.
        open_files: the films that are open, by their own addresses; None: none stays open.
        answers: playlists, manifests and init segments that were sent of late.
        segments: limits of what is kept of segments.
        makers: make the media that films lack.

    Attributes:
        may_include: returns whether a playlist of clips may have parts of a film, by their paths.
    """

    def __init__(
        self,
        titles: Titles,
        max_age: int = 3600,
        open_files: OpenFileCache | None = None,
        answers: AnswerCache | None = None,
        segments: VodCacheLimits | None = None,
        makers: MediaMakers = NO_MAKERS,
    ) -> None:
        self.may_include: Callable[[str, str], bool] = lambda _sequence, _film: True
        self._titles = titles
        self._caching = VodCaching(max_age)
        self._contents = VodContents(titles, self._caching, makers)
        self._files = OpenFileCache(0) if open_files is None else open_files
        self._answers = AnswerCache(VodCacheLimits(answers=0)) if answers is None else answers
        self._limits = segments or VodCacheLimits()
        self._segments = SegmentCache(self._limits)
        self._lookups = FilmLookups(titles, self._files)

    def handle(self, request: Request) -> Reply | Pending | None:
        """Return the reply of what is known, or make it in a thread; None for what is no address of VOD."""
        address = find_address(request.target)
        if address is None:
            return None
        if (clip := clip_of(address)) is not None:
            return PendingTask(self._of_clip(request, address, *clip))
        if address.is_of_film:
            return self._film_media(request, address)
        if not self._contents.has(address):
            return None
        try:
            target = address.content_target
        except ClipError as error:
            return refusal_of(request, address, error)
        cached = self._answers.find(target)
        if cached is not None:
            return self._cached_reply(request, cached)
        return PendingTask(self._make(request, address, target))

    async def _of_clip(self, request: Request, address: Address, sequence: str, wanted: str) -> Reply:
        """Reply with what a playlist of clips names of a film, at the playlist's own address."""
        key = b"clip", address.target
        try:
            threads = self._titles.threads.of(network_of(request.client), key)
            film = await threads.run(self._titles.film_of_clip, sequence, wanted)
        except REFUSALS as error:
            return refusal_of(request, address, error)
        if not self.may_include(sequence, film):
            return refusal(request, 403, 0, CLOSED_FILM)
        own = find_address(f"{PREFIX}{quote(film)}/{wanted.partition('/')[2]}".encode())
        if own is None or not (own.is_of_film or self._contents.has(own)):
            return self.absent(request)
        return await (self._read(request, own) if own.is_of_film else self._make(request, own, own.target))

    def absent(self, request: Request) -> Reply:
        """Return the refusal of a request for what is no address of VOD."""
        return refusal(request, 404, ABSENT_FILE_SECONDS)

    def _cached_reply(self, request: Request, cached: CachedContent) -> Reply | Pending:
        """Return the reply with a content; one that takes long to compress is made in a thread."""
        content = cached.content
        coded = content.is_text and request.takes_gzip
        is_plain = request.is_plain
        if is_plain and (reply := cached.replies.get(coded)) is not None:
            return reply
        if coded and not gzip_cache.is_quick((content.data,)):
            return PendingTask(self._in_thread(request, content))
        reply = content_reply(request, content)
        if is_plain and reply.source is None:
            cached.replies[coded] = reply
        return reply

    async def _make(
        self, request: Request, address: Address, target: bytes, *, is_second: bool = False
    ) -> Reply:
        """Make a content in threads, once for all requests that wait for the same, and keep it.

        Args:
            target: the address with what the content depends on.
            is_second: whether a file was replaced while it was made before.
        """
        try:
            content = await self._contents.make(address, request.client)
            self._answers.keep(target, content)
            if content.is_text or len(content.data) > QUICK_BYTES:
                return await self._in_thread(request, content)
        except FileChangedError as error:
            if is_second:
                return refusal_of(request, address, error)
            return await self._make(request, address, target, is_second=True)
        except REFUSALS as error:
            return refusal_of(request, address, error)
        return content_reply(request, content)

    async def _in_thread(self, request: Request, content: Content) -> Reply:
        """Reply with a content that is compressed in a thread, once for all who wait for it."""
        coded = content.is_text and request.takes_gzip
        key = "coded", id(content.data), coded
        await self._titles.threads.of(network_of(request.client), key).run(_code, content, coded=coded)
        return content_reply(request, content)

    def _film_media(self, request: Request, address: Address) -> Reply | Pending:
        if not self._files.is_enabled:
            return PendingTask(self._read(request, address))
        network = network_of(request.client)
        film = self._lookups.find(address, network)
        if film is None:
            return AwaitedFilm(self._lookups, address, network, partial(self._from_film, request, address))
        return self._known(request, address, film) or PendingTask(self._read(request, address))

    def _from_film(self, request: Request, address: Address, film: Opened) -> Reply | Pending:
        """Decide the reply when a film was opened, or couldn't be."""
        if isinstance(film, SharedFile):
            reply = self._known(request, address, film)
            if reply is not None:
                return reply
        elif isinstance(film, Exception) and not isinstance(film, MediaError | FileChangedError):
            return refusal_of(request, address, film)
        # A film that can't be packaged could also be another version than the wanted one.
        return PendingTask(self._read(request, address))

    def _known(self, request: Request, address: Address, film: SharedFile) -> Reply | None:
        """Return the reply with a segment that is made without a thread; None where that could take long."""
        file = film.file
        key = SegmentKey(file.identity, address.track, address.version, address.numbers)
        cached = self._segments.find(key) or self._add(key, file, address)
        if cached is None or not self._is_short(cached, request.span):
            return None
        copy = self._segments.copy_of(key, cached, file.fd)
        if copy is None:
            film.acquire()
            return cached.from_film.reply(request, film)
        repeat = RepeatedSegment(self._files, self._segments, address.film_target, key)
        return cached.from_copy.reply(request, copy, repeat)

    def _add(self, key: SegmentKey, file: LocalFile, address: Address) -> CachedSegment | None:
        """Keep a segment that is asked for, or all I-frames. Nothing refers to the index, which may go."""
        track, version = address.track, address.version
        media: FilmSegment | IFrameFile | None = None
        if address.kind is Kind.SEGMENT:
            number, bounds = address.numbers[0], address.bounds
            media = self._titles.segments.known(file, track, number, bounds, version=version)
        elif address.kind is Kind.I_FRAMES:
            media = self._titles.pictures.known_i_frames(file, track, version=version)
        if media is None:
            return None
        metadata = metadata_of(media, file, name_of(address), time.time())
        return self._segments.add(key, media, metadata, self._cache_control(address, file))

    def _cache_control(self, address: Address, film: LibraryFile) -> str:
        return self._contents.lifetime(address.version, version_of(film.identity)).cache_control

    def _is_short(self, known: CachedSegment, span: Span | None) -> bool:
        """Return whether the wanted bytes can be put together at once: not too many I-frames."""
        if not isinstance(known.segment, IFrameFile):
            return True
        part = None if span is None else select_span(span, known.segment.size)
        if part is None:
            return False
        return known.segment.count(part.first, part.length) <= self._limits.i_frames_at_once

    async def _read(self, request: Request, address: Address, *, is_second: bool = False) -> Reply:
        """Make a segment or I-frames in a thread, which are also read in threads while they are sent.

        Args:
            is_second: whether the film was replaced before anything of it was read.
        """
        try:
            opened = await self._opened(address, request.client)
            metadata = metadata_of(opened.media, opened.file, name_of(address), time.time())
            headers = ((b"cache-control", self._cache_control(address, opened.file).encode("ascii")),)
            threads = opened.file.threads.of(network_of(request.client))
            source = ThreadSource(opened.read, opened.close, threads)
            reply = RepresentationReplies(metadata, headers, time.time()).reply(request, source)
            return await with_first_bytes(reply)
        except FileChangedError as error:
            if is_second:
                return refusal_of(request, address, error)
            return await self._read(request, address, is_second=True)
        except REFUSALS as error:
            return refusal_of(request, address, error)

    async def _opened(self, address: Address, client: str) -> OpenMedia:
        """Open media in a thread; networks take turns with those of clips, which may have long heads."""
        network = network_of(client)
        with ReaderGuard(address.film):
            threads = self._titles.threads.of(network)
            if address.bounds is not None:
                threads = await self._titles.threads_for_clips(address.film, network)
            return await threads.opened(open_media, self._titles, address)


class SegmentKey(NamedTuple):
    """The identity of a segment among those of all films.

    Attributes:
        version: in the address; None without.
        numbers: of the segment; none for all I-frames.
    """

    film: Identity
    track: str
    version: str | None
    numbers: tuple[int, ...]


class RepeatedSegment:
    """Answers further requests for a segment from its copy, while its film is the one at its address.

    Neither the film nor the copy is held, which may go at any time; see `Repeatable`.
    """

    __slots__ = ("_files", "_film_target", "_key", "_segments")

    def __init__(
        self, files: OpenFileCache, segments: SegmentCache, film_target: bytes, key: SegmentKey
    ) -> None:
        self._files = files
        self._segments = segments
        self._film_target = film_target
        self._key = key

    def current(self) -> tuple[RepresentationHead, MemfdCopy] | None:
        """Return the head and the copy, while the film is the same and the segment has a copy."""
        opened = self._files.fresh(self._film_target)
        if opened is None or opened.shared.file.identity != self._key.film:
            return None
        cached = self._segments.copied(self._key)
        return None if cached is None or cached.copy is None else (cached.from_copy.head, cached.copy)


def open_media(titles: Titles, address: Address) -> OpenMedia:
    """Open the film of an address, and make the segment or find the I-frames; it blocks."""
    file = titles.files.open(address.film)
    try:
        if address.kind is Kind.SEGMENT:
            find = partial(titles.segments.of, file, address.track, address.numbers[0])
        else:
            find = partial(titles.pictures.i_frames, file, address.track)
        return find(address.bounds, version=address.version)
    except BaseException:
        file.close()
        raise


def name_of(address: Address) -> str:
    """Return what tells media from others of the same film."""
    kind = address.track if address.kind is Kind.SEGMENT else I_FRAMES
    return "-".join((kind, *map(str, address.numbers)))


def _code(content: Content, *, coded: bool) -> None:
    """Compute the entity-tag of a content, and compress it; both are kept for its replies. Blocks."""
    gzip_cache.tag((content.data,))
    if coded:
        gzip_cache.gzip((content.data,))


def content_reply(request: Request, content: Content) -> Reply:
    """Return the reply with a content, which is compressed if that takes no time, or was done before."""
    data, media_type, lifetime, is_text, _ = content
    if not is_text:
        return media_reply(request, data, media_type, gzip_cache.tag((data,)), lifetime.cache_control)
    return text_reply(
        request,
        (data,),
        media_type,
        lifetime.max_age,
        coded=request.takes_gzip,
        immutable_tag=gzip_cache.tag((data,)) if lifetime.is_immutable else None,
    )


def refusal_of(request: Request, address: Address, error: Exception) -> Reply:
    """Return the refusal with the reason of an error; raise an error that gives no reason to refuse."""
    if isinstance(error, NotFoundError):
        return refusal(request, 404, ABSENT_FILE_SECONDS)
    if isinstance(error, NotReadyError):
        # Players don't ask for a picture twice; other clients may overtake the making of many.
        return refusal(request, 503, 0, "Not ready yet", retry_after=PICTURE_RETRY_SECONDS)
    if isinstance(error, ClipError):
        return refusal(request, 400, ABSENT_FILE_SECONDS, str(error))
    if isinstance(error, (MediaError, ShortReadError)):
        # RFC 9110 §15.5.16, §15.5.21: of a kind that isn't supported, or of the right kind but wrong
        supported = isinstance(error, TooLargeError) or not isinstance(error, UnsupportedError)
        reason = f"{address.film} can't be packaged: {error}"
        return refusal(request, 422 if supported else 415, ABSENT_FILE_SECONDS, reason)
    if isinstance(error, FolderGoneError):
        return refusal(request, 503, 0, FOLDER_GONE, retry_after=FOLDER_RETRY_SECONDS)
    if isinstance(error, OSError):
        # How long others make a request wait is no fault of the film, and clients may cause it at will.
        write = log.info if isinstance(error, TimeoutError) else log.error
        write("a film can't be read", path=address.film, reason=str(error))
        return refusal(request, 503, 0, retry_after=READING_RETRY_SECONDS)
    raise error
