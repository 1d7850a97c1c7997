"""The interface of readers that divide a stream into chunks at which a decoder can be restarted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

CLOCK_RATE = 90_000
"""Ticks per second of ``StreamChunk.clock``."""

LONGEST_STEP = CLOCK_RATE
"""Ticks by which the times of one track may go back, due to reordered pictures; more is a jump."""

LONGEST_PAUSE = 15 * CLOCK_RATE
"""Ticks by which the times of one track may go forward: a fragment may have ten seconds of pictures."""


class MediaClock:
    """The elapsed time of a stream by the times of its leading track, without their jumps.

    Args:
        back: ticks by which the times may go back; -1 if they must rise.

    Attributes:
        elapsed: ticks since the first time, without the jumps.
        jumped: whether the times have jumped since ``resume`` was called.
    """

    def __init__(self, back: int = LONGEST_STEP) -> None:
        self._back = back
        self.elapsed = 0
        self.jumped = False
        self._time: int | None = None

    def advance(self, time: int) -> None:
        """Advance to the next time in ticks."""
        before, self._time = self._time, time
        if before is None:
            return
        step = time - before
        if -self._back <= step <= LONGEST_PAUSE:
            self.elapsed += step
        else:
            self.jumped = True

    def restart(self) -> None:
        """Continue with another stream, whose times are independent of those before."""
        self._time, self.jumped = None, False

    def resume(self) -> None:
        """Continue after a jump, at an access point."""
        self.jumped = False


class UnwrittenBytes(Protocol):
    """Bytes of a stream that are serialized only on demand."""

    @property
    def size(self) -> int:
        """The number of bytes."""

    def pieces(self) -> list[bytes]:
        """Serialize the bytes, in pieces that are to be joined."""


class StreamChunk(NamedTuple):
    """Consecutive bytes of a stream.

    Attributes:
        content: whole packets, tags or frames.
        access: whether the chunk begins with a random access point.
        header: whether every decoder needs the chunk first.
        changes: whether a decoder of earlier chunks can't continue with it.
        clock: the stream's own time in ticks, without wrapping; None if unknown.
        tags: the content as FLV tags, if it has some; see ``media.flv.tags``.
    """

    content: bytes | UnwrittenBytes
    access: bool = False
    header: bool = False
    changes: bool = False
    clock: int | None = None
    tags: Sequence[tuple[int, int, bytes]] = ()

    @property
    def data(self) -> bytes:
        """The bytes of the chunk."""
        content = self.content
        return content if isinstance(content, bytes) else b"".join(content.pieces())

    @property
    def size(self) -> int:
        """The number of bytes."""
        content = self.content
        return len(content) if isinstance(content, bytes) else content.size


class StreamReader(Protocol):
    """Divides a stream into chunks, without I/O."""

    @property
    def signature(self) -> bytes:
        """The configuration for decoders: unchanged as long as codecs and sizes are."""

    def receive_data(self, data: bytes) -> list[StreamChunk]:
        """Parse the next bytes.

        Returns:
            The completed chunks, in order.

        Raises:
            MalformedError: the bytes aren't such a stream.
            TooLargeError: a limit is exceeded.
        """


def without_front(buffer: bytearray, size: int) -> bytearray:
    """Drop the first bytes of a buffer; return the buffer, or a copy of the rest if views of it exist.

    Profilers that sample a thread's stack keep references to the views of its frames.
    """
    try:
        del buffer[:size]
    except BufferError:
        return buffer[size:]
    return buffer
