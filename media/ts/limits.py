"""Limits of MPEG transport streams that are read as movies."""

from __future__ import annotations

from dataclasses import dataclass

from media.stream_reader import CLOCK_RATE


@dataclass(frozen=True, slots=True)
class TransportLimits:
    """What a transport stream may be made of.

    Attributes:
        file_bytes: largest file, for all of it is read for its index: at 300 MB a second that takes 14 s.
        beginning_bytes: how much of one is read where only its tracks matter.
        table_search_bytes: how much of its beginning is searched for what says which streams there are.
        frames: most frames of all tracks together.
        sound_bytes: largest PES packet of sound.
        skipped_bytes: most bytes of sound that are no frames, beyond the bytes of frames.
        span_bytes: in how much of the file one of either may lie, for so much is read for it.
        gap_ticks: longest time in which a stream has nothing, in ticks of 90 kHz.
        late_ticks: how long a picture may be shown after it is decoded, likewise.
        table_bytes: memory for the tables of samples of all tracks.
    """

    file_bytes: int = 4 << 30
    beginning_bytes: int = 16 << 20
    table_search_bytes: int = 4 << 20
    frames: int = 3 << 19
    picture_bytes: int = 16 << 20
    sound_bytes: int = 1 << 20
    skipped_bytes: int = 64 << 10
    span_bytes: int = 32 << 20
    gap_ticks: int = 10 * CLOCK_RATE
    late_ticks: int = 10 * CLOCK_RATE
    table_bytes: int = 48 << 20
