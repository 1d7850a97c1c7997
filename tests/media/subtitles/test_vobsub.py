"""Sub-picture units of VobSub, written as http://dvd.sourceforge.net/dvdinfo/spu.html describes them."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import pytest

from media.errors import MalformedError, TooLargeError
from media.subtitles.pgs import DisplaySet, read_display_set
from media.subtitles.vobsub import MAX_INDEX_BYTES, MAX_SEQUENCES, VobSubIndex, read_index, read_subpicture

IDX = b"# VobSub index file, v7\nsize: 720x480\norg: 0, 0\npalette: 000000, FF0000, " + b"ffffff, " * 13


def index(text: bytes) -> VobSubIndex:
    found = read_index(text)
    assert found is not None
    return found


INDEX = index(IDX + b"0000ff\nforced subs: OFF\n")

HD = index(b"palette:" + b" ff0000," * 16 + b"\r\nsize: 1920x1080")

SHOW, STOP = b"\x01", b"\x02"
COLOURS, CONTRAST = b"\x03\xf2\x10", b"\x04\xff\x80"
"""Of the pixels 3 to 0: blue, white, red, black; the third of half the opacity, the last transparent."""
PALETTE = bytes((1, 16, 128, 128, 0, 2, 81, 240, 90, 136, 3, 235, 128, 128, 255, 4, 41, 110, 240, 255))
"""Number, Y, Cr, Cb and opacity of the same from 0 to 3, with the colours of ITU-R BT.601 (100 % bars)."""


def area(left: int, right: int, top: int, bottom: int) -> bytes:
    return b"\x05" + bytes.fromhex(f"{left:03x}{right:03x}{top:03x}{bottom:03x}")


def unit(pixels: bytes, *sequences: tuple[int, bytes], bottom: int = 0) -> bytes:
    """Write a unit whose second field is ``bottom`` bytes behind the first one."""
    written, at = b"", 4 + len(pixels)
    for number, (date, commands) in enumerate(sequences, 1):
        body = commands.replace(b"FIELDS", b"\x06" + struct.pack(">HH", 4, 4 + bottom)) + b"\xff"
        end = at + len(written) + 4 + len(body)
        following = end if number < len(sequences) else at + len(written)
        written += struct.pack(">HH", date, following) + body
    return struct.pack(">HH", at + len(written), at) + pixels + written


def parts(one: DisplaySet) -> dict[int, bytes]:
    """Return the payloads of a set's segments by their types; parts of a bitmap are joined."""
    found: dict[int, bytes] = {}
    for segment in one.segments:
        payload = segment[7:] if segment[0] == 0x15 else segment[3:]
        found[segment[0]] = found.get(segment[0], b"") + payload
    read_display_set(b"".join(one.segments))
    return found


def test_pixels_of_both_fields_are_at_their_place() -> None:
    # Runs of 3, 15, 63 and 200 pixels in digits of one to four, and the rest of the row; then rows of one run
    upper = bytes.fromhex("d3e0ff0320000103fe03fe")
    ends = SHOW + COLOURS + CONTRAST + area(10, 309, 400, 402) + b"FIELDS"
    data = unit(upper + bytes.fromhex("0002"), (0, ends), (88, STOP), bottom=len(upper))
    (begin, first), (end, last) = read_subpicture(data, INDEX)
    assert (begin, end, first.is_complete, first.canvas) == (0, 88 * 1024 // 90, True, (720, 480))
    found = parts(first)
    assert found[0x16] == struct.pack(">HHBHBBBBHBBHH", 720, 480, 16, 0, 128, 0, 0, 1, 0, 0, 0, 10, 400)
    assert found[0x17] == struct.pack(">BBHHHH", 1, 0, 10, 400, 300, 3)
    assert found[0x14][2:] == PALETTE
    rows = ((3, 1), (15, 2), (63, 3), (200, 0), (19, 1)), ((300, 2),), ((255, 2), (45, 2))
    runs = (
        b"".join(struct.pack(">BHB", 0, 0xC000 | count, pixel + 1) for count, pixel in row) for row in rows
    )
    bitmap = struct.pack(">HH", 300, 3) + b"".join(row + b"\0\0" for row in runs)
    assert found[0x15] == len(bitmap).to_bytes(3, "big") + bitmap
    assert parts(last).keys() == {0x16, 0x80}
    assert parts(last)[0x16][-1] == 0


def test_a_fade_has_one_bitmap_in_several_colours() -> None:
    shown = area(0, 3, 0, 0) + b"FIELDS" + COLOURS + b"\x04\0\0" + SHOW
    lines = b"\x07\0\x06\0\0\0\0"  # other colours of some lines are left out
    steps = (5, shown), (9, lines + b"\x04\x77\x77"), (9, CONTRAST), (20, STOP), (21, SHOW)
    sets = read_subpicture(unit(b"\0\1", *steps) + b"behind it", INDEX)
    assert [time * 90 // 1024 for time, _ in sets] == [4, 8, 8, 19, 20]
    assert [one.is_complete for _, one in sets] == [True, False, False, False, False]
    kinds = [set(parts(one)) for _, one in sets]
    plain = {0x16, 0x17, 0x14, 0x80}
    assert kinds == [plain | {0x15}, plain, plain, {0x16, 0x80}, plain]
    opacities = [parts(sets[number][1])[0x14][6::5] for number in (0, 1, 2)]
    assert opacities == [bytes(4), b"\x77" * 4, bytes((0, 136, 255, 255))]


def test_a_bitmap_may_need_several_segments_and_nothing_is_shown_without_a_start() -> None:
    pixels = b"\x55" * 60_000
    whole = COLOURS + CONTRAST + area(0, 1919, 0, 123) + b"FIELDS"
    data = unit(pixels, (0, whole + SHOW))
    ((_, one),) = read_subpicture(data, HD)
    sizes = [len(segment) for segment in one.segments if segment[0] == 0x15]
    assert len(sizes) > 1
    assert max(sizes) < 1 << 16
    # Each pixel is a run of four bytes, and both fields read the same ones.
    assert len(parts(one)[0x15]) == 7 + 124 * (1920 * 4 + 2)
    assert read_subpicture(unit(pixels, (0, whole)), INDEX) == []


WHOLE = SHOW + COLOURS + CONTRAST + area(0, 3, 0, 1) + b"FIELDS"
PIXELS = b"\0\1"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0\3\0",
        unit(PIXELS, (0, WHOLE))[:-1],
        unit(PIXELS, (0, WHOLE.replace(COLOURS, b""))),
        unit(PIXELS, (0, WHOLE.replace(CONTRAST, b""))),
        unit(PIXELS, (0, WHOLE.replace(b"FIELDS", b""))),
        unit(PIXELS, (0, WHOLE.replace(b"FIELDS", b"\x06\xff\xff\0\4"))),
        unit(PIXELS, (0, SHOW + COLOURS + CONTRAST + b"FIELDS")),
        unit(PIXELS, (0, WHOLE + area(0, 720, 0, 1))),
        unit(PIXELS, (0, WHOLE + area(0, 3, 0, 480))),
        unit(PIXELS, (0, WHOLE + area(4, 3, 0, 0))),
        unit(PIXELS, (0, WHOLE + area(0, 3, 0, 479))),
        unit(PIXELS, (0, WHOLE + b"\x08")),
        unit(PIXELS, (0, WHOLE), (9, STOP), (8, SHOW)),
        unit(PIXELS, (0, WHOLE + b"\x03")),
        unit(PIXELS, (0, WHOLE + b"\x07\xff\xff")),
    ],
)
def test_damaged_units_are_refused(data: bytes) -> None:
    with pytest.raises(MalformedError):
        read_subpicture(data, INDEX)


def test_control_sequences_end_where_they_lead_back() -> None:
    data = unit(PIXELS, (0, WHOLE), (9, STOP), (20, SHOW))
    assert len(read_subpicture(data, INDEX)) == 3
    second = int.from_bytes(data[8:10], "big")
    for following in (6, second, 0, 65_535):
        looped = data[: second + 2] + struct.pack(">H", following) + data[second + 4 :]
        assert len(read_subpicture(looped, INDEX)) == 2, following


def sequences(count: int) -> Sequence[tuple[int, bytes]]:
    return [(0, WHOLE), *[(9, CONTRAST)] * (count - 1)]


def test_no_more_control_sequences_are_read_than_a_fade_has() -> None:
    assert len(read_subpicture(unit(PIXELS, *sequences(MAX_SEQUENCES)), INDEX)) == MAX_SEQUENCES
    with pytest.raises(TooLargeError):
        read_subpicture(unit(PIXELS, *sequences(MAX_SEQUENCES + 1)), INDEX)


@pytest.mark.parametrize("text", [b"", IDX, b"size: 720x480", IDX.replace(b"720", b"0") + b"0000ff"])
def test_an_index_without_a_size_or_a_palette_is_of_no_use(text: bytes) -> None:
    assert read_index(text) is None
    assert read_index(b"size: 3841x480\npalette:" + b" 000000," * 16) is None
    assert read_index(b"#\n" * MAX_INDEX_BYTES + IDX + b"0000ff") is None


def test_colours_of_high_definition_are_those_of_bt_709() -> None:
    assert HD.palette[0] == bytes((63, 240, 102))  # ITU-R BT.709, 100 % red
