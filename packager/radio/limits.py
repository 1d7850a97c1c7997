"""The limits of station audio: folders, live sources and simulcast channels."""

from __future__ import annotations

from dataclasses import dataclass, field

from packager.live.limits import LiveLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class StationLimits:
    """Limits of what a station that plays a folder reads, keeps and waits for.

    Attributes:
        tracks: most tracks of one folder; the rest is left out.
        read_bytes: how much of a track is read at once.
        late_seconds: how late the station may be and still catch up; beyond (an empty folder, a suspended
            machine) it restarts from now.
        ffmpeg_seconds: how long ffmpeg may block or write nothing before its track is abandoned.
        starts: channels that may start at once; an encoder's start costs most.
        start_seconds: how long a channel without segments counts as starting.
        intro_bytes: largest file: eight minutes of 128 kbit/s.
    """

    tracks: int = 10_000
    read_bytes: int = 64 * 1024
    late_seconds: float = 5.0
    ffmpeg_seconds: float = 10.0
    starts: int = 4
    start_seconds: float = 20.0
    channel: LiveLimits = field(default_factory=LiveLimits)
    intro_bytes: int = 8 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveSourceLimits:
    """How far a source client or relay may be from real time.

    Attributes:
        ahead_seconds: how far it may be ahead before it is made to wait; clocks differ a little.
        late_seconds: how late it may be and still catch up.
    """

    ahead_seconds: float = 10.0
    late_seconds: float = 5.0
