"""What an ffmpeg needs that begins in the middle of a stream: headers and the newest group of pictures."""

from __future__ import annotations

from collections import deque

from media.pieces import Piece

MAX_GROUP_BYTES = 32 << 20
"""Most bytes of the kept group; of a longer one nothing is kept until the next access point."""

MAX_HEADERS = 16


class Replay:
    """Keeps what a decoder needs.

    Args:
        max_bytes: of the kept group.
    """

    def __init__(self, max_bytes: int = MAX_GROUP_BYTES) -> None:
        self._max_bytes = max_bytes
        self._headers: deque[bytes] = deque(maxlen=MAX_HEADERS)
        self._kept: list[bytes] = []
        self._bytes = 0
        self._reachable = False

    @property
    def reachable(self) -> bool:
        """Whether decoding can begin with what is kept."""
        return self._reachable

    def receive(self, piece: Piece) -> None:
        """Take note of what came."""
        if piece.changes:
            self.clear()
        if piece.header and piece.data not in self._headers:
            self._headers.append(piece.data)
        if piece.access:
            self._kept, self._bytes, self._reachable = [], 0, True
        if self._reachable:
            self._kept.append(piece.data)
            self._bytes += len(piece.data)
            if self._bytes > self._max_bytes:
                self._kept, self._bytes, self._reachable = [], 0, False

    def clear(self) -> None:
        """Forget everything: what comes is another stream."""
        self._headers.clear()
        self._kept, self._bytes, self._reachable = [], 0, False

    def beginning(self) -> bytes:
        """Give what a new decoder is to be told first."""
        return b"".join([*self._headers, *self._kept])
