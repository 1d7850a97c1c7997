"""The limits of event channels that are made at run time."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class CreationLimits:
    """Limits of the channels that are made at run time.

    Attributes:
        channels: most of them; as many deleted ones are remembered.
        per_creator: most of one creator, but for the administrator.
        per_address: most that clients of one address make with web tokens in an hour; None: the default.
        event_bytes: of all their events in memory.
        body_bytes: of a request that makes or changes a channel.
        journal_bytes: longest file of them that is read.
        gone_seconds: for how long it is answered that a channel is gone whose events were kept for as long as
            there was room.
        idle_seconds: after so long without clients a channel is packed.
        packed_bytes: most bytes of the events of a channel that is packed; more stay as they are.
        packed_events: most events of such a channel: some ten milliseconds for reading them again.
        beat_seconds: between two rounds of all channels with clients.
        looked_at: channels that are looked at for one that may go where there is room for no more.
        retry_seconds: after which a disk that took nothing is tried again, and clients may ask again.
        restore_seconds: how long a starting server waits for its channels, which another one may hold.
    """

    channels: int = 100_000
    per_creator: int = 1_000
    per_address: int | None = None
    event_bytes: int = 256 << 20
    body_bytes: int = 4 << 10
    journal_bytes: int = 512 << 20
    gone_seconds: float = 3600.0
    idle_seconds: float = 10.0
    packed_bytes: int = 512 << 10
    packed_events: int = 2000
    beat_seconds: float = 0.5
    looked_at: int = 100
    retry_seconds: float = 5.0
    restore_seconds: float = 5.0
