"""Decides requests for playlists and manifests: what each waits for, and what it then gets."""

from __future__ import annotations

import asyncio
import functools
import zlib
from collections.abc import Callable

from msgspec import Struct, structs

from media.dash import mpd
from media.hls.media_playlist import MEDIA_TYPE
from media.hls.precompressed_text import Pieces
from origin.answers.refusals import ABSENT_LIVE_SECONDS, refusal
from origin.answers.reply import PendingTask, Reply
from origin.answers.representation_replies import text_reply
from origin.answers.request import Request, RequestFields
from origin.http.negotiation import RequestTraits
from origin.live.requests import directives
from origin.live.requests.addresses import MULTIVARIANT, LiveAddress
from origin.live.requests.availability import may_be_elsewhere, not_found_max_age
from origin.live.requests.directives import DirectiveError
from origin.live.requests.waits import Outcome, Wait, longest_wait, not_on_air, wait_until_ready
from packager.publish.hls import RenderingError
from packager.publish.live_stream import LiveStream
from packager.window.rendition import Rendition

PLAYERS_KEPT = 1024
"""Most blocks of header fields whose meaning is cached, as a player repeats its own with every request."""

IRREGULAR = "no DASH: the source's key frames come irregularly"

OVER = "the event is over; /api/live lists its recordings, if there are any"


@functools.lru_cache(maxsize=PLAYERS_KEPT)
def _agent(fields: RequestFields) -> int:
    """Return a number that tells a player from others at its address."""
    return zlib.crc32(RequestTraits.from_headers(fields.fields).agent)


class Reload(Struct, frozen=True, gc=False):
    """A request for a media playlist, which may wait for what its directives ask for (§6.2.5.2)."""

    request: Request
    address: LiveAddress
    stream: LiveStream
    rendition: Rendition

    @property
    def refusal_max_age(self) -> int:
        """Seconds for which caches may keep a refusal."""
        return refusal_max_age(self.stream.target_duration, is_blocking=self.address.is_blocking)

    def check(self) -> Reply | None:
        """Refuse what lies too far ahead, and can't have come anywhere; None for what can be waited for."""
        stream, window, wanted = self.stream, self.rendition.window, self.address.directives
        if wanted.number is None or window.ended:
            return None
        if may_be_elsewhere(stream, window, wanted.number, wanted.part or 0):
            return None
        try:
            directives.check(wanted, window.last or (window.next_number - 1, 0), stream.cadence)
        except DirectiveError as error:
            number = wanted.number - directives.MAX_AHEAD
            max_age = not_found_max_age(number, stream, window, self.refusal_max_age)
            return refusal(self.request, 400, max_age, str(error))
        return None

    def has_come(self) -> bool:
        """Return whether the playlist has what is asked for (§6.2.5.2)."""
        wanted, window = self.address.directives, self.rendition.window
        # §6.2.5.2: with EXT-X-ENDLIST the directives are ignored.
        return wanted.number is None or window.ended or window.reached(wanted.number, wanted.part)

    def wait(self, then: Callable[[bool], Outcome]) -> Outcome:
        """Wait for what is asked for, or refuse what can't come (§6.2.5.2).

        Args:
            then: decides behind the wait, whether it has come or not.
        """
        if (refused := self.check()) is not None:
            return refused
        window, wanted = self.rendition.window, self.address.directives
        return Wait(window, self.has_come, longest_wait(window), (wanted.number, wanted.part), then)

    def render(self) -> Pieces:
        """Return the playlist as of now, in pieces; the same object to all who ask in the same state."""
        wanted = self.address.directives
        return self.stream.presentation.media_pieces(
            self.rendition.name,
            skip=wanted.skip,
            skip_date_ranges=wanted.skip_date_ranges,
            suffix=wanted.suffix,
        )

    def refused(self) -> Reply:
        """Return the refusal of what hasn't come in time."""
        later = self.stream.target_duration
        return refusal(self.request, 503, self.refusal_max_age, retry_after=later)


def refusal_max_age(target_duration: int, *, is_blocking: bool) -> int:
    """Return the seconds for which caches may keep that there is no such media playlist.

    Args:
        is_blocking: whether the request has a directive that may make it wait.
    """
    # Appendix B: with a directive, errors keep for four target durations, playlists for six.
    return (4 if is_blocking else 1) * target_duration


class PlaylistReplies:
    """Decides requests for playlists and manifests.

    The latest reply with a media playlist is kept: all clients that wait for a part get the same one.
    """

    def __init__(self) -> None:
        self._made_of: tuple[Pieces, int, bool] = ((), 0, False)
        self._latest: Reply | None = None

    def whole_channel(self, request: Request, address: LiveAddress, stream: LiveStream) -> Outcome:
        """Decide a request for what describes a whole channel, which waits until that can be played."""
        target_duration = stream.target_duration
        if stream.is_withdrawn:
            return refusal(request, 404, target_duration, OVER)
        _note_viewer(request, stream)
        if address.error:
            return refusal(request, 400, target_duration, address.error)

        def when_ready(is_ready: bool) -> Outcome:
            if not is_ready:
                return not_on_air(request, stream)
            suffix = address.directives.suffix
            if address.name == MULTIVARIANT:
                return _multivariant_reply(request, stream, suffix)
            return _manifest_outcome(request, stream, suffix)

        return wait_until_ready(stream, when_ready)

    def media_playlist(
        self, request: Request, address: LiveAddress, stream: LiveStream, rendition: Rendition | None
    ) -> Outcome:
        """Decide a request for a media playlist."""
        max_age = refusal_max_age(stream.target_duration, is_blocking=address.is_blocking)
        if rendition is None:
            return refusal(request, 404, max_age)
        if not stream.ready and stream.is_withdrawn:
            return refusal(request, 404, max_age, OVER)
        _note_viewer(request, stream)
        if address.error:
            return refusal(request, 400, max_age, address.error)
        reload = Reload(request, address, stream, rendition)
        if stream.ready:
            return self._wait_for(reload)

        def when_ready(is_ready: bool) -> Outcome:
            if not is_ready:
                return reload.refused()
            # Its windows may have been replaced meanwhile.
            return self._wait_for(structs.replace(reload, rendition=stream.renditions[rendition.name]))

        return wait_until_ready(stream, when_ready)

    def _wait_for(self, reload: Reload) -> Outcome:
        """Decide what a playlist has to wait for (§6.2.5.2)."""
        if reload.has_come():
            return self._reply(reload)
        return reload.wait(functools.partial(self._behind, reload))

    def _behind(self, reload: Reload, holds: bool) -> Reply:  # called with it alone
        """Return the reply behind the wait."""
        return self._reply(reload) if holds else reload.refused()

    def _reply(self, reload: Reload) -> Reply:
        """Return the reply with a playlist that has what is asked for."""
        request, target_duration = reload.request, reload.stream.target_duration
        is_blocking = reload.address.directives.number is not None
        max_age = 6 * target_duration if is_blocking else max(target_duration // 2, 1)
        try:
            text = reload.render()
        except RenderingError:
            # The log has it, once for all who ask for it.
            return refusal(request, 500, 0)
        coded = request.takes_gzip
        if not request.is_plain:
            return text_reply(request, text, MEDIA_TYPE, max_age, coded=coded)
        latest, age, was_coded = self._made_of
        if self._latest is None or latest is not text or age != max_age or was_coded is not coded:
            self._made_of = text, max_age, coded
            self._latest = text_reply(request, text, MEDIA_TYPE, max_age, coded=coded)
        return self._latest


def _note_viewer(request: Request, stream: LiveStream) -> None:
    stream.note_viewer((request.client, _agent(request.fields)))


def _multivariant_reply(request: Request, stream: LiveStream, suffix: str) -> Reply:
    try:
        data = stream.presentation.multivariant(suffix)
    except RenderingError:
        return refusal(request, 500, 0)
    return text_reply(request, (data,), MEDIA_TYPE, stream.target_duration, coded=request.takes_gzip)


def _manifest_outcome(request: Request, stream: LiveStream, suffix: str) -> Outcome:
    if not stream.cadence.regular:
        # ISO/IEC 23009-1 §5.3.9.5.3: numbers alone tell a segment's time only where all are as long.
        return refusal(request, 404, ABSENT_LIVE_SECONDS, IRREGULAR)
    return PendingTask(_manifest_reply(request, stream, suffix))


async def _manifest_reply(request: Request, stream: LiveStream, suffix: str) -> Reply:
    """Make the manifest of a channel, which may take several steps."""
    presentation = stream.presentation
    try:
        for _ in presentation.manifest_in_steps(stream.wall_clock()):
            await asyncio.sleep(0)
        pieces = presentation.manifest_pieces(stream.wall_clock(), suffix)
    except RenderingError:
        return refusal(request, 500, 0)
    max_age = max(stream.target_duration // 2, 1)
    return text_reply(request, pieces, mpd.MEDIA_TYPE, max_age, coded=request.takes_gzip)
