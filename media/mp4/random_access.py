"""Parses the beginning of a sample of video: whether decoding can begin there.

Sample tables mark sync samples, but many writers mark points there from which a picture only recovers. What
is so is told by the headers of the coded pictures themselves: a few bytes at the sample's beginning.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from functools import partial
from typing import NamedTuple

from media.errors import MalformedError
from media.mp4.av1 import begins_with_key_frame
from media.mp4.boxes import header
from media.mp4.sample_entry import SampleEntry

HEAD_BYTES = 256
"""How much of a sample is read at first: what comes before the first picture mostly has less."""

MORE_BYTES = 64
"""How much of a sample is read where a header lies beyond those: it, and the beginning of what is behind."""

MAX_UNITS = 32
"""Most NAL units of a sample that are looked at before its first picture."""

_CAPTIONS = b"\xb5\x00\x31GA94"
"""How user data of captions begin (ANSI/SCTE 128-1 §8.1): country, provider, identifier."""

Read = Callable[[int, int], bytes]
"""Gives (offset, length) of a sample; fewer bytes only where it ends."""


class Access(IntEnum):
    """How decoding can begin with a picture; the more is right, the greater."""

    NONE = 0
    """Not at all, or it isn't known: what comes needs pictures before it."""

    OPEN = 1
    """Only what is shown after it is right: leading pictures, if there are any, need pictures before it."""

    CLOSED = 2
    """All that comes can be decoded; leading pictures, if there are any, too."""


class SampleStart(NamedTuple):
    """The facts found at the beginning of a sample.

    Attributes:
        access: how decoding can begin with its picture.
        parameter_sets: whether it brings parameter sets of its own.
        captions: whether it has closed captions (CEA-608 or CEA-708) in user data.
    """

    access: Access
    parameter_sets: bool = False
    captions: bool = False


UNKNOWN = SampleStart(Access.NONE)


Look = Callable[[int, Read], SampleStart]
"""Looks at the beginning of a sample, by its size in bytes and what gives bytes of it."""


def sample_starts(entry: SampleEntry) -> Look:
    """Give what looks at the beginning of samples of one track.

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


def as_first(entry: SampleEntry, sample: bytes) -> bytes:
    """Give a sample that decoding begins with as one that nothing is before, whatever was decoded.

    A CRA picture of HEVC says its place in the order by what was before it. A BLA picture is the same where
    streams are joined, and says so (ISO/IEC 23008-2 §3.12, §7.4.2.2).

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
"""Where lengthSizeMinusOne is in HEVC's configuration (ISO/IEC 14496-15 §8.3.3.1.2)."""

_CRA = 21
_BLA_WITHOUT_LEADING = 18


def _nal(name: bytes, length_size: int, size: int, read: Read) -> SampleStart:
    """Go from one NAL unit to the next (ISO/IEC 14496-15 §4.3), each behind its length, to a slice."""
    slices, parameter_set_types, user_data = _SLICES[name], _PARAMETER_SETS[name], _USER_DATA[name]
    shift, mask = (0, 31) if name == b"avcC" else (1, 63)
    parameter_sets = captions = False
    start, head = 0, read(0, min(size, HEAD_BYTES))
    at = 0
    # All in one loop: a film of two hours has a thousand of these, which its first playlist waits for.
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
            return SampleStart(_ACCESS[name].get(kind, Access.NONE), parameter_sets, captions)
        if kind in parameter_set_types:
            parameter_sets = True
        elif kind == user_data:
            captions = captions or _CAPTIONS in head[data : data + length]
        at = data + length
    return SampleStart(Access.NONE, parameter_sets, captions)


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
    """Look at the first frame header, which is behind a few OBUs at most."""
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
