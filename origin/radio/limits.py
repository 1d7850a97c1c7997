"""What stations may cost and wait for on the wire: mounts, their listeners, relays and source clients."""

from __future__ import annotations

from dataclasses import dataclass, field

from packager.radio.limits import IntakeLimits, SimulcastLimits, StationLimits
from packager.retry_policy import RetryPolicy

RELAY_RETRY = RetryPolicy(first_seconds=1.0, longest_seconds=30.0)
"""When the other server is asked again; what plays at all makes the next failure a first one."""


@dataclass(frozen=True, slots=True)
class ListenerLimits:
    """What a listener gets and may cost.

    Attributes:
        burst_bytes: Newest audio that it gets at once.
        queue_bytes: How far it may fall behind.
        skips: Whether it is then set forward to a frame near the newest; else it is dropped.
        write_bytes: What may wait in its transport before its audio stays in the ring.
        probe_seconds: A connection that ends sooner is a player's probe and doesn't raise the peak.
        close_seconds: How long one that doesn't read may hold up the mount's end.
        written_at_once: Listeners written to before others on the loop have a turn: about three milliseconds.
    """

    burst_bytes: int = 64 * 1024
    queue_bytes: int = 512 * 1024
    skips: bool = False
    write_bytes: int = 128 * 1024
    probe_seconds: float = 2.0
    close_seconds: float = 0.5
    written_at_once: int = 250


@dataclass(frozen=True, slots=True, kw_only=True)
class MountLimits:
    """How long a mount waits for its station and for listeners, and what it keeps.

    Attributes:
        silence_seconds: A station that gives nothing for so long is down.
        fallback_seconds: A source that gives nothing for so long is replaced by the fallback: blocks come
            each second.
        idle_seconds: How long a source that is asked for on demand plays on when nobody listens.
        watch_seconds: How often silence and demand are looked at.
        ring_bytes: Least size of a ring: two seconds of the highest bitrate, whatever is configured.
        tap_queue_seconds: How far who taps may be behind, in seconds of audio; then the oldest blocks are
            lost to it.
        tap_stale_seconds: What was heard before a silence of so long doesn't lead to what is heard behind it.
        listener: What each listener gets and may cost.
    """

    silence_seconds: float = 5.0
    fallback_seconds: float = 2.5
    idle_seconds: float = 10.0
    watch_seconds: float = 0.5
    ring_bytes: int = 128 * 1024
    tap_queue_seconds: float = 60.0
    tap_stale_seconds: float = 4.0
    listener: ListenerLimits = field(default_factory=ListenerLimits)


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayLimits:
    """How long another server may take, and when it is asked again.

    Attributes:
        connect_seconds: Until a connection stands.
        silent_seconds: How long it may send nothing before it is asked again.
        retry: Says when it is asked again.
        redirects: How often it may send to another address.
        intake: How far its stream may be from real time.
    """

    connect_seconds: float = 10.0
    silent_seconds: float = 10.0
    retry: RetryPolicy = RELAY_RETRY
    redirects: int = 5
    intake: IntakeLimits = field(default_factory=IntakeLimits)


@dataclass(frozen=True, slots=True, kw_only=True)
class RadioLimits:
    """The limits of a server's stations.

    Attributes:
        mount: Of each mount.
        station: Of each station that plays a folder.
        relay: Of each station that is another server's stream.
        intake: Of each station whose audio a source client brings.
        simulcast: Of the channels that stations are, too.
    """

    mount: MountLimits = field(default_factory=MountLimits)
    station: StationLimits = field(default_factory=StationLimits)
    relay: RelayLimits = field(default_factory=RelayLimits)
    intake: IntakeLimits = field(default_factory=IntakeLimits)
    simulcast: SimulcastLimits = field(default_factory=SimulcastLimits)
