"""Programs that stand still for a while: connections to them are made, and stay silent."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

from tests.waiting import wait_for


@contextlib.contextmanager
def standing_still(pid: int) -> Iterator[None]:
    """Stop a process until the context ends; one of many threads may answer for a moment after the signal."""
    os.kill(pid, signal.SIGSTOP)
    try:
        wait_for(lambda: set(_states(pid)) <= {"T"}, "all threads to stand still")
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def _states(pid: int) -> Iterator[str]:
    """Give the state of each thread, as proc(5) has it."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):  # it has just ended
            yield (task / "stat").read_text().rpartition(")")[2].split()[0]
