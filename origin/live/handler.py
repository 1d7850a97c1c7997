"""The handler of live channels: `/live/CHANNEL/…`."""

from __future__ import annotations

import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from origin.answers.memfd_cache import MemfdLimits
from origin.answers.refusals import ABSENT_LIVE_SECONDS, refusal
from origin.answers.reply import Pending, Reply
from origin.answers.request import Request
from origin.http.client_limits import UNLIMITED, ClientLimit
from origin.live.media_requests import MediaReplies, MediaRequest, PastMedia
from origin.live.past.clips import ClipReplies
from origin.live.past.delayed_playlists import DelayedReplies
from origin.live.past.listed_outlines import ListedOutlines
from origin.live.past.past_windows import PastWindowReplies
from origin.live.past.programme_requests import ProgrammeReplies
from origin.live.past.snapshots import ShownMoment, SnapshotReplies
from origin.live.past.thumbnails import ThumbnailReplies
from origin.live.requests.addresses import (
    CLIPS,
    OTHER_CLIPS,
    PLAYLIST,
    SNAPSHOT,
    SOUND_CLIP,
    THUMBNAILS,
    LiveAddress,
    Span,
    read_address,
)
from origin.live.requests.directives import CARRIED
from origin.live.requests.playlist_requests import PlaylistReplies
from origin.live.requests.waits import LaterReply, Outcome
from packager.publish.live_stream import LiveStream


@dataclass(frozen=True, slots=True)
class OtherProcesses:
    """The processes and nodes that may serve what this process doesn't.

    Attributes:
        may_have_channel: returns whether a channel of this name, which isn't served here, may be soon.
        answer: returns whether another process answers a request for a channel that is served here; it isn't
            asked about media playlists of a channel that is ready, and media in memory.
    """

    may_have_channel: Callable[[str], bool] = lambda _: False
    answer: Callable[[LiveStream, LiveAddress], bool] = lambda _, __: False


class LiveHandler:
    """Answers requests for playlists, manifests and media of live channels.

    Args:
        streams: by name; may change while serving.
        carried: names of the query parameters that go onto the addresses in playlists.
        blocked: how many requests of one client may wait at once.
        past: the media that have left memory.
        others: the processes that answer other requests.
        memfd: how much of what several clients ask for is copied for the kernel.
    """

    def __init__(
        self,
        streams: Mapping[str, LiveStream],
        carried: tuple[str, ...] = CARRIED,
        blocked: ClientLimit = UNLIMITED,
        past: PastMedia | None = None,
        others: OtherProcesses | None = None,
        memfd: MemfdLimits | None = None,
    ) -> None:
        self._streams = streams
        self._carried = carried
        self._blocked = blocked
        self._past = past or PastMedia()
        self._others = others or OtherProcesses()
        self._playlists = PlaylistReplies()
        listed = ListedOutlines()
        self._windows = PastWindowReplies(self._past.window_hours, self._past.stored, listed)
        self._delayed = DelayedReplies(self._past.window_hours, self._past.stored)
        self._thumbnails = ThumbnailReplies(self._past.window_hours, self._past.stored, listed)
        self._snapshots = SnapshotReplies(self._past.stored, self._past.draw_snapshot)
        self._clips = ClipReplies(self._past.stored, self._past.clip_hours)
        programmes = self._past.programmes
        self._programmes = ProgrammeReplies(programmes, self._windows, self._thumbnails, self._clips)
        self._media = MediaReplies(streams, memfd)

    def handle(self, request: Request) -> Reply | Pending | None:
        """Return the reply to a request, or the reply that comes later; see `Handler`."""
        address = read_address(request.target, self._carried)
        stream = None if address is None else self._streams.get(address.channel)
        if address is None or stream is None:
            return None
        outcome = self._decide(request, address, stream)
        if outcome is None or (isinstance(outcome, Reply) and outcome.stream is None):
            return outcome
        return LaterReply(request, outcome, self._blocked)

    def plays(self, path: str, query: str) -> bool:
        """Return whether a live playlist has the picture that an address asks for.

        Args:
            path: decoded, without token and query.
        """
        target = f"{urllib.parse.quote(path)}?{query}".encode("latin-1", "replace")
        address = read_address(target, self._carried)
        stream = None if address is None else self._streams.get(address.channel)
        if address is None or stream is None or address.name != SNAPSHOT or not stream.ready:
            return False
        shown = ShownMoment.of(stream, address)
        return shown is not None and shown.is_listed

    def absent(self, request: Request) -> Reply:
        """Return the refusal for a channel that isn't here: none has the name, or none yet."""
        address = read_address(request.target, self._carried)
        if address is not None and self._others.may_have_channel(address.channel):
            return refusal(request, 503, 0, retry_after=ABSENT_LIVE_SECONDS)
        return refusal(request, 404, ABSENT_LIVE_SECONDS)

    def _decide(self, request: Request, address: LiveAddress, stream: LiveStream) -> Outcome | None:
        """Decide a request; None where another process answers it."""
        if address.is_of_past:
            return self._decide_past(request, address, stream)
        rendition = stream.renditions.get(address.rendition)
        if rendition is not None and stream.ready:
            if address.name == PLAYLIST:
                return self._playlists.media_playlist(request, address, stream, rendition)
            data = address.file.of(rendition.window).in_memory(rendition.window)
            if data is not None:
                return self._media.reply(request, address, rendition, data)
        if self._others.answer(stream, address):
            return None
        if not address.rendition:
            return self._playlists.whole_channel(request, address, stream)
        if address.name == PLAYLIST:
            return self._playlists.media_playlist(request, address, stream, rendition)
        if rendition is None:
            return refusal(request, 404, stream.target_duration)
        return MediaRequest(request, address, stream, rendition, self._media, self._past).decide()

    def _decide_past(self, request: Request, address: LiveAddress, stream: LiveStream) -> Outcome | None:
        """Decide a request for something of the channel's past; None where another process answers it."""
        if address.name in OTHER_CLIPS:
            reason = f"nothing is encoded for a clip: {SOUND_CLIP} has the sound as it is stored"
            return refusal(request, 404, stream.target_duration, reason)
        if address.name == SNAPSHOT:
            is_elsewhere = self._past.draw_snapshot is None and self._others.answer(stream, address)
            return None if is_elsewhere else self._snapshots.decide(request, address, stream)
        if address.programme:
            is_elsewhere = self._past.programmes is None and self._others.answer(stream, address)
            return None if is_elsewhere else self._programmes.decide(request, address, stream)
        if address.name == THUMBNAILS:
            return self._thumbnails.decide(request, address, stream)
        if address.name in CLIPS:
            return self._clips.decide(request, address, stream)
        if address.delay is not None:
            return self._delayed.decide(request, address, address.delay, stream)
        return self._windows.decide(request, address, address.span or Span(None, None), stream)
