"""Parses the beginning of a sample of video: whether decoding can begin there.

Sample tables mark sync samples, but many writers also mark points from which a picture only recovers. The
headers of the coded pictures, a few bytes at the sample's beginning, are reliable.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from functools import partial
from typing import NamedTuple

from media.errors import MalformedError
from media.mp4.boxes import header
from media.mp4.codecs.av1 import begins_with_key_frame
from media.mp4.codecs.closed_captions import CAPTIONS, services_of
from media.mp4.codecs.sample_entry import SampleEntry

HEAD_BYTES = 256
"""Bytes of a sample that are read at first, which mostly include the first picture's header."""

MORE_BYTES = 64
"""Bytes of a sample that are read for each header beyond the first bytes."""

MAX_UNITS = 32
"""Most NAL units of a sample that are parsed before its first picture."""

Read = Callable[[int, int], bytes]
"""Reads (offset, length) of a sample; fewer bytes only where it ends."""


class Access(IntEnum):
    """The kinds of random access at a picture; a greater one decodes more pictures correctly."""

    NONE = 0
    """No random access, or unknown: later pictures depend on those before."""

    OPEN = 1
    """Only pictures that are shown later are correct: leading pictures depend on those before."""

    CLOSED = 2
    """All following pictures can be decoded, leading pictures included."""


class SampleStart(NamedTuple):
    """The facts found at the beginning of a sample.

    Attributes:
        access: random access at the first picture.
        parameter_sets: whether the sample has parameter sets of its own.
        captions: whether the sample has room for closed captions (CEA-608 or CEA-708) in user data.
        services: the captions that are in it, such as ``CC1`` and ``SERVICE1``.
    """

    access: Access
    parameter_sets: bool = False
    captions: bool = False
    services: frozenset[str] = frozenset()


UNKNOWN = SampleStart(Access.NONE)


Look = Callable[[int, Read], SampleStart]
"""Parses the beginning of a sample, by its size in bytes and a function that reads it."""


def sample_starts(entry: SampleEntry) -> Look:
    """Return the parser for the beginning of one track's samples.

    Args:
        entry: the sample entry of the track.
    """
    boxes = {one[4:8]: one[header(one, 0, len(one)).payload :] for one in entry.boxes}
    if b"av1C" in boxes:
        return _av1
    if b"vpcC" in boxes:
        return _vp9
    # where lengthSizeMinusOne is
    name, place = (b"avcC", 4) if b"avcC" in boxes else (b"hvcC", _HEVC_LENGTH_SIZE)
    configuration = boxes.get(name, b"")
    if len(configuration) <= place:
        return lambda _size, _read: UNKNOWN
    return partial(_nal, name, (configuration[place] & 3) + 1)


def has_readable_starts(entry: SampleEntry) -> bool:
    """Return whether `sample_starts` reads the headers of a track's codec; of others the tables alone say."""
    return any(one[4:8] in (b"avcC", b"hvcC", b"av1C", b"vpcC") for one in entry.boxes)


def as_first(entry: SampleEntry, sample: bytes) -> bytes:
    """Rewrite a sync sample so that it is independent of the samples that were decoded before.

    A CRA picture of HEVC continues the picture order of those before it. A BLA picture is its form where
    streams are joined (ISO/IEC 23008-2 §3.12, §7.4.2.2).

    Args:
        entry: the sample entry of the track.
    """
    configuration = next((one for one in entry.boxes if one[4:8] == b"hvcC"), b"")
    if len(configuration) <= 8 + _HEVC_LENGTH_SIZE:
        return sample
    length_size = (configuration[8 + _HEVC_LENGTH_SIZE] & 3) + 1
    changed, position = bytearray(sample), 0
    while position + length_size < len(changed):
        unit = position + length_size
        if changed[unit] >> 1 & 63 == _CRA:
            changed[unit] = changed[unit] & 0x81 | _BLA_WITHOUT_LEADING << 1
        position = unit + int.from_bytes(changed[position:unit], "big")
    return bytes(changed)


_HEVC_LENGTH_SIZE = 21
"""Offset of lengthSizeMinusOne in HEVC's configuration (ISO/IEC 14496-15 §8.3.3.1.2)."""

_CRA = 21
_BLA_WITHOUT_LEADING = 18


def _nal(name: bytes, length_size: int, size: int, read: Read) -> SampleStart:
    """Parse the NAL units of a sample up to the first slice (ISO/IEC 14496-15 §4.3)."""
    slices, parameter_set_types, user_data = _SLICES[name], _PARAMETER_SETS[name], _USER_DATA[name]
    shift, mask = (0, 31) if name == b"avcC" else (1, 63)
    parameter_sets = captions = False
    services: frozenset[str] = frozenset()
    start, head = 0, read(0, min(size, HEAD_BYTES))
    at = 0
    # All in one loop: the first playlist of a two-hour film waits for a thousand of these calls.
    for _ in range(MAX_UNITS):
        data = at + length_size
        if start + data + 2 > size:
            break
        if data + 2 > len(head):
            start, at, data = start + at, 0, length_size
            head = read(start, min(size - start, MORE_BYTES))
            if len(head) < data + 2:
                break
        length = int.from_bytes(head[at:data], "big")
        if length < 2:
            break
        kind = head[data] >> shift & mask
        if kind in slices:
            return SampleStart(_ACCESS[name].get(kind, Access.NONE), parameter_sets, captions, services)
        if kind in parameter_set_types:
            parameter_sets = True
        elif kind == user_data and CAPTIONS in head[data : data + length]:
            captions, services = True, services | services_of(head[data : data + length])
        at = data + length
    return SampleStart(Access.NONE, parameter_sets, captions, services)


_SLICES = {b"avcC": range(1, 6), b"hvcC": range(32)}
"""NAL unit types of coded pictures (ISO/IEC 14496-10 table 7-1, ISO/IEC 23008-2 table 7-1)."""

_PARAMETER_SETS = {b"avcC": (7, 8), b"hvcC": (32, 33, 34)}
_USER_DATA = {b"avcC": 6, b"hvcC": 39}
_ACCESS = {
    b"avcC": {5: Access.CLOSED},  # an I picture at a recovery point (1) isn't an IDR picture
    b"hvcC": {
        16: Access.OPEN,  # BLA_W_LP
        17: Access.CLOSED,  # BLA_W_RADL
        18: Access.CLOSED,  # BLA_N_LP
        19: Access.CLOSED,  # IDR_W_RADL
        20: Access.CLOSED,  # IDR_N_LP
        21: Access.OPEN,  # CRA_NUT
    },
}


def _av1(size: int, read: Read) -> SampleStart:
    """Parse the first frame header, which is behind a few OBUs at most."""
    try:
        begins = begins_with_key_frame(read(0, min(size, HEAD_BYTES)), size)
    except MalformedError:
        return UNKNOWN
    return SampleStart(Access.CLOSED if begins else Access.NONE)


def _vp9(size: int, read: Read) -> SampleStart:
    """Read an uncompressed header's first bits (VP9 §6.2)."""
    head = read(0, min(size, 2))
    if len(head) < 2 or head[0] >> 6 != 2:
        return UNKNOWN
    bits = int.from_bytes(head, "big") << (1 if head[0] >> 4 & 3 == 3 else 0)
    # behind frame_marker and profile: show_existing_frame, frame_type (0 is KEY_FRAME)
    return SampleStart(Access.CLOSED if bits >> 10 & 3 == 0 else Access.NONE)
