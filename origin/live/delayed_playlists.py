"""Decides requests for a channel as it was a while ago: `?delay=1h` of playlists and manifests."""

from __future__ import annotations

import asyncio
from fractions import Fraction

from media.dash import mpd
from media.hls.media_playlist import MEDIA_TYPE
from origin.answers.refusals import ABSENT_LIVE_SECONDS, refusal
from origin.answers.reply import PendingTask, Reply
from origin.answers.representation_replies import text_reply
from origin.answers.request import Request
from origin.live.addresses import MANIFEST, MULTIVARIANT, PLAYLIST, LiveAddress
from origin.live.playlist_requests import IRREGULAR
from origin.live.spans import NOTHING_KEPT, query_of, written
from origin.live.waits import Outcome, not_on_air, wait_until_ready
from packager.past.delayed_playlist import delayed_playlist
from packager.publish.hls_multivariant import multivariant_playlist
from packager.publish.live_stream import LiveStream
from packager.window.rendition import variant_renditions

UNLISTED = "delay: the live playlist doesn't go back so far (live.playlist_window); start and end do"


class DelayedReplies:
    """Decides requests for a channel as it was a while ago.

    Args:
        most_hours: longest delay.
    """

    def __init__(self, most_hours: float) -> None:
        self._most_hours = most_hours

    def decide(self, request: Request, address: LiveAddress, delay: Fraction, stream: LiveStream) -> Outcome:
        """Decide a request, once the channel has segments.

        Args:
            delay: seconds.
        """
        target_duration = stream.target_duration

        def when_ready(is_ready: bool) -> Outcome:
            if not is_ready:
                return not_on_air(request, stream)
            return _reply(request, address, delay, stream)

        if address.span is not None:
            return refusal(request, 400, target_duration, "delay: not with start and end")
        if not 0 < delay <= self._most_hours * 3600:
            reason = f"delay: above 0, and at most {self._most_hours:g} hours (limits.window_hours)"
            return refusal(request, 400, target_duration, reason)
        return wait_until_ready(stream, when_ready)


def _reply(request: Request, address: LiveAddress, delay: Fraction, stream: LiveStream) -> Outcome:
    max_age, coded = max(stream.target_duration // 2, 1), request.takes_gzip
    if _is_unlisted(stream, Fraction(stream.wall_clock()) - delay):
        return refusal(request, 404, max_age, UNLISTED)
    if address.name == MANIFEST:
        if not stream.cadence.regular:
            return refusal(request, 404, ABSENT_LIVE_SECONDS, IRREGULAR)
        return PendingTask(_manifest_reply(request, address, delay, stream))
    if address.name == MULTIVARIANT:
        suffix, renditions = query_of(address, {"delay": written(delay)}), list(stream.renditions.values())
        text = multivariant_playlist(renditions, stream.cadence, suffix=suffix).render().encode()
        return text_reply(request, (text,), MEDIA_TYPE, max_age, coded=coded)
    rendition = stream.renditions.get(address.rendition)
    if rendition is None or address.name != PLAYLIST:
        return refusal(request, 404, stream.target_duration)
    made = delayed_playlist(
        variant_renditions(stream.renditions.values())[0].window,
        rendition,
        Fraction(stream.wall_clock()) - delay,
        stream.presentation.date_ranges.lines_within,
        address.directives.suffix,
    )
    if made is None:
        return refusal(request, 404, max_age, NOTHING_KEPT)
    return text_reply(request, made.pieces(), MEDIA_TYPE, max_age, coded=coded)


def _is_unlisted(stream: LiveStream, until: Fraction) -> bool:
    """Return whether a date is before the live playlists, whose channel keeps more on its disk.

    Args:
        until: seconds since the epoch.
    """
    entry = stream.begun_with
    listed = variant_renditions(stream.renditions.values())[0].window.listed
    return entry is not None and entry.has_past and bool(listed) and until < listed[0].program_date_time


async def _manifest_reply(
    request: Request, address: LiveAddress, delay: Fraction, stream: LiveStream
) -> Reply:
    """Make the manifest of the channel as it was, which may take several steps."""
    max_age, presentation = max(stream.target_duration // 2, 1), stream.presentation
    for _ in presentation.manifest_in_steps(stream.wall_clock()):
        await asyncio.sleep(0)
    made = presentation.delayed_manifest(stream.wall_clock(), delay, address.directives.suffix)
    if made is None:
        return refusal(request, 404, max_age, NOTHING_KEPT)
    return text_reply(request, made, mpd.MEDIA_TYPE, max_age, coded=request.takes_gzip)
