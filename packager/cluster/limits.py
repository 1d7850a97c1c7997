"""Limits of a node of a cluster: what waits while Redis is away, how long answers may take, what is read."""

from __future__ import annotations

from dataclasses import dataclass

from packager.retry_policy import RetryPolicy

RECONNECTS = RetryPolicy(0.1, 0.5, steady_seconds=5.0)

LONGEST_LEASES = 10
"""A lease that expires later than so many of this node's, or never, wasn't taken by any node."""

APPEND_BYTES = 1 << 20
"""Most bytes that are appended at once, unless one entry has more."""

MAX_SNAPSHOT_BYTES = 256 << 20
"""Longest snapshot that is read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterLimits:
    """Limits of a node of a cluster.

    Attributes:
        lease_seconds: for how long it is held without being renewed.
        renew_seconds: between two renewals, and between two attempts to take a lease.
        kept_seconds: for how long entries stay in Redis, and in their owner for a Redis that is away.
        kept_bytes: most bytes of them in their owner.
        log_read_bytes: most bytes that are read at once, by what entries had lately; one of each log comes in
            any case.
        read_seconds: for how long a read waits for entries.
        media_wait_seconds: for how long the next of them are waited for.
        listing_seconds: for how long a listing is waited for where there is a whole snapshot: owners of
            earlier versions write no other.
        wanted_seconds: after how long without a snapshot it is requested again.
        snapshot_look_seconds: between two checks whether the snapshot is there.
        list_seconds: between two listings of all logs.
        log_gone_seconds: a log that nobody owned for so long is gone.
        answer_bytes: longest answer, with its body.
        answer_seconds: for how long an answer is waited for, and a command or an answer stays in Redis.
        end_seconds: for how long the end of an event waits for its recording; shorter than
            ``answer_seconds``.
        commands_at_once: most commands that a node waits for, and most that it carries out.
        waiting_commands: most commands that wait for a node there, and most requests that wait at a node
            until their commands are sent.
        waiting_events: most events of a node that wait for Redis.
        waiting_bytes: most bytes of events that wait for Redis.
        publish_seconds: for how long an event is tried to be appended; what isn't by then is refused.
        message_bytes: longest event that is read.
        event_read_bytes: with how many bytes a read ends; a few events may be beyond.
        restore_seconds: how long a starting node waits for what is in Redis.
        catch_up_seconds: for how long a reader waits whose id isn't known here yet.
        report_seconds: between two reports of how many readers a node has.
        changes_seconds: between two reports of changes, of channels that are made at run time.
        again_seconds: for how long a long poll that has its answer counts as a reader: it comes again.
        retry_seconds: when a refused client may ask again: another node is the owner by then.
        tell_seconds: between two reports of a node.
        demand_look_seconds: between two checks of a packager.
        change_seconds: for how long a change is tried; what isn't made by then is refused.
        follow_seconds: for how long a change that was made is waited for here.
        gone_channels: most channels that are remembered as gone.
        gone_seconds: for how long, where events were kept for as long as there was room.
        changes: most changes in Redis; a node that is further behind reads all records.
        read_changes: most changes that are read at once.
        wait_seconds: for how long a read waits for changes.
        scanned: most records that are read, those of channels that are gone included.
        scanned_at_once: how many records are read at once, some more or less.
        restored_at_once: most records that a Redis is given at once.
        remembered_seconds: for how long the records stay in Redis without any node.
        tidy_seconds: between two removals of records that are over.
        undone: most channels that may have been made and weren't acknowledged, to be deleted.
        register_seconds: for how long a request waits until the other nodes know of its answer.
        answer_look_seconds: between two counts of the readers of answers at other nodes, and between two
            searches for answers whose node is gone.
        hold_seconds: between two signs of life of a node with answers.
        up_seconds: for how long Redis has to be there before a node without signs counts as gone.
        stop_seconds: for how long a request to stop an answer waits for the node that publishes it.
        pause_seconds: behind a read that failed, and where Redis doesn't know an answer.
        looked_at_once: of how many answers the readers are asked for at once.
        last_seconds: for which a server that ends sends what is left.
        connect_seconds: for how long a connection is waited for.
        call_seconds: for how long an answer is waited for.
        redis_connections: most connections, those of reads that wait included.
        redis_look_seconds: how often Redis is asked whether it takes writes, how it uses its memory, and its
            date.
        reconnects: when Redis is tried again behind a failure.
    """

    connect_seconds: float = 1.0
    call_seconds: float = 1.0
    redis_connections: int = 64
    redis_look_seconds: float = 30.0
    reconnects: RetryPolicy = RECONNECTS
    lease_seconds: float = 1.2
    renew_seconds: float = 0.25
    kept_seconds: float = 12.0
    kept_bytes: int = 64 << 20
    log_read_bytes: int = 32 << 20
    read_seconds: float = 0.5
    media_wait_seconds: float = 5.0
    listing_seconds: float = 0.1
    wanted_seconds: float = 1.0
    snapshot_look_seconds: float = 0.02
    list_seconds: float = 0.5
    log_gone_seconds: int = 60
    answer_bytes: int = 80 << 10
    answer_seconds: float = 5.0
    end_seconds: float = 3.0
    commands_at_once: int = 16
    waiting_commands: int = 256
    waiting_events: int = 10_000
    waiting_bytes: int = 16 << 20
    publish_seconds: float = 4.0
    message_bytes: int = 64 << 20
    event_read_bytes: int = 1 << 20
    restore_seconds: float = 5.0
    catch_up_seconds: float = 1.0
    report_seconds: float = 1.0
    changes_seconds: float = 0.2
    again_seconds: float = 0.5
    retry_seconds: int = 2
    tell_seconds: float = 1.0
    demand_look_seconds: float = 0.25
    change_seconds: float = 4.0
    follow_seconds: float = 1.0
    gone_channels: int = 100_000
    gone_seconds: float = 3600.0
    changes: int = 10_000
    read_changes: int = 500
    wait_seconds: float = 0.5
    scanned: int = 1_000_000
    scanned_at_once: int = 500
    restored_at_once: int = 100
    remembered_seconds: int = 30 * 86_400
    tidy_seconds: float = 1.0
    undone: int = 1000
    register_seconds: float = 1.0
    answer_look_seconds: float = 0.2
    hold_seconds: float = 0.5
    up_seconds: float = 3.0
    stop_seconds: float = 2.0
    pause_seconds: float = 0.1
    looked_at_once: int = 100
    last_seconds: float = 1.0
