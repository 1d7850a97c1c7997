"""What a channel's source may cost and wait for, from the first connection to ffmpeg's standard input."""

from __future__ import annotations

from dataclasses import dataclass, field

from packager.process.limits import ProcessLimits
from packager.retry_policy import RetryPolicy

SOURCE_RETRY = RetryPolicy(first_seconds=0.2, longest_seconds=5.0, steady_seconds=5.0)
"""When a source that ended, or isn't there, is asked again."""

SEGMENT_RETRY = RetryPolicy(first_seconds=0.5, longest_seconds=0.5, retries=2)
"""When a segment or a key is asked for again, before it counts as missed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PacingLimits:
    """How far a stream that is brought may be ahead of its own time, or behind it.

    Attributes:
        ahead_seconds: How far it may get ahead of real time; more is held back. Longer than live servers'
            first bursts.
        untaken_seconds: The same while nobody takes it: what comes then is lost, but for the newest.
        window_seconds: For how long it is watched before anything is decided.
        slack_seconds: How much may wait all the time, beyond what its own unevenness makes wait.
        live_rate: Up to so many media seconds a second it is live: clocks aren't off by more.
        behind_seconds: One that stood still may make up for so much.
    """

    ahead_seconds: float = 20.0
    untaken_seconds: float = 2.0
    window_seconds: float = 60.0
    slack_seconds: float = 2.0
    live_rate: float = 1.02
    behind_seconds: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class GopCacheLimits:
    """How much of a stream is kept for an ffmpeg that begins in the middle of it.

    Attributes:
        kept_bytes: Most bytes; of a group of pictures that is longer nothing, until the next access point.
        headers: Most headers; beyond, the oldest are forgotten.
    """

    kept_bytes: int = 32 << 20
    headers: int = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class PumpLimits:
    """How much of a stream waits between who brings it and ffmpeg.

    Attributes:
        ahead_bytes: How far who brings it may be ahead of ffmpeg before he must wait: seconds of the largest
            pictures.
        headless_bytes: How much is waited for an access point; some streams don't mark theirs.
        pacing: How far it may be from its own time.
        gop_cache: How much is kept for an ffmpeg that begins later.
    """

    ahead_bytes: int = 32 << 20
    headless_bytes: int = 1 << 19
    pacing: PacingLimits = field(default_factory=PacingLimits)
    gop_cache: GopCacheLimits = field(default_factory=GopCacheLimits)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaylistLimits:
    """How another server's HLS is followed.

    Attributes:
        begin_segments: How many segments before the end of a live playlist one begins.
        behind_segments: How many segments one may be behind before one begins anew.
        stale_numbers: By how many numbers a playlist may go back: caches give older ones. One that goes back
            further is new.
        shortest_pause_seconds: From one look at a playlist that goes on to the next.
        still_target_durations: How long a live playlist may have nothing new.
        misses: How often in a row a playlist may be missed while it is followed.
        request_seconds: In which a playlist or a segment must be there, however slowly it drips.
        segment_bytes: Largest segment: ten seconds at 50 Mbit/s.
        keys: How many keys are kept; a playlist that has another one for each segment has those of some
            minutes.
        segment_retry: Says when a segment or a key is asked for again, before it counts as missed.
    """

    begin_segments: int = 3
    behind_segments: int = 6
    stale_numbers: int = 3
    shortest_pause_seconds: float = 1.0
    still_target_durations: float = 4
    misses: int = 3
    request_seconds: float = 30.0
    segment_bytes: int = 64 << 20
    keys: int = 16
    segment_retry: RetryPolicy = SEGMENT_RETRY


@dataclass(frozen=True, slots=True, kw_only=True)
class ContinuityLimits:
    """When a stream that another program copies counts as another one, or as broken.

    Attributes:
        key_seconds: How long no access point may come; thrice what there was between two where that is
            longer.
        still_seconds: How long bytes may come without the clock's going on.
        step_seconds: By how much it goes on at least.
        rest_seconds: What counts at most of the time between bytes and bytes: a pause is no standing still.
    """

    key_seconds: float = 20.0
    still_seconds: float = 3.0
    step_seconds: float = 0.1
    rest_seconds: float = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class RtspLimits:
    """What relaying RTSP to an ffmpeg may cost.

    Attributes:
        connections: Of ffmpegs at once: one that probes and one that plays, each while the one before ends.
        redirects: How often the server may send to another address.
        pending_requests: Requests that wait for their answers.
        behind_bytes: Media that came in UDP and that ffmpeg hasn't taken yet; what comes beyond it is lost.
        receive_bytes: How much the system may hold of what comes in UDP until it is taken.
        port_attempts: How often two ports that follow on one another are looked for.
        last_seconds: How long the end of a connection may take whose other side takes nothing more.
    """

    connections: int = 4
    redirects: int = 5
    pending_requests: int = 16
    behind_bytes: int = 4 << 20
    receive_bytes: int = 4 << 20
    port_attempts: int = 32
    last_seconds: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardLimits:
    """What connecting to somebody else's server may cost.

    Attributes:
        addresses: How many addresses of one name are tried.
        head_bytes: Longest head of an answer over HTTP.
        head_fields: Most lines of one: tens of thousands would hold everybody while they are read.
    """

    addresses: int = 8
    head_bytes: int = 32 * 1024
    head_fields: int = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class FaststartLimits:
    """What fetching a film's index may cost where it stands behind the media.

    Attributes:
        head_bytes: How much is looked at for what comes first; what has neither index nor media there is
            given as it comes.
        index_bytes: Largest index that is moved; two hours of film and sound need half of it.
        boxes: Boxes behind the first media whose headers are asked for, one request each; most files have
            one there.
        request_seconds: In which a range must be there, however slowly it drips.
    """

    head_bytes: int = 1 << 20
    index_bytes: int = 16 << 20
    boxes: int = 16
    request_seconds: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceLimits:
    """What one channel's source may cost and wait for.

    Attributes:
        retry: Says when a source that ended, or isn't there, is asked again.
        probe_seconds: How long ffprobe may look at it.
        seen_seconds: How much of a stream is looked at for its key frames, where they are kept.
        seen_file_seconds: The same of a file.
        connect_seconds: How long a connection over HTTP or RTSP may take to stand, with each address.
        silent_seconds: How long the other side of one may send nothing.
        redirects: How often it may send to another address.
        receive_bytes: How much the system may hold of what comes in UDP until it is taken.
        silent_datagram_seconds: How long nothing may come in UDP before the source counts as gone.
        gathered_bytes: How many bytes of datagrams are taken at once.
        gather_seconds: How long datagrams gather before they are taken: a thousand a second come, and each
            look costs.
        loss_log_seconds: How long after packets were told to be lost others are told.
        remux_start_seconds: How long it may take until a program in front brings its first bytes.
        remux_silent_seconds: How long it may bring nothing later.
        continuity: When a stream that is copied counts as another one.
        rtsp: What RTSP may cost.
        pump: How much waits on the way to ffmpeg.
        playlist: How HLS is followed.
        guard: What connecting to others may cost.
        faststart: What fetching an index may cost that stands behind the media.
        process: What programs may cost that look at it or stand in front.
    """

    retry: RetryPolicy = SOURCE_RETRY
    probe_seconds: float = 20.0
    seen_seconds: int = 6
    seen_file_seconds: int = 60
    connect_seconds: float = 10.0
    silent_seconds: float = 10.0
    redirects: int = 5
    receive_bytes: int = 4 << 20
    silent_datagram_seconds: float = 3.0
    gathered_bytes: int = 1 << 20
    gather_seconds: float = 0.005
    loss_log_seconds: float = 60.0
    remux_start_seconds: float = 20.0
    remux_silent_seconds: float = 6.0
    continuity: ContinuityLimits = field(default_factory=ContinuityLimits)
    rtsp: RtspLimits = field(default_factory=RtspLimits)
    pump: PumpLimits = field(default_factory=PumpLimits)
    playlist: PlaylistLimits = field(default_factory=PlaylistLimits)
    guard: GuardLimits = field(default_factory=GuardLimits)
    faststart: FaststartLimits = field(default_factory=FaststartLimits)
    process: ProcessLimits = field(default_factory=ProcessLimits)


DEFAULT_LIMITS = SourceLimits()
