"""Files of the DVR and of recordings: written whole or not at all, removed with their folders. It blocks.

A file with a number in its name is called by a string, never by a ``Path``: pathlib interns what it is made
of, and CPython's table of interned strings grows with names that are long gone.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

TEMPORARY = ".tmp"
"""What the name of a file ends in while it is written."""


def write_whole(path: str | Path, data: bytes) -> None:
    """Write a file under another name, synchronise it and rename it.

    Args:
        path: its place.
        data: all of it.

    Raises:
        OSError: it can't be written; then nothing of it is left.
    """
    temporary = f"{path}{TEMPORARY}"
    try:
        with open(temporary, "wb", buffering=0) as file:
            write_all(file.fileno(), data)
            os.fdatasync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def read_whole(path: str) -> bytes:
    """Read a file.

    Raises:
        OSError: it can't be read.
    """
    with open(path, "rb") as file:
        return file.read()


def size_of(path: str) -> int:
    """Tell how many bytes a file has.

    Raises:
        OSError: it isn't there, or can't be looked at.
    """
    return os.stat(path).st_size


def remove_file(path: str) -> int:
    """Remove a file; give how many bytes it had, none where it isn't there.

    Raises:
        OSError: it can't be removed.
    """
    try:
        size = os.stat(path).st_size
        os.unlink(path)
    except FileNotFoundError:
        return 0
    return size


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
