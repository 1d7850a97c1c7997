"""A station's log of audio and changes, sent to other processes and followed there.

The process with the station's source makes the audio's blocks, with their titles. Following processes have
the same blocks for their own listeners, whom they report.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, MutableMapping
from fractions import Fraction
from typing import TypeAlias

import msgspec
from msgspec import Struct

from origin.radio.mounts.audio_ring import MountBlock
from origin.radio.mounts.followed_mount import FollowedMount
from origin.radio.mounts.listeners_elsewhere import ListenerReport
from origin.radio.mounts.mount import Mount
from origin.radio.mounts.mount_entries import StationEntry
from packager.replication.log_entries import Place, SnapshotEnd, place_of, read_message

RADIO = "radio"
"""The kind of these logs: what their names begin with."""


class StationSnapshotBegin(Struct, frozen=True, tag="begin"):
    """The first entry of a snapshot; the blocks that are kept follow.

    Attributes:
        first: number of the first of them, or of the next one.
    """

    first: int


MountLogEntry: TypeAlias = MountBlock | StationEntry | StationSnapshotBegin | SnapshotEnd


def _read_time(_: type[Fraction], ratio: list[int]) -> Fraction:
    numerator, denominator = ratio
    if denominator == 0:
        raise ValueError("a time's denominator is 0")
    return Fraction(numerator, denominator)


_encode = msgspec.msgpack.Encoder(enc_hook=Fraction.as_integer_ratio).encode
_ENTRY = msgspec.msgpack.Decoder(MountLogEntry, dec_hook=_read_time)
_REPORT = msgspec.msgpack.Decoder(ListenerReport)


class ServedMountLog:
    """The log of a station, for those who follow it.

    Args:
        mount: the mount, whose ``on_entry`` is to pass entries to this log.
    """

    def __init__(self, mount: Mount) -> None:
        self.name = f"{RADIO}/{mount.name}"
        self._mount = mount

    def snapshot(self) -> Iterator[MountLogEntry]:
        """Return the entries from which another process makes the same station."""
        ring, first = self._mount.broadcast.ring, self._mount.broadcast.ring.first_sequence
        kept = ring.between(first, ring.next_sequence)
        return iter((StationSnapshotBegin(first), *kept, self._mount.facts, SnapshotEnd()))

    def encode(self, entry: MountLogEntry) -> bytes:
        """Write an entry."""
        return _encode(entry)

    def begins_anew(self, entry: MountLogEntry) -> bool:
        """Return whether a snapshot takes an entry's place: never."""
        del entry
        return False

    def take_report(self, follower: Hashable, message: bytes) -> None:
        """Note a follower's report of its listeners.

        Raises:
            MalformedError: the report can't be read.
        """
        report = read_message(_REPORT, message, "report of a station's listeners")
        self._mount.elsewhere.fold_report(follower, report)

    def forget(self, follower: Hashable) -> None:
        """Forget the listeners of a follower that is gone."""
        self._mount.elsewhere.forget(follower)


class FollowedMountLog:
    """The log of a station of another process.

    Args:
        served: where the station is put, by name, as long as its log is followed.
    """

    def __init__(self, mount: FollowedMount, served: MutableMapping[str, FollowedMount]) -> None:
        self._mount = mount
        self._served = served
        # Number of the next block.
        self._next = 0

    def read(self, message: bytes) -> tuple[Place, MountLogEntry]:
        """Read an entry; return its place relative to snapshots, and the entry.

        Raises:
            MalformedError: the message isn't an entry.
        """
        entry = read_message(_ENTRY, message, "entry of a station's log")
        return place_of(entry, StationSnapshotBegin), entry

    def fold(self, entry: MountLogEntry) -> None:
        """Fold an entry."""
        if isinstance(entry, StationSnapshotBegin):
            self._next = entry.first
            self._mount.forget_reports()
        elif isinstance(entry, MountBlock):
            self._mount.take_block(self._next, entry)
            self._next += 1
        elif not isinstance(entry, SnapshotEnd):
            self._mount.fold(entry)

    def offer(self) -> None:
        """Serve the station."""
        self._served[self._mount.name] = self._mount

    def withdraw(self) -> None:
        """Serve the station to no new listeners; present ones stay."""
        self._served.pop(self._mount.name, None)

    def close(self) -> None:
        """Disconnect all listeners, who come again."""
        self._mount.close()

    def reports(self) -> Iterator[bytes]:
        """Yield the changes among this process's listeners."""
        return map(_encode, self._mount.reports())
