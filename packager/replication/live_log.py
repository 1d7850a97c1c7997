"""A live channel's log, sent to other processes and followed there.

Its entries are those of :mod:`packager.window.log`. Followers report their viewers and waiting requests.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterator, MutableMapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from fractions import Fraction

import msgspec

from media.errors import MalformedError
from media.hls.date_range import DateRange
from media.subtitles.webvtt import Cue
from packager.publish.channel_commands import RecordingState
from packager.publish.live_stream import LiveStream
from packager.replication.log_entries import Place, place_of, read_message
from packager.window.limits import PublishLimits
from packager.window.log import CadenceEntry, Entry
from packager.window.log_encoding import LogDecoder, encode
from packager.window.snapshot import SnapshotBeginEntry, SnapshotEndEntry

LIVE = "live"
"""The kind of these logs: what their names begin with."""

MAX_REPORTED_VIEWERS = 1000
"""Most viewers of one report."""


@dataclass(frozen=True, slots=True)
class Audience:
    """The viewers and waiting requests of a channel in a following process.

    Attributes:
        viewers: address and checksum of the user agent of each client that asked for a playlist since the
            last report.
    """

    waiting: int
    viewers: tuple[tuple[str, int], ...]


_AUDIENCE = msgspec.msgpack.Decoder(Audience)


def read_audience(message: bytes) -> Audience:
    """Read an audience.

    Raises:
        MalformedError: it is none.
    """
    return read_message(_AUDIENCE, message, "audience")


write_audience = msgspec.msgpack.Encoder().encode


def read_entry(message: bytes) -> Entry:
    """Read the entry of one frame.

    Raises:
        MalformedError: it is no whole entry.
    """
    reader = LogDecoder(len(message))
    reader.receive_data(message)
    found = list(reader.entries())
    reader.receive_eof()
    if len(found) != 1:
        raise MalformedError(f"a frame with {len(found)} entries")
    return found[0]


class ServedLiveLog:
    """The log of a live channel, for those who follow it.

    Args:
        stream: the stream that the log was folded into so far.
    """

    def __init__(self, stream: LiveStream) -> None:
        self.name = f"{LIVE}/{stream.name}"
        self._stream = stream

    def snapshot(self) -> Iterator[Entry]:
        """Return the entries from which another process rebuilds the stream."""
        return self._stream.snapshot()

    def encode(self, entry: Entry) -> bytes:
        """Write an entry."""
        return encode(entry)

    def begins_anew(self, entry: Entry) -> bool:
        """Return whether a snapshot replaces an entry.

        Segments that follow a cadence at once, such as a day from the disk, are in the new windows already.
        """
        return isinstance(entry, CadenceEntry)

    def take_report(self, follower: Hashable, message: bytes) -> None:
        """Count the viewers and waiting requests that a follower reports.

        Raises:
            MalformedError: the report can't be read.
        """
        audience = read_audience(message)
        self._stream.waiting_elsewhere[follower] = audience.waiting
        for viewer in audience.viewers:
            self._stream.note_viewer(viewer)

    def forget(self, follower: Hashable) -> None:
        """Forget the viewers of a follower that is gone."""
        self._stream.waiting_elsewhere.pop(follower, None)


class ElsewhereError(Exception):
    """A command was given to a channel that another process makes."""


class ElsewhereCommands:
    """Refuses the commands to a channel of another process, to which such requests are handed over.

    Refused commands raise ``ElsewhereError``.
    """

    def note_viewer(self) -> None:
        """Do nothing: reports have the viewers."""

    def is_postponed(self) -> bool:
        """Return True, as no request waits for the channel's beginning here."""
        return True

    async def end_event(self) -> RecordingState:
        """Refuse to end the event: the other process does."""
        raise ElsewhereError

    def begin_event(self) -> bool:
        """Refuse to begin an event: the other process does."""
        raise ElsewhereError

    def publish_metadata(self, tag: DateRange, id3: bytes) -> None:
        """Refuse to publish metadata: the other process does."""
        del tag, id3
        raise ElsewhereError

    def continue_date_ranges(self, tags: Sequence[DateRange]) -> None:
        """Refuse date ranges, which the other process lists."""
        del tags
        raise ElsewhereError

    def feeding_captions(self) -> AbstractAsyncContextManager[None]:
        """Refuse captions in real time, which the other process handles."""
        raise ElsewhereError

    def add_captions(self, language: str, cues: Sequence[Cue], zero: Fraction) -> int:
        """Refuse to add captions: the other process does."""
        del language, cues, zero
        raise ElsewhereError


class FollowedLiveLog:
    """The log of another process's live channel, and the stream that it is folded into.

    Args:
        streams: gets the channel, by name, as long as it can be served: it has something to play, and its log
            is followed.
        publish_limits: how many requests may wait, and what is kept of playlists.

    Attributes:
        stream: the stream that the log is folded into.
    """

    def __init__(
        self,
        name: str,
        streams: MutableMapping[str, LiveStream],
        publish_limits: PublishLimits,
    ) -> None:
        self._name = name
        self._streams = streams
        self.stream = LiveStream(name, ElsewhereCommands(), publish_limits, is_followed=True)
        self._reported = time.monotonic()
        self._waiting = 0

    def read(self, message: bytes) -> tuple[Place, Entry]:
        """Read an entry.

        Raises:
            MalformedError: it is none.
        """
        entry = read_entry(message)
        return place_of(entry, SnapshotBeginEntry, SnapshotEndEntry), entry

    def fold(self, entry: Entry) -> None:
        """Fold an entry."""
        self.stream.fold(entry)

    def offer(self) -> None:
        """Serve the channel if it has segments, and else stop serving it."""
        if not self.stream.ready:
            self.withdraw()
        elif self._streams.get(self._name) is not self.stream:
            self._streams[self._name] = self.stream

    def withdraw(self) -> None:
        """Serve the channel to no new requests; waiting ones wait on."""
        self._streams.pop(self._name, None)

    def close(self) -> None:
        """Release all who wait."""
        self.stream.close()

    def reports(self) -> Iterator[bytes]:
        """Report the requests for the channel here, unless there are none."""
        if self._streams.get(self._name) is not self.stream:
            return
        since, self._reported = self._reported, time.monotonic()
        viewers, waiting = self.stream.viewer_counter.seen_since(since), self.stream.blocked
        if not viewers and waiting == self._waiting:
            return
        self._waiting = waiting
        most = MAX_REPORTED_VIEWERS
        for begin in range(0, max(len(viewers), 1), most):
            yield write_audience(Audience(waiting, _told(viewers[begin : begin + most])))


def _told(viewers: Sequence[Hashable]) -> tuple[tuple[str, int], ...]:
    return tuple(one for one in viewers if isinstance(one, tuple))
