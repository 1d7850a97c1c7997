"""Limits of a node of a cluster: what waits while Redis is away, how long answers may take, what is read."""

from __future__ import annotations

from dataclasses import dataclass, field

from packager.retry_policy import RetryPolicy

RECONNECTS = RetryPolicy(0.1, 0.5, steady_seconds=5.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisLimits:
    """Limits of a node's connections to Redis.

    Attributes:
        connect_seconds: for how long a connection is waited for.
        call_seconds: for how long an answer is waited for.
        calls_at_once: most commands that wait for their answers; further ones wait for a place.
        connections: most connections, those of reads that wait included.
        cluster_connections: the same to each server of a Redis Cluster, where a read that waits has one log.
        look_seconds: how often Redis is asked whether it takes writes, how it uses its memory, and its date.
        clock_seconds: by so much this node's clock may differ from that of Redis before operators are told.
        slots_seconds: how often it is looked of which slots there is something to read.
        reconnects: when Redis is tried again behind a failure.
        jitter: by which part of itself a pause is shortened at most, so that nodes don't come all at once.
    """

    connect_seconds: float = 1.0
    call_seconds: float = 1.0
    calls_at_once: int = 16
    connections: int = 64
    cluster_connections: int = 1024
    look_seconds: float = 30.0
    clock_seconds: float = 1.0
    slots_seconds: float = 0.05
    reconnects: RetryPolicy = RECONNECTS
    jitter: float = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseLimits:
    """How long a lease lasts.

    Attributes:
        lease_seconds: for how long it is held without being renewed.
        renew_seconds: between two renewals, and between two attempts to take a lease.
        epoch_seconds: for how long the epoch of a log that nobody holds is remembered; by then the clock of
            Redis is beyond it.
        longest_leases: a lease that expires later than so many of this node's, or never, wasn't taken by any.
    """

    lease_seconds: float = 1.2
    renew_seconds: float = 0.25
    epoch_seconds: int = 86_400
    longest_leases: int = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class LogStreamLimits:
    """Limits of the logs in Redis, and of what is kept of them and read.

    Attributes:
        kept_seconds: for how long entries stay in Redis, and in their owner for a Redis that is away.
        kept_bytes: most bytes of them in their owner.
        waiting_entries: most entries that wait until it is certain who owns the log.
        append_bytes: most bytes that are appended at once, unless one entry has more.
        entry_bytes: longest entry that is read.
        read_entries: most entries of one log that are read at once.
        read_bytes: most bytes that are read at once, by what entries had lately; one of each log comes in any
            case.
        read_seconds: for how long a read waits for entries.
        snapshot_bytes: longest snapshot that is read.
        snapshot_seconds: for how long a snapshot stays in Redis.
        media_seconds: for how long the bytes of segments that a listing lacks stay there, from the last
            moment on at which some were added or read; longer than listings stay.
        media_wait_seconds: for how long the next of them are waited for.
        transfer_seconds: for how long a snapshot may be on its way, beyond what any answer may take.
        media_bytes: most bytes of segments that are read at once, by what they have on average.
        media_writes: most listings whose bytes wait to be written.
        snapshots_at_once: most snapshots that a node waits for and reads, with the bytes that they lack.
        listing_seconds: for how long a listing is waited for where there is a whole snapshot: owners of
            earlier versions write no other.
        wanted_seconds: for how long a snapshot is waited for before it is asked for again.
        look_seconds: between two looks whether it is there.
        level_seconds: for how long who takes a log over waits to have all of it.
        list_seconds: between two looks at which logs there are.
        gone_seconds: a log that nobody owned for so long is gone.
        owner_seconds: a node that hasn't told for so long that it owns a log isn't called its owner.
        logs: most logs that a node follows.
    """

    kept_seconds: float = 12.0
    kept_bytes: int = 64 << 20
    waiting_entries: int = 4096
    append_bytes: int = 1 << 20
    entry_bytes: int = 64 << 20
    read_entries: int = 64
    read_bytes: int = 32 << 20
    read_seconds: float = 0.5
    snapshot_bytes: int = 256 << 20
    snapshot_seconds: int = 5
    media_seconds: int = 8
    media_wait_seconds: float = 5.0
    transfer_seconds: float = 10.0
    media_bytes: int = 2 << 20
    media_writes: int = 64
    snapshots_at_once: int = 8
    listing_seconds: float = 0.1
    wanted_seconds: float = 1.0
    look_seconds: float = 0.02
    level_seconds: float = 0.5
    list_seconds: float = 0.5
    gone_seconds: int = 60
    owner_seconds: int = 2
    logs: int = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandLimits:
    """Limits of the commands to live channels that nodes carry to each other.

    Attributes:
        body_bytes: longest body of a request, and of the answer to it.
        command_bytes: longest command, with its body.
        answer_bytes: longest answer, likewise.
        answer_seconds: for how long an answer is waited for, and a command or an answer stays in Redis.
        end_seconds: for how long who ends an event waits for its recording; shorter than for any answer.
        at_once: most commands that a node waits for, and most that it carries out.
        at_once_for_client: most that a node waits for of one client.
        pause_seconds: between two commands that a node takes.
        waiting: most commands that wait for a node there, and most requests that wait at a node until their
            commands are sent.
        retry_seconds: when who was refused may ask again: another node is the owner by then.
    """

    body_bytes: int = 64 << 10
    command_bytes: int = 80 << 10
    answer_bytes: int = 80 << 10
    answer_seconds: float = 5.0
    end_seconds: float = 3.0
    at_once: int = 16
    at_once_for_client: int = 4
    pause_seconds: float = 0.01
    waiting: int = 256
    retry_seconds: int = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class EventStreamLimits:
    """Limits of the event channels that nodes share; how much each keeps is configured for the channel.

    Attributes:
        append_events: most events that are appended at once.
        append_bytes: most bytes of them, unless one event has more.
        waiting_events: most events of a node that wait for Redis.
        waiting_bytes: most bytes of them.
        publish_seconds: for how long an event is tried to be appended; what isn't by then is refused.
        repeat_seconds: for how long Redis knows what a node has appended last, which is then not done twice;
            longer than an event is tried.
        remembered_seconds: for how long a channel's events stay in Redis when nothing is published.
        epochs: earlier epochs of a channel that are remembered.
        trimmed_at_once: most old events of a channel that go when others are appended.
        message_bytes: longest event that is read.
        read_bytes: with how many bytes a read ends; a few events may be beyond.
        read_channels: most channels of one read.
        news: most notes in Redis of which channels have news; who is further behind looks at all channels.
        read_news: most of them that are read at once.
        news_seconds: for how long a read waits for them.
        restore_seconds: how long a starting node waits for what is in Redis.
        catch_up_seconds: for how long a reader waits whose id isn't known here yet.
        report_seconds: between two reports of how many readers a node has.
        forget_seconds: without a report for so long, a node has no readers.
        tell_again_seconds: for how long an event may be on its way that tells how many readers there are;
            where another number was told last by then, it is told again.
        retry_seconds: when who was refused may ask again.
    """

    append_events: int = 100
    append_bytes: int = 1 << 20
    waiting_events: int = 10_000
    waiting_bytes: int = 16 << 20
    publish_seconds: float = 4.0
    repeat_seconds: int = 60
    remembered_seconds: int = 7 * 86_400
    epochs: int = 16
    trimmed_at_once: int = 1000
    message_bytes: int = 64 << 20
    read_bytes: int = 1 << 20
    read_channels: int = 64
    news: int = 10_000
    read_news: int = 1000
    news_seconds: float = 0.5
    restore_seconds: float = 5.0
    catch_up_seconds: float = 1.0
    report_seconds: float = 1.0
    forget_seconds: float = 5.0
    tell_again_seconds: float = 2.0
    retry_seconds: int = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class StationLogLimits:
    """Limits of the stations that nodes share.

    Attributes:
        queue_blocks: most blocks, of about a second, that wait until they are played; older ones go.
        told_seconds: between two entries that tell a station's state where it has no audio.
        entry_bytes: longest entry that is read.
        read_entries: most entries of one station that are read at once.
    """

    queue_blocks: int = 64
    told_seconds: float = 2.0
    entry_bytes: int = 4 << 20
    read_entries: int = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class DemandLimits:
    """How nodes tell each other which channels on demand somebody asks for.

    Attributes:
        tell_seconds: between two times that a node tells.
        look_seconds: between two looks of a packager.
        remembered_seconds: for how long who asked is remembered in Redis.
        channels: most channels that a packager learns of at once.
    """

    tell_seconds: float = 1.0
    look_seconds: float = 0.25
    remembered_seconds: int = 5
    channels: int = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterLimits:
    """Limits of a node of a cluster.

    Attributes:
        lease: of the leases that it holds.
        streams: of the logs in Redis.
        commands: of what nodes ask each other for.
        events: of the event channels there.
        demand: of what packagers are told of channels on demand.
    """

    redis: RedisLimits = field(default_factory=RedisLimits)
    lease: LeaseLimits = field(default_factory=LeaseLimits)
    streams: LogStreamLimits = field(default_factory=LogStreamLimits)
    commands: CommandLimits = field(default_factory=CommandLimits)
    events: EventStreamLimits = field(default_factory=EventStreamLimits)
    stations: StationLogLimits = field(default_factory=StationLogLimits)
    demand: DemandLimits = field(default_factory=DemandLimits)
