"""Finds parameter sets at the beginning of a sample that only repeat those of the sample entry."""

from __future__ import annotations

from dataclasses import dataclass

from media.errors import MalformedError
from media.mp4.codecs.random_access import MAX_UNITS, MORE_BYTES, Read
from media.mp4.codecs.sample_entry import SampleEntry, payload_of
from media.mp4.codecs.sequence_parameters import avc_parameter_sets, hevc_parameter_sets

_HEVC_LENGTH_SIZE = 21
"""Offset of lengthSizeMinusOne in HEVC's configuration (ISO/IEC 14496-15 §8.3.3.1.2)."""


@dataclass(frozen=True, slots=True)
class RepeatedSets:
    """The parameter sets of a track's sample entry, to be looked for in its samples.

    Attributes:
        is_hevc: whether NAL units are HEVC's; else they are H.264's.
        length_size: bytes of the length before each NAL unit.
        units: the parameter sets, each without its length.
    """

    is_hevc: bool
    length_size: int
    units: frozenset[bytes]

    @classmethod
    def of(cls, entry: SampleEntry) -> RepeatedSets | None:
        """Return those of a sample entry; None where it has none, or is of another codec."""
        boxes = {one[4:8]: payload_of(one) for one in entry.boxes}
        avcc, hvcc = boxes.get(b"avcC", b""), boxes.get(b"hvcC", b"")
        if len(hvcc) > _HEVC_LENGTH_SIZE:
            units = frozenset(unit for kind, unit in hevc_parameter_sets(hvcc) if kind in _HEVC_SETS)
            return cls(True, (hvcc[_HEVC_LENGTH_SIZE] & 3) + 1, units) if units else None
        try:
            return cls(False, (avcc[4] & 3) + 1, frozenset(avc_parameter_sets(avcc))) if avcc else None
        except (MalformedError, IndexError):
            return None

    def leading_bytes(self, size: int, read: Read) -> int | None:
        """Return how many bytes of a sample are before what it adds to its sample entry.

        These are its parameter sets, and before them a delimiter and an encoder's note about itself. None
        where it has other sets, or has them elsewhere.

        Args:
            size: of the sample in bytes.
            read: reads from it.
        """
        longest = sum(self.length_size + len(unit) for unit in self.units) + MORE_BYTES
        slices, sets, delimiter, information = _HEVC_KINDS if self.is_hevc else _AVC_KINDS
        start, head = 0, read(0, min(size, longest))
        at = leading = 0
        are_first = True
        for _ in range(MAX_UNITS):
            begin = at + self.length_size
            if begin - start >= len(head):
                start, head = at, read(at, min(size - at, longest)) if at < size else b""
                if begin - start >= len(head):
                    return None
            end = begin + int.from_bytes(head[at - start : begin - start], "big")
            kind = head[begin - start] >> 1 & 63 if self.is_hevc else head[begin - start] & 31
            if kind in slices:
                return leading
            if kind in sets:
                if not are_first or head[begin - start : end - start] not in self.units:
                    return None
                leading = end
            elif kind == information and _is_note(read(begin, _NOTE_HEAD), end - begin, is_hevc=self.is_hevc):
                pass
            elif kind != delimiter:
                are_first = False
            at = end
        return None


def _is_note(unit: bytes, size: int, *, is_hevc: bool) -> bool:
    """Return whether a unit of SEI is a single message of user data that no standard defines (§D.1.6).

    Args:
        unit: its first bytes.
    """
    at = 2 if is_hevc else 1
    if unit[at : at + 1] != bytes([_USER_DATA_UNREGISTERED]):
        return False
    told, at = 0, at + 1
    while unit[at : at + 1] == b"\xff":
        told, at = told + 255, at + 1
    # Behind the message is one byte, the trailing bits.
    return at < len(unit) and size == at + 1 + told + unit[at] + 1


_USER_DATA_UNREGISTERED = 5
_NOTE_HEAD = 64
"""Bytes of a unit of SEI in which the length of its first message is looked for: 15 kB of it."""

_HEVC_SETS = (32, 33, 34)
_HEVC_KINDS = range(32), _HEVC_SETS, 35, 39
_AVC_KINDS = range(1, 6), (7, 8), 9, 6
"""NAL unit types of slices, parameter sets, delimiters and SEI (ISO/IEC 23008-2 and 14496-10, table 7-1)."""
