"""A stream on its way into a decoder, in pieces: where decoding can begin, and where it must begin anew."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

CLOCK_RATE = 90_000
"""Ticks per second of the pieces' clock."""


@dataclass(frozen=True, slots=True)
class StreamChunk:
    """Consecutive bytes of a stream.

    Attributes:
        data: whole packets, tags or frames.
        access: whether they begin with a picture with which decoding can begin.
        header: whether a decoder needs them first, wherever it begins.
        changes: whether a decoder of what came before can't go on with them.
        clock: the stream's own time at them in ticks, which doesn't wrap; None where they don't say it.
    """

    data: bytes
    access: bool = False
    header: bool = False
    changes: bool = False
    clock: int | None = None


class StreamReader(Protocol):
    """Cuts a stream into pieces, without I/O."""

    @property
    def signature(self) -> bytes:
        """What decoders must know of the stream: as long as it stays, it is the same codecs and sizes."""

    def receive_data(self, data: bytes) -> list[StreamChunk]:
        """Take the next bytes of the stream.

        Returns:
            The pieces that they complete, in order.

        Raises:
            MalformedError: it is no such stream.
        """
