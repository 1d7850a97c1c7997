"""The limits of event channels, their readers and their publishers."""

from __future__ import annotations

from dataclasses import dataclass, field

from origin.http1.websocket import WebSocketLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelLimits:
    """Limits of an event channel and its readers.

    Attributes:
        history: most events that are kept for later and returning readers.
        history_seconds: how long they are kept at most; 0 for no such limit.
        history_bytes: most bytes of these events; beyond, the oldest go.
        readers: most connections at once, those that wait for an answer included.
        queue_bytes: most bytes that wait for a reader before it gets a notice of a gap.
        write_bytes: most bytes in a reader's connection before its events wait in the ring instead.
        heartbeat_seconds: after so long a silence a comment is sent, so that proxies keep the connection, and
            lost ones are noticed.
        ping_seconds: between two pings of a WebSocket; a reader that hasn't answered one when the next is due
            is gone.
        beat_seconds: between two checks whether a heartbeat or a ping is due.
        retry_seconds: after how long a reader may come again that finds no room.
        close_seconds: how long a reader that doesn't read may hold up the channel's end.
        drain_seconds: how long a reader that is behind may take for the last events.
        flush_seconds: least time between two writes, each of all new events; 0: each event by itself.
        flush_bytes: most bytes of events that one of these writes has, if it has more than one event.
        written_at_once: readers written to before the loop gets a turn: about three milliseconds.
        published_at_once: events that an iterator or one request publishes before the loop gets a turn.
        bytes_at_once: most bytes that are written to readers that are behind before the loop gets a turn, and
            to one of them in one turn.
        wait_seconds: longest wait of a long poll.
        answer_bytes: most bytes of events in the answer to a poll, which has at least one event; the next
            poll gets more.
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
    retry_seconds: int = 10
    close_seconds: float = 0.5
    drain_seconds: float = 5.0
    flush_seconds: float = 0.016
    flush_bytes: int = 4 << 20
    written_at_once: int = 250
    published_at_once: int = 100
    bytes_at_once: int = 256 << 10
    wait_seconds: float = 120.0
    answer_bytes: int = 256 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class EventLimits:
    """The limits of a server's event channels.

    Attributes:
        channels_per_reader: most channels that one connection reads.
        sockets: limits of the messages of a WebSocket.
        history_seconds: how long events are kept; an eighth longer on disk.
        disk_bytes: of all files of a channel; beyond, the oldest go.
        file_bytes: from which on a new file is begun.
        history_files: that are read at most.
        waiting_bytes: of events that wait for the disk; beyond, they are lost from the history.
        history_look_seconds: between two searches for files that are too old.
        history_retry_seconds: after which a disk that took nothing is tried again.
        restore_seconds: how long a starting server waits for the past, which another one may hold.
        stored_seconds: how long a publisher waits for the disk before it gets its answer all the same.
        history_threads: that read and write the files of all channels.
        presence_seconds: between two events about the number of readers.
        publish_rate: events per second of one channel.
        burst_seconds: for so long more of them may come at once.
        publisher_idle_seconds: how long a stream of events may pause.
        answered_ids: ids that an answer names; of more events it names the newest.
        created_channels: most of them; as many deleted ones are remembered.
        per_creator: most of one creator, but for the administrator.
        per_address: most that clients of one address make with web tokens in an hour; None: the default.
        created_bytes: of all their events in memory.
        creation_bytes: of a request that makes or changes a channel.
        journal_bytes: longest file of them that is read.
        created_gone_seconds: for how long it is answered that a channel is gone whose events were kept for as
            long as there was room.
        created_idle_seconds: after so long without clients a channel is packed.
        packed_bytes: most bytes of the events of a channel that is packed; more stay as they are.
        packed_events: most events of such a channel: some ten milliseconds for reading them again.
        created_beat_seconds: between two rounds of all channels with clients.
        looked_at: channels that are looked at for one that may go where there is room for no more.
        created_retry_seconds: after which a disk that took nothing is tried again, and clients may ask again.
        created_restore_seconds: how long a starting server waits for its channels, which another one may
            hold.
    """

    channel: ChannelLimits = field(default_factory=ChannelLimits)
    channels_per_reader: int = 32
    event_bytes: int = 1 << 20
    publish_rate: float = 5000.0
    burst_seconds: float = 2.0
    publisher_idle_seconds: float = 300.0
    answered_ids: int = 10_000
    sockets: WebSocketLimits = field(default_factory=WebSocketLimits)
    history_seconds: float = 3600.0
    disk_bytes: int = 8 << 20
    file_bytes: int = 1 << 20
    history_files: int = 1000
    waiting_bytes: int = 8 << 20
    history_look_seconds: float = 10.0
    history_retry_seconds: float = 5.0
    restore_seconds: float = 5.0
    stored_seconds: float = 2.0
    history_threads: int = 4
    presence_seconds: float = 1.0
    created_channels: int = 100_000
    per_creator: int = 1_000
    per_address: int | None = None
    created_bytes: int = 256 << 20
    creation_bytes: int = 4 << 10
    journal_bytes: int = 512 << 20
    created_gone_seconds: float = 3600.0
    created_idle_seconds: float = 10.0
    packed_bytes: int = 512 << 10
    packed_events: int = 2000
    created_beat_seconds: float = 0.5
    looked_at: int = 100
    created_retry_seconds: float = 5.0
    created_restore_seconds: float = 5.0
