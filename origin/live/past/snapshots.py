"""Pictures of a channel's past: `/live/CHANNEL/snapshot.jpg?at=TIME`, the key frame at TIME or before."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Mapping, Sequence
from fractions import Fraction
from typing import NamedTuple

import structlog
from msgspec import Struct, structs

from media.errors import MediaError, UnsupportedError
from origin.answers.pieces import TruncatedFileError
from origin.answers.refusals import READING_RETRY_SECONDS, refusal
from origin.answers.reply import PendingTask, Reply
from origin.answers.representation_replies import media_reply
from origin.answers.request import Request
from origin.answers.single_flight import SingleFlight
from origin.http.client_limits import network_of
from origin.live.past.spans import IMMUTABLE_SECONDS, NOT_YET, NOTHING_KEPT, redirection, written
from origin.live.requests.addresses import LiveAddress
from origin.live.requests.dvr_segments import SegmentFiles, StoredSegments, past_of, unreadable
from origin.live.requests.moments import EXAMPLES
from origin.live.requests.waits import Outcome, wait_for_past
from packager.bounded_dict import SizedDict
from packager.fair_queue import FairSemaphore, TooManyWaitingError
from packager.library.local_storage import NotFoundError
from packager.past.key_frames import KeyFrame, read_key_frame, segment_before
from packager.past.past_segments import PastSegments
from packager.past.thumbnails import THUMBNAIL_WIDTH, thumbnail_size
from packager.publish.live_stream import LiveStream
from packager.reader_guard import ReaderGuard
from packager.transient_errors import NotReadyError
from packager.window.model import LiveSegment
from packager.window.rendition import Rendition, variant_renditions

log = structlog.get_logger()

MAX_KEPT, MAX_KEPT_BYTES = 256, 16 << 20
"""Most pictures that are kept, and most bytes of all of them."""

MAX_WAITING = 64
"""Most requests for pictures that wait for their turn."""

EARLIER_SECONDS = 60
"""How long before a moment the picture of it may be, where that isn't listed any more."""

NEEDS_MOMENT = f"at: a time is needed; allowed: {EXAMPLES}"
NO_FFMPEG = "this server has no ffmpeg that could decode a picture"
NO_PICTURE = "rendition: none with a picture has this name"

WRONG_WIDTH = f"width: allowed: {THUMBNAIL_WIDTH}, or none"

DrawSnapshot = Callable[[bytes, tuple[int, int] | None], Awaitable[bytes]]
"""Draws the JPEG of an MP4 of one picture, in its own size where none is given.

Raises UnsupportedError, or NotReadyError where it can't now.
"""

Key = tuple[str, str, bool, int, int, int]
"""Channel, rendition, whether it is small, number of segment and storer, place in the segment."""

Place = tuple[str, str, bool, int, int, Fraction]
"""Channel, rendition, whether it is small, number of segment and storer, moment."""


class SnapshotRequest(Struct, frozen=True, gc=False):
    """A request for the picture of a moment.

    Attributes:
        segment: the segment that has the picture.
        moment: seconds since the epoch.
        is_small: whether a small picture is wanted.
    """

    request: Request
    stream: LiveStream
    rendition: Rendition
    segment: LiveSegment
    moment: Fraction
    is_small: bool

    @property
    def size(self) -> tuple[int, int] | None:
        """Width and height of a small picture; None: its own."""
        timeline = self.segment.timeline
        return thumbnail_size(timeline.entry) if self.is_small and timeline is not None else None

    def key_frame(self, stored: StoredSegments) -> KeyFrame:
        """Read the key frame. Blocks.

        Raises:
            MediaError: the segment is damaged, or has no key frame that can be decoded.
            NotFoundError: the segment was removed.
            OSError: the segment can't be read now.
        """
        name = self.rendition.name
        files = SegmentFiles({name: self.rendition}, stored, past_of(self.stream, [name], stored))
        with files.reading(name, self.segment) as read:
            return read_key_frame(read, self.segment, self.moment)

    def key(self, found: KeyFrame) -> Key:
        """Return the key under which the picture is kept."""
        return *self.place[:-1], found.place

    @property
    def place(self) -> Place:
        """All that requests for the same picture have in common before its key frame is read."""
        stored = self.segment.stored
        stored_by = 0 if stored is None else stored.stored_by
        number = self.segment.number
        return self.stream.name, self.rendition.name, self.is_small, number, stored_by, self.moment


class ShownMoment(NamedTuple):
    """A moment whose picture is wanted, as the live playlists have it.

    Attributes:
        renditions: the renditions with pictures among which is chosen, the best first.
        rendition: the rendition among them whose picture is drawn.
        segment: the segment of its playlist; None without one.
        is_ahead: whether the moment is still to come.
        is_earlier: whether the picture may be one of before the playlists.
    """

    renditions: Sequence[Rendition]
    rendition: Rendition
    segment: LiveSegment | None
    moment: Fraction
    is_ahead: bool
    is_earlier: bool

    @classmethod
    def of(cls, stream: LiveStream, address: LiveAddress) -> ShownMoment | None:
        """Find what is shown; None where the channel has no such rendition, or the address no moment."""
        pictures = [one for one in variant_renditions(stream.renditions.values()) if one.video]
        if address.chosen:
            pictures = [one for one in pictures if one.name == address.chosen]
        if not pictures or address.moment is None:
            return None
        window, moment = pictures[0].window, address.moment.at(Fraction(stream.wall_clock()))
        listed = window.finished.dated(moment, None)
        is_ahead = not window.ended and not address.moment.is_relative and _is_ahead(listed, moment)
        # A moment that is still to come may have been before the clock was set back.
        is_earlier = not listed or moment < listed[0].program_date_time or is_ahead
        # A rendition that was added since has nothing of the moment, and then the next one is shown.
        rendition = next((one for one in pictures if _listed_at(one, moment) is not None), pictures[0])
        return cls(pictures, rendition, _listed_at(rendition, moment), moment, is_ahead, is_earlier)

    @property
    def is_listed(self) -> bool:
        """Whether the picture is one of the live playlists', and none of before."""
        return self.segment is not None and not self.is_earlier


class SnapshotReplies:
    """Decides requests for pictures of the past.

    Args:
        stored: opens segments that have left memory.
        draw: draws the JPEGs; None: this process can't.
    """

    def __init__(self, stored: StoredSegments, draw: DrawSnapshot | None) -> None:
        self._stored = stored
        self._draw = draw or _draw_nothing
        self._turns = FairSemaphore(1, 1, MAX_WAITING)
        self._reading = SingleFlight[Place, bytes]()
        self._drawing = SingleFlight[Key, bytes]()
        # The picture that wasn't asked for for longest comes first.
        self._kept = SizedDict[Key, bytes](MAX_KEPT, MAX_KEPT_BYTES, len)

    def decide(self, request: Request, address: LiveAddress, stream: LiveStream) -> Outcome:
        """Decide a request, once the channel has segments."""
        target_duration = stream.target_duration

        if address.width not in ("", str(THUMBNAIL_WIDTH)):
            return refusal(request, 400, target_duration, WRONG_WIDTH)
        if address.error or address.moment is None:
            return refusal(request, 400, target_duration, address.error or NEEDS_MOMENT)
        return wait_for_past(request, stream, lambda: self._decide(request, address, stream))

    def _decide(self, request: Request, address: LiveAddress, stream: LiveStream) -> Outcome:
        target_duration = stream.target_duration
        shown = ShownMoment.of(stream, address)
        if shown is None or address.moment is None:
            return refusal(request, 404, target_duration, NO_PICTURE)
        window = shown.renditions[0].window
        past = past_of(stream, [one.name for one in shown.renditions], self._stored)
        found = shown.segment or (window.listed[0] if window.listed else None)
        if found is None:
            return refusal(request, 404, target_duration, NOTHING_KEPT)
        asked = SnapshotRequest(request, stream, shown.rendition, found, shown.moment, bool(address.width))
        if window.listed and shown.is_earlier and past:
            return PendingTask(self._earlier(asked, address, past))
        if shown.segment is None:
            return refusal(request, 404, target_duration, NOTHING_KEPT)
        if address.moment.is_relative:
            return _redirected(asked, address)
        if shown.is_ahead:
            return refusal(request, 404, max(target_duration // 2, 1), NOT_YET)
        return PendingTask(self._reply(asked))

    async def _earlier(
        self, asked: SnapshotRequest, address: LiveAddress, past: Mapping[str, PastSegments]
    ) -> Reply:
        """Reply with a picture of before the playlist, of the first rendition that has one."""
        is_ahead = not asked.rendition.window.ended and _is_ahead(asked.rendition.window.listed, asked.moment)
        for name, own in past.items():
            tried = structs.replace(asked, rendition=asked.stream.renditions[name])
            try:
                segment = await self._earlier_segment(tried, own, is_ahead=is_ahead)
            except OSError as error:
                return unreadable(asked.request, asked.stream.name, error)
            if segment is not None:
                break
        else:
            later = asked.stream.target_duration
            reason, later = (NOT_YET, max(later // 2, 1)) if is_ahead else (NOTHING_KEPT, later)
            return refusal(asked.request, 404, later, reason)
        asked = structs.replace(tried, segment=segment)
        if address.moment is not None and address.moment.is_relative:
            return _redirected(asked, address)
        return await self._reply(asked)

    async def _earlier_segment(
        self, asked: SnapshotRequest, past: PastSegments, *, is_ahead: bool
    ) -> LiveSegment | None:
        """Find what a rendition shows at a moment of before the playlist; raise OSError if S3 is away."""
        start, end = asked.moment - EARLIER_SECONDS, asked.moment + Fraction(1, 1000)
        window, finished = asked.rendition.window, asked.rendition.window.finished
        before = finished.oldest_number
        threads = past.threads.of(network_of(asked.request.client))
        found = list(await threads.run(past.read, start, end, before))
        held = finished.dated(start, end, before) if finished.is_stepped else window.unlisted
        found += (one for one in held if one.program_date_time < end)
        if is_ahead:
            found = [one for one in found if not _is_ahead([one], asked.moment)]
        return segment_before(found, len(found))

    async def _reply(self, asked: SnapshotRequest) -> Reply:
        request, later = asked.request, asked.stream.target_duration
        try:
            with ReaderGuard(asked.stream.name):
                data = await self._reading.do(asked.place, lambda: self._picture(asked))
        except (TooManyWaitingError, NotReadyError):
            return refusal(request, 503, 0, retry_after=later)
        except (MediaError, NotFoundError) as error:
            return refusal(request, 404, later, str(error))
        except (OSError, TruncatedFileError) as error:
            log.warning("a picture of the past can't be read", channel=asked.stream.name, reason=str(error))
            return refusal(request, 503, 0, retry_after=READING_RETRY_SECONDS)
        # Another machine's ffmpeg may draw other bytes.
        tag = f'"{hashlib.sha256(data).hexdigest()[:24]}"'
        return media_reply(
            request, data, "image/jpeg", tag, f"public, max-age={IMMUTABLE_SECONDS}, immutable"
        )

    async def _picture(self, asked: SnapshotRequest) -> bytes:
        """Read the key frame of a moment, and return its picture, kept or drawn."""
        threads = self._stored.threads.of(network_of(asked.request.client))
        found = await threads.run(asked.key_frame, self._stored)
        key = asked.key(found)
        data = self._kept.use(key)
        return await self._drawing.do(key, lambda: self._drawn(key, found, asked)) if data is None else data

    async def _drawn(self, key: Key, found: KeyFrame, asked: SnapshotRequest) -> bytes:
        """Draw a picture, and keep it."""
        async with self._turns.held(network_of(asked.request.client)):
            data = await self._draw(found.movie, asked.size)
        self._kept[key] = data
        return data


def _redirected(asked: SnapshotRequest, address: LiveAddress) -> Reply:
    """Lead to the date of the segment that has the picture."""
    query = {"at": written(asked.segment.program_date_time, up=True)}
    if address.chosen:
        query["rendition"] = address.chosen
    if address.width:
        query["width"] = address.width
    return redirection(address, query, max(asked.stream.target_duration // 2, 1))


async def _draw_nothing(_: bytes, __: tuple[int, int] | None) -> bytes:
    raise UnsupportedError(NO_FFMPEG)


def _listed_at(rendition: Rendition, moment: Fraction) -> LiveSegment | None:
    """Return the segment in which a rendition's playlist has what is shown at a moment."""
    listed = rendition.window.finished.dated(moment, None)
    return segment_before(listed, bisect_right(listed, moment, key=_date))


def _is_ahead(segments: Sequence[LiveSegment], moment: Fraction) -> bool:
    """Return whether a moment is behind the last one of some segments."""
    return bool(segments) and segments[-1].program_date_time + segments[-1].duration <= moment


def _date(segment: LiveSegment) -> Fraction:
    return segment.program_date_time
