"""The lock of a data folder: two servers that write the same numbers and segments would spoil both."""

from __future__ import annotations

import asyncio
import fcntl
import os
from pathlib import Path

from packager.data_folder import DataFolder, NotOursError

NAME = "lock"

ASK_SECONDS = 0.02
"""Between two looks whether the server before has let go of the folder."""


class DataInUseError(Exception):
    """Another server uses the folder; the text is one line that says what to do."""


class DataLock:
    """Holds a data folder for this process, until ``release`` or the process's end, however it ends.

    Args:
        folder: the folder, which is made if it isn't there.

    Attributes:
        held: whether it is held.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._fd = -1

    @property
    def held(self) -> bool:
        """Whether this process has the folder."""
        return self._fd >= 0

    def take(self) -> None:
        """Hold it from now on; it blocks only as a disk does.

        Raises:
            DataInUseError: another process holds it.
            OSError: it can't be made or written.
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
        """Hold it as soon as the process that has it lets go; for as long as that one takes.

        Raises:
            OSError: it can't be made or written.
        """
        while not self.held:
            try:
                await asyncio.to_thread(self.take)
            except DataInUseError:
                await asyncio.sleep(ASK_SECONDS)

    def release(self) -> None:
        """Let another process have it. May be called again."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
