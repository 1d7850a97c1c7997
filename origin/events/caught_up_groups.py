"""A channel's readers that have caught up: each frame is written to all of a format together."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from origin.events.channel_reader import ChannelReader
from origin.events.event_log import EventLog
from origin.events.formats import Format
from origin.fan_out.broadcast_writer import CaughtUpReaders
from origin.fan_out.ring import LaggedError
from origin.http1.body_writer import as_chunk

MOST_FRAMES = 64
"""Frames that are kept for others who read just the same events."""

Group = CaughtUpReaders[ChannelReader]


class CaughtUpGroups:
    """The readers that have everything before a position, by their format, and the frames for them.

    Args:
        fall_behind: called for each whose socket takes only a part of a frame; see ``CaughtUpReaders``.

    Attributes:
        position: number of the event behind the frame that is being written, or was last.
        frame_start: number of the first event of that frame.
    """

    __slots__ = ("_events", "_fall_behind", "_frames", "_groups", "frame_start", "position")

    def __init__(self, events: EventLog, fall_behind: Callable[[ChannelReader, memoryview], None]) -> None:
        self._events = events
        self._fall_behind = fall_behind
        self._groups: dict[tuple[Format, bool], Group] = {}
        self._frames: dict[tuple[Format, bool, int, int], bytes] = {}
        self.position = self.frame_start = events.end

    def of(self, reader: ChannelReader) -> Group:
        """Return the group of a reader's format."""
        key = reader.form, reader.stream.chunked
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = CaughtUpReaders(self._fall_behind)
        return group

    def frame(self, form: Format, chunked: bool, first: int, end: int) -> bytes:
        """Write consecutive events, once for all who get just these."""
        key = form, chunked, first, end
        found = self._frames.get(key)
        if found is None:
            data = b"".join(event.written(form) for event in self._events.between(first, end))
            found = as_chunk(data) if chunked else data
            if len(self._frames) < MOST_FRAMES:
                self._frames[key] = found
        return found

    def prepare(self, end: int, bytes_at_once: int) -> Iterator[None]:
        """Write a frame of many or large events format by format: a megabyte of line ends takes a while."""
        for (form, chunked), group in tuple(self._groups.items()):
            parts, size = list[bytes](), 0
            for sequence in range(self.position, end):
                if not group or sequence < self._events.first:
                    break
                parts.append(self._events.between(sequence, sequence + 1)[0].written(form))
                size += len(parts[-1])
                if size >= bytes_at_once:
                    size = 0
                    yield
            else:
                data = b"".join(parts)
                self._frames[form, chunked, self.position, end] = as_chunk(data) if chunked else data
            if size:
                yield

    def begin(self, end: int) -> list[ChannelReader]:
        """Begin a frame of all events before one; return the members for whom they aren't all kept."""
        self.frame_start, self.position = self.position, end
        span = self.frame_start, end
        self._frames = {key: frame for key, frame in self._frames.items() if key[2:] == span}
        lagged: list[ChannelReader] = []
        for (form, chunked), group in self._groups.items() if self.frame_start < end else ():
            try:
                if group:
                    group.begin(self.frame(form, chunked, self.frame_start, end))
            except LaggedError:
                # More came at once than is kept.
                lagged += group.members
        return lagged

    def begin_heartbeat(self) -> None:
        """Begin a frame without an event, for formats that have such frames."""
        for (form, chunked), group in self._groups.items():
            if group and form.heartbeat:
                group.begin(as_chunk(form.heartbeat) if chunked else form.heartbeat)
        self.frame_start = self.position

    def write(self, written_at_once: int, count: Callable[[int], None]) -> Iterator[None]:
        """Write the frame to all members, so many in a step; ``count`` is called with the bytes."""
        for group in tuple(self._groups.values()):
            while group.is_under_way:
                count(group.go_on(written_at_once))
                if group.is_under_way:
                    yield

    def skip_to(self, end: int) -> None:
        """Continue at an event, without any members."""
        self.position = self.frame_start = end
