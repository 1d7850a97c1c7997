"""The note of the times for which a DVR was cut: by them a start serves it before it has its source."""

from __future__ import annotations

from fractions import Fraction
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from packager.live.ladder import Cadence

MAX_NOTE_BYTES = 4096
"""Longest note that is read."""

_Count = Annotated[int, Meta(ge=1, le=2**63 - 1)]
_Ratio = tuple[_Count, _Count]


class _Note(Struct, frozen=True, forbid_unknown_fields=True):
    frame_rate: _Ratio
    segment_duration: _Ratio
    part_target: _Ratio
    target_duration: _Count
    longest: _Ratio | None
    regular: bool


def encode(cadence: Cadence) -> bytes:
    """Write a note of a cadence."""
    note = _Note(
        frame_rate=cadence.frame_rate.as_integer_ratio(),
        segment_duration=cadence.segment_duration.as_integer_ratio(),
        part_target=cadence.part_target.as_integer_ratio(),
        target_duration=cadence.target_duration,
        longest=None if cadence.longest is None else cadence.longest.as_integer_ratio(),
        regular=cadence.regular,
    )
    return msgspec.json.encode(note)


def decode(data: bytes) -> Cadence | None:
    """Read a note; None where it can't be read."""
    try:
        note = msgspec.json.decode(data, type=_Note)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return Cadence(
        frame_rate=Fraction(*note.frame_rate),
        segment_duration=Fraction(*note.segment_duration),
        part_target=Fraction(*note.part_target),
        target_duration=note.target_duration,
        longest=None if note.longest is None else Fraction(*note.longest),
        regular=note.regular,
    )


def lists_alike(one: Cadence, other: Cadence) -> bool:
    """Tell whether segments of both may be in one playlist (RFC 8216bis §4.4.3.1, §4.4.3.7: for ever)."""
    return (one.segment_duration, one.part_target, one.target_duration) == (
        other.segment_duration,
        other.part_target,
        other.target_duration,
    )
