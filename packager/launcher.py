"""Runs as a program of its own between the server and ffmpeg, and ends in ``execve``.

What must be set up inside the child is done here, after the fork and in a fresh interpreter, where nothing of
the server's (threads, locks, its event loop) can be in the way: the child dies with its parent, and the pipes
stand at the numbers that ffmpeg's arguments name.

    python -I -S launcher.py PARENT_PID FD[,FD…]|- PROGRAM ARGUMENT…
"""

import ctypes
import os
import signal
import sys

FIRST_PIPE = 3
PR_SET_PDEATHSIG = 1


def main() -> None:
    """Take up the place of the child: see the module's text."""
    parent, descriptors, program, *arguments = sys.argv[1:]
    # prctl(2): the signal comes when the parent's thread ends, whatever ended it.
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(parent):
        sys.exit(1)  # it was gone before the line above
    place([int(number) for number in descriptors.split(",")] if descriptors != "-" else [])
    os.execv(program, [program, *arguments])  # noqa: S606  # the whole point: no shell in between


def place(descriptors: list[int]) -> None:
    """Move the inherited descriptors to 3, 4, 5 … in order, by way of numbers that none of them has."""
    beyond = max([FIRST_PIPE + len(descriptors), *descriptors]) + 1
    for index, number in enumerate(descriptors):
        os.dup2(number, beyond + index, inheritable=False)
        os.close(number)
    for index in range(len(descriptors)):
        os.dup2(beyond + index, FIRST_PIPE + index, inheritable=True)
        os.close(beyond + index)


if __name__ == "__main__":
    main()
