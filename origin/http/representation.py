"""The interface of a representation (RFC 9110 §3.2): its size, validators and bytes."""

from __future__ import annotations

from typing import Protocol


class RepresentationMetadata(Protocol):
    """The facts about a representation that decide the header of a response (RFC 9110 §8)."""

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


class SelectedRepresentation(RepresentationMetadata, Protocol):
    """Bytes of known length with validators, of which any range can be read."""

    def descriptor(self) -> int | None:
        """The descriptor of an open file that holds exactly these bytes, or None."""

    async def read(self, offset: int, length: int) -> bytes | memoryview:
        """Return up to `length` bytes from `offset`; b"" only at the end."""

    async def close(self) -> None:
        """Release resources. Called once, at the end of the response in any case."""
