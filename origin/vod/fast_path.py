"""The fast path for VOD: segments, and answers that were given of late.

A film that isn't open, or is due to be looked up again, is opened in a thread, once for all who ask. Whoever
can be answered by what is still valid doesn't wait for it.
"""

from __future__ import annotations

import asyncio
import functools
import re
import time
import urllib.parse
from collections.abc import Callable, Hashable
from typing import NamedTuple

import structlog

from media.errors import MediaError
from origin.files.open_files import OpenFileCache, SharedFile
from origin.http.answer import Headers
from origin.http.byte_ranges import SelectedRange, Span, select_span
from origin.http1.access_log import AccessLog
from origin.http1.fast_path import HEADS_KEPT, Again, AnsweringConnection, FastAnswer, encoded
from origin.http1.request_head import PlainFields, RequestLine
from origin.responses import gzip_cache
from origin.responses.media_responses import (
    RequestTraits,
    ResponseFrame,
    init_reply,
    reply_from_response,
    text_reply,
)
from origin.responses.memfd_cache import MemfdCopy
from origin.responses.prebuilt_headers import TemplatedRepresentation
from origin.responses.refusal import READING_RETRY_SECONDS, unavailable
from origin.vod.answer_cache import AnswerCache, CachedInitSegment, Text
from origin.vod.cache_control import VodCaching
from origin.vod.segment_cache import CachedSegment, SegmentCache, SegmentCacheLimits
from origin.vod.segment_responses import I_FRAMES, metadata_of
from packager.library.local_storage import LocalFile, NotFoundError
from packager.library.storage_interface import Identity, LibraryFile
from packager.vod import IFrameFile, Titles
from packager.vod.movie.versioned_addresses import version_of

log = structlog.get_logger()

AREA = "vod"
"""Where requests for VOD are counted."""

_TEXT_FOLDER = b"/subtitles"

_SEGMENT = re.compile(
    rb"(/vod/[^?]+)/([a-z0-9-]+)/(?:v_([0-9a-z]+)/)?"
    rb"(?:((0|[1-9][0-9]{0,7})(?:-(0|[1-9][0-9]{0,17})-([1-9][0-9]{0,17}))?)\.m4s|iframes\.mp4)"
)
"""A film, a track, perhaps a version, and a segment: its number, and of a trimmed one when it lasts."""


class VodService(NamedTuple):
    """The services from which the fast path for VOD answers.

    Attributes:
        open_files: the files that segments are sent from, by the path of their addresses.
        answers: playlists, manifests and init segments that were sent of late.
        caching: for how long caches may keep segments.
    """

    titles: Titles
    open_files: OpenFileCache
    answers: AnswerCache
    caching: VodCaching


class VodFastPath:
    """Answers plain requests for segments, playlists, manifests and init segments without ASGI.

    Args:
        service: what they are served from.
        headers: raw header fields that the server gives every such answer.
        limits: what is kept of segments.
    """

    def __init__(
        self,
        service: VodService,
        access_log: AccessLog,
        headers: Headers,
        limits: SegmentCacheLimits | None = None,
    ) -> None:
        self.access_log = access_log
        self.common_headers = encoded(headers)
        self._titles = service.titles
        self._files = service.open_files
        self._answers = service.answers
        self._caching = service.caching
        self._lookups: dict[bytes, list[AwaitedSegmentAnswer]] = {}
        self._limits = limits or SegmentCacheLimits()
        self._segments = SegmentCache(self._limits, tuple(headers))

    def find(self, request: RequestLine, fields: PlainFields, span: Span | None) -> FastAnswer | None:
        """Find the answer to a request; None where it has to be looked up. See `Responder`."""
        match = _SEGMENT.fullmatch(request.target)
        if match is not None:
            return self._segment(match, request, fields, span)
        if span is not None or fields.has_range or fields.is_conditional or request.method != "GET":
            return None
        content = self._answers.find(request.target)
        if content is None:
            return None
        coded = isinstance(content, Text) and _takes_gzip(fields)
        if coded and not gzip_cache.is_quick((content.data,)):
            return None
        return CachedAnswer(request, self, content, coded=coded)

    def _segment(
        self, match: re.Match[bytes], request: RequestLine, fields: PlainFields, span: Span | None
    ) -> SegmentAnswer | None:
        film = match[1]
        # These are segments of text, which the application writes.
        if not self._files.is_enabled or film.endswith(_TEXT_FOLDER):
            return None
        cached = self._files.find(film)
        if cached is None:
            waiting = self._look_up(film)
            cached = self._files.find(film)
            if cached is None:
                find = functools.partial(self._wanted, match, fields, span)
                return AwaitedSegmentAnswer(request, self, find, waiting)
        wanted = self._wanted(match, fields, span, cached.shared)
        return None if wanted is None else SegmentAnswer(request, self, wanted)

    def copied(self, film: bytes, key: SegmentKey) -> CachedSegment | None:
        """Find a segment that has a copy, as long as its film is the one that is open under an address."""
        opened = self._files.fresh(film)
        if opened is None or opened.shared.file.identity != key.film:
            return None
        return self._segments.copied(key)

    def _look_up(self, film: bytes) -> list[AwaitedSegmentAnswer]:
        """Have a film opened in a thread, unless it is being opened; return the answers that wait for it."""
        waiting = self._lookups.get(film)
        if waiting is None:
            waiting = self._lookups[film] = []
            name = urllib.parse.unquote(film.removeprefix(b"/vod/").decode("ascii"))
            opening = self._titles.threads.submit(self._titles.open_indexed, name)
            opening.add_done_callback(functools.partial(self._looked_up, film, time.monotonic()))
        return waiting

    def _looked_up(self, film: bytes, since: float, opening: asyncio.Future[LibraryFile]) -> None:
        """Keep a film that was opened, and let those who wait for it go on, each in a step of its own."""
        waiting = self._lookups.pop(film)
        error = asyncio.CancelledError() if opening.cancelled() else opening.exception()
        shared = None
        if error is None:
            file = opening.result()
            shared = self._files.share(film, file, "", (), since)
            if shared is None:
                file.close()
        elif not isinstance(error, NotFoundError | MediaError | OSError | asyncio.CancelledError):
            log.error("film_not_opened", film=film.decode("ascii"), error=repr(error))
        loop = opening.get_loop()
        is_late = isinstance(error, TimeoutError)
        if is_late:
            log.error("vod_unreadable", path=film.decode("ascii"), error=str(error))
        for answer in waiting:
            # The application would wait as long once more.
            loop.call_soon(*((answer.come_again,) if is_late else (answer.go_on, shared)))
        if shared is not None:
            # However long they take, the film isn't looked up again for these.
            loop.call_soon(shared.release)

    def _wanted(
        self, match: re.Match[bytes], fields: PlainFields, span: Span | None, film: SharedFile
    ) -> WantedSegment | None:
        file = film.file
        key = SegmentKey(file.identity, match[2], match[3], match[4])
        known = self._segments.find(key) or self._add(key, file, match)
        if known is None or not self._is_short(known, span):
            return None
        copy = self._segments.copy_of(key, known, file.fd)
        if copy is None:
            return WantedSegment(known.from_file, film, fields, span)
        return WantedSegment(known.from_copy, copy, fields, span, (match[1], key))

    def _add(self, key: Hashable, file: LocalFile, match: re.Match[bytes]) -> CachedSegment | None:
        """Keep a segment that is asked for, or all I-frames. Nothing refers to the index, which may go."""
        track, now = match[2].decode("ascii"), time.time()
        version = None if match[3] is None else match[3].decode("ascii")
        settled = None if version is None else version_of(file.identity).is_settled(now)
        cache_control = self._caching.media(settled).cache_control
        if match[4] is None:
            frames = self._titles.known_i_frames(file, track, version=version)
            if frames is None:
                return None
            metadata = metadata_of(frames, I_FRAMES, video=True, now=now)
            return self._segments.add(key, frames.frames, metadata, cache_control)
        bounds = None if match[6] is None else (int(match[6]), int(match[7]))
        opened = self._titles.known_segment(file, track, int(match[5]), bounds, version=version)
        if opened is None:
            return None
        metadata = metadata_of(opened, f"{track}-{match[4].decode('ascii')}", opened.track.video, now)
        return self._segments.add(key, opened.segment, metadata, cache_control)

    def _is_short(self, known: CachedSegment, span: Span | None) -> bool:
        """Say whether what is asked for can be put together while others wait: not too many I-frames."""
        if not isinstance(known.segment, IFrameFile):
            return True
        part = None if span is None else select_span(span, known.segment.size)
        if part is None:
            return False
        return known.segment.count(part.first, part.length) <= self._limits.i_frames_at_once


@functools.lru_cache(maxsize=HEADS_KEPT)
def _takes_gzip(fields: PlainFields) -> bool:
    return RequestTraits.from_headers(fields.fields).takes_gzip


class SegmentKey(NamedTuple):
    """The identity of a segment among those of all films.

    Attributes:
        version: in the address; None without.
        name: of the segment; None: all I-frames.
    """

    film: Identity
    track: bytes
    version: bytes | None
    name: bytes | None


class WantedSegment(NamedTuple):
    """The parsed request for a segment.

    Attributes:
        source: the film, or the copy, that it is sent from.
        span: the parsed Range field, if it isn't among them.
        copied: the film's address and the segment's key, where it is sent from a copy.
    """

    segment: TemplatedRepresentation
    source: SharedFile | MemfdCopy
    fields: PlainFields
    span: Span | None
    copied: tuple[bytes, SegmentKey] | None = None


class SegmentAnswer(FastAnswer):
    """A response with a segment that is sent from its file.

    Args:
        fast_path: the fast path that made it.
        wanted: what is asked for; None: that isn't found yet.
    """

    __slots__ = ("_fast_path", "_held", "_wanted")

    def __init__(self, request: RequestLine, fast_path: VodFastPath, wanted: WantedSegment | None) -> None:
        super().__init__(request, fast_path.access_log, AREA)
        self._fast_path = fast_path
        self._wanted = wanted
        self._held: SharedFile | None = None

    def begin(self, line: AnsweringConnection) -> None:
        """Send the response; the file stays open until its end."""
        if self._wanted is not None:
            self._send(line, self._wanted)

    def _send(self, line: AnsweringConnection, wanted: WantedSegment) -> None:
        segment, source, fields, span, _ = wanted
        if isinstance(source, SharedFile):
            source.acquire()
            self._held = source
        fd = source.file.fd if isinstance(source, SharedFile) else source.fd
        line.reply(self, segment.reply(self.request.method, fields, span, line.fields(self), fd))

    def ended(self, status: int, sent: int, line: AnsweringConnection) -> None:
        """Release the file, and count the response."""
        if self._held is not None:
            self._held.release()
            self._held = None
        super().ended(status, sent, line)

    def for_all(self, data: bytes) -> RepeatedSegmentRequest | None:
        """Return what answers the same request of other clients, byte for byte."""
        wanted = self._wanted
        if wanted is None or wanted.copied is None or self.request.method != "GET":
            return None
        has_conditions = wanted.fields.is_conditional or wanted.fields.has_range or wanted.span is not None
        # A repeat knows of no log.
        if has_conditions or self._access_log.log_requests:
            return None
        return RepeatedSegmentRequest(self._fast_path, self.request, wanted, data)


class RepeatedSegmentRequest:
    """A request for a whole segment that many players send byte for byte.

    It holds neither film nor copy, which may go at any time; the request is answered in another way then.

    Args:
        fast_path: the fast path that answered it.
        request: the request's first line.
        data: the whole head of the request.
    """

    __slots__ = ("_counter", "_data", "_fast_path", "_fields", "_film", "_key", "_request", "status")

    def __init__(
        self, fast_path: VodFastPath, request: RequestLine, wanted: WantedSegment, data: bytes
    ) -> None:
        if wanted.copied is None:
            raise ValueError("the segment has no copy")
        self.status = 200
        self._fast_path = fast_path
        self._request = request
        self._fields = wanted.fields
        self._film, self._key = wanted.copied
        self._data = data
        self._counter = fast_path.access_log.counter(AREA, self.status)

    def reply(self, data: bytes, common: bytes) -> Again | None:
        """Answer it, as long as its film is the same and the segment has a copy; see `RepeatedRequest`."""
        if data != self._data:
            return None
        cached = self._fast_path.copied(self._film, self._key)
        if cached is None or (copy := cached.copy) is None:
            return None
        return cached.from_copy.template.whole(common), 0, copy.span.last, copy.fd

    def count(self, length: int) -> None:
        """Count an answer that is sent."""
        self._counter.add(length)

    def answer(self, part: SelectedRange) -> SegmentAnswer:
        """Make the last answer one that goes on, and holds its copy."""
        del part
        cached = self._fast_path.copied(self._film, self._key)
        if cached is None or cached.copy is None:
            raise RuntimeError("there was no answer")
        wanted = WantedSegment(cached.from_copy, cached.copy, self._fields, None, (self._film, self._key))
        return SegmentAnswer(self._request, self._fast_path, wanted)


class AwaitedSegmentAnswer(SegmentAnswer):
    """A response with a segment of a film that is being opened; if that fails, the application says why.

    That others took too long is said here.

    Args:
        fast_path: the fast path that made it.
        find: finds what is asked for in the film, once that is open.
        waiting: the answers that wait for the film.
    """

    __slots__ = ("_find", "_line", "_waiting")

    may_decline = True

    def __init__(
        self,
        request: RequestLine,
        fast_path: VodFastPath,
        find: Callable[[SharedFile], WantedSegment | None],
        waiting: list[AwaitedSegmentAnswer],
    ) -> None:
        super().__init__(request, fast_path, None)
        self._find = find
        self._waiting = waiting
        self._line: AnsweringConnection | None = None

    def begin(self, line: AnsweringConnection) -> None:
        """Wait for the film."""
        self._line = line
        self._waiting.append(self)

    def hang_up(self) -> None:
        """Wait no more, because the client has gone."""
        self._line = None
        super().hang_up()

    def go_on(self, film: SharedFile | None) -> None:
        """Send the response, or leave it to the application: the film was opened, or it can't be."""
        line, self._line = self._line, None
        if line is None:
            return
        try:
            self._wanted = None if film is None else self._find(film)
            if self._wanted is None:
                line.decline(self)
            else:
                self._send(line, self._wanted)
        except Exception:  # it concerns this request alone
            line.fail(self)
            log.exception("answer failed", path=self.path)

    def come_again(self) -> None:
        """Say that the film can't be read now."""
        line, self._line = self._line, None
        if line is None:
            return
        frame = ResponseFrame(line.fields(self), self._fast_path.common_headers)
        reply = reply_from_response(unavailable(READING_RETRY_SECONDS), frame)
        if self.request.method == "HEAD":
            reply = reply._replace(pieces=reply.pieces[:1], body_bytes=0)
        line.reply(self, reply)


class CachedAnswer(FastAnswer):
    """A response with a playlist, a manifest or an init segment from memory.

    Args:
        fast_path: the fast path that made it.
        coded: whether it is sent compressed.
    """

    __slots__ = ("_coded", "_content", "_fast_path")

    def __init__(
        self, request: RequestLine, fast_path: VodFastPath, content: Text | CachedInitSegment, *, coded: bool
    ) -> None:
        super().__init__(request, fast_path.access_log, AREA)
        self._fast_path = fast_path
        self._content = content
        self._coded = coded

    @property
    def common_headers(self) -> bytes:
        """Header lines of all answers for VOD."""
        return self._fast_path.common_headers

    def begin(self, line: AnsweringConnection) -> None:
        """Send the response."""
        frame = ResponseFrame(line.fields(self), self._fast_path.common_headers)
        data, media_type, lifetime = self._content
        if isinstance(self._content, CachedInitSegment):
            line.reply(self, init_reply(data, media_type, lifetime.cache_control, frame))
            return
        tag = gzip_cache.tag((data,)) if lifetime.is_immutable else None
        reply = text_reply((data,), media_type, lifetime.max_age, frame, coded=self._coded, immutable_tag=tag)
        line.reply(self, reply)
