"""What an answer is made of: a representation's size, its validators, and its bytes (RFC 9110 §3.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    pass


class Representation(Protocol):
    """Bytes of known length with validators, of which any range can be read."""

    @property
    def size(self) -> int:
        """Length in bytes."""

    @property
    def etag(self) -> str | None:
        """Entity-tag as its field says it, or None."""

    @property
    def last_modified(self) -> float | None:
        """Seconds since the epoch, or None."""

    @property
    def media_type(self) -> str:
        """Content-Type."""

    def descriptor(self) -> int | None:
        """The descriptor of an open file that holds exactly these bytes, or None."""

    async def read(self, offset: int, length: int) -> bytes | memoryview:
        """Up to `length` bytes from `offset`; none only where there are none any more."""

    async def close(self) -> None:
        """Release what it holds. Called once, when the answer has ended in whatever way."""
