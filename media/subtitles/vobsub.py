"""VobSub: subtitles of DVDs that are pictures, in Matroska, MP4 and VOB, which are converted to those of PGS.

A block or sample is a sub-picture unit: runs of pixels in two fields, and control sequences that show and
colour them at times of their own (http://dvd.sourceforge.net/dvdinfo/spu.html).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from media.errors import MalformedError, TooLargeError
from media.subtitles.pgs import MAX_CANVAS, DisplaySet, Place, write_display_set

FORCED_START, START, STOP, COLOURS, CONTRAST, AREA, FIELDS, CHANGES, END = *range(8), 0xFF
"""Commands of control sequences."""

MAX_SEQUENCES = 64
"""Most control sequences of a sub-picture unit: one shows it, one clears it, and a fade has some between."""

MAX_INDEX_BYTES = 16 << 10
"""Bytes of an index in which the size and the palette are looked for; most have two thousand."""

SD_HEIGHT = 576
"""Lines of the tallest canvas of which the colours of PGS are those of ITU-R BT.601."""

_OPERANDS = {FORCED_START: 0, START: 0, STOP: 0, COLOURS: 2, CONTRAST: 2, AREA: 6, FIELDS: 4}
"""Bytes behind each command."""

_RUN = re.compile("[4-f]|[1-3].|0[4-f].|0[0-3]..")
_RUNS = {
    f"{value:0{digits}x}": (
        value >> 2 or MAX_CANVAS[0],
        struct.pack(">BHB", 0, 0xC000 | value >> 2, 1 + value % 4),
    )
    for digits, begin, end in ((1, 4, 16), (2, 16, 64), (3, 64, 256), (4, 0, 1024))
    for value in range(begin, end)
}
"""Runs of pixels by their digits of four bits: the number of pixels, and the run as PGS has it.

The lowest two bits are the colour, and those above them the number; 0 stands for the rest of the row.
"""

_LEVELS = ((), (0xFF,), (0, 0xFF), (0, 0x80, 0xFF), (0, 0x55, 0xAA, 0xFF))
"""Levels of colours without a palette, by the number of those that are seen."""

_SIZE = re.compile(rb"^size: *(\d{1,5})x(\d{1,5})", re.MULTILINE)
_PALETTE = re.compile(rb"^palette:((?:[ ,]*[0-9a-f]{6}){16})", re.MULTILINE | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class VobSubIndex:
    """The head of an ``.idx`` file, or its counterpart in MP4, which holds for all subtitles of a track.

    Attributes:
        canvas: width and height in pixels of the picture on which subtitles are composed.
        palette: luma and chroma of each of the 16 colours, as PGS has them; empty of a VOB, as a disc has
            them in another file, which `media.ps.title_set` reads.
    """

    canvas: tuple[int, int]
    palette: tuple[bytes, ...]


def read_index(text: bytes) -> VobSubIndex | None:
    """Read the head of an ``.idx`` file; None where it lacks a usual size or the palette."""
    text = text[:MAX_INDEX_BYTES]
    size, palette = _SIZE.search(text), _PALETTE.search(text)
    if size is None or palette is None:
        return None
    width, height = int(size[1]), int(size[2])
    colours = re.findall(rb"\w{6}", palette[1])
    return _index(width, height, [_luma_chroma(int(one, 16), height) for one in colours])


def read_palette(palette: bytes, width: int, height: int) -> VobSubIndex | None:
    """Read the configuration of VobSub in MP4, four bytes for each colour; None without it or a usual size.

    Args:
        width: of the canvas in pixels.
        height: of the canvas in pixels.
    """
    return _index(width, height, [palette[at + 1 : at + 4] for at in range(0, len(palette) - 3, 4)])


def unknown_colours(width: int, height: int) -> VobSubIndex | None:
    """Return what is known of VobSub without a palette; None of a size that isn't usual."""
    return replace(found, palette=()) if (found := _index(width, height, 16 * [b""])) else None


def _index(width: int, height: int, palette: Sequence[bytes]) -> VobSubIndex | None:
    is_usual = 0 < width <= MAX_CANVAS[0] and 0 < height <= MAX_CANVAS[1] and len(palette) == 16
    return VobSubIndex((width, height), tuple(palette)) if is_usual else None


def read_subpicture(data: bytes, index: VobSubIndex) -> list[tuple[int, DisplaySet]]:
    """Convert a sub-picture unit to display sets.

    Returns:
        The sets in order, each with the milliseconds behind the block's time at which it is shown.

    Raises:
        MalformedError: the unit is damaged.
        TooLargeError: the unit has too many control sequences.
    """
    size = int.from_bytes(data[:2], "big")
    if not 4 <= size <= len(data):
        raise MalformedError("a sub-picture unit is cut off")
    data = data[:size]
    given: dict[int, bytes] = {}
    steps = list[tuple[int, bytes]]()
    is_shown = False
    for date, commands in _sequences(data):
        if len(steps) == MAX_SEQUENCES:
            raise TooLargeError(f"more than {MAX_SEQUENCES} control sequences of a sub-picture unit")
        if steps and date < steps[-1][0]:
            raise MalformedError("control sequences of a sub-picture unit aren't in order")
        for command, operands in commands:
            given[command] = operands
            is_shown = command in (FORCED_START, START) or (is_shown and command != STOP)
        steps.append((date, _colours(given, index) if is_shown else b""))
    if not any(palette for _, palette in steps):
        return []
    place, rows = _bitmap(data, given, index.canvas)
    sets = list[tuple[int, DisplaySet]]()
    for date, palette in steps:
        time = date * 1024 // 90
        if palette:
            sets.append((time, write_display_set(index.canvas, place, palette, rows)))
            # The sets behind the first one show the same bitmap in other colours.
            rows = b""
        elif sets:
            sets.append((time, write_display_set(index.canvas)))
    return sets


def _sequences(data: bytes) -> Iterator[tuple[int, Iterator[tuple[int, bytes]]]]:
    """Return the control sequences of a unit: the time of each in units of 1024/90 ms, and its commands."""
    at, following = 0, int.from_bytes(data[2:4], "big")
    # The last one points to itself.
    while at < following <= len(data) - 4:
        at = following
        date, following = struct.unpack_from(">HH", data, at)
        yield date, _commands(data, at + 4)


def _commands(data: bytes, at: int) -> Iterator[tuple[int, bytes]]:
    """Return the commands of a control sequence with their operands."""
    while at < len(data) and data[at] != END:
        command, begin = data[at], at + 1
        if command == CHANGES:  # other colours of some lines, with a size of their own
            at = begin + max(2, int.from_bytes(data[begin : begin + 2], "big"))
        elif command in _OPERANDS:
            at = begin + _OPERANDS[command]
        else:
            raise MalformedError(f"command {command:#x} of a sub-picture unit")
        if at > len(data):
            raise MalformedError("a control sequence is cut off")
        yield command, data[begin:at]


def _colours(given: Mapping[int, bytes], index: VobSubIndex) -> bytes:
    """Return the four colours of the pixels as a palette of PGS, whose numbers begin with 1."""
    if COLOURS not in given or CONTRAST not in given:
        raise MalformedError("a sub-picture unit without colours")
    # The last of the four digits is that of the background, whose pixels are 0.
    colours = [int(digit, 16) for digit in reversed(given[COLOURS].hex())]
    contrasts = [int(digit, 16) for digit in reversed(given[CONTRAST].hex())]
    palette = index.palette or _guessed_palette(colours, contrasts, index.canvas[1])
    return b"".join(
        bytes((number, *palette[colour], 17 * contrast))
        for number, (colour, contrast) in enumerate(zip(colours, contrasts, strict=True), 1)
    )


def _guessed_palette(colours: Sequence[int], contrasts: Sequence[int], height: int) -> list[bytes]:
    """Return a palette whose seen colours are greys, from dark to bright, as in ffmpeg."""
    seen = list(dict.fromkeys(one for one, contrast in zip(colours, contrasts, strict=True) if contrast))
    palette = 16 * [_luma_chroma(0, height)]
    for one, level in zip(seen, _LEVELS[len(seen)], strict=True):
        palette[one] = _luma_chroma((255 * level >> 8) * 0x10101, height)
    return palette


def _bitmap(data: bytes, given: Mapping[int, bytes], canvas: tuple[int, int]) -> tuple[Place, bytes]:
    """Return the place of a unit's pixels, and their rows as PGS has them."""
    if AREA not in given or FIELDS not in given:
        raise MalformedError("a sub-picture unit without pixels")
    area = given[AREA].hex()
    left, right, top, bottom = (int(area[at : at + 3], 16) for at in range(0, 12, 3))
    if not (left <= right < canvas[0] and top <= bottom < canvas[1]):
        raise MalformedError("a sub-picture unit outside of its canvas")
    digits, width = data.hex(), right + 1 - left
    fields = [2 * offset for offset in struct.unpack(">HH", given[FIELDS])]
    rows = bytearray()
    for line in range(bottom + 1 - top):
        row, fields[line % 2] = _row(digits, fields[line % 2], width)
        rows += row
    return (left, top, width, bottom + 1 - top), bytes(rows)


def _row(digits: str, at: int, width: int) -> tuple[bytes, int]:
    """Return a row of pixels as PGS has it, and the place of the field's next row in the digits."""
    row, column, length = bytearray(), 0, 0
    while column < width:
        run = _RUN.match(digits, at)
        if run is None:
            raise MalformedError("the pixels of a sub-picture unit are cut off")
        length, written = _RUNS[run[0]]
        row += written
        column, at = column + length, run.end()
    # The last run ends with the row, however long.
    row[-3:-1] = (0xC000 | length - (column - width)).to_bytes(2, "big")
    # Rows begin with a byte, and the end of a row is a run of no length of colour 0.
    return bytes(row) + b"\0\0", at + at % 2


def _luma_chroma(colour: int, height: int) -> bytes:
    """Convert a colour of RGB to Y, Cr and Cb of the limited range."""
    red, green, blue = (one / 255 for one in colour.to_bytes(3, "big"))
    red_share, blue_share = (0.299, 0.114) if height <= SD_HEIGHT else (0.2126, 0.0722)
    luma = red_share * red + (1 - red_share - blue_share) * green + blue_share * blue
    chroma = (red - luma) / (1 - red_share), (blue - luma) / (1 - blue_share)
    return bytes((round(16 + 219 * luma), *(round(128 + 112 * one) for one in chroma)))
