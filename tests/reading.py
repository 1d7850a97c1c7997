"""Readers without I/O, given their bytes whole or in pieces: what they tell, and how they end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, TypeVar

from media.errors import MediaError

Event = TypeVar("Event")
Told = TypeVar("Told", covariant=True)


class Reader(Protocol[Told]):
    def receive_data(self, data: bytes) -> None: ...

    def receive_eof(self) -> None: ...

    def events(self) -> Iterator[Told]: ...


def events_of(reader: Reader[Event], *pieces: bytes) -> Iterator[Event]:
    """Give a stream in pieces, with its end."""
    for piece in pieces:
        reader.receive_data(piece)
        yield from reader.events()
    reader.receive_eof()
    yield from reader.events()


def outcome_of(reader: Reader[Event], *pieces: bytes) -> tuple[list[Event], type[MediaError] | None]:
    """Tell what comes of a stream, and by which error it ends."""
    events: list[Event] = []
    try:
        events.extend(events_of(reader, *pieces))
    except MediaError as error:
        return events, type(error)
    return events, None
