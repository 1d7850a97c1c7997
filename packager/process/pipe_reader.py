"""Reading of a pipe as data arrives, with pauses during which the kernel buffers it.

Each wake-up costs more CPU than processing a frame, so the receiver says how long it needs no more data.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Callable

READ_BYTES = 1 << 18
"""Most bytes that one read takes from a pipe."""

_SCRATCH = memoryview(bytearray(READ_BYTES))
"""A buffer for all reads of the event loop; allocating one for each read costs more than copying."""


def capacity(descriptor: int) -> int:
    """Return how many bytes a pipe holds before its writer blocks."""
    return fcntl.fcntl(descriptor, fcntl.F_GETPIPE_SZ)


class PipeReader:
    """Passes a pipe's bytes to a function until the end of file.

    Args:
        descriptor: a non-blocking descriptor, which stays open until ``stop``.
        receive: takes the bytes and returns the seconds during which no reading is needed.

    Attributes:
        ended: done at the end of file, or with the exception that ``receive`` raised.
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
        """End a pause and read now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._read()

    def stop(self) -> None:
        """Stop reading. May be called again."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._stop_listening()

    def _listen(self) -> None:
        """Register for readability, unless that is so already."""
        if not self._listening:
            self._listening = True
            self._loop.add_reader(self._descriptor, self._read)

    def _stop_listening(self) -> None:
        if self._listening:
            self._listening = False
            self._loop.remove_reader(self._descriptor)

    def _read(self) -> None:
        if self.ended.done():
            # The waiting task was cancelled, but the reader isn't stopped yet.
            self.stop()
            return
        try:
            data = bytes(_SCRATCH[: os.readv(self._descriptor, (_SCRATCH,))])
            idle_seconds = self._receive(data) if data else 0.0
        except BlockingIOError:
            self._listen()
            return
        except Exception as error:  # noqa: BLE001  # raised from ``ended``
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
