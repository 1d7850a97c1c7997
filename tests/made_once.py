"""Media that ffmpeg makes for tests: the processes of a run share what one of them has made."""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

VARIABLE = "TESTS_MADE_ONCE"
"""The environment variable by which the run tells its processes the folder."""


def shared_folder() -> tempfile.TemporaryDirectory[str]:
    """Make the run's folder, and tell it to the processes that are started from now on."""
    folder = tempfile.TemporaryDirectory(prefix="headwater-made-", ignore_cleanup_errors=True)
    os.environ[VARIABLE] = folder.name
    return folder


def made_once(words: Sequence[str], make: Callable[[Path], object]) -> Path:
    """Give the folder of what is made by these words; nobody changes what is in it.

    Args:
        words: all that it depends on, such as ffmpeg's arguments.
        make: puts it into an empty folder; it is called unless another process of the run has been first.
    """
    name = hashlib.sha256("\0".join(words).encode()).hexdigest()
    folder = Path(os.environ[VARIABLE], name)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            # Under its name it is whole: whoever makes it may be ended, or may skip a test.
            with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
                making = Path(scratch, "made")
                making.mkdir()
                make(making)
                making.rename(folder)
    return folder
