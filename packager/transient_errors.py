"""Errors of the system that pass: what it refuses now it may give in a moment."""

from __future__ import annotations

import errno

LACKING = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EAGAIN})
"""Errors of a system that has no room (descriptors, memory, processes) now, and will have again."""


def will_pass(error: OSError) -> bool:
    """Say whether an error is one that passes.

    The system has no room now, others took too long, or a file was replaced while it was read.
    """
    return error.errno in LACKING or error.errno == errno.ESTALE or isinstance(error, TimeoutError)
