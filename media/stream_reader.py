"""The interface of readers that divide a stream into chunks at which a decoder can be restarted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from media.packets import PACKET_BYTES, Packet, StreamEvent

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


class StreamChunk(NamedTuple):
    """Consecutive bytes of a stream, or packets of a stream that was demuxed.

    Attributes:
        data: whole packets of a transport stream, elements, boxes or frames; empty for a demuxed stream.
        access: whether the chunk begins with a random access point.
        header: whether every decoder needs the chunk first.
        changes: whether a decoder of earlier chunks can't continue with it.
        clock: the stream's own time in ticks, without wrapping; None if unknown.
        packet_bytes: the sum of the sizes of packets, or of the configurations that they announce.
        replaces: whether a header stands for all earlier ones, with which a decoder could go on.
        events: of a stream that was demuxed, in a chunk of their own.
    """

    data: bytes = b""
    access: bool = False
    header: bool = False
    changes: bool = False
    clock: int | None = None
    packets: Sequence[Packet] = ()
    packet_bytes: int = 0
    replaces: bool = False
    events: Sequence[StreamEvent] = ()

    @classmethod
    def of_events(cls, events: Sequence[StreamEvent]) -> StreamChunk:
        """Make a chunk of events."""
        return cls(events=events, packet_bytes=sum(len(one.data) for one in events))

    @classmethod
    def of_packets(
        cls, packets: Sequence[Packet], *, access: bool = False, clock: int | None = None
    ) -> StreamChunk:
        """Make a chunk of frames."""
        return cls(b"", access, False, False, clock, packets, sum([len(packet[4]) for packet in packets]))

    @property
    def size(self) -> int:
        """The number of bytes."""
        return len(self.data) + self.packet_bytes

    @property
    def memory(self) -> int:
        """Approximate bytes of memory that the chunk takes."""
        return len(self.data) + self.packet_bytes + PACKET_BYTES * len(self.packets)


class StreamFormat(Protocol):
    """The format of a stream for decoders."""

    @property
    def signature(self) -> bytes:
        """The configuration for decoders: unchanged as long as codecs and sizes are."""

    @property
    def muxed_container(self) -> str:
        """Ffmpeg's name of the container for the packets of chunks; empty if chunks have bytes."""


class StreamReader(StreamFormat, Protocol):
    """Divides a stream into chunks, without I/O."""

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
