"""Decides requests for the files of a rendition's folder: init segments, segments and parts."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import structlog
from msgspec import Struct, structs

from media.mp4.text import wvtt
from origin.answers.heads import RepresentationHead
from origin.answers.memfd_cache import MemfdCache, MemfdCopy, MemfdLimits
from origin.answers.refusals import OPENING_RETRY_SECONDS, refusal
from origin.answers.reply import PendingTask, Reply
from origin.answers.representation_replies import media_head, media_reply, text_reply
from origin.answers.request import Request
from origin.http.client_limits import network_of
from origin.http.representation import RepresentationMetadata
from origin.live.past.dash_captions import is_dash_captions, render_dash_captions
from origin.live.past.programme_requests import ProgrammeDirectory
from origin.live.past.snapshots import DrawSnapshot
from origin.live.requests.addresses import (
    LiveAddress,
    RenditionFile,
    RenditionFileKind,
    cache_control,
    media_type,
)
from origin.live.requests.availability import (
    has_begun_by_the_clock,
    is_due,
    is_starting,
    may_be_elsewhere,
    not_found_max_age,
)
from origin.live.requests.dvr_segments import StoredSegments, media_tag, past_of
from origin.live.requests.waits import (
    Outcome,
    Wait,
    longest_wait,
    open_segment_reply,
    part_wait,
    wait_until_ready,
)
from packager.bounded_dict import BoundedDict
from packager.past.media_times import replacement
from packager.past.past_segments import PastSegments
from packager.publish.live_stream import LiveStream
from packager.window.model import MEDIA_EXTENSION, StoredSegment
from packager.window.rendition import Rendition
from packager.window.window import Window

log = structlog.get_logger()

RecordedFile = Callable[[Request], Coroutine[Any, Any, Reply | None]]
"""Replies with a file of a recorded event; None where the recording has none of that name."""

FindRecorded = Callable[[str, str, str, int], RecordedFile | None]
"""Finds a file of a recorded event: of a channel, a rendition, a name in its folder, and the media sequence
number which that stands for; None where no recording has the number."""


def _never_recorded(_: str, __: str, ___: str, ____: int) -> None:
    """Nothing is recorded."""


@dataclass(frozen=True, slots=True)
class PastMedia:
    """The places of media that have left the windows' memory.

    Attributes:
        stored: segments of the DVR; by default those on this machine's disk.
        find_recorded: finds those of recorded events.
        window_hours: longest span of the past that a request may name.
        clip_hours: longest span that is one file.
        draw_snapshot: draws the JPEG of an MP4 of one picture; None: this process can't.
        programmes: the channels' programmes; None: another process has them.
    """

    stored: StoredSegments = field(default_factory=StoredSegments)
    find_recorded: FindRecorded = _never_recorded
    window_hours: float = 24.0
    clip_hours: float = 4.0
    draw_snapshot: DrawSnapshot | None = None
    programmes: ProgrammeDirectory | None = None


REPLIES_KEPT, SMALL_BYTES = 32, 128 << 10
"""Most replies that are kept, and the largest media that they may hold: parts, and short segments."""


class MediaReplies:
    """Replies with media from memory; the kernel sends what several clients ask for from copies of its own.

    Args:
        streams: by name; may change while serving.
        memfd: how much is copied for the kernel.
    """

    def __init__(self, streams: Mapping[str, LiveStream], memfd: MemfdLimits | None = None) -> None:
        self.streams = streams
        self.copies = MemfdCache(memfd)
        # The latest replies to plain requests, each with its media: clients of a rendition ask for the same
        # parts at about the same time.
        self._latest = BoundedDict[tuple[int, str], tuple[Rendition, bytes | memoryview, Reply]](REPLIES_KEPT)

    def reply(
        self, request: Request, address: LiveAddress, rendition: Rendition, data: bytes | memoryview
    ) -> Reply:
        """Return the reply with an init segment, a segment or a part."""
        if rendition.language is not None:
            kind, tag = media_type(rendition), media_tag(address.name, len(data))
            max_age, coded = int(rendition.window.finished.retention), request.takes_gzip
            return text_reply(request, (bytes(data),), kind, max_age, coded=coded, immutable_tag=tag)
        if not request.is_plain:
            return self._make(request, address, rendition, data, None)
        key = id(rendition), address.name
        copy, latest = None, self._latest.get(key)
        if latest is not None and latest[0] is rendition and latest[1] is data:
            reply = latest[2]
            # A reply without a copy may get one: the kernel does when several clients have asked.
            if reply.source is not None or (copy := self.copies.of(data)) is None:
                return reply
        reply = self._make(request, address, rendition, data, copy or self.copies.of(data))
        if len(data) <= SMALL_BYTES:
            self._latest[key] = rendition, data, reply
        return reply

    def _make(
        self,
        request: Request,
        address: LiveAddress,
        rendition: Rendition,
        data: bytes | memoryview,
        copy: MemfdCopy | None,
    ) -> Reply:
        kind, tag = media_type(rendition), media_tag(address.name, len(data))
        caching = cache_control(rendition.window)
        if copy is None:
            return media_reply(request, data, kind, tag, caching)
        head = media_head(RepresentationMetadata(len(data), kind, tag), caching)
        return Reply(head, (copy.span,), copy, None, RepeatedMedia(self, address))


class RepeatedMedia:
    """A request for media that many players send byte for byte.

    It holds no media, which may leave memory at any time; then a handler has to decide the request again.
    """

    __slots__ = ("_address", "_head", "_replies", "_retention")

    def __init__(self, replies: MediaReplies, address: LiveAddress) -> None:
        self._replies = replies
        self._address = address
        # The latest head, and the retention of the window with which it was made.
        self._head: RepresentationHead | None = None
        self._retention = Fraction()

    def current(self) -> tuple[RepresentationHead, MemfdCopy] | None:
        """Return the media's head and copy, as long as they are there; see `Repeatable`."""
        address = self._address
        stream = self._replies.streams.get(address.channel)
        rendition = None if stream is None else stream.renditions.get(address.rendition)
        if rendition is None:
            return None
        window = rendition.window
        data = address.file.in_memory(window)
        copy = None if data is None else self._replies.copies.of(data)
        if data is None or copy is None:
            return None
        head, size, retention = self._head, len(data), window.finished.retention
        if head is None or head.size != size or self._retention is not retention:
            metadata = RepresentationMetadata(size, media_type(rendition), media_tag(address.name, size))
            head = self._head = media_head(metadata, cache_control(window))
            self._retention = retention
        return head, copy


class MediaRequest(Struct, frozen=True, gc=False):
    """A request for a file that may not be in memory."""

    request: Request
    address: LiveAddress
    stream: LiveStream
    rendition: Rendition
    replies: MediaReplies
    past: PastMedia

    @property
    def window(self) -> Window:
        """The rendition's window."""
        return self.rendition.window

    @property
    def file(self) -> RenditionFile:
        """The file, as its name says it."""
        return self.address.file

    def decide(self) -> Outcome:
        """Decide the request."""
        window, file = self.rendition.window, self.address.file
        is_part = file.kind is RenditionFileKind.PART and file.extension == window.extension
        if is_part and not window.ended and window.next_part == (file.number, file.index):
            return self._wait_for_part(window, file)
        if not is_starting(self.stream, window):
            return self.decide_started()

        def when_ready(_: bool) -> Outcome:
            rendition = self.stream.renditions[self.rendition.name]
            return structs.replace(self, rendition=rendition).decide_started()

        # Players have seen the segments that a start finds in its folder listed: none is unknown before that.
        return wait_until_ready(self.stream, when_ready)

    def decide_started(self) -> Outcome:
        """Wait for the bytes of a file that is listed without them, here or where the channel is made."""
        window, file = self.window, self.file
        if file.kind is RenditionFileKind.INIT:
            if (
                window.init(file.number) is None
                and window.next_part <= (file.number, 0)
                and may_be_elsewhere(self.stream, window, file.number)
            ):
                # The init segment is named in other processes' playlists, and comes here with its first part.
                return part_wait(window, file.number, 0, lambda _: self._answer(), 0)
        elif file.kind is not RenditionFileKind.NOTHING and window.awaits(file.number):

            def then(holds: bool) -> Outcome:
                return self._answer() if holds else self._later()

            key = "bytes", file.number
            return Wait(window, lambda: not window.awaits(file.number), longest_wait(window), key, then)
        return self._answer()

    def _answer(self) -> Outcome:
        """Decide the request where all listed bytes are there."""
        window, request = self.window, self.request
        if is_dash_captions(self.file, self.rendition):
            return self._dash_captions()
        file, is_text = self.file.of(window), self.rendition.language is not None
        data = file.in_memory(window)
        if data is not None:
            return self.replies.reply(request, self.address, self.rendition, data)
        stored = window.stored(file.number)
        if file.kind is RenditionFileKind.SEGMENT:
            if stored is not None:
                return self._read(functools.partial(self._stored_segment, stored))
            # A text's segment isn't its parts in a row: it is there when it is complete.
            if not is_text:
                return self._open_segment()
        elif file.kind is RenditionFileKind.PART:
            if stored is None:
                return self._part()
            # Nor are its parts in it: they are gone with the segment's place in memory.
            if not is_text:
                return self._read(functools.partial(self._stored_part, stored))
        return self._past()

    def _open_segment(self) -> Outcome:
        """Wait for the first part of a segment that is due, and then send the parts as they come."""
        window, number = self.window, self.file.number

        def begun(_: bool = False) -> Outcome:
            if window.part(number, 0) is None:
                return self._past()
            kind, caching = media_type(self.rendition), cache_control(window)
            return open_segment_reply(self.request, window, number, kind, caching)

        if window.part(number, 0) is not None or not is_due(self.stream, window, number):
            return begun()
        least = window.waiters.limits.segment_seconds
        return part_wait(window, number, 0, begun, window.target_duration, least)

    def _part(self) -> Outcome:
        """Wait for the part that is hinted at; any other is there or isn't (§6.2.6)."""
        window, file = self.window, self.file
        place = file.number, file.index
        if window.next_part <= place and may_be_elsewhere(self.stream, window, *place):
            return self._wait_for_part(window, file)
        return self._missing()

    def _wait_for_part(self, window: Window, file: RenditionFile) -> Outcome:
        return part_wait(window, file.number, file.index, self._when_passed, window.target_duration)

    def _when_passed(self, _: bool) -> Outcome:
        """Reply with a part, or that it hasn't come: whatever is waited for may pass without it."""
        file = self.address.file
        data = self.rendition.window.part(file.number, file.index)
        if data is None:
            return self._missing()
        return self.replies.reply(self.request, self.address, self.rendition, data)

    def _dash_captions(self) -> Outcome:
        window, number = self.window, self.file.number

        def complete(_: bool = False) -> Outcome:
            return self._read(self._rendered_captions)

        if self.file.kind is RenditionFileKind.INIT or not is_due(self.stream, window, number):
            return complete()
        # A segment's words are known at its end; players ask for captions as early as for the picture.
        least = window.waiters.limits.segment_seconds
        return part_wait(window, number, sys.maxsize, complete, window.target_duration, least)

    @property
    def _network(self) -> str:
        """The client's network, which takes turns with others."""
        return network_of(self.request.client)

    async def _rendered_captions(self) -> Reply:
        data = await render_dash_captions(
            self.file, self.stream, self.rendition, self.past.stored, self._network
        )
        if data is None:
            return self._missing()
        tag, caching = media_tag(self.address.name, len(data)), cache_control(self.window)
        return media_reply(self.request, data, wvtt.MEDIA_TYPE, tag, caching)

    async def _stored_segment(self, stored: tuple[str, StoredSegment]) -> Reply:
        """Return the reply with a segment that has left memory, as it was from there."""
        if self.rendition.language is not None:
            # Captions are short, and may be compressed.
            return self._from_disk(await self.past.stored.read_whole(stored, self._network))
        kind, caching = media_type(self.rendition), cache_control(self.window)
        reply = await self.past.stored.reply(self.request, stored, self.address.name, kind, caching)
        return reply or refusal(self.request, 404, self.stream.target_duration)

    async def _stored_part(self, stored: tuple[str, StoredSegment]) -> Reply:
        return self._from_disk(await self.past.stored.read_part(stored, self.file.index, self._network))

    def _from_disk(self, data: bytes | None) -> Reply:
        """Return the reply with media that were read whole; None: they aren't there any more."""
        if data is None:
            return self._missing()
        return self.replies.reply(self.request, self.address, self.rendition, data)

    def _past(self) -> Outcome:
        """Decide a request for what the window doesn't have: perhaps it is in a recording."""
        file, name = self.file, self.address.name
        if file.kind in (RenditionFileKind.INIT, RenditionFileKind.SEGMENT):
            # §6.2.2: the live address of a segment of a recorded event stays good.
            found = self.past.find_recorded(self.stream.name, self.rendition.name, name, file.number)
            if found is not None:
                return self._read(functools.partial(self._recorded, found))
            past = past_of(self.stream, [self.rendition.name], self.past.stored).get(self.rendition.name)
            if past is not None and file.number < self.window.next_number:
                return self._read(functools.partial(self._earlier, past))
        return self._missing()

    async def _earlier(self, past: PastSegments) -> Reply:
        """Reply with a segment that has left the playlist, or with an init segment of such ones."""
        if self.file.kind is RenditionFileKind.INIT:
            data = await past.threads.of(self._network).run(past.init, self.file.number)
            if data is None:
                return self._missing()
            return self.replies.reply(self.request, self.address, self.rendition, data)
        found = await past.threads.of(self._network).run(past.find, self.file.number)
        if found is None or found.stored is None:
            return await self._lost(past)
        return await self._stored_segment((past.place_of(found), found.stored))

    async def _lost(self, past: PastSegments) -> Reply:
        """Reply with a segment without media for a gap, as while it was listed; see ``_missing``."""
        is_coded = self.rendition.language is None and self.file.extension == MEDIA_EXTENSION
        if not (is_coded and self.stream.cadence.regular):
            return self._missing()
        data = await past.threads.of(self._network).run(replacement, past, self.file.number)
        return self._missing() if data is None else self._without_media(data)

    def _without_media(self, data: bytes) -> Reply:
        kept, tag = f"public, max-age={self.stream.target_duration}", media_tag(self.address.name, len(data))
        return media_reply(self.request, data, media_type(self.rendition), tag, kept)

    async def _recorded(self, file: RecordedFile) -> Reply:
        return await file(self.request) or self._missing()

    def _read(self, read: Callable[[], Coroutine[Any, Any, Reply]]) -> PendingTask:
        async def reply() -> Reply:
            try:
                return await read()
            except OSError as error:
                # RFC 9110 §15.6.4: what is there isn't unknown because it can't be opened now.
                name = self.address.name
                log.debug(
                    "a segment can't be opened", stream=self.stream.name, name=name, reason=error.strerror
                )
                return refusal(self.request, 503, 0, retry_after=OPENING_RETRY_SECONDS)

        return PendingTask(reply())

    def _later(self) -> Reply:
        return refusal(self.request, 503, 0, retry_after=self.stream.target_duration)

    def _missing(self) -> Reply:
        """Return the reply for what isn't there: it never came, came too late, or is none of ours."""
        request, stream, rendition, window = self.request, self.stream, self.rendition, self.window
        target_duration = stream.target_duration
        # Captions for DASH have another extension than the rendition's.
        file = self.file if is_dash_captions(self.file, rendition) else self.file.of(window)
        if file.kind is not RenditionFileKind.NOTHING and is_starting(stream, window):
            # Its folder may have it.
            return self._later()
        if file.kind is RenditionFileKind.SEGMENT and file.extension == MEDIA_EXTENSION:
            if is_due(stream, window, file.number) or has_begun_by_the_clock(stream, window, file.number):
                # A period without an end names what is due, however late it is: an unknown one it isn't.
                return self._later()
            now = stream.wall_clock()
            if (nothing := stream.presentation.lost_segment(rendition.name, file.number, now)) is not None:
                # By numbers and a clock players can't see that there is a gap (ISO/IEC 23009-1 §5.3.9.5.3).
                return self._without_media(nothing)
        if file.kind is not RenditionFileKind.NOTHING and may_be_elsewhere(
            stream, window, file.number, file.index
        ):
            # RFC 9110 §15.6.4: the file exists, but not here yet; other processes may have it.
            return self._later()
        return refusal(request, 404, not_found_max_age(file.number, stream, window, target_duration))
