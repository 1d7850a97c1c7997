"""AV1's OBUs, of a whole temporal unit or of its beginning alone: whether decoding can begin with it."""

from __future__ import annotations

import pytest

from media.errors import MalformedError
from media.mp4.boxes import box
from media.mp4.codecs.av1 import begins_with_key_frame, obus
from media.mp4.codecs.random_access import HEAD_BYTES, Access, sample_starts
from media.mp4.codecs.sample_entry import SampleEntry

ENTRY = SampleEntry(b"av01", "av01.0.04M.08", b"", (box(b"av1C", b"\x81\0\0\0"),))
KEY, INTER = b"\x10", b"\x30"
"""First bytes of frames that are shown (AV1 §5.9.2): frame_type 0 and 1."""


def obu(kind: int, payload: bytes, *, is_sized: bool = True) -> bytes:
    size = bytes((0x80 | len(payload) & 0x7F, len(payload) >> 7)) if is_sized else b""
    return bytes((kind << 3 | 2 * is_sized,)) + size + payload


SEQUENCE, DELIMITER = obu(1, bytes(11)), obu(2, b"")


@pytest.mark.parametrize(
    ("unit", "access"),
    [
        (SEQUENCE + obu(6, KEY + bytes(9000)), Access.CLOSED),
        (DELIMITER + SEQUENCE + obu(3, KEY + bytes(9)) + obu(4, bytes(9000)), Access.CLOSED),
        (obu(6, KEY + bytes(9000), is_sized=False), Access.CLOSED),
        (obu(6, INTER + bytes(9000)), Access.NONE),
        (obu(5, bytes(HEAD_BYTES)) + obu(6, KEY + bytes(9000)), Access.NONE),  # it lies too far behind
        (SEQUENCE + obu(6, KEY + bytes(9000))[:-1], Access.NONE),
        (b"\x80" + obu(6, KEY + bytes(9000)), Access.NONE),
        (b"\x32" + b"\xff" * 9000, Access.NONE),
        (b"", Access.NONE),
    ],
)
def test_the_beginning_of_a_sample_tells_whether_it_is_a_key_frame(unit: bytes, access: Access) -> None:
    read: list[int] = []

    def part(offset: int, length: int) -> bytes:
        read.append(offset + length)
        return unit[offset : offset + length]

    assert sample_starts(ENTRY)(len(unit), part).access is access
    assert max(read) <= HEAD_BYTES


def test_an_obu_may_end_behind_the_beginning_but_not_behind_the_whole() -> None:
    unit = SEQUENCE + obu(6, KEY + bytes(9000))
    assert [*obus(unit[:HEAD_BYTES], len(unit))] == [*obus(unit)]
    assert begins_with_key_frame(unit[:HEAD_BYTES], len(unit))
    with pytest.raises(MalformedError):
        [*obus(unit[:HEAD_BYTES])]
    with pytest.raises(MalformedError):
        [*obus(unit[:HEAD_BYTES], len(unit) - 1)]
