"""Live playlists and media in memory, answered on the connection: at once, or to all who wait in one pass.

Plain requests alone, and of these such that are answered or held; what is refused, isn't in memory, or comes
with ranges or preconditions goes to the application (`origin/live.py`), which decides by the same functions.
"""

from __future__ import annotations

import abc
import functools
import re
from collections.abc import Mapping
from typing import NamedTuple

from media.m3u8 import MEDIA_TYPE
from origin.answers import Line, Reply, WireAnswer, encoded
from origin.directives import DirectiveError, Directives
from origin.edge import Ledger
from origin.growing import Passing
from origin.live import refusal
from origin.livenames import Kind, Named, cache_control, media_type, read_name
from origin.prepared import Around, Asked, media_reply, reply_of, text_reply
from origin.reload import Reload, kept_until, read_query
from origin.requesthead import PLAIN_BYTES, PlainHead, WireLimits, read_plain
from origin.selection import Headers
from origin.stored import media_tag
from packager.live import Channel
from packager.presentation import Rendition
from packager.waiters import TooManyWaitersError

PLAYLIST = "media.m3u8"
AREA = "live"
"""Where requests for live channels are counted."""

TARGETS_KEPT = 1024
"""How many request targets are kept with what they ask for: many ask for the same."""

HEADS_KEPT = 1024
"""How many headers are kept with what they say: a player sends the same with each request."""

_VERSION = b" HTTP/1.1\r\n"
_PROBE = b"GET /" + _VERSION
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
        fields: its header fields.
        coded: whether playlists may come compressed.
        agent: tells it from other players at its address.
    """

    fields: list[tuple[bytes, bytes]]
    coded: bool
    agent: int


class LiveAnswer(WireAnswer):
    """An answer that may have to wait for a part.

    Args:
        head: The request.
        wing: What all of them share.
        rendition: Of which rendition it is.
        awaited: What must have come.
    """

    __slots__ = ("_awaited", "_line", "_rendition", "_wing")

    def __init__(
        self, head: PlainHead, wing: LiveShortcut, rendition: Rendition, awaited: Reload | Passing
    ) -> None:
        super().__init__(head, wing.ledger, AREA)
        self._wing = wing
        self._rendition = rendition
        self._awaited = awaited
        self._line: Line

    def begin(self, line: Line) -> None:
        """Reply, or wait for the part."""
        self._line, awaited = line, self._awaited
        if awaited.has_come():
            self._reply(self._answer(self._around()))
            return
        try:
            awaited.window.waiters.add(self, awaited.has_come, awaited.longest_wait, awaited.awaited)
        except TooManyWaitersError:
            self._reply(self._come_again(self._around()))

    def release(self, holds: bool) -> None:
        """Reply: what was waited for has come, or else it doesn't in time."""
        around = self._around()
        self._reply(self._answer(around) if holds else self._instead(around))

    def hang_up(self) -> None:
        """The client has gone: nobody waits any more."""
        self._awaited.window.waiters.remove(self)
        super().hang_up()

    def _around(self) -> Around:
        return Around(self._line.fields(self), self._wing.edge)

    def _reply(self, reply: Reply) -> None:
        self._line.reply(self, reply)

    def _come_again(self, around: Around) -> Reply:
        seconds = self._awaited.window.target_duration
        return reply_of(refusal(503, self._awaited.error_seconds, retry_after=seconds), around)

    @abc.abstractmethod
    def _answer(self, around: Around) -> Reply:
        """Give what is asked for."""

    @abc.abstractmethod
    def _instead(self, around: Around) -> Reply:
        """Say that it didn't come."""


class PlaylistAnswer(LiveAnswer):
    """A media playlist, once it has what is asked for.

    Args:
        head: The request.
        wing: What all of them share.
        reload: What is asked for.
        asker: Who asks.
    """

    __slots__ = ("_asker", "_reload")

    def __init__(self, head: PlainHead, wing: LiveShortcut, reload: Reload, asker: Asker) -> None:
        super().__init__(head, wing, reload.rendition, reload)
        self._reload = reload
        self._asker = asker

    def begin(self, line: Line) -> None:
        """Count the viewer, and reply or wait."""
        viewer = (line.client_host or "", self._asker.agent)
        self._reload.channel.audience.saw(viewer, self.started)
        super().begin(line)

    def _answer(self, around: Around) -> Reply:
        reload = self._reload
        return text_reply(reload.render(), MEDIA_TYPE, reload.max_age, around, coded=self._asker.coded)

    def _instead(self, around: Around) -> Reply:
        return self._come_again(around)


class MediaAnswer(LiveAnswer):
    """A part, a segment or an init segment from memory; a part once it is complete.

    Args:
        head: The request.
        wing: What all of them share.
        channel: Of which channel it is.
        rendition: And of which rendition.
        target: What is asked for.
    """

    __slots__ = ("_channel", "_target")

    def __init__(
        self, head: PlainHead, wing: LiveShortcut, channel: Channel, rendition: Rendition, target: Target
    ) -> None:
        named = target.named
        super().__init__(head, wing, rendition, Passing(rendition.window, named.number, named.index))
        self._channel = channel
        self._target = target

    def _answer(self, around: Around) -> Reply:
        rendition, target = self._rendition, self._target
        data = target.named.in_memory(rendition.window)
        if data is None:
            return self._instead(around)
        tag, kept = media_tag(target.name, len(data)), cache_control(rendition.window)
        return media_reply(data, media_type(rendition), tag, kept, around)

    def _instead(self, around: Around) -> Reply:
        window = self._rendition.window
        kept = kept_until(self._target.named.number, self._channel, window, window.target_duration)
        return reply_of(refusal(404, kept), around)


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
        self._askers: dict[bytes, Asker] = {}

    def find(self, data: bytes, target: bytes, limits: WireLimits) -> LiveAnswer | None:
        """The answer to a plain request for a playlist or for media; see `Responder`."""
        asked = _read_target(target)
        channel = None if asked is None else self._channels.get(asked.channel)
        if asked is None or channel is None or not channel.ready:
            return None
        rendition = channel.renditions.get(asked.rendition)
        asker = self._asker(data, len(target), limits)
        if rendition is None or asker is None:
            return None
        head = PlainHead("GET", target, asker.fields)
        if asked.wanted is None:
            is_held = asked.named.kind is Kind.PART and _is_next(rendition, asked.named)
            if is_held or asked.named.in_memory(rendition.window) is not None:
                return MediaAnswer(head, self, channel, rendition, asked)
            return None
        reload = Reload(channel, rendition, asked.wanted)
        try:
            reload.check()
        except DirectiveError:
            return None
        return PlaylistAnswer(head, self, reload, asker)

    def _asker(self, data: bytes, target_bytes: int, limits: WireLimits) -> Asker | None:
        """Read the header of a plain GET of the whole; None where it is anything else."""
        line_end = 4 + target_bytes + len(_VERSION)
        if data[:4] != b"GET " or data[4 + target_bytes : line_end] != _VERSION:
            return None
        if len(data) > min(PLAIN_BYTES, limits.header_bytes, limits.target_bytes):
            return None
        fields = data[line_end:]
        known = self._askers.get(fields)
        if known is None:
            head = read_plain(_PROBE + fields, limits)
            if head is None or head.range is not None or head.is_conditional:
                return None
            asked = Asked.by(head.fields)
            known = Asker(head.fields, asked.takes_gzip, hash(asked.agent))
            if len(self._askers) >= HEADS_KEPT:
                del self._askers[next(iter(self._askers))]
            self._askers[fields] = known
        return known


def _is_next(rendition: Rendition, named: Named) -> bool:
    window = rendition.window
    return not window.ended and window.next_part == (named.number, named.index)
