"""Live playlists and media in memory, answered on the connection: at once, or to all who wait in one pass.

Plain requests alone, and of these such that are answered or held; what is refused, isn't in memory, or comes
with ranges or preconditions goes to the application (`routes.py`), which decides by the same functions.
"""

from __future__ import annotations

import abc
import functools
import re
from collections.abc import Mapping
from typing import NamedTuple

from media.m3u8 import MEDIA_TYPE
from origin.byteranges import Span
from origin.edge import Ledger
from origin.http1.answers import HEADS_KEPT, Line, Reply, WireAnswer, encoded
from origin.http1.requesthead import PlainFields, RequestLine
from origin.live.directives import DirectiveError, Directives
from origin.live.growing import Passing
from origin.live.names import Kind, Named, cache_control, media_type, read_name
from origin.live.prepared import Around, Asked, media_reply, reply_of, text_reply
from origin.live.reload import Reload, kept_until, read_query
from origin.live.routes import refusal
from origin.live.stored import media_tag
from origin.selection import Headers
from packager.live.channel import Channel
from packager.live.presentation import Rendition
from packager.live.waiters import TooManyWaitersError

PLAYLIST = "media.m3u8"
AREA = "live"
"""Where requests for live channels are counted."""

TARGETS_KEPT = 1024
"""How many request targets are kept with what they ask for: many ask for the same."""

_TARGET = re.compile(
    rb"/live/([A-Za-z0-9._~-]+)/([A-Za-z0-9._~-]+)/([A-Za-z0-9._~-]+)(?:\?([A-Za-z0-9\-._~!$&'()*+,;=:@%/?]*))?"
)


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


@functools.lru_cache(maxsize=TARGETS_KEPT)
def _read_target(target: bytes) -> Target | None:
    found = _TARGET.fullmatch(target)
    if found is None:
        return None
    channel, rendition, name = (found[at].decode("ascii") for at in (1, 2, 3))
    named, wanted = read_name(name), None
    if name == PLAYLIST:
        try:
            wanted = read_query(found[4] or b"")
        except DirectiveError:
            return None
    elif named.kind is Kind.NOTHING:
        return None
    return Target(channel, rendition, name, named, wanted)


class Asker(NamedTuple):
    """What a player's header says, in every request the same.

    Attributes:
        coded: whether playlists may come compressed.
        agent: tells it from other players at its address.
    """

    coded: bool
    agent: int


@functools.lru_cache(maxsize=HEADS_KEPT)
def _asker(fields: PlainFields) -> Asker:
    asked = Asked.by(fields.fields)
    return Asker(asked.takes_gzip, hash(asked.agent))


class LiveAnswer(WireAnswer):
    """An answer that may have to wait for a part.

    Args:
        request: The request's first line.
        wing: What all of them share.
        channel: Of which channel it is.
        rendition: And of which rendition.
    """

    __slots__ = ("_channel", "_line", "_rendition", "_wing")

    def __init__(
        self, request: RequestLine, wing: LiveShortcut, channel: Channel, rendition: Rendition
    ) -> None:
        super().__init__(request, wing.ledger, AREA)
        self._wing = wing
        self._channel = channel
        self._rendition = rendition
        self._line: Line

    def hang_up(self) -> None:
        """The client has gone: nobody waits any more."""
        self._rendition.window.waiters.remove(self)
        super().hang_up()

    @abc.abstractmethod
    def release(self, holds: bool) -> None:
        """Reply: what was waited for has come, or else it doesn't in time."""

    def _wait(self, awaited: Reload | Passing, refused_seconds: int) -> None:
        waiters = self._rendition.window.waiters
        try:
            waiters.add(self, awaited.has_come, awaited.longest_wait, awaited.awaited)
        except TooManyWaitersError:
            self._refuse(503, refused_seconds)

    def _around(self) -> Around:
        return Around(self._line.fields(self), self._wing.edge)

    def _refuse(self, status: int, kept: int, text: str = "") -> None:
        later = self._rendition.window.target_duration if status == 503 else None
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

    def __init__(self, request: RequestLine, wing: LiveShortcut, reload: Reload, asker: Asker) -> None:
        super().__init__(request, wing, reload.channel, reload.rendition)
        self._reload = reload
        self._asker = asker

    def begin(self, line: Line) -> None:
        """Count the viewer, and reply or wait."""
        self._line, reload = line, self._reload
        viewer = (line.client_host or "", self._asker.agent)
        reload.channel.audience.saw(viewer, self.started)
        if reload.has_come():
            self.release(holds=True)
            return
        try:
            reload.check()
        except DirectiveError as error:
            self._refuse(400, reload.too_early_seconds, str(error))
        else:
            self._wait(reload, reload.error_seconds)

    def release(self, holds: bool) -> None:
        """Reply with the playlist, or that it doesn't come."""
        reload = self._reload
        if holds:
            text, kept = reload.render(), reload.max_age
            reply = text_reply(text, MEDIA_TYPE, kept, self._around(), coded=self._asker.coded)
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

    __slots__ = ("_coded", "_data", "_target")

    def __init__(
        self,
        request: RequestLine,
        wing: LiveShortcut,
        channel: Channel,
        rendition: Rendition,
        target: Target,
        data: bytes | memoryview | None,
        *,
        coded: bool,
    ) -> None:
        super().__init__(request, wing, channel, rendition)
        self._coded = coded
        self._data = data
        self._target = target

    def begin(self, line: Line) -> None:
        """Reply, or wait for the part."""
        self._line = line
        if self._data is not None:
            self._line.reply(self, self._answer(self._data))
        else:
            window, named = self._rendition.window, self._target.named
            self._wait(Passing(window, named.number, named.index), window.target_duration)

    def release(self, holds: bool) -> None:
        """Reply with the part, or that it hasn't come: whatever is waited for may pass without it."""
        del holds
        window, named = self._rendition.window, self._target.named
        data = named.in_memory(window)
        if data is not None:
            self._line.reply(self, self._answer(data))
        else:
            self._refuse(404, kept_until(named.number, self._channel, window, window.target_duration))

    def _answer(self, data: bytes | memoryview) -> Reply:
        rendition, around = self._rendition, self._around()
        window, tag, kind = rendition.window, media_tag(self._target.name, len(data)), media_type(rendition)
        if rendition.language is not None:
            text, kept = bytes(data), int(window.retention)
            return text_reply(text, kind, kept, around, coded=self._coded, immutable_tag=tag)
        return media_reply(data, kind, tag, cache_control(window), around)


class LiveShortcut:
    """Answers requests for live channels.

    Args:
        channels: By name; may change while serving.
        ledger: Where requests are counted.
        headers: Raw header fields that the server's edge gives every answer of the wing.

    Attributes:
        ledger: As above.
        edge: These fields as lines.
    """

    def __init__(self, channels: Mapping[str, Channel], ledger: Ledger, headers: Headers) -> None:
        self.ledger = ledger
        self.edge = encoded(headers)
        self._channels = channels

    def find(self, request: RequestLine, fields: PlainFields, span: Span | None) -> LiveAnswer | None:
        """The answer to a plain request for a playlist or for media; see `Responder`."""
        if span is not None or fields.has_range or fields.is_conditional or request.method != "GET":
            return None
        asked = _read_target(request.target)
        channel = None if asked is None else self._channels.get(asked.channel)
        if asked is None or channel is None or not channel.ready:
            return None
        rendition = channel.renditions.get(asked.rendition)
        if rendition is None:
            return None
        asker = _asker(fields)
        if asked.wanted is not None:
            return PlaylistAnswer(request, self, Reload(channel, rendition, asked.wanted), asker)
        named = asked.named.of(rendition.window)
        data = named.in_memory(rendition.window)
        if data is None and not (named.kind is Kind.PART and _is_next(rendition, named)):
            return None
        return MediaAnswer(request, self, channel, rendition, asked, data, coded=asker.coded)


def _is_next(rendition: Rendition, named: Named) -> bool:
    window = rendition.window
    return not window.ended and window.next_part == (named.number, named.index)
