"""Live playlists and media in memory, answered on the connection: at once, or to all who wait in one pass.

Plain requests alone, and of these such that are answered or held; what is refused, isn't in memory, or comes
with ranges or preconditions goes to the application (`routes.py`), which decides by the same functions.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping

from origin.byteranges import Span
from origin.client_limits import UNLIMITED, ClientLimit
from origin.edge import Ledger
from origin.http1.answers import HEADS_KEPT, encoded
from origin.http1.requesthead import PlainFields, RequestLine
from origin.live.answers import Asker, LiveAnswer, MediaAnswer, PlaylistAnswer, Target, Wing
from origin.live.directives import CARRIED, DirectiveError
from origin.live.names import Kind, Named, read_name
from origin.live.reload import Reload, read_query
from origin.prepared import Asked
from origin.selection import Headers
from packager.live.channel import Channel
from packager.live.rendition import Rendition

PLAYLIST = "media.m3u8"

TARGETS_KEPT = 1024
"""How many request targets are kept with what they ask for: many ask for the same."""

_TARGET = re.compile(
    rb"/live/([A-Za-z0-9._~-]+)/([A-Za-z0-9._~-]+)/([A-Za-z0-9._~-]+)(?:\?([A-Za-z0-9\-._~!$&'()*+,;=:@%/?]*))?"
)


@functools.lru_cache(maxsize=TARGETS_KEPT)
def _read_target(target: bytes, carried: tuple[str, ...]) -> Target | None:
    found = _TARGET.fullmatch(target)
    if found is None:
        return None
    channel, rendition, name = (found[at].decode("ascii") for at in (1, 2, 3))
    named, wanted = read_name(name), None
    if name == PLAYLIST:
        try:
            wanted = read_query(found[4] or b"", carried)
        except DirectiveError:
            return None
    elif named.kind is Kind.NOTHING:
        return None
    return Target(channel, rendition, name, named, wanted)


@functools.lru_cache(maxsize=HEADS_KEPT)
def _asker(fields: PlainFields) -> Asker:
    asked = Asked.by(fields.fields)
    return Asker(asked.takes_gzip, hash(asked.agent))


class LiveShortcut:
    """Answers requests for live channels.

    Args:
        channels: By name; may change while serving.
        ledger: Where requests are counted.
        headers: Raw header fields that the server's edge gives every answer of the wing.
        carried: Names of the query parameters that go onto the addresses in playlists.
        blocked: How many requests of one client may wait at once.
    """

    def __init__(
        self,
        channels: Mapping[str, Channel],
        ledger: Ledger,
        headers: Headers,
        carried: tuple[str, ...] = CARRIED,
        blocked: ClientLimit = UNLIMITED,
    ) -> None:
        self._channels = channels
        self._carried = carried
        self._wing = Wing(channels, ledger, encoded(headers), blocked=blocked)

    def find(self, request: RequestLine, fields: PlainFields, span: Span | None) -> LiveAnswer | None:
        """The answer to a plain request for a playlist or for media; see `Responder`."""
        if span is not None or fields.has_range or fields.is_conditional or request.method != "GET":
            return None
        asked = _read_target(request.target, self._carried)
        channel = None if asked is None else self._channels.get(asked.channel)
        if asked is None or channel is None or not channel.ready:
            return None
        rendition = channel.renditions.get(asked.rendition)
        if rendition is None:
            return None
        asker = _asker(fields)
        if asked.wanted is not None:
            return PlaylistAnswer(request, self._wing, Reload(channel, rendition, asked.wanted), asker)
        named = asked.named.of(rendition.window)
        data = named.in_memory(rendition.window)
        if data is None and not (named.kind is Kind.PART and _is_next(rendition, named)):
            return None
        return MediaAnswer(request, self._wing, channel, rendition, asked, data, coded=asker.coded)


def _is_next(rendition: Rendition, named: Named) -> bool:
    window = rendition.window
    return not window.ended and window.next_part == (named.number, named.index)
