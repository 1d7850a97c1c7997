"""Replies that come later: what a decision waits for, and the object that waits without a task.

A decision (`playlist_requests.py`, `media_requests.py`) returns an `Outcome`: a reply, or what has to happen
before there is one. `LaterReply` carries that out.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Hashable

from msgspec import Struct

from origin.answers.heads import PlainHead
from origin.answers.pieces import TruncatedFileError
from origin.answers.refusals import refusal
from origin.answers.reply import Pending, PendingTask, Reply, ReplyReceiver
from origin.answers.request import Request
from origin.http.client_limits import RETRY_SECONDS, ClientLimit
from packager.publish.live_stream import LiveStream
from packager.window.waiters import TooManyWaitersError
from packager.window.window import Window


class Wait(Struct, frozen=True, gc=False):
    """The wait for a condition of a rendition's window that doesn't hold yet, and the decision behind it.

    Attributes:
        window: the window whose changes may fulfil the condition.
        has_come: returns whether the condition holds.
        seconds: longest wait.
        key: identifies the condition, the same for all who wait for it; None: nobody else does.
        then: decides behind the wait: the condition holds, or else the time is over.
        crowded_max_age: seconds for which caches may keep the refusal where too many requests wait already;
            None: `then` decides that, too, as if the time were over.
    """

    window: Window
    has_come: Callable[[], bool]
    seconds: float
    key: Hashable
    then: Callable[[bool], Outcome]
    crowded_max_age: int | None = None


Outcome = Reply | Wait | PendingTask
"""The result of a decision: a reply, what has to happen before there is one, or the task that makes one."""


def part_wait(
    window: Window, number: int, part: int, then: Callable[[bool], Outcome], max_age: int, least: float = 0
) -> Wait:
    """Make the wait for a part, until it comes, the numbers go on without it, or the channel ends.

    Args:
        number: media sequence number.
        part: part index.
        max_age: seconds for which caches may keep the refusal where too many requests wait already.
        least: seconds that the request may wait in any case.
    """
    has_come = functools.partial(has_passed, window, number, part)
    seconds = max(longest_wait(window), least)
    return Wait(window, has_come, seconds, part_key(number, part), then, max_age)


def part_key(number: int, part: int) -> Hashable:
    """Identify a part that is waited for, the same for all who wait for it."""
    return "past", number, part


def has_passed(window: Window, number: int, part: int) -> bool:
    """Return whether a part has come, or doesn't come any more."""
    return window.ended or window.next_part > (number, part)


def longest_wait(window: Window) -> int:
    """Return the seconds that a request may wait for the next part or segment of a window."""
    return window.waiters.limits.blocked_target_durations * window.target_duration


NOT_ON_AIR = "the channel has no media yet; /api/live has its state"
"""Line of the refusal of media of a channel that isn't ready."""


def not_on_air(request: Request, stream: LiveStream) -> Reply:
    """Return the refusal while a channel has no media, which a cache may keep for a segment's time."""
    later = stream.target_duration
    return refusal(request, 503, later, NOT_ON_AIR, retry_after=later)


def wait_until_ready(stream: LiveStream, then: Callable[[bool], Outcome]) -> Outcome:
    """Wait for the first segment of every rendition.

    Args:
        then: decides behind the wait, whether the channel is ready or not.
    """
    if stream.ready:
        return then(True)
    if stream.commands.is_postponed():
        return then(False)
    first = next(iter(stream.renditions.values())).window
    deadline = time.monotonic() + longest_wait(first)

    def next_wait(_: bool = False) -> Outcome:
        # A start looks at its source and its folder first, and then goes on with other windows.
        left = deadline - time.monotonic()
        if stream.ready or left <= 0:
            return then(stream.ready)
        windows = (rendition.window for rendition in stream.renditions.values())
        lacking = next(window for window in windows if not window.has_segments())
        if lacking.waiters.closed:
            return then(False)
        return Wait(lacking, lacking.has_segments, left, None, next_wait)

    return next_wait()


def wait_for_past(request: Request, stream: LiveStream, then: Callable[[], Outcome]) -> Outcome:
    """Wait as `wait_until_ready` does, but not for a rendition that was added since: the others have a past.

    Args:
        then: decides behind the wait, unless the channel has no media yet.
    """
    if stream.has_media:
        return then()
    return wait_until_ready(stream, lambda is_ready: then() if is_ready else not_on_air(request, stream))


class LaterReply(Pending):
    """A reply that needs a wait, a task, or parts that come while it is sent.

    It is started in the step of the loop in which it was decided, so that nothing has come meanwhile.

    It counts among the blocked requests of its client until there is a reply; with an open segment, until the
    end of the body.
    """

    __slots__ = ("_awaited", "_blocked", "_is_counted", "_receiver", "_request")

    def __init__(self, request: Request, outcome: Outcome, blocked: ClientLimit) -> None:
        self._request = request
        # The outcome to begin with; then the current wait or the running task.
        self._awaited: Outcome | None = outcome
        self._blocked = blocked
        self._is_counted = False
        self._receiver: ReplyReceiver

    def start(self, receiver: ReplyReceiver) -> None:
        """Carry out what was decided, or refuse a client that has as many blocked requests as it may."""
        self._receiver = receiver
        outcome, self._awaited = self._awaited, None
        self._is_counted = self._blocked.acquire(self._request.client)
        if not self._is_counted:
            if isinstance(outcome, PendingTask):
                outcome.cancel()
            outcome = refusal(self._request, 429, 0, retry_after=RETRY_SECONDS)
        try:
            self._carry_out(outcome)
        except Exception as error:  # noqa: BLE001  # it concerns this request alone, and is logged
            self.fail(error)

    def cancel(self) -> None:
        """Stop waiting: the client has gone."""
        awaited, self._awaited = self._awaited, None
        if isinstance(awaited, Wait):
            awaited.window.waiters.remove(self)
        elif isinstance(awaited, PendingTask):
            awaited.cancel()
        self._give_back()

    def release(self, holds: bool) -> None:
        """Decide behind the wait: its condition holds, or else its time is over."""
        wait, self._awaited = self._awaited, None
        if not isinstance(wait, Wait):
            return
        try:
            self._carry_out(wait.then(holds))
        except Exception as error:  # noqa: BLE001  # it concerns this request alone, and is logged
            self.fail(error)

    def reply(self, reply: Reply) -> None:
        """Hand on a reply that is complete, or whose body comes part by part; see `ReplyReceiver`."""
        if isinstance(reply.source, OpenSegmentBody):
            reply.source.on_released = self._give_back
        else:
            self._give_back()
        self._receiver.reply(reply)

    def fail(self, error: BaseException) -> None:
        """Hand on the failure; see `ReplyReceiver`."""
        self._give_back()
        self._receiver.fail(error)

    def _give_back(self) -> None:
        """Let another request of the client wait."""
        if self._is_counted:
            self._is_counted = False
            self._blocked.give_back(self._request.client)

    def _carry_out(self, outcome: Outcome | None) -> None:
        while isinstance(outcome, Wait):
            waiters = outcome.window.waiters
            if waiters.closed:
                outcome = outcome.then(outcome.has_come())
                continue
            try:
                waiters.add(self, outcome.has_come, outcome.seconds, outcome.key)
            except TooManyWaitersError:
                outcome = self._crowded(outcome)
            else:
                self._awaited = outcome
                return
        if isinstance(outcome, Reply):
            self.reply(outcome)
        elif outcome is not None:
            self._awaited = outcome
            outcome.start(self)

    def _crowded(self, wait: Wait) -> Outcome:
        """Decide where too many requests wait already."""
        if wait.crowded_max_age is None:
            return wait.then(False)
        later = wait.window.target_duration
        return refusal(self._request, 503, wait.crowded_max_age, retry_after=later)


def open_segment_reply(
    request: Request, window: Window, number: int, media_type: str, cache_control: str
) -> Reply:
    """Return the reply with a segment that has begun: its parts, those to come as they come.

    Args:
        number: media sequence number.
    """
    # RFC 9110 §14.2: a Range may be ignored; of what length it is a part isn't known.
    fields = (
        (b"content-type", media_type.encode("latin-1")),
        (b"cache-control", cache_control.encode("latin-1")),
    )
    body = OpenSegmentBody(window, number) if request.method == "GET" else None
    return Reply(PlainHead(200, fields), (), body, body)


class OpenSegmentBody:
    """The body of a reply with an open segment, each part a chunk, and the source that the reply releases.

    The chunks are the bytes that HLS players get as parts; none goes before it is complete
    (RFC 8216bis §6.2.6).

    Args:
        number: media sequence number.

    Attributes:
        on_released: called at the end of the reply.
    """

    __slots__ = ("_index", "_number", "_window", "on_released")

    def __init__(self, window: Window, number: int) -> None:
        self._window = window
        self._number = number
        self._index = 0
        self.on_released: Callable[[], None] | None = None

    def __aiter__(self) -> OpenSegmentBody:
        """Return this: a body is read once."""
        return self

    async def __anext__(self) -> bytes | memoryview:
        """Return the next part, once it is there.

        Raises:
            TruncatedFileError: the rest doesn't come: then the body must not look complete.
        """
        window, number, index = self._window, self._number, self._index
        while (data := window.part(number, index)) is None:
            if window.next_number > number:
                finished = window.at(number)
                if finished is None or finished.part_count > index:
                    raise TruncatedFileError(f"segment {number} has left memory before its reader")
                raise StopAsyncIteration
            if not await self._has_come():
                raise TruncatedFileError(f"part {index} of segment {number} didn't come")
        self._index += 1
        return data

    async def _has_come(self) -> bool:
        """Wait for a part; where too many wait already it is as if it didn't come, for the head is sent."""
        window, number, index = self._window, self._number, self._index
        has_come = functools.partial(has_passed, window, number, index)
        try:
            return await window.waiters.wait(has_come, longest_wait(window), part_key(number, index))
        except TooManyWaitersError:
            return False

    def descriptor(self) -> int | None:
        """None: there is no file."""
        return None

    async def read(self, offset: int, length: int) -> bytes:
        """Return nothing: the body has no ranges."""
        del offset, length
        return b""

    def release(self) -> None:
        """Count the request as blocked no longer: its reply has ended."""
        if self.on_released is not None:
            self.on_released()
