"""Transient errors, after which another attempt may succeed."""

from __future__ import annotations

import errno

LACKING = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EAGAIN})
"""Errors of a system that has no room (descriptors, memory, processes) now, and will have again."""


class NotReadyError(Exception):
    """An answer isn't made yet; it may be asked for again."""


def will_pass(error: OSError) -> bool:
    """Return whether an error is transient.

    The system has no room now, others took too long, or a file was replaced while it was read.
    """
    return error.errno in LACKING or error.errno == errno.ESTALE or isinstance(error, TimeoutError)
