"""An application that counts how many requests reach it in each step of the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import Counter
from collections.abc import Iterator

from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from origin.http1.shared_turns import STEP_REQUESTS

CROWD = 3 * STEP_REQUESTS


class Hold:
    """Holds a loop until it is released.

    Attributes:
        began: set when the loop is held.
    """

    def __init__(self) -> None:
        self.began = threading.Event()
        self._released = threading.Event()

    def wait(self) -> None:
        """Hold the loop that calls this."""
        self.began.set()
        self._released.wait()

    def release(self) -> None:
        """Let the loop go on."""
        self._released.set()


class Crowd:
    """Answers each request with its path, and counts those of each step of the loop.

    Attributes:
        steps: how many were asked in each.
        loop: the server's, from the first request on.
    """

    loop: asyncio.AbstractEventLoop

    def __init__(self) -> None:
        self.steps = Counter[int]()
        self._step = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.loop = asyncio.get_running_loop()
        self.steps[self._step] += 1
        await PlainTextResponse(scope["path"])(scope, receive, send)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold the loop within the block, so that all asks in one step, and count from here on."""
        hold = self.hold()
        assert hold.began.wait(60)
        self.steps.clear()
        self.loop.call_soon_threadsafe(self._count)
        yield
        hold.release()

    def hold(self) -> Hold:
        """Hold the loop from its next callbacks on, until that is released."""
        hold = Hold()
        self.loop.call_soon_threadsafe(hold.wait)
        return hold

    def _count(self) -> None:
        self._step += 1
        if self._step < 100 * CROWD:
            self.loop.call_soon(self._count)
