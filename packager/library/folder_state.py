"""Notices when a library's folder goes away, such as a network share, and when it is back."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from pathlib import Path

import structlog

from packager.threads import SHARED_THREADS

LOOK_SECONDS = 5.0
"""Time between two comparisons of the folder; requests that find no file compare it, too."""

log = structlog.get_logger()


class FolderGoneError(OSError):
    """The folder was there, and isn't any more; the log has said so."""


class FolderState:
    """Whether a folder is there as it was before; a service that looks at it every few seconds.

    A mount point without its file system is an empty folder on another device.

    Attributes:
        trouble: why the folder can't be read now, in a line; empty where it can, or never was there.
    """

    name = "library"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._device: int | None = None
        self.trouble = ""

    @property
    def is_known(self) -> bool:
        """Whether the folder has been there, so that it can go away."""
        return self._device is not None

    def look(self) -> None:
        """Compare the folder with what it was, and log a change. Blocks.

        Raises:
            FolderGoneError: it was there, and isn't any more.
        """
        try:
            device, is_empty = self._device_and_emptiness()
        except OSError as error:
            if self._device is None:
                return
            reason = error.strerror or str(error)
        else:
            if self._device in (None, device) or not is_empty:
                self._device = device
                self._note("")
                return
            reason = "it is empty, and was on another file system: is that mounted?"
        self._note(f"{self._folder} can't be read: {reason}")
        raise FolderGoneError(errno.ENODEV, reason)

    async def run(self) -> None:
        """Compare the folder with what it was every few seconds, until cancelled."""
        while True:
            with contextlib.suppress(FolderGoneError):
                await SHARED_THREADS.run(self.look)
            await asyncio.sleep(LOOK_SECONDS)

    def _device_and_emptiness(self) -> tuple[int, bool]:
        # Read as a request would, not only examined: another user's folder can be examined, too.
        with os.scandir(self._folder) as entries:
            return self._folder.stat().st_dev, next(entries, None) is None

    def _note(self, trouble: str) -> None:
        before, self.trouble = self.trouble, trouble
        if trouble and not before:
            log.warning("the library can't be read", reason=trouble)
        elif before and not trouble:
            log.info("the library can be read again", folder=str(self._folder))
