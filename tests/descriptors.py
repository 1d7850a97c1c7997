"""What a process has open, by /proc, where entries vanish while others are read."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


def open_files(pid: int | None = None) -> Iterator[str]:
    """Return where the open descriptors lead: paths, and names such as `socket:[17]`.

    Args:
        pid: another process; this one without.
    """
    with contextlib.suppress(OSError):
        for entry in Path(f"/proc/{pid or 'self'}/fd").iterdir():
            with contextlib.suppress(OSError):
                yield os.readlink(entry)


def descriptors(pid: int | None = None) -> int:
    """Return how many descriptors a process has open.

    Args:
        pid: another process; this one without.
    """
    return len(os.listdir(f"/proc/{pid or 'self'}/fd"))
