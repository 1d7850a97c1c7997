"""Raises the limit of file descriptors, and computes how many connections and files it allows."""

from __future__ import annotations

import resource

RESERVED = 32
"""Descriptors for everything but connections: the loop, logs, lookups, ffmpeg and its pipes."""

PER_CONNECTION = 2
"""Descriptors of a connection: its socket, and the file that is sent on it."""


def raise_limit() -> int:
    """Raise the soft limit to the hard one.

    Returns:
        The number of descriptors.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def connections_within(descriptors: int, wanted: int) -> int:
    """Return the wanted number of connections, or as many as the descriptors allow."""
    return max(1, min(wanted, (descriptors - RESERVED) // PER_CONNECTION))


def files_within(descriptors: int, wanted: int) -> int:
    """Return the wanted number of files kept open, or as many as the descriptors allow."""
    return min(wanted, descriptors // 16)
