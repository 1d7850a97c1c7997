"""media.mp4.fragments.emsg: boxes, read back by the table of ISO/IEC 23009-1 §5.10.3.3.3."""

from __future__ import annotations

import struct
from typing import NamedTuple

import pytest

from media.mp4.boxes import box
from media.mp4.fragments.emsg import EventMessage, with_brand


class Read(NamedTuple):
    version_and_flags: int
    timescale: int
    presentation_time: int
    event_duration: int
    id: int
    scheme: str
    value: str
    data: bytes


def read(data: bytes) -> Read:
    """Version 1: three words and a long one, two strings that end with NUL, the message."""
    size, kind = struct.unpack_from(">I4s", data)
    assert (size, kind) == (len(data), b"emsg")
    version, timescale, time, duration, number = struct.unpack_from(">IIQII", data, 8)
    scheme, value, message = data[32:].split(b"\0", 2)
    return Read(version, timescale, time, duration, number, scheme.decode(), value.decode(), message)


def test_a_box_has_the_fields_of_version_1() -> None:
    message = EventMessage(15360, 27_571_200_000_000, 46_080, 7, b"ID3\0x", value="a")
    assert read(message.render()) == (
        0x0100_0000,
        15360,
        27_571_200_000_000,
        46_080,
        7,
        "https://aomedia.org/emsg/ID3",
        "a",
        b"ID3\0x",
    )


@pytest.mark.parametrize(("duration", "written"), [(None, 0xFFFFFFFF), (1 << 40, 0xFFFFFFFE), (0, 0)])
def test_an_unknown_duration_is_all_ones_and_no_known_one_is(duration: int | None, written: int) -> None:
    assert read(EventMessage(1, 0, duration, 0, b"").render()).event_duration == written


def test_a_scheme_that_would_end_early_is_refused() -> None:
    with pytest.raises(ValueError, match="NUL"):
        EventMessage(1, 0, 0, 0, b"", scheme="a\0b").render()


def test_a_brand_is_added_once_and_nothing_else_changes() -> None:
    rest = box(b"moov", b"anything")
    # §4.3: major_brand, minor_version, compatible_brands
    init = box(b"ftyp", b"iso5", bytes(4), b"iso5", b"cmfc") + rest
    branded = with_brand(init, b"aid3")
    assert branded == b"\0\0\0\x1cftypiso5\0\0\0\0iso5cmfcaid3" + rest
    assert with_brand(branded, b"aid3") == branded
    assert with_brand(rest, b"aid3") == rest
