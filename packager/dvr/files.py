"""Files of the DVR and of recordings: written whole or not at all, removed with their folders. It blocks."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

TEMPORARY = ".tmp"
"""What the name of a file ends in while it is written."""


def write_whole(path: Path, data: bytes) -> None:
    """Write a file under another name, synchronise it and rename it.

    Args:
        path: its place.
        data: all of it.

    Raises:
        OSError: it can't be written; then nothing of it is left.
    """
    temporary = path.with_name(f"{path.name}{TEMPORARY}")
    try:
        with temporary.open("wb", buffering=0) as file:
            write_all(file.fileno(), data)
            os.fdatasync(file.fileno())
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def write_all(descriptor: int, data: bytes) -> None:
    """Write all bytes, however few a call takes."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def clear(folder: Path) -> None:
    """Remove a folder and what is in it, without following links; one that isn't there counts as removed.

    Raises:
        OSError: something of it can't be removed.
    """
    if folder.is_symlink() or not folder.is_dir():
        folder.unlink(missing_ok=True)
        return
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            clear(path)
        else:
            path.unlink()
    folder.rmdir()
