"""The limits of station audio: folders, live sources and simulcast channels."""

from __future__ import annotations

from dataclasses import dataclass, field

from packager.live.limits import LiveLimits
from packager.process.limits import ProcessLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class StationLimits:
    """Limits of what a station that plays a folder reads, keeps and waits for.

    Attributes:
        playlist_bytes: most bytes of a playlist that are read.
        playlist_lines: most lines of a playlist that are read.
        tracks: most tracks of one folder; the rest is left out.
        read_bytes: how much of a track is read at once.
        trailer_bytes: how much of a file's end is searched for tags.
        probe_frames: frames that decide whether a track is sent as it is; a variable bitrate shows within a
            second.
        rescan_seconds: pause before an empty folder is read again.
        late_seconds: how late the station may be and still catch up; beyond (an empty folder, a suspended
            machine) it restarts from now.
        ffmpeg_seconds: how long ffmpeg may block or give no output before its track is abandoned.
        decoders: most decoder processes; tracks of alternating formats then need no new process each.
        decoder_ahead_seconds: most audio inside a decoder: more than the 1,024 bytes it waits for, at 8
            kbit/s.
        decoder_batch_seconds: audio that is written to a decoder at once.
        encoder_held_seconds: most audio that the encoder may keep back; beyond, its frames are waited for.
        measured_seconds: how much of a track's loudness is measured, from its beginning.
        measure_seconds: time limit of a measurement; a track that takes longer is played as it is.
    """

    playlist_bytes: int = 4 << 20
    playlist_lines: int = 100_000
    tracks: int = 10_000
    read_bytes: int = 64 * 1024
    trailer_bytes: int = 64 * 1024
    probe_frames: int = 32
    rescan_seconds: float = 1.0
    late_seconds: float = 5.0
    ffmpeg_seconds: float = 10.0
    decoders: int = 3
    decoder_ahead_seconds: float = 2.0
    decoder_batch_seconds: float = 0.5
    encoder_held_seconds: float = 2.0
    measured_seconds: int = 1200
    measure_seconds: float = 60.0
    process: ProcessLimits = field(default_factory=ProcessLimits)


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveSourceLimits:
    """How far a source client or relay may be from real time.

    Attributes:
        ahead_seconds: how far it may be ahead before it is made to wait; clocks differ a little.
        late_seconds: how late it may be and still catch up.
        bytes_per_second: more than any audio has; what claims to last less than that counts for longer.
        queue_blocks: blocks that may wait for the mount; beyond, the source waits.
    """

    ahead_seconds: float = 10.0
    late_seconds: float = 5.0
    bytes_per_second: int = 4 << 20
    queue_blocks: int = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulcastLimits:
    """How stations' live channels start and stop.

    Attributes:
        starts: channels that may start at once; an encoder's start costs most.
        idle_look_seconds: least time between two checks for viewers.
        start_seconds: how long a channel without segments counts as starting.
        lead_seconds: past audio with which a channel begins: three segments, which players want before they
            start.
    """

    starts: int = 4
    idle_look_seconds: float = 0.5
    start_seconds: float = 20.0
    lead_seconds: float = 12.0
    channel: LiveLimits = field(default_factory=LiveLimits)


@dataclass(frozen=True, slots=True, kw_only=True)
class IntroLimits:
    """Limits of what listeners hear first.

    Attributes:
        size_bytes: largest file: eight minutes of 128 kbit/s.
    """

    size_bytes: int = 8 << 20
