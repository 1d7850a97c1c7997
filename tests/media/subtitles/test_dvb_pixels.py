"""Strings of pixels of DVB subtitles, written by hand from the tables of ETSI EN 300 743 §7.2.5.2."""

from __future__ import annotations

import os
import struct
import subprocess
from pathlib import Path

import pytest

from media.errors import MalformedError
from media.matroska.text_blocks import as_dvb_blocks
from media.subtitles.dvb import read_page
from media.subtitles.dvb_pixels import eight_bit_string, four_bit_string, readable_object, two_bit_string
from media.subtitles.pgs import DisplaySets
from tests.media.subtitles.dvb_segments import END, display, page, segment
from tests.packager.films import FFMPEG
from tests.quick_ffmpeg import quick_programs

WIDTH = 600
VALUE = 0x99
"""The colour of the strings below, as a pixel of 8 bits; that of 2 and of 4 bits is mapped to it."""

TWO = {
    "10": (1, 2),
    "00 01": (1, 0),
    "00 00 01": (2, 0),
    "00 1000 10": (3, 2),
    "00 1111 10": (10, 2),
    "00 00 10 0000 10": (12, 2),
    "00 00 10 1111 10": (27, 2),
    "00 00 11 00000000 10": (29, 2),
    "00 00 11 11111111 10": (284, 2),
}
"""Codes of 2 bits a pixel (table 10): the number of pixels, and their value."""

FOUR = {
    "1001": (1, 9),
    "0000 1100": (1, 0),
    "0000 1101": (2, 0),
    "0000 0001": (3, 0),
    "0000 0111": (9, 0),
    "0000 1000 1001": (4, 9),
    "0000 1011 1001": (7, 9),
    "0000 1110 0000 1001": (9, 9),
    "0000 1110 1111 1001": (24, 9),
    "0000 1111 00000000 1001": (25, 9),
    "0000 1111 11111111 1001": (280, 9),
}
"""Codes of 4 bits a pixel (table 12)."""

EIGHT = {
    "10011001": (1, VALUE),
    "00000000 00000001": (1, 0),
    "00000000 01111111": (127, 0),
    "00000000 10000011 10011001": (3, VALUE),
    "00000000 11111111 10011001": (127, VALUE),
}
"""Codes of 8 bits a pixel (table 14)."""

ENDS = {2: "000000", 4: "00000000", 8: "0" * 16}


def bits(*codes: str) -> bytes:
    """Return codes as bytes, with stuffing behind them."""
    text = "".join(codes).replace(" ", "")
    text += "0" * (-len(text) % 8)
    return bytes(int(text[at : at + 8], 2) for at in range(0, len(text), 8))


@pytest.mark.parametrize(("code", "run"), TWO.items())
def test_two_bits_a_pixel(code: str, run: tuple[int, int]) -> None:
    data = b"\x10" + bits(code, ENDS[2])
    assert two_bit_string(data + b"\xf0", 1) == (len(data), run[0])
    with pytest.raises(MalformedError):
        two_bit_string(data[:-1], 1)


@pytest.mark.parametrize(("code", "run"), FOUR.items())
def test_four_bits_a_pixel(code: str, run: tuple[int, int]) -> None:
    data = b"\x11" + bits(code, ENDS[4])
    assert four_bit_string(data + b"\xf0", 1) == (len(data), run[0])
    with pytest.raises(MalformedError):
        four_bit_string(data[:-1], 1)


@pytest.mark.parametrize(("code", "run"), EIGHT.items())
def test_eight_bits_a_pixel_end_with_one_byte_where_they_fill_the_line(
    code: str, run: tuple[int, int]
) -> None:
    data, count = b"\x12" + bits(code, ENDS[8]), run[0]
    end = len(data)
    assert eight_bit_string(data + b"\xf0", 1, count + 1) == (end, data[1:], count)
    assert eight_bit_string(data + b"\xf0", 1, count) == (end, data[1:-1], count)
    # As one encoder ends a full line
    assert eight_bit_string(data[:-1] + b"\xf0", 1, count) == (end - 1, data[1:-1], count)
    with pytest.raises(MalformedError):
        eight_bit_string(data[:-1], 1, count + 1)


def test_pixels_behind_the_right_edge_are_left_out() -> None:
    string = bytes.fromhex("05 0087 99 0003 07 0000")
    assert eight_bit_string(string, 0, 4) == (len(string), bytes.fromhex("05 0083 99 00"), 12)
    assert eight_bit_string(string, 0, 10) == (len(string), bytes.fromhex("05 0087 99 0002 00"), 12)


def test_only_strings_of_eight_bits_are_written_anew() -> None:
    def written(top: str, bottom: str = "") -> bytes:
        fields = bytes.fromhex(top), bytes.fromhex(bottom)
        return struct.pack(">HBHH", 7, 0, len(fields[0]), len(fields[1])) + b"".join(fields)

    # Tables of a line that is full go before the next one, and strings are dropped.
    line = "22 00112233445566778899aabbccddeeff 12 0084 99 0000"
    more = "20 0123 12 07 0000 11 90 00 f0 12 01 02 0000 f0"
    fewer = line.removesuffix("00") + "f0 20 0123 12 01 02 0000 f0"
    assert readable_object(written(line + more, "10 80 f0 11 9000 f0"), 4) == written(
        fewer, "10 80 f0 11 9000 f0"
    )
    for kept in (
        written("10 80 f0", "11 9000 f0"),
        written("12 01 02"),  # cut off
        written("12 01 0000 33"),  # of an unknown type
        written("12 01 0000")[:-1],
        b"\x12",
        b"\0\7\4" + written("12 01 0000")[3:],  # text
    ):
        assert readable_object(kept, 1) == kept


def lines(deep: list[tuple[int, int]]) -> list[bytes]:
    """Return a line for each code of 2, 4 and 8 bits, all of which end at some pixel or fill the line."""
    found = list[bytes]()
    for kind, codes, width in ((0x10, TWO, 2), (0x11, FOUR, 4), (0x12, EIGHT, 8)):
        for code, (count, value) in codes.items():
            found.append(bytes((kind,)) + bits(code, ENDS[width]))
            deep.append((count, VALUE if value else 0))
    full = b"\x12" + 4 * b"\0\xff\x99" + b"\0\xdc\x99\0\0"  # 4 times 127 and 92 pixels
    over = b"\x12" + 5 * b"\0\xff\x99" + b"\0\0"
    deep += [(WIDTH, VALUE)] * 2
    return [*found, full, over]


def deep_set(counts: list[tuple[int, int]]) -> bytes:
    """Return a display set whose region of 8 bits a pixel has a line for each code, twice."""
    maps = b"\x21\0\0\x99\0" + b"\x22" + bytes(9) + b"\x99" + bytes(6)
    field = maps + b"\xf0".join(lines(counts)) + b"\xf0"
    height = 2 * len(counts)
    place = struct.pack(">BBHH", 0, 0, 40, 100)
    region = struct.pack(">BBHHBBBBHHH", 0, 0, WIDTH, height, 3 << 5 | 3 << 2, 0, 0, 0, 0, 0, 0)
    colours = bytes((0, 0, 0, 0x21, 16, 128, 128, 255, VALUE, 0x21, 235, 128, 128, 0))
    data = struct.pack(">HBHH", 0, 0, len(field), len(field)) + 2 * field
    page_of_one = segment(0x10, page(2)[6:8] + place)
    return b"".join(
        (
            display(720, 576),
            page_of_one,
            segment(0x11, region),
            segment(0x12, colours),
            segment(0x13, data),
            END,
        )
    )


@pytest.mark.parametrize("program", ["system", "other"])
def test_decoders_show_each_line_as_it_was_written(program: str, tmp_path: Path) -> None:
    system = os.environ.get("FFMPEG", FFMPEG)
    used = system if program == "system" else str(quick_programs().get("ffmpeg", system))
    counts = list[tuple[int, int]]()
    data = deep_set(counts)
    sets = as_dvb_blocks(DisplaySets(*3 * (0,), read_page), b"\0\1\0\1\x10")  # type: ignore[arg-type]
    path = tmp_path / "shown.mkv"
    path.write_bytes(sets.write(read_page(data)))
    words = (
        "-f",
        "lavfi",
        "-i",
        "color=black:size=720x576:rate=5:duration=2",
        "-i",
        str(path),
        "-filter_complex",
    )
    command = [used, "-v", "error", *words, "[0:v][1:s]overlay,format=gray"]
    command += ["-frames:v", "1", "-ss", "1", "-f", "rawvideo", "pipe:1"]
    picture = subprocess.run(command, check=True, capture_output=True).stdout
    seen = []
    for number in range(2 * len(counts)):
        begin = (100 + number) * 720
        row = [value > 128 for value in picture[begin : begin + 720]]
        assert not any(row[:40] + row[640:])
        assert row[40 : 40 + sum(row)] == sum(row) * [True]
        seen.append(sum(row))
    assert seen == [count if value else 0 for count, value in counts for _ in (0, 1)]
