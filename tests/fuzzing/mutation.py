"""Damages inputs: whole parts of them, such as messages or packets, and bytes within a part."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

Parts = Sequence[bytes]
"""An input in the parts that its format has: a header, then messages, tags, packets, boxes or lines."""

_NUMBERS = (0, 1, 2, 3, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0xFFFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
"""Where formats have their edges, in one to four bytes."""

_MOST_PARTS = 64
_MOST_BYTES = 8192
_MOST_KEPT = 256
_MENDED = 0.7
"""Chance that a damaged part is made whole again on its outside."""

_KEPT = 0.3
"""Chance that an input is made of one that was kept instead of a seed."""


class Mutator:
    """Makes inputs of others.

    Args:
        seeds: inputs that are damaged.
        words: parts that a format can have anywhere, and that no seed has.
        mend: makes a damaged part whole again on its outside; it is done with most.
        chance: all that is random here.
    """

    def __init__(
        self, seeds: Sequence[Parts], words: Sequence[bytes], mend: Callable[[bytes], bytes], chance: Random
    ) -> None:
        self._seeds = [tuple(seed) for seed in seeds]
        self._kept = list[Parts]()
        self._words = tuple(words)
        self._mend = mend
        self._chance = chance

    def keep(self, parts: Parts) -> None:
        """Damage this input further from now on: something new came of it."""
        if len(self._kept) < _MOST_KEPT:
            self._kept.append(tuple(parts))
        else:
            self._kept[self._below(_MOST_KEPT)] = tuple(parts)

    def make(self) -> list[bytes]:
        """Make an input; half of them have other parts than the one they are made of."""
        draw = self._chance.random
        parts = list(self._one())
        others = (0, 0, 0, 1, 1, 2)[self._below(6)]
        for _ in range(others):
            self._other_parts(parts)
        del parts[_MOST_PARTS:]
        # An error ends most inputs: behind two there is seldom anything to be found.
        for _ in range((0 if others else 1, 1, 1, 1, 2, 4)[self._below(6)]):
            # What comes first is seldom damaged: behind it hardly anything would be read.
            least = 1 if len(parts) > 1 and draw() < 0.9 else 0
            at = least + self._below(len(parts) - least)
            if parts[at]:
                damaged = self._damaged(parts[at])
                parts[at] = self._mend(damaged) if draw() < _MENDED else damaged
        while len(parts) > 1 and sum(map(len, parts)) > _MOST_BYTES:
            parts.pop()
        return parts

    def _below(self, end: int) -> int:
        # Half of the time of ``randrange``, which is most of what making an input takes.
        return int(self._chance.random() * end)

    def _one(self) -> Parts:
        # Most of what is kept ends with an error.
        pool = self._kept if self._kept and self._chance.random() < _KEPT else self._seeds
        return pool[self._below(len(pool))]

    def _other_parts(self, parts: list[bytes]) -> None:
        at = self._below(len(parts))
        operation = self._below(6)
        if operation == 0 and len(parts) > 2:
            del parts[max(at, 1)]
        elif operation == 1:
            parts.insert(at + 1, parts[at] if at else parts[-1])
        elif operation == 2 and len(parts) > 2:
            other = 1 + self._below(len(parts) - 1)
            at = max(at, 1)
            parts[at], parts[other] = parts[other], parts[at]
        elif operation == 3 and self._words:
            parts.insert(at + 1, self._words[self._below(len(self._words))])
        elif operation == 4:
            others = self._one()
            parts[at + 1 :] = others[self._below(len(others)) :]
        else:
            others = self._one()
            parts.insert(at + 1, others[self._below(len(others))])

    def _damaged(self, part: bytes) -> bytes:
        data, below = bytearray(part), self._below
        # Headers stand at the beginning.
        at = below(min(len(data), 16) if self._chance.random() < 0.5 else len(data))
        _OPERATIONS[below(len(_OPERATIONS))](data, at, below)
        return bytes(data)


def _flip(data: bytearray, at: int, below: Callable[[int], int]) -> None:
    data[at] ^= 1 << below(8)


def _replace(data: bytearray, at: int, below: Callable[[int], int]) -> None:
    data[at] = below(256)


def _number(data: bytearray, at: int, below: Callable[[int], int]) -> None:
    size = min(1 + below(4), len(data) - at)
    value = _NUMBERS[below(len(_NUMBERS))] & (1 << 8 * size) - 1
    data[at : at + size] = value.to_bytes(size, "big")


def _step(data: bytearray, at: int, below: Callable[[int], int]) -> None:
    data[at] = (data[at] + (1, 255)[below(2)]) % 256


def _remove(data: bytearray, at: int, below: Callable[[int], int]) -> None:
    del data[at : at + (1, 2, 4, 11, 60)[below(5)]]


def _insert(data: bytearray, at: int, below: Callable[[int], int]) -> None:
    data[at:at] = bytes(below(256) for _ in range((1, 2, 4, 12)[below(4)]))


def _copy(data: bytearray, at: int, below: Callable[[int], int]) -> None:
    begin = below(len(data))
    piece = data[begin : begin + 1 + below(32)]
    data[at : at + len(piece)] = piece


def _repeat(data: bytearray, at: int, below: Callable[[int], int]) -> None:
    begin = below(len(data))
    data[at:at] = data[begin : begin + 1 + below(100)]


def _end(data: bytearray, at: int, below: Callable[[int], int]) -> None:
    del data[at:]


# What leaves the length as it is comes more often: otherwise nothing behind it is read as what it was.
_OPERATIONS = (
    _flip, _flip, _replace, _replace, _number, _number, _step, _copy,
    _remove, _insert, _repeat, _end,
)  # fmt: skip
