"""Publishing to a live channel in many HTTP requests, below ``/live/CHANNEL/ingest/``: DASH-IF live ingest.

A request has a whole track (CMAF ingest), or a segment, as ffmpeg's muxers of DASH and HLS send it with
``-method PUT``. Playlists and manifests are read for their end alone; nothing is kept that could be deleted.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable, Iterator

from starlette.requests import Request
from starlette.responses import Response

from media.errors import MediaError, TooLargeError
from media.mp4.fragments.cmaf_ingest import TrackUploads, UnknownTrackError, UploadedPiece, UploadReader
from origin.access.authentication import client_address
from origin.access.authorization import Authorization
from origin.http1.application_exchange import take_slowly
from origin.ingest.admission import IngestAdmission, RefusalReason, RefusedError
from origin.ingest.limits import FRAGMENT_SECONDS, IngestLimits
from origin.ingest.publishing_endpoint import PublishedBody, PublishingEndpoint, refusal
from packager.concurrency import expire
from packager.reader_guard import ReaderGuard
from packager.sources.publication import Publication, PublicationEndedError
from packager.sources.published_source import TAKEN_OVER
from packager.step_budget import StepBudget

_ENDS = {".mpd": b'type="static"', ".m3u8": b"#EXT-X-ENDLIST"}
"""The mark of a stream's end in a manifest (ISO/IEC 23009-1 §5.3.1.2) or playlist (RFC 8216bis §4.4.3.4)."""

_Key = tuple[str, str, str]
"""The identity of a segmented stream: a channel, a client's address and a folder."""


UPLOAD_REQUESTS = 8
"""Most requests of one upload at once."""

FOLDERS_SECONDS = 2.0
"""Time from a stream's begin in which further folders of the encoder are its tracks."""

MANIFEST_BYTES = 1 << 20
"""Most bytes of an uploaded playlist or manifest."""


class SegmentedPublishing(PublishingEndpoint):
    """The ASGI endpoint of streams that come in many requests.

    Args:
        authorization: checks the keys of requests: each needs one.
    """

    def __init__(self, admission: IngestAdmission, authorization: Authorization) -> None:
        super().__init__(admission, authorization)
        self._streams = dict[_Key, _UploadedStream]()
        # The time of the newest segment of each stream whose place another publisher has taken.
        self._replaced = dict[_Key, float]()

    async def _handle_body(self, channel: str, request: Request, body: PublishedBody) -> Response:
        if request.method == "DELETE":
            return Response(status_code=204)
        try:
            await self._upload(channel, request, body)
        except UnknownTrackError as error:
            return refusal(412, str(error), self._limits)
        except PublicationEndedError as error:
            return refusal(409, str(error), self._limits)
        except TooLargeError as error:
            return refusal(413, str(error), self._limits)
        except MediaError as error:
            return refusal(415, f"not a stream that can be published: {error}", self._limits)
        except TimeoutError:
            return refusal(408, f"nothing came for {FRAGMENT_SECONDS:g} s", self._limits)
        return Response()

    async def _upload(self, channel: str, request: Request, body: PublishedBody) -> None:
        """Handle a request's body.

        Raises:
            RefusedError: there is no room for it.
            UnknownTrackError, MediaError, PublicationEndedError, TimeoutError: as ``_UploadedStream.carry``.
        """
        name: str = request.path_params["name"]
        folder, _, file = name.rpartition("/")
        key = channel, client_address(request), folder
        ending = next((text for extension, text in _ENDS.items() if file.endswith(extension)), None)
        if ending is not None:
            stream = self._streams.get(key)
            if await self._has_ending(body, ending) and stream is not None:
                stream.end("")
            return
        # Exempt from the limit for slow bodies: the stream has its own.
        take_slowly(request.scope, math.inf)
        if self._is_replaced(key):
            raise PublicationEndedError(TAKEN_OVER)
        stream = self._streams.get(key) or self._join(key, request) or await self._begin(key, request)
        await stream.carry(UploadReader(name), body)

    def _join(self, key: _Key, request: Request) -> _UploadedStream | None:
        """Find the stream that an encoder has just begun in a folder beside this one; None where it hasn't.

        Encoders begin all variants of a stream at once, and may give each a folder.
        """
        parent, agent = key[2].rpartition("/")[0], self._publisher_of(request).agent
        for (channel, address, folder), stream in self._streams.items():
            is_beside = (channel, address) == key[:2] and folder.rpartition("/")[0] == parent
            if is_beside and key[2] and folder and stream.agent == agent and stream.is_young:
                if len(self._keys_of(stream)) >= self._limits.uploads.tracks:
                    raise TooLargeError(f"more than {self._limits.uploads.tracks} tracks")
                self._streams[key] = stream
                return stream
        return None

    def _keys_of(self, stream: _UploadedStream) -> list[_Key]:
        return [key for key, one in self._streams.items() if one is stream]

    def _forget(self, stream: _UploadedStream) -> None:
        for key in self._keys_of(stream):
            del self._streams[key]

    async def _has_ending(self, body: PublishedBody, ending: bytes) -> bool:
        """Read a playlist or manifest, and return whether that is the last one."""
        text = bytearray()
        async with asyncio.timeout(FRAGMENT_SECONDS):
            while (data := await body.read()) is not None:
                text += data
                if len(text) > MANIFEST_BYTES:
                    raise TooLargeError(f"a playlist of more than {MANIFEST_BYTES} bytes")
        return ending in text

    async def _begin(self, key: _Key, request: Request) -> _UploadedStream:
        """Begin a stream with the first of its requests.

        Raises:
            RefusedError: there is no room for it.
        """
        channel, publisher = key[0], self._publisher_of(request)
        approval = await self._admission.approve(channel, publisher)
        if (meanwhile := self._streams.get(key) or self._join(key, request)) is not None:
            return meanwhile
        stream = _UploadedStream(self._limits, publisher.agent, self._forget)

        def dismiss(reason: str) -> None:
            for one in self._keys_of(stream):
                if reason == TAKEN_OVER and len(self._replaced) < self._limits.publishers:
                    self._replaced[one] = asyncio.get_running_loop().time()
            stream.on_dismissed(reason)

        stream.begin(self._admission.begin(channel, publisher, on_end=dismiss, approval=approval))
        self._streams[key] = stream
        return stream

    def _is_replaced(self, key: _Key) -> bool:
        """Return whether a stream goes on whose place another one has taken, which would lose it again.

        Muxers send their next segment in spite of a refusal. Once the other one has gone, or nothing came
        for as long as a stream may be silent, it is one that begins.
        """
        now, patience = asyncio.get_running_loop().time(), FRAGMENT_SECONDS
        self._replaced = {
            one: at
            for one, at in self._replaced.items()
            if now - at <= patience and self._admission.is_taken(one[0])
        }
        if key in self._replaced:
            self._replaced[key] = now
        return key in self._replaced


class _UploadedStream:
    """A stream that comes in many requests; it ends when none has brought anything for some time.

    Args:
        agent: the name that the encoder sends.
        forget: called with it at its end.
    """

    def __init__(self, limits: IngestLimits, agent: str, forget: Callable[[_UploadedStream], object]) -> None:
        self.agent = agent
        self._limits = limits
        self._forget = forget
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._uploads = TrackUploads(limits.uploads)
        self._publication: Publication | None = None
        self._waiting = set[asyncio.Timeout]()
        # The segments of a track come one behind the other, though on several connections.
        self._turns = dict[str, asyncio.Lock]()
        self._writing = asyncio.Lock()
        self._heard = self._loop.time()
        self._alarm: asyncio.TimerHandle | None = None
        self._has_ended = False

    @property
    def is_young(self) -> bool:
        """Whether the stream has just begun, so that more of its folders may come."""
        return self._loop.time() - self._began <= FOLDERS_SECONDS

    def begin(self, publication: Publication) -> None:
        """Start to watch the publication for pauses."""
        self._publication = publication
        self._watch()

    def end(self, reason: str) -> None:
        """End the publication, with the reason where the uploads can't be used; empty at their own end."""
        if self._publication is not None:
            self._publication.end(reason)
        self.on_dismissed(reason)

    def on_dismissed(self, _reason: str) -> None:
        """Release all requests, as the publication was ended."""
        if self._has_ended:
            return
        self._has_ended = True
        self._forget(self)
        if self._alarm is not None:
            self._alarm.cancel()
        for limit in self._waiting:
            expire(limit)

    def _watch(self) -> None:
        """End the stream once nothing has come for too long."""
        at = self._heard + FRAGMENT_SECONDS
        if at <= self._loop.time():
            self.end(f"nothing of a stream came for {FRAGMENT_SECONDS:g} s")
        else:
            self._alarm = self._loop.call_at(at, self._watch)

    async def carry(self, reader: UploadReader, body: PublishedBody) -> None:
        """Handle the body of a request.

        Raises:
            RefusedError: too many come at once.
            UnknownTrackError: the init segment of its track hasn't come.
            MediaError: it isn't a stream that can be published, which ends the stream.
            PublicationEndedError: the stream was ended.
            TimeoutError: no bytes of the body came.
        """
        if len(self._waiting) >= UPLOAD_REQUESTS:
            raise RefusedError(RefusalReason.TOO_MANY, "too many requests of this stream at once")
        try:
            async with asyncio.timeout(None) as limit, contextlib.AsyncExitStack() as turn:
                with self._registered(limit), ReaderGuard("uploads"):
                    await self._feed(reader, body, limit, turn)
            if not body.is_whole and not self._waiting:
                # Its connection broke, and it has no other one: the encoder has gone.
                self.end("")
        except TimeoutError:
            self._check()
            raise
        except UnknownTrackError:
            if not self._uploads.has_tracks:
                # So that a stream isn't waited for which nothing can begin.
                self.end("")
            raise
        except MediaError as error:
            self.end(f"not a stream that can be published: {error}")
            raise

    @contextlib.contextmanager
    def _registered(self, limit: asyncio.Timeout) -> Iterator[None]:
        self._waiting.add(limit)
        try:
            yield
        finally:
            self._waiting.discard(limit)

    async def _feed(
        self,
        reader: UploadReader,
        body: PublishedBody,
        limit: asyncio.Timeout,
        turn: contextlib.AsyncExitStack,
    ) -> None:
        """Handle a body when its track has its turn."""
        has_turn, budget = False, StepBudget()
        while True:
            limit.reschedule(self._loop.time() + FRAGMENT_SECONDS)
            data = await body.read()
            if data is None:
                return
            budget.restart()
            # Boxes without content take far longer than others of so many bytes.
            async for portion in budget.portions(data):
                pieces = reader.receive_data(portion)
                if not has_turn and reader.track is not None:
                    has_turn = True
                    await turn.enter_async_context(self._turn(reader.track))
                # Time for which it is made to wait doesn't count as its silence.
                limit.reschedule(None)
                for piece in pieces:
                    self._heard = self._loop.time()
                    await self._pass_on(reader.track or "", piece)

    def _turn(self, track: str) -> asyncio.Lock:
        if track not in self._turns and len(self._turns) >= 2 * self._limits.uploads.tracks:
            raise TooLargeError(f"more than {self._limits.uploads.tracks} tracks")
        return self._turns.setdefault(track, asyncio.Lock())

    async def _pass_on(self, track: str, piece: UploadedPiece) -> None:
        """Bring the channel what a piece of a track completes."""
        async with self._writing:
            for data in self._uploads.push(track, piece):
                if self._publication is not None:
                    await self._publication.receive_data(data)
                self._heard = self._loop.time()
        self._check()

    def _check(self) -> None:
        if self._has_ended and self._publication is not None:
            raise PublicationEndedError(self._publication.end_reason or "the stream was ended")
