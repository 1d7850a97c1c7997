"""Reads the bytes of a small QR code, whose codewords are in one block (ISO/IEC 18004)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

FORMAT_MASK = 0b101010000010010
"""§7.9.1: the bits of the format are combined with these."""

LEVELS = {0b01: "L", 0b00: "M", 0b11: "Q", 0b10: "H"}
"""§7.9.1, table 12."""

DATA_CODEWORDS = {
    "L": {1: 19, 2: 34, 3: 55, 4: 80, 5: 108},
    "M": {1: 16, 2: 28, 3: 44},
    "Q": {1: 13, 2: 22},
    "H": {1: 9, 2: 16},
}
"""§7.5.1, table 9: by level of error correction and version, where there is one block."""

BYTE_MODE = 0b0100

MASKS: tuple[Callable[[int, int], int], ...] = (
    lambda row, column: (row + column) % 2,
    lambda row, column: row % 2,
    lambda row, column: column % 3,
    lambda row, column: (row + column) % 3,
    lambda row, column: (row // 2 + column // 3) % 2,
    lambda row, column: row * column % 2 + row * column % 3,
    lambda row, column: (row * column % 2 + row * column % 3) % 2,
    lambda row, column: ((row + column) % 2 + row * column % 3) % 2,
)
"""§7.8.2, table 10: modules for which these are 0 are inverted."""


def read(rows: Sequence[str]) -> bytes:
    """Return the bytes of a code whose dark modules are ``#``, without its quiet zone."""
    size = len(rows)
    version = (size - 17) // 4
    assert version * 4 + 17 == size
    assert all(len(row) == size for row in rows)
    # §7.9.1: beside the upper left finder, from the highest bit on.
    places = [(8, column) for column in (*range(6), 7, 8)] + [(row, 8) for row in (7, *range(5, -1, -1))]
    information = int("".join("1" if rows[row][column] == "#" else "0" for row, column in places), 2)
    information ^= FORMAT_MASK
    level = LEVELS[information >> 13]
    mask = MASKS[information >> 10 & 0b111]
    bits = [
        (rows[row][column] == "#") != (mask(row, column) == 0) for row, column in _data_modules(size, version)
    ]
    stream = iter(bits[: DATA_CODEWORDS[level][version] * 8])
    assert _number(stream, 4) == BYTE_MODE
    return bytes(_number(stream, 8) for _ in range(_number(stream, 8)))


def _number(bits: Iterator[bool], count: int) -> int:
    return int("".join("01"[next(bits)] for _ in range(count)), 2)


def _data_modules(size: int, version: int) -> Iterator[tuple[int, int]]:
    """Yield the places of all bits of codewords, in their order (§7.7.3)."""
    is_upward = True
    for right in (*range(size - 1, 6, -2), *range(5, 0, -2)):
        for row in range(size - 1, -1, -1) if is_upward else range(size):
            for column in (right, right - 1):
                if not _is_function(row, column, size, version):
                    yield row, column
        is_upward = not is_upward


def _is_function(row: int, column: int, size: int, version: int) -> bool:
    """Return whether a module belongs to a pattern or to the format (§6.3)."""
    if row == 6 or column == 6:
        return True
    if row <= 8 and (column <= 8 or column >= size - 8):
        return True
    if column <= 8 and row >= size - 8:
        return True
    return version > 1 and abs(row - (size - 7)) <= 2 and abs(column - (size - 7)) <= 2
