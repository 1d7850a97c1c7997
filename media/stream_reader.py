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
    """Follows the times of a stream's leading track, and notices when they jump.

    Args:
        back: ticks by which the times may go back; -1: they rise.

    Attributes:
        elapsed: ticks since the first time, without the jumps.
        jumped: whether they jumped, and ``resume`` wasn't called since.
    """

    def __init__(self, back: int = LONGEST_STEP) -> None:
        self._back = back
        self.elapsed = 0
        self.jumped = False
        self._time: int | None = None

    def advance(self, time: int) -> None:
        """Take the next time in ticks."""
        before, self._time = self._time, time
        if before is None:
            return
        step = time - before
        if -self._back <= step <= LONGEST_PAUSE:
            self.elapsed += step
        else:
            self.jumped = True

    def restart(self) -> None:
        """Go on with another stream, whose times say nothing of those before."""
        self._time, self.jumped = None, False

    def resume(self) -> None:
        """Go on behind a jump, at an access point."""
        self.jumped = False


class UnwrittenBytes(Protocol):
    """Bytes of a stream that are made only when somebody asks for them."""

    @property
    def size(self) -> int:
        """How many there will be."""

    def pieces(self) -> list[bytes]:
        """Make them, in pieces that are to be joined."""


class StreamChunk(NamedTuple):
    """Consecutive bytes of a stream.

    Attributes:
        content: whole packets, tags or frames, or what makes them.
        access: whether they begin with a random access point.
        header: whether every decoder needs them first.
        changes: whether a decoder of earlier chunks can't continue with them.
        clock: the stream's own time in ticks, without wrapping; None if unknown.
        tags: the same as tags, where the bytes are made of some; see ``media.flv.tags``.
    """

    content: bytes | UnwrittenBytes
    access: bool = False
    header: bool = False
    changes: bool = False
    clock: int | None = None
    tags: Sequence[tuple[int, int, bytes]] = ()

    @property
    def data(self) -> bytes:
        """Its bytes."""
        content = self.content
        return content if isinstance(content, bytes) else b"".join(content.pieces())

    @property
    def size(self) -> int:
        """How many bytes it has."""
        content = self.content
        return len(content) if isinstance(content, bytes) else content.size


class StreamReader(Protocol):
    """Divides a stream into chunks, without I/O."""

    @property
    def signature(self) -> bytes:
        """The configuration for decoders: unchanged as long as codecs and sizes are."""

    def receive_data(self, data: bytes) -> list[StreamChunk]:
        """Take the next bytes.

        Returns:
            The chunks that they complete, in order.

        Raises:
            MalformedError: it isn't such a stream.
            TooLargeError: something in it is larger than it may be.
        """


def without_front(buffer: bytearray, size: int) -> bytearray:
    """Drop the first bytes of a buffer; give it, or a copy of the rest where something has views of it.

    Who samples a thread's stack, as profilers do, keeps what its frames had, their views too.
    """
    try:
        del buffer[:size]
    except BufferError:
        return buffer[size:]
    return buffer
