"""Whether a file of the library is there as a whole, by what its beginning declares."""

from __future__ import annotations

import os
from pathlib import Path

from media.matroska.declared_size import HEAD_BYTES, declared_bytes
from media.mp4.declared_size import declared_size
from packager.library.file_endings import CONTAINERS


def missing_bytes(path: Path) -> str | None:
    """Return how much of a file is there; None of a whole one. Blocks.

    Matroska and MP4 declare it, other containers don't.
    """
    container = CONTAINERS.get(path.suffix.lower())
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            if not size:
                return "the file is empty"
            if container == "mov":
                descriptor = file.fileno()
                whole = declared_size(lambda offset, length: os.pread(descriptor, length, offset), size)
                if whole is not None:
                    least = "more than " if whole.is_least else ""
                    return f"{size} of {least}{whole.nbytes} bytes are there"
            if container == "matroska":
                declared = declared_bytes(os.pread(file.fileno(), HEAD_BYTES, 0))
                if declared is not None and declared > size:
                    return f"{size} of {declared} bytes are there"
    except OSError:
        return None
    return None
