"""The address of a running server, which it leaves in its folder for commands on the same machine."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

from packager.safe_files import DataFolder

NAME = ".address"
"""File beside the generated secrets. Names with a leading dot are never served, even from a library."""

MAX_BYTES = 1 << 10

_CONTENT = re.compile(r"(https?://[!-~]+) ([1-9][0-9]{0,9})\n")
"""The address, and the process that serves there."""


class AddressFile:
    """The file with the address of this process. Its methods block.

    Args:
        folder: of the server's secrets; nothing is written where it is missing.
        address: see `own_address`.
    """

    def __init__(self, folder: DataFolder, address: str) -> None:
        self._folder = folder
        self._content = f"{address} {os.getpid()}\n".encode()

    def write(self) -> None:
        """Write the file; without it, commands ask where the configuration says."""
        with contextlib.suppress(OSError), self._folder.open() as folder:
            folder.write_whole(NAME, self._content, synchronized=False)

    def remove(self) -> None:
        """Remove the file, unless a server that took over has written its own."""
        with contextlib.suppress(OSError), self._folder.open() as folder:
            if folder.read(NAME, MAX_BYTES) == self._content:
                folder.remove(NAME)


def running_address(folder: DataFolder) -> str:
    """Return the address that a running server has left in a folder; empty without one. Blocks."""
    with contextlib.suppress(OSError), folder.open() as opened:
        match = _CONTENT.fullmatch(opened.read(NAME, MAX_BYTES).decode("ascii", "replace"))
        # A server that was killed leaves its file.
        if match is not None and Path(f"/proc/{match[2]}").exists():
            return match[1]
    return ""
