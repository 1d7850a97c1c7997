"""Errors of the system that pass: what it refuses now it may give in a moment."""

from __future__ import annotations

import errno

LACKING = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EAGAIN})
"""Errors of a system that has no room (descriptors, memory, processes) now, and will have again."""
