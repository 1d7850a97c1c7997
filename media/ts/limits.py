"""Limits of MPEG transport streams that are read as movies."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TransportLimits:
    """Limits of a transport stream file.

    Attributes:
        file_bytes: largest file, for all of it is read for its index: at 300 MB a second that takes 14 s.
        beginning_bytes: bytes from the beginning that are read where only the tracks matter.
        table_search_bytes: bytes from the beginning that are searched for the program tables.
        packets: most packets of a program stream: of 2,048 bytes each, 8 GB have as many.
        frames: most frames of all tracks together.
        span_bytes: most bytes of the file between the ends of a picture or PES packet: all of them are read.
        table_bytes: memory for the tables of samples of all tracks.
    """

    file_bytes: int = 4 << 30
    beginning_bytes: int = 16 << 20
    table_search_bytes: int = 4 << 20
    packets: int = 1 << 22
    frames: int = 3 << 19
    picture_bytes: int = 16 << 20
    span_bytes: int = 32 << 20
    table_bytes: int = 48 << 20
