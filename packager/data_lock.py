"""Locks a data folder, since two servers must not write the same numbers and segments."""

from __future__ import annotations

import asyncio
import fcntl
import os
from pathlib import Path

from packager.safe_files import DataFolder, NotOursError
from packager.threads import SHARED_THREADS

NAME = "lock"


class DataInUseError(Exception):
    """Another server uses the folder; the text is one line that says what to do."""


class DataLock:
    """Holds the lock of a data folder until ``release``, or until the process ends.

    Args:
        folder: the folder, which is made if missing.
        look_seconds: between two attempts of a server that waits for the lock.
    """

    def __init__(self, folder: Path, look_seconds: float = 0.02) -> None:
        self._folder = folder
        self._look_seconds = look_seconds
        self._fd = -1

    @property
    def held(self) -> bool:
        """Whether this process holds the lock."""
        return self._fd >= 0

    def acquire(self) -> None:
        """Take the lock. Blocks only for the disk.

        Raises:
            DataInUseError: another process holds it.
            OSError: the folder can't be created or written.
        """
        try:
            with DataFolder(self._folder).open(make=True) as folder:
                fd = folder.open_to_lock(NAME)
        except NotOursError:
            raise
        except OSError as error:
            advice = "set server.data to a folder that can be written"
            raise OSError(error.errno, f"{error.strerror}; {advice}", str(self._folder)) from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            advice = "stop it, or set server.data to another folder"
            raise DataInUseError(f"{self._folder}: another server uses this data folder; {advice}") from None
        except BaseException:
            os.close(fd)
            raise
        self._fd = fd

    async def wait(self) -> None:
        """Take the lock as soon as it is free.

        Raises:
            OSError: the folder can't be created or written.
        """
        while not self.held:
            try:
                await SHARED_THREADS.run(self.acquire)
            except DataInUseError:
                await asyncio.sleep(self._look_seconds)

    def release(self) -> None:
        """Release the lock; may be called again."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
