"""The common part of all logs: messages of another process, and the end of a snapshot."""

from __future__ import annotations

import enum
from typing import TypeVar

import msgspec

from media.errors import MalformedError
from packager.reader_guard import ReaderGuard

T = TypeVar("T")


class Place(enum.Enum):
    """Where an entry stands: at the beginning of a snapshot, at its end, or anywhere else."""

    BEGIN = enum.auto()
    END = enum.auto()
    ELSEWHERE = enum.auto()


class SnapshotEnd(msgspec.Struct, frozen=True, tag="end"):
    """The last entry of a snapshot."""


def place_of(entry: object, begin: type, end: type = SnapshotEnd) -> Place:
    """Return the position of an entry.

    Args:
        entry: any entry of a log.
        begin: the type of those with which snapshots begin.
        end: the type of those with which they end.
    """
    if isinstance(entry, begin):
        return Place.BEGIN
    return Place.END if isinstance(entry, end) else Place.ELSEWHERE


def read_message(decoder: msgspec.msgpack.Decoder[T], message: bytes, what: str) -> T:
    """Read a message of another process.

    Args:
        decoder: for messages of its type.
        what: names the message in the error.

    Raises:
        MalformedError: the message is something else.
    """
    with ReaderGuard(what):
        try:
            return decoder.decode(message)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise MalformedError(f"no {what}: {error}") from error
