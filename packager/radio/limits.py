"""What the audio of a station may cost and wait for: a folder's, a live source's, and that of its channel."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class StationLimits:
    """What a station that plays a folder may read, keep and wait for.

    Attributes:
        playlist_bytes: How much of a playlist is read.
        playlist_lines: How many of its lines are looked at, of which few may be files that are there.
        tracks: Most tracks of one folder; what is beyond is left out.
        read_bytes: How much of a track is read at once.
        trailer_bytes: How much of a track's end is looked at for tags.
        probe_frames: Frames that decide whether a track goes out as it is; a variable bitrate shows within a
            second.
        rescan_seconds: Pause before a folder is read again that had nothing to play.
        late_seconds: How late the station may be and still make it up; after more (an empty folder, a
            suspended machine) it goes on from now.
        ffmpeg_seconds: How long ffmpeg may take or give nothing before its track is given up.
        decoders: Most decoders; sample rates and channels may take turns without a process for each turn.
        decoder_ahead_seconds: Most audio that is in a decoder: more than the 1,024 bytes that it waits for,
            at 8 kbit/s.
        decoder_batch_seconds: Audio that a decoder is given at once.
        encoder_held_seconds: What the encoder may keep back of what it was given; beyond, its frames are
            waited for.
        measured_seconds: How much of a track is measured; what is longer is told by its beginning.
        measure_seconds: How long measuring may take; a track that takes longer is played as it is.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class IntakeLimits:
    """How far a live source may be from real time.

    Attributes:
        ahead_seconds: How far it may be ahead before it is made to wait: clocks differ a little.
        late_seconds: How late it may be and still make it up.
        queue_blocks: Blocks that wait for the mount; then the source waits.
    """

    ahead_seconds: float = 10.0
    late_seconds: float = 5.0
    queue_blocks: int = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulcastLimits:
    """How stations' channels begin and end.

    Attributes:
        starts: Channels that begin at once: an encoder's beginning costs most.
        idle_look_seconds: Time between two looks at whether anybody is still there, at least.
        start_seconds: For how long a channel that has no segment yet counts among those that begin.
    """

    starts: int = 4
    idle_look_seconds: float = 0.5
    start_seconds: float = 20.0
