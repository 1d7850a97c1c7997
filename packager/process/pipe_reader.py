"""A pipe that is emptied as bytes come, and may be left alone while nobody needs what comes.

Each wake-up costs more than what is done with a frame. Who knows when the next bytes will matter says so, and
the pipe keeps those before them.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Callable

READ_BYTES = 1 << 18
"""Most bytes that one read takes from a pipe."""

_SCRATCH = memoryview(bytearray(READ_BYTES))
"""Where bytes are read to, by one loop: room for so many, made for each read, costs more than the copy."""


def capacity(descriptor: int) -> int:
    """How many bytes a pipe holds before who writes to it must wait."""
    return fcntl.fcntl(descriptor, fcntl.F_GETPIPE_SZ)


class PipeReader:
    """Gives a pipe's bytes to a function, until its end.

    Args:
        descriptor: the pipe's, which doesn't block; it stays open until ``stop``.
        receive: takes the bytes, and gives the seconds for which the pipe may be left alone, 0 for none.

    Attributes:
        ended: done at the pipe's end; has the error where ``receive`` raised one.
    """

    def __init__(self, descriptor: int, receive: Callable[[bytes], float]) -> None:
        self._descriptor = descriptor
        self._receive = receive
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._listening = False
        self._listen()
        self.ended: asyncio.Future[None] = self._loop.create_future()

    def wake(self) -> None:
        """Look at the pipe now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._read()

    def stop(self) -> None:
        """Look no more. May be called again."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._stop_listening()

    def _listen(self) -> None:
        """Be woken up by what comes; mostly one look was enough, and this is spared."""
        if not self._listening:
            self._listening = True
            self._loop.add_reader(self._descriptor, self._read)

    def _stop_listening(self) -> None:
        if self._listening:
            self._listening = False
            self._loop.remove_reader(self._descriptor)

    def _read(self) -> None:
        try:
            data = bytes(_SCRATCH[: os.readv(self._descriptor, (_SCRATCH,))])
            idle_seconds = self._receive(data) if data else 0.0
        except BlockingIOError:
            self._listen()
            return
        except Exception as error:  # noqa: BLE001  # whatever it is, it's for who waits
            self.stop()
            self.ended.set_exception(error)
            return
        if not data:
            self.stop()
            self.ended.set_result(None)
        elif idle_seconds > 0:
            self._stop_listening()
            self._timer = self._loop.call_later(idle_seconds, self.wake)
        else:
            self._listen()
