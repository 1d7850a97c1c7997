"""Media that isn't all there yet: parts that are waited for, segments that are sent while they are made.

A part never goes before it is complete (RFC 8216bis §6.2.6). A segment that is being made goes part by part,
each of them one chunk of the body, from the same bytes that HLS players get as parts.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.responses import Response

from origin.http1.sendfile import TruncatedFileError
from origin.live.playlist_request import due_segments
from packager.publish.live_stream import LiveStream
from packager.window.waiters import TooManyWaitersError
from packager.window.window import Window

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send


@dataclass(frozen=True, slots=True)
class PartWait:
    """The wait for a part, until it comes, the numbers go on without it, or the channel ends.

    Attributes:
        number: media sequence number.
        index: part index.
    """

    window: Window
    number: int
    index: int

    def has_come(self) -> bool:
        """Return whether the wait is over."""
        return self.window.ended or self.window.next_part > (self.number, self.index)

    @property
    def key(self) -> Hashable:
        """Identify what is waited for, the same for all who wait for it."""
        return "past", self.number, self.index

    @property
    def longest_wait(self) -> int:
        """Seconds that one may wait for it."""
        return self.window.waiters.limits.blocked_target_durations * self.window.target_duration

    async def wait(self, least: int = 0) -> bool:
        """Wait for it; False when it doesn't come in time.

        Args:
            least: seconds that one may wait in any case.

        Raises:
            TooManyWaitersError: as many as may wait already.
        """
        return await self.window.waiters.wait(self.has_come, max(self.longest_wait, least), self.key)


async def wait_for_part(
    window: Window, number: int, index: int, *, elsewhere: bool = False
) -> bytes | memoryview | None:
    """Return a part; the one that is hinted at is waited for, any other is there or isn't (§6.2.6).

    Args:
        number: media sequence number.
        index: part index.
        elsewhere: whether it has come where the channel is made: then it is waited for, too.

    Returns:
        The whole part, or None where it isn't there and isn't the next one, or didn't come.

    Raises:
        TooManyWaitersError: as many as may wait already.
    """
    data = window.part(number, index)
    if data is None and (elsewhere or window.next_part == (number, index)):
        await PartWait(window, number, index).wait()
        data = window.part(number, index)
    return data


async def wait_for_bytes(window: Window, number: int) -> bool:
    """Wait for the bytes of a segment that is listed already; False where they don't come in time.

    Args:
        number: media sequence number.

    Raises:
        TooManyWaitersError: as many as may wait already.
    """
    waiters = window.waiters
    seconds = waiters.limits.blocked_target_durations * window.target_duration
    return await waiters.wait(lambda: not window.awaits(number), seconds, ("bytes", number))


async def wait_for_first_part(stream: LiveStream, window: Window, number: int) -> bool:
    """Wait until a segment has its first part.

    Args:
        number: media sequence number.

    Returns:
        Whether it has; False at once for one that doesn't come soon.

    Raises:
        TooManyWaitersError: as many as may wait already.
    """
    if is_due(stream, window, number):
        await PartWait(window, number, 0).wait(window.waiters.limits.segment_seconds)
    return window.part(number, 0) is not None


async def wait_until_complete(stream: LiveStream, window: Window, number: int) -> None:
    """Wait until a segment is complete; not at all for one that doesn't come soon.

    Args:
        number: media sequence number.

    Raises:
        TooManyWaitersError: as many as may wait already.
    """
    if is_due(stream, window, number):
        await PartWait(window, number, sys.maxsize).wait(window.waiters.limits.segment_seconds)


def is_due(stream: LiveStream, window: Window, number: int) -> bool:
    """Return whether a segment is still to come, and due or so soon that it is waited for.

    Args:
        number: media sequence number.
    """
    ahead = number - window.next_number
    return not window.ended and 0 <= ahead <= due_segments(stream, window)


class OpenSegmentResponse(Response):
    """The answer for a segment that has begun: its parts, those to come as they come.

    Args:
        number: media sequence number.
        media_type: Content-Type.
        cache_control: Cache-Control field.

    Attributes:
        held: is left when the response has ended.
    """

    def __init__(self, window: Window, number: int, media_type: str, cache_control: str) -> None:
        super().__init__()
        self.held: contextlib.AbstractContextManager[object] = contextlib.nullcontext()
        self.raw_headers = [
            (b"content-type", media_type.encode("latin-1")),
            (b"cache-control", cache_control.encode("latin-1")),
        ]
        self._window = window
        self._number = number

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request.

        Raises:
            TruncatedFileError: the rest doesn't come: then the body must not look complete.
        """
        del receive
        with self.held:
            # RFC 9110 §14.2: a Range may be ignored; of what length it is a part isn't known.
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            if scope["method"] != "HEAD":
                await self._send_parts(send)
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send_parts(self, send: Send) -> None:
        index = 0
        while True:
            data = self._window.part(self._number, index)
            if data is not None:
                await send({"type": "http.response.body", "body": data, "more_body": True})
                index += 1
            elif self._window.next_number > self._number:
                finished = self._window.at(self._number)
                if finished is None or finished.part_count > index:
                    raise TruncatedFileError(f"segment {self._number} has left memory before its reader")
                return
            elif not await self._has_come(index):
                raise TruncatedFileError(f"part {index} of segment {self._number} didn't come")

    async def _has_come(self, index: int) -> bool:
        """Wait for a part; where too many wait already it is as if it didn't come, for the head is sent."""
        try:
            return await PartWait(self._window, self._number, index).wait()
        except TooManyWaitersError:
            return False
