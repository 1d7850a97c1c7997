"""Writes the next block to all readers that have received everything before it, with one system call each.

Most readers are in this state most of the time. Only one number, the descriptor, is touched for each: with
thousands of readers more than that would not fit the processor's caches.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

NOBODY = -1
"""Replaces the descriptor of a reader that has left; writing to it fails with EBADF (write(2))."""


class CaughtUpReaders(Generic[T]):
    """Readers at the same position in the ring, which are written to together.

    Args:
        fall_out: called for each reader whose socket doesn't take the whole block, with the rest of the
            block; it must remove the reader.
    """

    def __init__(self, fall_out: Callable[[T, memoryview], None]) -> None:
        self._fall_out = fall_out
        self._descriptors: list[int] = []
        self._members: list[T | None] = []
        self._places: dict[T, int] = {}
        # Bytes of all finished blocks, and what that count was when each member was added.
        self._written = 0
        self._since: dict[T, int] = {}
        self._data = b""
        self._next = 0

    def __len__(self) -> int:
        """Count the members."""
        return len(self._places)

    def __contains__(self, member: T) -> bool:
        """Return whether a reader is a member."""
        return member in self._places

    @property
    def members(self) -> tuple[T, ...]:
        """The members in the order in which they were added."""
        return tuple(self._places)

    @property
    def is_under_way(self) -> bool:
        """Whether some members have not been written the current block yet."""
        return bool(self._data)

    def has_written(self, member: T) -> bool:
        """Whether the block that is being written is written to this member already, or to all."""
        return not self._data or self._places[member] < self._next

    def add(self, member: T, descriptor: int) -> None:
        """Add a reader; not while a block is being written."""
        self._places[member], self._since[member] = len(self._members), self._written
        self._members.append(member)
        self._descriptors.append(descriptor)

    def remove(self, member: T) -> int:
        """Remove a reader at once: its descriptor number may soon be another connection's.

        Returns:
            Bytes that were written to it, including the rest of its last block.
        """
        place = self._places.pop(member)
        self._members[place], self._descriptors[place] = None, NOBODY
        written = self._written + (len(self._data) if place < self._next else 0)
        return written - self._since.pop(member)

    def begin(self, data: bytes) -> None:
        """Set the block that ``go_on`` writes; the one before must be finished."""
        if len(self._places) < len(self._members):
            self._compact()
        self._data, self._next = data, 0

    def go_on(self, most: int) -> int:
        """Write the block to the next members.

        Args:
            most: readers to return, at most.

        Returns:
            Bytes written or queued.
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
                taken = 0  # the socket is full, or broken: then the transport meets the same error
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
        """Write the current block, if any, to all remaining members; return the bytes."""
        return self.go_on(len(self._members))

    def _compact(self) -> None:
        kept = [(m, d) for m, d in zip(self._members, self._descriptors, strict=True) if m is not None]
        self._members = [member for member, _ in kept]
        self._descriptors = [descriptor for _, descriptor in kept]
        self._places = {member: place for place, (member, _) in enumerate(kept)}
