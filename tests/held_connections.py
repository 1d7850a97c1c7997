"""The connections of a server in the test's own process that are still in memory."""

from __future__ import annotations

import gc

from origin.http1.protocol import HttpProtocol


def in_memory(client: tuple[str, int]) -> list[HttpProtocol]:
    """Give a client's connections: those of others may go at any time."""
    found = [one for one in gc.get_objects() if issubclass(type(one), HttpProtocol)]
    return [one for one in found if getattr(one, "client", None) == client]


def connections(client: tuple[str, int]) -> int:
    """Count them."""
    return len(in_memory(client))
