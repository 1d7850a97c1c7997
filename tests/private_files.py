"""Which files of a folder other users of the machine can reach."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

OTHERS = 0o077


def readable_by_others(folder: Path) -> Iterator[str]:
    """Yield the files below a folder that others may read, and every folder on the way enter."""
    for path in sorted(folder.iterdir()):
        mode = path.lstat().st_mode & OTHERS
        if path.is_dir() and mode:
            yield from readable_by_others(path)
        elif mode:
            yield str(path)


def open_to_all(folder: Path) -> None:
    """Set the modes of a folder that an earlier version has written."""
    for place, folders, files in os.walk(folder):
        for name in folders:
            Path(place, name).chmod(0o755)
        for name in files:
            Path(place, name).chmod(0o644)
