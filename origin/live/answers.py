"""Answers for live channels on the connection: a playlist or media, now or once it is there."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import structlog

from media.m3u8 import MEDIA_TYPE
from origin.byteranges import ByteRange
from origin.client_limits import UNLIMITED, ClientLimit
from origin.edge import Ledger
from origin.http1.answers import Again, Line, Reply, WireAnswer
from origin.http1.requesthead import RequestLine
from origin.live.copies import Copies, Copy
from origin.live.directives import DirectiveError, Directives
from origin.live.growing import Passing
from origin.live.names import Named, cache_control, media_type
from origin.live.reload import Reload, kept_until
from origin.live.routes import refusal
from origin.live.stored import media_tag
from origin.prepared import Around, LatestReply, media_head, reply_of, text_reply
from packager.live.channel import Channel
from packager.live.presentation import RenderingError
from packager.live.rendition import Rendition
from packager.live.waiters import TooManyWaitersError

log = structlog.get_logger()

AREA = "live"
"""Where requests for live channels are counted."""


@dataclass(frozen=True, slots=True)
class Wing:
    """What all answers for live channels share.

    Attributes:
        channels: By name; may change while serving.
        ledger: Where requests are counted.
        edge: Header lines that the server's edge gives every answer.
        copies: What the kernel sends from.
        latest: The latest reply with a playlist.
        blocked: How many requests of one client may wait at once.
    """

    channels: Mapping[str, Channel]
    ledger: Ledger
    edge: bytes
    copies: Copies = field(default_factory=Copies)
    latest: LatestReply = field(default_factory=LatestReply)
    blocked: ClientLimit = UNLIMITED


class Target(NamedTuple):
    """What a request target asks for.

    Attributes:
        channel: name of the channel.
        rendition: name of the rendition.
        name: name in its folder.
        named: what that stands for.
        wanted: the directives of a media playlist; None for media.
    """

    channel: str
    rendition: str
    name: str
    named: Named
    wanted: Directives | None


class Asker(NamedTuple):
    """What a player's header says, in every request the same.

    Attributes:
        coded: whether playlists may come compressed.
        agent: tells it from other players at its address.
    """

    coded: bool
    agent: int


class LiveAnswer(WireAnswer):
    """An answer that may have to wait for a part.

    Args:
        request: The request's first line.
        wing: What all of them share.
        channel: Of which channel it is.
        rendition: And of which rendition.
    """

    __slots__ = ("_channel", "_counted", "_line", "_rendition", "_wing")

    def __init__(self, request: RequestLine, wing: Wing, channel: Channel, rendition: Rendition) -> None:
        super().__init__(request, wing.ledger, AREA)
        self._wing = wing
        self._channel = channel
        self._rendition = rendition
        # The client for whom this one is counted among those that wait.
        self._counted = ""
        self._line: Line

    def hang_up(self) -> None:
        """The client has gone: nobody waits any more."""
        self._rendition.window.waiters.remove(self)
        super().hang_up()

    def ended(self, status: int, sent: int, line: Line) -> None:
        """Its client may have another one wait."""
        if self._counted:
            self._wing.blocked.give_back(self._counted)
            self._counted = ""
        super().ended(status, sent, line)

    @property
    def edge(self) -> bytes:
        """Header lines of all answers for live channels."""
        return self._wing.edge

    def begin(self, line: Line) -> None:
        """Reply or wait."""
        self._line = line
        self._attempt(self._begin)

    def release(self, holds: bool) -> None:
        """Reply: what was waited for has come, or else it doesn't in time."""
        self._attempt(lambda: self._answer(holds=holds))

    def _attempt(self, act: Callable[[], None]) -> None:
        """Reply with 500 where an answer can't be made: nobody waits for it in vain."""
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

    def _wait(self, awaited: Reload | Passing, refused_seconds: int) -> None:
        waiters = self._rendition.window.waiters
        client = self.client_host or self._line.client_host or ""
        if not self._wing.blocked.take(client):
            self._refuse(429, 0)
            return
        self._counted = client
        try:
            waiters.add(self, awaited.has_come, awaited.longest_wait, awaited.awaited)
        except TooManyWaitersError:
            self._refuse(503, refused_seconds)

    def _around(self) -> Around:
        return Around(self._line.fields(self), self._wing.edge)

    def _refuse(self, status: int, kept: int, text: str = "") -> None:
        later = self._rendition.window.target_duration if status in (429, 503) else None
        self._line.reply(self, reply_of(refusal(status, kept, text, retry_after=later), self._around()))


class PlaylistAnswer(LiveAnswer):
    """A media playlist, once it has what is asked for.

    Args:
        request: The request's first line.
        wing: What all of them share.
        reload: What is asked for.
        asker: Who asks.
    """

    __slots__ = ("_asker", "_reload")

    def __init__(self, request: RequestLine, wing: Wing, reload: Reload, asker: Asker) -> None:
        super().__init__(request, wing, reload.channel, reload.rendition)
        self._reload = reload
        self._asker = asker

    def _begin(self) -> None:
        """Count the viewer, and reply or wait."""
        reload = self._reload
        viewer = (self.client_host or self._line.client_host or "", self._asker.agent)
        reload.channel.audience.saw(viewer, self.started)
        try:
            reload.check()
        except DirectiveError as error:
            self._refuse(400, reload.too_early_seconds, str(error))
            return
        if reload.has_come():
            self._answer(holds=True)
        else:
            self._wait(reload, reload.error_seconds)

    def _answer(self, *, holds: bool) -> None:
        """Reply with the playlist, or that it doesn't come."""
        reload = self._reload
        if holds:
            text, kept = reload.render(), reload.max_age
            reply = self._wing.latest.of(text, MEDIA_TYPE, kept, self._around(), coded=self._asker.coded)
            self._line.reply(self, reply)
        else:
            self._refuse(503, reload.error_seconds)


class MediaAnswer(LiveAnswer):
    """A part, a segment or an init segment from memory; a part once it is complete.

    Args:
        request: The request's first line.
        wing: What all of them share.
        channel: Of which channel it is.
        rendition: And of which rendition.
        target: What is asked for.
        data: Its bytes, or None where they are waited for.
        coded: Whether a text may come compressed.
    """

    __slots__ = ("_coded", "_copy", "_data", "_target")

    def __init__(
        self,
        request: RequestLine,
        wing: Wing,
        channel: Channel,
        rendition: Rendition,
        target: Target,
        data: bytes | memoryview | None,
        *,
        coded: bool,
    ) -> None:
        super().__init__(request, wing, channel, rendition)
        self._coded = coded
        # What the kernel sends from, held until the end.
        self._copy: Copy | None = None
        self._data = data
        self._target = target

    def _begin(self) -> None:
        """Reply, or wait for the part."""
        if self._data is not None:
            self._line.reply(self, self._reply_with(self._data))
        else:
            window, named = self._rendition.window, self._target.named
            self._wait(Passing(window, named.number, named.index), window.target_duration)

    def _answer(self, *, holds: bool) -> None:
        """Reply with the part, or that it hasn't come: whatever is waited for may pass without it."""
        del holds
        window, named = self._rendition.window, self._target.named
        data = named.in_memory(window)
        if data is not None:
            self._line.reply(self, self._reply_with(data))
        else:
            self._refuse(404, kept_until(named.number, self._channel, window, window.target_duration))

    def hold(self, data: bytes | memoryview) -> Copy | None:
        """Keep the copy of what is sent until the end, if there is one."""
        copy = self._copy = self._wing.copies.of(data)
        return copy

    def for_all(self, data: bytes) -> MediaRepeat | None:
        """What answers this request, the same to the byte, to whoever else sends it."""
        # A repeat knows of no log, and has nothing to send from but copies.
        if self._copy is None or self._wing.ledger.log_requests:
            return None
        return MediaRepeat(self._wing, self.request, self._target, data)

    def _reply_with(self, data: bytes | memoryview) -> Reply:
        rendition, around = self._rendition, self._around()
        if rendition.language is not None:
            window, kind = rendition.window, media_type(rendition)
            text, kept, tag = (bytes(data),), int(window.retention), media_tag(self._target.name, len(data))
            return text_reply(text, kind, kept, around, coded=self._coded, immutable_tag=tag)
        head, copy = _media_head(self._target, rendition, data, around), self.hold(data)
        if copy is None:
            return Reply(200, (head, data), len(data))
        return Reply(200, (head, copy.span), len(data), len(data), copy.fd)


def _media_head(target: Target, rendition: Rendition, data: bytes | memoryview, around: Around) -> bytes:
    size, caching = len(data), cache_control(rendition.window)
    return media_head(size, media_type(rendition), media_tag(target.name, size), caching, around)


class MediaRepeat:
    """A request for media that many players send, to the byte.

    It holds no media: those may go at any time, and others answer then.

    Args:
        wing: What all answers share.
        request: The request's first line.
        target: What is asked for.
        data: The whole head.
    """

    __slots__ = ("_data", "_head", "_made_for", "_request", "_target", "_wing", "status")

    def __init__(self, wing: Wing, request: RequestLine, target: Target, data: bytes) -> None:
        self.status = 200
        # The answers' header, and the common fields that it was made with.
        self._head = self._made_for = b""
        self._data = data
        self._wing = wing
        self._request = request
        self._target = target

    def reply(self, data: bytes, common: bytes) -> Again | None:
        """Answer it, as long as its media is there and has a copy; see `Repeat`."""
        if data != self._data:
            return None
        found = self._find()
        copy = None if found is None else self._wing.copies.of(found[2])
        if found is None or copy is None:
            return None
        if self._made_for is not common:
            self._head = _media_head(self._target, *found[1:], Around(common, self._wing.edge))
            self._made_for = common
        return self._head, copy.span, copy.fd

    def count(self, length: int) -> None:
        """Count an answer that is sent."""
        self._wing.ledger.count(AREA, 200, length)

    def answer(self, part: ByteRange) -> WireAnswer:
        """The last answer as one that goes on."""
        del part
        found = self._find()
        if found is None:
            raise RuntimeError("there was no answer")
        channel, rendition, data = found
        answer = MediaAnswer(self._request, self._wing, channel, rendition, self._target, data, coded=False)
        answer.hold(data)
        return answer

    def _find(self) -> tuple[Channel, Rendition, bytes | memoryview] | None:
        target = self._target
        channel = self._wing.channels.get(target.channel)
        rendition = None if channel is None else channel.renditions.get(target.rendition)
        if channel is None or rendition is None:
            return None
        data = target.named.in_memory(rendition.window)
        return None if data is None else (channel, rendition, data)
