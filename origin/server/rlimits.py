"""How many descriptors the system allows, and what they are enough for."""

from __future__ import annotations

import resource

RESERVED = 32
"""Descriptors that connections leave to everything else: the loop, logs, lookups, ffmpeg and its pipes."""

PER_CONNECTION = 2
"""Its socket, and one more: the file that it is sent, or what its sender waits with."""


def raise_limit() -> int:
    """Allow this process as many descriptors as the system lets it have.

    Returns:
        How many that are.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def connections_within(descriptors: int, wanted: int) -> int:
    """The number of connections that descriptors are enough for.

    Args:
        descriptors: How many there are.
        wanted: How many connections are wanted.
    """
    return max(1, min(wanted, (descriptors - RESERVED) // PER_CONNECTION))


def files_within(descriptors: int, wanted: int) -> int:
    """The number of files that may stay open between requests.

    Args:
        descriptors: How many there are.
        wanted: How many files are wanted.
    """
    return min(wanted, descriptors // 16)
