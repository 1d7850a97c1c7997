"""WavPack in Matroska: blocks whose headers the file lacks in part (draft-ietf-cellar-codec, A_WAVPACK4)."""

from __future__ import annotations

import struct

import numpy as np

from media.errors import MalformedError
from media.matroska.blocks import Frames
from media.mp4.movie.assembled_samples import Read
from media.mp4.movie.box_arrays import Int64

VERSION = 0x410
"""Version of WavPack's stream, where the track doesn't say it."""

HEADER = 32
"""Bytes of a block's header."""

FINAL, INITIAL = 0x1000, 0x800
"""Flags of the last and of the first block of a frame; a frame of one block has both."""

MAX_BLOCKS = 128
"""Most blocks of a frame, each with one or two channels."""


def frame_samples(frame: bytes) -> int:
    """Return the number of samples in a frame as Matroska has it."""
    return int.from_bytes(frame[:4], "little")


def count_blocks(frame: bytes) -> int:
    """Count the blocks of a frame as Matroska has it.

    Raises:
        MalformedError: the frame is damaged.
    """
    return len(_blocks(frame))


def _blocks(frame: bytes) -> list[tuple[int, int, bytes]]:
    """Return flags, checksum and data of each block."""
    found: list[tuple[int, int, bytes]] = []
    at = 4
    while at + 8 <= len(frame) and len(found) < MAX_BLOCKS:
        flags, crc = struct.unpack_from("<II", frame, at)
        at += 8
        size = len(frame) - at
        if flags & (FINAL | INITIAL) != FINAL | INITIAL:
            size, at = int.from_bytes(frame[at : at + 4], "little"), at + 4
        found.append((flags, crc, frame[at : at + size]))
        if len(found[-1][2]) < size:
            break
        at += size
    if not found or at != len(frame):
        raise MalformedError("a damaged frame of WavPack")
    return found


class WavPackFrames:
    """The frames of a track with whole headers, as decoders take them.

    Args:
        private: the track's configuration, which has the version of WavPack in two bytes.
        blocks: how many blocks each frame has.
        frames: where each one is in the file.
    """

    def __init__(self, private: bytes, blocks: int, frames: Frames) -> None:
        self._version = int.from_bytes(private[:2], "little") if len(private) >= 2 else VERSION
        self._offsets: Int64 = np.asarray(frames.offsets, np.int64)
        self._stored: Int64 = np.asarray(frames.sizes, np.int64)
        # Of several blocks each has its size in the file, and one samples count is for all.
        added = HEADER - 12 if blocks == 1 else blocks * (HEADER - 12) - 4
        self._ends: Int64 = np.cumsum(self._stored + added)

    @property
    def size(self) -> int:
        """Bytes of all frames."""
        return int(self._ends[-1])

    @property
    def sizes(self) -> Int64:
        """Bytes of each frame."""
        return np.diff(self._ends, prepend=0)

    @property
    def nbytes(self) -> int:
        """Memory of the positions."""
        return self._offsets.nbytes + self._stored.nbytes + self._ends.nbytes

    def read(self, read: Read, start: int, stop: int) -> bytes:
        """Read a range of bytes; return fewer if the file is shorter than it was."""
        parts: list[bytes] = []
        number = int(self._ends.searchsorted(start, "right"))
        while start < stop and number < len(self._ends):
            end = int(self._ends[number])
            begin = int(self._ends[number - 1]) if number else 0
            stored = read(int(self._offsets[number]), int(self._stored[number]))
            if len(stored) < self._stored[number]:
                break
            parts.append(self._whole(stored, end - begin)[start - begin : stop - begin])
            start, number = end, number + 1
        return b"".join(parts)

    def _whole(self, stored: bytes, size: int) -> bytes:
        """Return a frame with its headers; one that is damaged, or has other blocks, as nothing."""
        samples, parts = frame_samples(stored), list[bytes]()
        try:
            for flags, crc, data in _blocks(stored):
                parts.append(
                    struct.pack(
                        *("<4sIHHIIIII", b"wvpk", len(data) + HEADER - 8, self._version, 0, 0, 0),
                        *(samples, flags, crc),
                    )
                )
                parts.append(data)
        except MalformedError:
            parts = []
        return b"".join(parts)[:size].ljust(size, b"\0")
