"""Requests that wait for a rendition's next part or segment; their number and their time are limited.

A waiter is an object with a method, not a task: a thousand of them are released in one turn of the loop.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from packager.window.limits import DEFAULT_LIMITS, PublishLimits

log = structlog.get_logger()

RELEASED_AT_ONCE = 1000
"""Requests that are released before the loop does something else."""

RELEASE_SECONDS = 0.01
"""Seconds for which requests are released before the loop does something else, if each has an answer of its
own.
"""


class TooManyWaitersError(Exception):
    """Too many requests wait already."""


class Waiter(Protocol):
    """An object that waits for one condition at a time, such as a request."""

    def release(self, holds: bool) -> None:  # called with it alone
        """Wait no longer: the condition holds, or else the time is over or nothing comes any more."""


@dataclass(slots=True)
class _Group:
    """Requests that wait for one condition, each with the time at which it gives up."""

    ready: Callable[[], bool]
    members: dict[Waiter, float] = field(default_factory=dict)
    timer: asyncio.TimerHandle | None = None
    # The timer can't be asked: uvloop's has no time where it was due already.
    due: float = math.inf


class _Sleeper:
    """A waiter that resumes a task."""

    __slots__ = ("future",)

    def __init__(self, future: asyncio.Future[bool]) -> None:
        self.future = future

    def release(self, holds: bool) -> None:
        if not self.future.done():
            self.future.set_result(holds)


class Waiters:
    """The waiters of one rendition; after a change, each condition is checked once, however many wait for it.

    Args:
        limits: how many may wait at once, and how they are released.

    Attributes:
        closed: whether nobody waits any more.
    """

    def __init__(self, limits: PublishLimits = DEFAULT_LIMITS) -> None:
        self.limits = limits
        self.closed = False
        self._groups: dict[Hashable, _Group] = {}
        self._keys: dict[Waiter, Hashable] = {}

    @property
    def count(self) -> int:
        """How many wait now."""
        return len(self._keys)

    def notify(self) -> None:
        """Release the waiters whose condition holds now, in the loop's next turn."""
        over = [
            (key, holds) for key, group in self._groups.items() if (holds := self._outcome(group)) is not None
        ]
        for key, holds in over:
            group = self._groups.pop(key)
            if group.timer is not None:
                group.timer.cancel()
            self._release(group.members, holds=holds)

    def _outcome(self, group: _Group) -> bool | None:
        """Check a group's condition: True once it holds, False once it never will, None before."""
        try:
            return True if group.ready() else False if self.closed else None
        except Exception:  # the publisher goes on, and the requests are released
            log.exception("a condition that requests wait for can't be checked", waiting=len(group.members))
            return False

    def close(self) -> None:
        """Release all waiters; none can be added any more."""
        self.closed = True
        self.notify()

    def add(self, waiter: Waiter, ready: Callable[[], bool], seconds: float, key: Hashable = None) -> None:
        """Add a waiter, which is released once a condition holds.

        Args:
            waiter: its ``release`` is called once, later, from the loop.
            ready: the condition, checked after every change; it doesn't hold now.
            seconds: longest wait.
            key: identifies the condition, so that all its waiters are one group; None: a group of its own.

        Raises:
            TooManyWaitersError: as many as may wait already, or nothing comes any more.
        """
        if self.closed or len(self._keys) >= self.limits.most_waiters:
            raise TooManyWaitersError(f"{len(self._keys)} requests are waiting")
        key = id(waiter) if key is None else key
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = _Group(ready)
        loop = asyncio.get_running_loop()
        due = group.members[waiter] = loop.time() + (max(0, seconds))
        self._keys[waiter] = key
        if due < group.due:
            if group.timer is not None:
                group.timer.cancel()
            group.due, group.timer = due, loop.call_at(due, self._expire, key)

    def remove(self, waiter: Waiter) -> None:
        """Remove a waiter without releasing it; do nothing where it doesn't wait."""
        key = self._keys.pop(waiter, None)
        group = None if key is None else self._groups.get(key)
        if group is not None:
            group.members.pop(waiter, None)
            if not group.members:
                if group.timer is not None:
                    group.timer.cancel()
                del self._groups[key]

    async def wait(self, ready: Callable[[], bool], seconds: float, key: Hashable = None) -> bool:
        """Wait until a condition holds; as for ``add``, but it may hold now.

        Returns:
            Whether it holds; False after that time, or when this is closed.

        Raises:
            TooManyWaitersError: as many as may wait already.
        """
        if self.closed or ready():
            return ready()
        sleeper = _Sleeper(asyncio.get_running_loop().create_future())
        self.add(sleeper, ready, seconds, key)
        try:
            return await sleeper.future
        finally:
            self.remove(sleeper)

    def _expire(self, key: Hashable) -> None:
        """Release the waiters of a group whose time is over."""
        group, loop = self._groups[key], asyncio.get_running_loop()
        # A timer of the loop may come within its clock's resolution too early.
        now = max(loop.time(), group.due)
        late = {waiter: due for waiter, due in group.members.items() if due <= now}
        for waiter in late:
            del group.members[waiter]
        if group.members:
            group.due = min(group.members.values())
            group.timer = loop.call_at(group.due, self._expire, key)
        else:
            del self._groups[key]
        self._release(late, holds=False)

    def _release(self, members: dict[Waiter, float], *, holds: bool) -> None:
        for waiter in members:
            del self._keys[waiter]
        if members:
            asyncio.get_running_loop().call_soon(self._run, deque(members), holds)

    def _run(self, members: deque[Waiter], holds: bool) -> None:
        limits = self.limits
        end = time.monotonic() + RELEASE_SECONDS
        try:
            for count in range(1, min(len(members), RELEASED_AT_ONCE) + 1):
                members.popleft().release(holds)
                if count >= limits.released_at_least and time.monotonic() >= end:
                    break
        finally:
            # The rest has its turn whatever happened to one of them.
            if members:
                asyncio.get_running_loop().call_soon(self._run, members, holds)
