"""A reader of fields that aren't whole bytes, the highest bit first."""

from __future__ import annotations

from media.errors import MalformedError

MAX_LEADING_ZEROS = 32
"""Of an Exp-Golomb code; longer ones stand for values that no syntax element may have."""


class BitReader:
    """Reads a few bytes bit by bit.

    Args:
        name: of the structure, for the error if the bytes end too early.
    """

    __slots__ = ("_name", "_value", "left")

    def __init__(self, data: bytes, name: str) -> None:
        self._value, self._name = int.from_bytes(data, "big"), name
        self.left = len(data) * 8

    def read(self, count: int) -> int:
        """Read an unsigned number of ``count`` bits.

        Raises:
            MalformedError: there aren't so many left.
        """
        if count > self.left:
            raise MalformedError(f"{self._name} is cut off")
        self.left -= count
        return self._value >> self.left & (1 << count) - 1

    def golomb(self) -> int:
        """Read an unsigned Exp-Golomb code, ue(v) (ISO/IEC 14496-10 §9.1)."""
        zeros = 0
        while not self.read(1):
            zeros += 1
            if zeros > MAX_LEADING_ZEROS:
                raise MalformedError(f"{self._name} has a number of more than {MAX_LEADING_ZEROS} bits")
        return (1 << zeros) - 1 + self.read(zeros)

    def signed_golomb(self) -> int:
        """Read a signed one, se(v) (§9.1.1)."""
        code = self.golomb()
        return (code + 1) // 2 if code % 2 else -(code // 2)
