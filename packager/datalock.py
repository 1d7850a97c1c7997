"""The lock of a data folder: two servers that write the same numbers and segments would spoil both."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

NAME = "lock"


class DataInUseError(Exception):
    """Another server uses the folder; the text is one line that says what to do."""


class DataLock:
    """Holds a data folder for this process, until ``release`` or the process's end, however it ends.

    Args:
        folder: the folder, which is made if it isn't there.

    Raises:
        DataInUseError: another process holds it.
        OSError: it can't be made or written.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(folder / NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.release()
            advice = "stop it, or set server.data to another folder"
            raise DataInUseError(f"{folder}: another server uses this data folder; {advice}") from None
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Let another process have it. May be called again."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
