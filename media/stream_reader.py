"""The interface of readers that divide a stream into chunks at which a decoder can be restarted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

CLOCK_RATE = 90_000
"""Ticks per second of ``StreamChunk.clock``."""


@dataclass(frozen=True, slots=True)
class StreamChunk:
    """Consecutive bytes of a stream.

    Attributes:
        data: whole packets, tags or frames.
        access: whether they begin with a random access point.
        header: whether every decoder needs them first.
        changes: whether a decoder of earlier chunks can't continue with them.
        clock: the stream's own time in ticks, without wrapping; None if unknown.
    """

    data: bytes
    access: bool = False
    header: bool = False
    changes: bool = False
    clock: int | None = None


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
        """
