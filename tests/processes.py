"""Ends programs that tests start, and lists what a process has started."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path

END_SECONDS = 60.0
"""How long one may take to end by itself: a killed nginx would leave its worker behind."""

ENDED: list[float] = []
"""Seconds of processors that each forked server took which this process has seen end."""


def end(process: subprocess.Popen[bytes] | subprocess.Popen[str]) -> None:
    """Ask a program to end, and end it where it doesn't."""
    process.terminate()
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def children_of(pid: int | None = None) -> list[int]:
    """Return the process ids of a process's children, those among them that have ended and aren't waited for.

    Args:
        pid: another process; this one without.
    """
    found: list[int] = []
    with contextlib.suppress(OSError):
        for path in Path(f"/proc/{pid or 'self'}/task").glob("*/children"):
            # A thread may end between being listed and being looked at.
            with contextlib.suppress(OSError):
                found += map(int, path.read_text().split())
    return found


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process has taken so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
