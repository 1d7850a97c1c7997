"""Decides requests for a programme of a channel: `?programme=ID` of playlists, manifests and clips.

The address stays the same: a programme that runs is a playlist that grows, later a VOD of the DVR's segments,
and then its recording, if it was kept.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Protocol

from origin.answers.heads import PlainHead
from origin.answers.refusals import refusal
from origin.answers.reply import Reply
from origin.answers.request import Request
from origin.live.past.clips import ClipReplies
from origin.live.past.past_windows import PastWindowReplies
from origin.live.past.spans import redirection, written
from origin.live.past.thumbnails import ThumbnailReplies
from origin.live.requests.addresses import CLIPS, SOUND_CLIP, THUMBNAILS, LiveAddress, Span
from origin.live.requests.moments import Moment
from origin.live.requests.waits import Outcome
from packager.past.programmes import Programme, Schedule
from packager.publish.live_stream import LiveStream
from packager.window.rendition import variant_renditions

NO_PROGRAMME = "the channel has no such programme"


class ChannelSchedule(Protocol):
    """The programmes of a channel."""

    @property
    def is_loaded(self) -> bool:
        """Whether those of an earlier process, or of another node, were read."""

    @property
    def schedule(self) -> Schedule:
        """The programmes as they are now."""


class ProgrammeDirectory(Protocol):
    """The programmes of a server's channels."""

    def store(self, channel: str) -> ChannelSchedule | None:
        """Return the programmes of a channel; None where there is none of the name."""

    def recording_of(self, channel: str, name: str) -> str:
        """Return the ID of the recording of a programme; empty where there is none."""


class ProgrammeReplies:
    """Decides requests for programmes.

    Args:
        directory: None: this process has no programmes.
    """

    def __init__(
        self,
        directory: ProgrammeDirectory | None,
        windows: PastWindowReplies,
        thumbnails: ThumbnailReplies,
        clips: ClipReplies,
    ) -> None:
        self._directory = directory
        self._windows = windows
        self._thumbnails = thumbnails
        self._clips = clips

    def decide(self, request: Request, address: LiveAddress, stream: LiveStream) -> Outcome:
        """Decide a request for something of a programme."""
        target_duration, directory = stream.target_duration, self._directory
        if address.error:
            return refusal(request, 400, target_duration, address.error)
        store = None if directory is None else directory.store(stream.name)
        if directory is None or store is None:
            return refusal(request, 404, target_duration, NO_PROGRAMME)
        if not store.is_loaded:
            return refusal(request, 503, 0, retry_after=target_duration)
        programme = store.schedule.get(address.programme)
        if programme is None:
            return refusal(request, 404, target_duration, NO_PROGRAMME)
        if programme.start > stream.wall_clock():
            begin = datetime.fromtimestamp(programme.start_ms / 1000, UTC).isoformat(timespec="seconds")
            return refusal(request, 404, target_duration, f"the programme begins at {begin}")
        recording = directory.recording_of(stream.name, programme.id)
        if recording and not _is_kept(stream, programme) and _is_recorded(address, stream):
            return _recorded(address, recording, target_duration)
        return self._of_window(request, address, programme, stream)

    def _of_window(
        self, request: Request, address: LiveAddress, programme: Programme, stream: LiveStream
    ) -> Outcome:
        """Decide a request for a programme of which the channel itself may have something."""
        span = Span(Moment(programme.start), Moment(programme.end))
        if address.name == THUMBNAILS:
            return self._thumbnails.decide(request, address._replace(span=span), stream)
        if address.name not in CLIPS:
            return self._windows.decide(request, address, span, stream)
        if programme.end > stream.wall_clock():
            # Up to now.
            return self._clips.decide(request, address._replace(span=span._replace(end=None)), stream)
        query = {"start": written(programme.start), "end": written(programme.end)}
        if address.chosen:
            query["rendition"] = address.chosen
        return redirection(address, query, max(stream.target_duration // 2, 1))


def _is_kept(stream: LiveStream, programme: Programme) -> bool:
    """Return whether the channel still has a programme from its beginning on."""
    if not stream.has_media:
        return False
    listed = variant_renditions(list(stream.renditions.values()))[0].window.listed
    return bool(listed) and listed[0].program_date_time <= programme.start


def _is_recorded(address: LiveAddress, stream: LiveStream) -> bool:
    """Return whether recordings have what is asked for; of other things the DVR may still have something."""
    if address.name == SOUND_CLIP:
        return bool(stream.renditions) and not any(one.video for one in stream.renditions.values())
    return address.name != THUMBNAILS


def _recorded(address: LiveAddress, recording: str, max_age: int) -> Reply:
    """Lead to a programme's recording."""
    name = "event.mp4" if address.name in CLIPS else address.name
    # RFC 9110 §15.4.3: relative to the address that was asked for, which may have a prefix.
    location = f"recordings/{recording}/{name}"
    if address.rendition:
        location = f"../recordings/{recording}/{address.rendition}/{name}"
    fields = (
        (b"location", (location + address.directives.suffix).encode("ascii", "replace")),
        (b"cache-control", b"public, max-age=%d" % max(max_age // 2, 1)),
        (b"content-length", b"0"),
    )
    return Reply(PlainHead(302, fields))
