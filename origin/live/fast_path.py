"""Answers for live channels on the connection: a playlist or media, now or once it is there."""

from __future__ import annotations

import abc
import functools
import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import structlog

from media.hls.media_playlist import MEDIA_TYPE
from origin.http.answer import Headers
from origin.http.byte_ranges import SelectedRange, Span
from origin.http.client_limits import UNLIMITED, ClientLimit
from origin.http1.access_log import AccessLog
from origin.http1.fast_path import (
    HEADS_KEPT,
    Again,
    AnsweringConnection,
    FastAnswer,
    Reply,
    ResponseTemplate,
    encoded,
)
from origin.http1.request_head import PlainFields, RequestLine
from origin.live.directives import CARRIED, DirectiveError, Directives
from origin.live.dvr_segments import media_tag
from origin.live.part_waits import PartWait
from origin.live.playlist_request import Reload, may_be_elsewhere, not_found_max_age, read_query
from origin.live.rendition_file_names import (
    RenditionFile,
    RenditionFileKind,
    cache_control,
    media_type,
    read_name,
)
from origin.live.routes import refusal
from origin.responses.media_responses import (
    LatestReply,
    RequestTraits,
    ResponseFrame,
    media_template,
    reply_from_response,
    text_reply,
)
from origin.responses.memfd_cache import MemfdCache, MemfdCopy, MemfdLimits
from packager.publish.hls import RenderingError
from packager.publish.live_stream import LiveStream
from packager.window.rendition import Rendition
from packager.window.waiters import TooManyWaitersError

PLAYLIST = "media.m3u8"

TARGETS_KEPT = 1024
"""How many request targets are kept with what they ask for: many ask for the same."""

_TARGET = re.compile(
    rb"/live/([A-Za-z0-9._~-]+)/([A-Za-z0-9._~-]+)/([A-Za-z0-9._~-]+)(?:\?([A-Za-z0-9\-._~!$&'()*+,;=:@%/?]*))?"
)


@functools.lru_cache(maxsize=TARGETS_KEPT)
def _read_target(target: bytes, carried: tuple[str, ...]) -> RequestTarget | None:
    found = _TARGET.fullmatch(target)
    if found is None:
        return None
    stream, rendition, name = (found[at].decode("ascii") for at in (1, 2, 3))
    named, wanted = read_name(name), None
    if name == PLAYLIST:
        try:
            wanted = read_query(found[4] or b"", carried)
        except DirectiveError:
            return None
    elif named.kind is RenditionFileKind.NOTHING:
        return None
    return RequestTarget(stream, rendition, name, named, wanted)


@functools.lru_cache(maxsize=HEADS_KEPT)
def _player_request(fields: PlainFields) -> PlayerRequest:
    asked = RequestTraits.from_headers(fields.fields)
    return PlayerRequest(asked.takes_gzip, zlib.crc32(asked.agent))


class LiveFastPath:
    """Answers requests for live channels.

    Args:
        streams: by name; may change while serving.
        headers: raw header fields that the server gives every such answer.
        carried: names of the query parameters that go onto the addresses in playlists.
        blocked: how many requests of one client may wait at once.
        memfd: how much of what several ask for is copied for the kernel.
    """

    def __init__(
        self,
        streams: Mapping[str, LiveStream],
        access_log: AccessLog,
        headers: Headers,
        carried: tuple[str, ...] = CARRIED,
        blocked: ClientLimit = UNLIMITED,
        memfd: MemfdLimits | None = None,
    ) -> None:
        self._streams = streams
        self._carried = carried
        self._service = LiveService(streams, access_log, encoded(headers), MemfdCache(memfd), blocked=blocked)

    def find(self, request: RequestLine, fields: PlainFields, span: Span | None) -> LiveAnswer | None:
        """Find the answer to a plain request for a playlist or for media; see `Responder`."""
        if span is not None or fields.has_range or fields.is_conditional or request.method != "GET":
            return None
        asked = _read_target(request.target, self._carried)
        stream = None if asked is None else self._streams.get(asked.stream)
        if asked is None or stream is None or not stream.ready:
            return None
        rendition = stream.renditions.get(asked.rendition)
        if rendition is None:
            return None
        player_request = _player_request(fields)
        if asked.wanted is not None:
            reload = Reload(stream, rendition, asked.wanted)
            if reload.is_sent_in_steps():
                return None
            return PlaylistAnswer(request, self._service, reload, player_request)
        named = asked.named.of(rendition.window)
        data = named.in_memory(rendition.window)
        if data is None and not (named.kind is RenditionFileKind.PART and _is_next(rendition, named)):
            return None
        media = RequestedMedia(stream, rendition, asked, data)
        return MediaAnswer(request, self._service, media, coded=player_request.coded)


def _is_next(rendition: Rendition, named: RenditionFile) -> bool:
    window = rendition.window
    return not window.ended and window.next_part == (named.number, named.index)


log = structlog.get_logger()

AREA = "live"
"""Where requests for live channels are counted."""


@dataclass(frozen=True, slots=True)
class LiveService:
    """Everything that the fast answers of all live channels share.

    Attributes:
        streams: by name; may change while serving.
        common_headers: header lines that the server gives every answer.
        copies: what the kernel sends from.
        latest: the latest reply with a playlist.
        blocked: how many requests of one client may wait at once.
    """

    streams: Mapping[str, LiveStream]
    access_log: AccessLog
    common_headers: bytes
    copies: MemfdCache = field(default_factory=MemfdCache)
    latest: LatestReply = field(default_factory=LatestReply)
    blocked: ClientLimit = UNLIMITED


class RequestTarget(NamedTuple):
    """The channel, rendition and file that the target of a request for live media names.

    Attributes:
        named: what that stands for.
        wanted: the directives of a media playlist; None for media.
    """

    stream: str
    rendition: str
    name: str
    named: RenditionFile
    wanted: Directives | None


class RequestedMedia(NamedTuple):
    """Media that is asked for.

    Attributes:
        data: its bytes; None where they aren't in memory.
    """

    stream: LiveStream
    rendition: Rendition
    target: RequestTarget
    data: bytes | memoryview | None


class PlayerRequest(NamedTuple):
    """A player's header fields, parsed once, as it repeats them with every request.

    Attributes:
        coded: whether playlists may come compressed.
        agent: tells it from other players at its address.
    """

    coded: bool
    agent: int


class LiveAnswer(FastAnswer):
    """An answer that may have to wait for a part.

    Args:
        request: the request's first line.
        service: what all of them share.
        stream: of which channel it is.
        rendition: and of which rendition.
    """

    __slots__ = ("_counted", "_line", "_rendition", "_service", "_stream")

    def __init__(
        self, request: RequestLine, service: LiveService, stream: LiveStream, rendition: Rendition
    ) -> None:
        super().__init__(request, service.access_log, AREA)
        self._service = service
        self._stream = stream
        self._rendition = rendition
        # The client for whom this one is counted among those that wait.
        self._counted = ""
        self._line: AnsweringConnection

    def hang_up(self) -> None:
        """Stop waiting: the client has gone."""
        self._rendition.window.waiters.remove(self)
        super().hang_up()

    def ended(self, status: int, sent: int, line: AnsweringConnection) -> None:
        """Let another request of the client wait."""
        if self._counted:
            self._service.blocked.give_back(self._counted)
            self._counted = ""
        super().ended(status, sent, line)

    @property
    def common_headers(self) -> bytes:
        """Header lines of all answers for live channels."""
        return self._service.common_headers

    def begin(self, line: AnsweringConnection) -> None:
        """Reply or wait."""
        self._line = line
        self._attempt(self._begin)

    def release(self, holds: bool) -> None:
        """Reply: what was waited for has come, or else it doesn't in time."""
        self._attempt(lambda: self._answer(holds=holds))

    def _attempt(self, act: Callable[[], None]) -> None:
        """Call a function that replies, and reply with 500 where it fails."""
        try:
            act()
        except RenderingError:
            # The log has it, once for all who ask for it.
            self._refuse(500, 0)
        except Exception:
            self._line.fail(self)
            log.exception("answer failed", path=self.path)

    @abc.abstractmethod
    def _begin(self) -> None:
        """Reply at once, or wait."""

    @abc.abstractmethod
    def _answer(self, *, holds: bool) -> None:
        """Reply, whether what was waited for has come or doesn't in time."""

    def _wait(self, awaited: Reload | PartWait, max_age: int) -> None:
        waiters = self._rendition.window.waiters
        client = self.client_host or self._line.client_host or ""
        if not self._service.blocked.acquire(client):
            self._refuse(429, 0)
            return
        self._counted = client
        try:
            waiters.add(self, awaited.has_come, awaited.longest_wait, awaited.key)
        except TooManyWaitersError:
            self._refuse(503, max_age)

    def _frame(self) -> ResponseFrame:
        return ResponseFrame(self._line.fields(self), self._service.common_headers)

    def _refuse(self, status: int, kept: int, text: str = "") -> None:
        later = self._rendition.window.target_duration if status in (429, 503) else None
        self._line.reply(
            self, reply_from_response(refusal(status, kept, text, retry_after=later), self._frame())
        )


class PlaylistAnswer(LiveAnswer):
    """A media playlist, once it has what is asked for.

    Args:
        request: the request's first line.
        service: what all of them share.
    """

    __slots__ = ("_player_request", "_reload")

    def __init__(
        self, request: RequestLine, service: LiveService, reload: Reload, player_request: PlayerRequest
    ) -> None:
        super().__init__(request, service, reload.stream, reload.rendition)
        self._reload = reload
        self._player_request = player_request

    def _begin(self) -> None:
        """Count the viewer, and reply or wait."""
        reload = self._reload
        viewer = (self.client_host or self._line.client_host or "", self._player_request.agent)
        reload.stream.viewer_counter.note(viewer, self.started)
        try:
            reload.check()
        except DirectiveError as error:
            self._refuse(400, reload.too_early_max_age, str(error))
            return
        if reload.has_come():
            self._answer(holds=True)
        else:
            self._wait(reload, reload.error_max_age)

    def _answer(self, *, holds: bool) -> None:
        """Reply with the playlist, or that it doesn't come."""
        reload = self._reload
        if holds and reload.is_sent_in_steps():
            # What was waited for is the end, and all of a long playlist: asked for again, it comes in steps.
            self._refuse(503, 0)
        elif holds:
            text, kept = reload.render(), reload.max_age
            reply = self._service.latest.reply(
                text, MEDIA_TYPE, kept, self._frame(), coded=self._player_request.coded
            )
            self._line.reply(self, reply)
        else:
            self._refuse(503, reload.error_max_age)


class MediaAnswer(LiveAnswer):
    """A part, a segment or an init segment from memory; a part once it is complete.

    Args:
        request: the request's first line.
        service: what all of them share.
        media: what is asked for; where it has no bytes yet, they are waited for.
        coded: whether a text may come compressed.
    """

    __slots__ = ("_coded", "_copy", "_data", "_target")

    def __init__(
        self,
        request: RequestLine,
        service: LiveService,
        media: RequestedMedia,
        *,
        coded: bool,
    ) -> None:
        super().__init__(request, service, media.stream, media.rendition)
        self._coded = coded
        # What the kernel sends from, held until the end.
        self._copy: MemfdCopy | None = None
        self._data = media.data
        self._target = media.target

    def _begin(self) -> None:
        """Reply, or wait for the part."""
        if self._data is not None:
            self._line.reply(self, self._reply_with(self._data))
        else:
            window, named = self._rendition.window, self._target.named
            self._wait(PartWait(window, named.number, named.index), window.target_duration)

    def _answer(self, *, holds: bool) -> None:
        """Reply with the part, or that it hasn't come: whatever is waited for may pass without it."""
        del holds
        window, named = self._rendition.window, self._target.named
        data = named.in_memory(window)
        if data is not None:
            self._line.reply(self, self._reply_with(data))
        elif may_be_elsewhere(self._stream, window, named.number, named.index):
            self._refuse(503, 0)
        else:
            self._refuse(404, not_found_max_age(named.number, self._stream, window, window.target_duration))

    def hold(self, data: bytes | memoryview) -> MemfdCopy | None:
        """Keep the copy of what is sent until the end, if there is one."""
        copy = self._copy = self._service.copies.of(data)
        return copy

    def for_all(self, data: bytes) -> RepeatedMediaRequest | None:
        """Return what answers the same request of other clients, byte for byte."""
        # A repeat knows of no log, and has nothing to send from but copies.
        if self._copy is None or self._service.access_log.log_requests:
            return None
        return RepeatedMediaRequest(self._service, self.request, self._target, data)

    def _reply_with(self, data: bytes | memoryview) -> Reply:
        rendition, frame = self._rendition, self._frame()
        if rendition.language is not None:
            window, kind = rendition.window, media_type(rendition)
            text, kept, tag = (bytes(data),), int(window.retention), media_tag(self._target.name, len(data))
            return text_reply(text, kind, kept, frame, coded=self._coded, immutable_tag=tag)
        template = _media_template(self._target, rendition, data, self._service.common_headers)
        head, copy = template.whole(frame.common), self.hold(data)
        if copy is None:
            return Reply(200, (head, data), len(data))
        return Reply(200, (head, copy.span), len(data), len(data), copy.fd)


def _media_template(
    target: RequestTarget, rendition: Rendition, data: bytes | memoryview, common_headers: bytes
) -> ResponseTemplate:
    size, caching = len(data), cache_control(rendition.window)
    return media_template(size, media_type(rendition), media_tag(target.name, size), caching, common_headers)


class RepeatedMediaRequest:
    """A request for media that many players send byte for byte.

    It holds no media, which may leave memory at any time; the request is answered in another way then.

    Args:
        request: the request's first line.
        data: the whole head of the request.
    """

    __slots__ = ("_data", "_head", "_made_for", "_request", "_service", "_target", "status")

    def __init__(
        self, service: LiveService, request: RequestLine, target: RequestTarget, data: bytes
    ) -> None:
        self.status = 200
        # The answers' header, and the common fields that it was made with.
        self._head = self._made_for = b""
        self._data = data
        self._service = service
        self._request = request
        self._target = target

    def reply(self, data: bytes, common: bytes) -> Again | None:
        """Answer it, as long as its media is there and has a copy; see `RepeatedRequest`."""
        if data != self._data:
            return None
        found = self._find()
        if found is None or found.data is None or (copy := self._service.copies.of(found.data)) is None:
            return None
        if self._made_for is not common:
            template = _media_template(
                self._target, found.rendition, found.data, self._service.common_headers
            )
            self._head = template.whole(common)
            self._made_for = common
        return self._head, 0, copy.span.last, copy.fd

    def count(self, length: int) -> None:
        """Count an answer that is sent."""
        self._service.access_log.count(AREA, 200, length)

    def answer(self, part: SelectedRange) -> FastAnswer:
        """The last answer as one that goes on."""
        del part
        found = self._find()
        if found is None or found.data is None:
            raise RuntimeError("there was no answer")
        answer = MediaAnswer(self._request, self._service, found, coded=False)
        answer.hold(found.data)
        return answer

    def _find(self) -> RequestedMedia | None:
        target = self._target
        stream = self._service.streams.get(target.stream)
        rendition = None if stream is None else stream.renditions.get(target.rendition)
        if stream is None or rendition is None:
            return None
        data = target.named.in_memory(rendition.window)
        return None if data is None else RequestedMedia(stream, rendition, target, data)
