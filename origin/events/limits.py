"""The limits of event channels, their readers and their publishers."""

from __future__ import annotations

from dataclasses import dataclass, field

from origin.http1.websocket import WebSocketLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelLimits:
    """Limits of an event channel and its readers.

    Attributes:
        history: events that are kept for those who come later, or again.
        history_seconds: how long they are kept at most; 0 for no such limit.
        history_bytes: of the events that are kept; beyond, the oldest go.
        readers: connections at once, with those that wait for an answer.
        queue_bytes: what may wait for a reader before it is told of a gap, or dropped.
        write_bytes: what may wait in a reader's connection before its events wait in the ring instead.
        heartbeat_seconds: after so long a silence comes a comment, so that proxies keep the connection and
            the dead are noticed.
        ping_seconds: between two pings of a WebSocket; who hasn't answered one when the next is due is gone.
        beat_seconds: between two looks at whether one of them is due.
        retry_milliseconds: how long a reader waits until it comes again.
        retry_seconds: the same for one that finds no room.
        close_seconds: how long a reader that doesn't read may hold up the channel's end.
        drain_seconds: how long one that is behind may take for the last events.
        send_buffer_bytes: socket send buffer of a reader (Linux doubles it).
        flush_seconds: events are written at most so often, each time all that came; 0: each by itself.
        behind_seconds: between two looks at whether readers that are behind have room.
        written_at_once: readers written to before the loop gets a turn: about three milliseconds.
        wait_seconds: longest wait of a long poll.
    """

    history: int = 20
    history_seconds: float = 0.0
    history_bytes: int = 4 << 20
    readers: int = 5000
    queue_bytes: int = 64 * 1024
    write_bytes: int = 16 * 1024
    heartbeat_seconds: float = 15.0
    ping_seconds: float = 20.0
    beat_seconds: float = 0.5
    retry_milliseconds: int = 2000
    retry_seconds: int = 10
    close_seconds: float = 0.5
    drain_seconds: float = 5.0
    send_buffer_bytes: int = 16 * 1024
    flush_seconds: float = 0.016
    behind_seconds: float = 0.05
    written_at_once: int = 250
    wait_seconds: float = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishLimits:
    """What publishers may send.

    Attributes:
        event_bytes: of one event.
        name_characters: of an event's type.
        rate: events per second of one channel.
        burst_seconds: for so long more of them may come at once.
        idle_seconds: how long a stream of events may pause.
        answered_ids: ids that an answer names; of more events it names the newest.
    """

    event_bytes: int = 1 << 20
    name_characters: int = 64
    rate: float = 5000.0
    burst_seconds: float = 2.0
    idle_seconds: float = 300.0
    answered_ids: int = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryLimits:
    """What is kept of a channel on disk.

    Attributes:
        file_bytes: of one file, before the next begins.
        files: the oldest go beyond so many.
        line_bytes: longest line that is read back.
        waiting_bytes: what may wait for the disk; beyond it, events are lost to the history.
        write_seconds: between two times when events are written.
        close_seconds: how long the last of them may take at the end.
    """

    file_bytes: int = 4 << 20
    files: int = 64
    line_bytes: int = 8 << 20
    waiting_bytes: int = 8 << 20
    write_seconds: float = 0.5
    close_seconds: float = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EventLimits:
    """The limits of a server's event channels.

    Attributes:
        channel: of each channel.
        publish: of those who publish.
        sockets: of what a WebSocket may send.
        history: of what is kept on disk.
        presence_seconds: between two events about the number of readers.
    """

    channel: ChannelLimits = field(default_factory=ChannelLimits)
    publish: PublishLimits = field(default_factory=PublishLimits)
    sockets: WebSocketLimits = field(default_factory=WebSocketLimits)
    history: HistoryLimits = field(default_factory=HistoryLimits)
    presence_seconds: float = 1.0
