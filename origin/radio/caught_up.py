"""Listeners that have had everything, and get the next block as it is: one system call each, nothing else.

That is most of a crowd, most of the time. What it costs is what is touched for each, as a thousand listeners
and what the kernel has of them are more than a processor's nearest memory holds: here, that is one number.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Generic, TypeVar

from origin.radio.ring import Cursor

T = TypeVar("T")

NOBODY = -1
"""In place of a descriptor whose listener has gone; no write to it does anything (write(2), EBADF)."""


class CaughtUpListeners(Generic[T]):
    """Members that stand at one place and are written to together.

    Args:
        fall_out: called for each whose client doesn't take the whole block, with what it hasn't taken; it
            removes it.

    Attributes:
        cursor: where all of them stand, behind the block under way; meaningless while there are none.
    """

    def __init__(self, fall_out: Callable[[T, memoryview], None]) -> None:
        self._fall_out = fall_out
        self._descriptors: list[int] = []
        self._members: list[T | None] = []
        self._places: dict[T, int] = {}
        # Bytes of all blocks up to the end of the last one, and how many of them when a member came.
        self._written = 0
        self._since: dict[T, int] = {}
        self._data = b""
        self._next = 0
        self.cursor = Cursor(0)

    def __len__(self) -> int:
        """Count the members."""
        return len(self._places)

    def __contains__(self, member: T) -> bool:
        """Tell whether somebody is one."""
        return member in self._places

    @property
    def members(self) -> tuple[T, ...]:
        """Who is in it, in the order of their coming."""
        return tuple(self._places)

    @property
    def is_under_way(self) -> bool:
        """Whether some members haven't got the block yet."""
        return bool(self._data)

    def add(self, member: T, descriptor: int) -> None:
        """Take somebody in; not while a block is under way."""
        self._places[member], self._since[member] = len(self._members), self._written
        self._members.append(member)
        self._descriptors.append(descriptor)

    def remove(self, member: T) -> int:
        """Let somebody go, at once: the descriptor may be another's soon.

        Returns:
            Bytes that were written to it, what was left of the last block included.
        """
        place = self._places.pop(member)
        self._members[place], self._descriptors[place] = None, NOBODY
        written = self._written + (len(self._data) if place < self._next else 0)
        return written - self._since.pop(member)

    def begin(self, data: bytes) -> None:
        """Have a block written, by ``go_on``; none may be under way."""
        if len(self._places) < len(self._members):
            self._close_ranks()
        self._data, self._next = data, 0

    def go_on(self, most: int) -> int:
        """Write the block to the next members.

        Args:
            most: of them.

        Returns:
            Bytes that are on their way.
        """
        first, data = self._next, self._data
        if not data:
            return 0
        size, write, served = len(data), os.write, 0
        self._next += most
        behind: list[tuple[int, int]] = []
        for place, descriptor in enumerate(self._descriptors[first : first + most], first):
            try:
                taken = write(descriptor, data)
            except OSError:
                taken = 0  # no room, or an error that the transport meets too, with what is left to it
            if taken == size:
                served += 1
            else:
                behind.append((place, taken))
        for place, taken in behind:
            member = self._members[place]
            if member is not None:
                self._fall_out(member, memoryview(data)[taken:])
                served += 1
        if self._next >= len(self._members):
            self._written, self._data = self._written + size, b""
        return served * size

    def finish(self) -> int:
        """Write the block under way, if one is, to all who haven't got it; give the bytes."""
        return self.go_on(len(self._members))

    def _close_ranks(self) -> None:
        kept = [(m, d) for m, d in zip(self._members, self._descriptors, strict=True) if m is not None]
        self._members = [member for member, _ in kept]
        self._descriptors = [descriptor for _, descriptor in kept]
        self._places = {member: place for place, (member, _) in enumerate(kept)}
