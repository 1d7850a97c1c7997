"""The limits of mounts, their listeners, relays and source clients."""

from __future__ import annotations

from dataclasses import dataclass, field

from origin.access.limits import RefusalLogLimits, WebhookLimits
from origin.events.limits import ChannelLimits
from packager.radio.limits import LiveSourceLimits, StationLimits
from packager.retry_policy import RetryPolicy
from packager.sources.limits import GuardLimits

RELAY_RETRY = RetryPolicy(first_seconds=1.0, longest_seconds=30.0)
"""Backoff of a relay's reconnections; any audio resets it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RadioLimits:
    """The limits of a server's stations.

    Attributes:
        events: of each mount's event channel.
        station: of each station that plays a folder.
        silent_seconds: without any data before it reconnects.
        guard: limits of connecting to other servers.
        live_source: of each station with source clients, or that relays another stream.
        refusal_log: of the lines about refused source clients.
        log_last_seconds: how long the end of the program waits until the last lines are written.
        log_text_bytes: most bytes of an address, a Referer or a User-Agent in a line.
        silence_seconds: a mount without audio for so long is down.
        fallback_seconds: a source without audio for so long is replaced by the fallback; blocks come each
            second.
        idle_seconds: how long a source on demand keeps playing without listeners.
        watch_seconds: interval at which silence and demand are checked.
        ring_bytes: smallest ring: two seconds of the highest bitrate.
        retry_seconds: Retry-After of a listener or reader that finds no room.
        reported_listeners: most listeners of one report of another process that serves some.
        reported_characters: most characters of their programs' names in it.
        listener_marks: most marks of one listener; beyond, the oldest are forgotten.
        listener_gone_seconds: how long the times of a closed connection are kept: its player still has audio
            buffered.
        burst_bytes: bytes of the newest audio that it gets at once.
        queue_bytes: bytes by which it may fall behind.
        skips: whether it then skips ahead to recent audio; else it is dropped.
        write_bytes: most bytes in its transport before its audio waits in the ring instead.
        probe_seconds: a connection that ends sooner is a player's probe, and doesn't count for the peak.
        close_seconds: how long a listener that doesn't read may delay the end of the mount.
        written_at_once: listeners written to before the loop gets a turn: about three milliseconds.
        intro_step_bytes: most bytes of the intro that are sent at a time.
    """

    silence_seconds: float = 5.0
    fallback_seconds: float = 2.5
    idle_seconds: float = 10.0
    watch_seconds: float = 0.5
    ring_bytes: int = 128 * 1024
    retry_seconds: int = 10
    reported_listeners: int = 500
    reported_characters: int = 1000
    burst_bytes: int = 64 * 1024
    queue_bytes: int = 512 * 1024
    skips: bool = False
    write_bytes: int = 128 * 1024
    probe_seconds: float = 2.0
    close_seconds: float = 0.5
    written_at_once: int = 250
    intro_step_bytes: int = 64 * 1024
    listener_marks: int = 8
    listener_gone_seconds: float = 60.0
    events: ChannelLimits = field(default_factory=ChannelLimits)
    station: StationLimits = field(default_factory=StationLimits)
    connect_seconds: float = 10.0
    silent_seconds: float = 10.0
    relay_retry: RetryPolicy = RELAY_RETRY
    guard: GuardLimits = field(default_factory=GuardLimits)
    live_source: LiveSourceLimits = field(default_factory=LiveSourceLimits)
    refusal_log: RefusalLogLimits = field(default_factory=RefusalLogLimits)
    log_last_seconds: float = 2.0
    log_text_bytes: int = 1000
    webhook: WebhookLimits = field(default_factory=WebhookLimits)
