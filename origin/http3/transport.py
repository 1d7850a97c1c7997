"""A QUIC connection as a transport, as far as the protocol that counts a client needs one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any


class QuicTransport(asyncio.Transport):
    """The facts about a connection, and its end; streams have transports of their own.

    Args:
        facts: the connection's addresses, and that it is encrypted, by asyncio's names.
        abort: ends the connection at once.
    """

    def __init__(self, facts: dict[str, Any], abort: Callable[[], None]) -> None:
        super().__init__(facts)
        self._abort = abort
        self._is_closing = False

    def is_closing(self) -> bool:
        """Return whether the connection is at its end."""
        return self._is_closing

    def close(self) -> None:
        """End the connection."""
        self.abort()

    def abort(self) -> None:
        """End the connection at once."""
        if not self._is_closing:
            self._is_closing = True
            self._abort()

    def get_write_buffer_size(self) -> int:
        """Return 0: bytes wait on streams."""
        return 0
