"""Limits, timeouts and retries of a channel's source, up to ffmpeg's standard input."""

from __future__ import annotations

from dataclasses import dataclass, field

from media.flv.tags import FlvLimits
from media.hls.playlist_reader import PlaylistReaderLimits
from media.matroska.live_elements import MatroskaStreamLimits
from media.mp4.fragments.fragment_join import JoinLimits
from media.mp4.fragments.moof import FragmentLimits
from media.mp4.movie.movie import MovieLimits
from media.muxers.matroska_muxer import RemuxLimits
from media.rtsp.messages import RtspMessageLimits
from media.ts.demuxer import LiveTransportLimits
from media.ts.stream_reader import TransportReaderLimits
from packager.retry_policy import RetryPolicy
from packager.sources.stream_meter import MeterLimits

SOURCE_RETRY = RetryPolicy(first_seconds=0.2, longest_seconds=5.0, steady_seconds=5.0)
"""Delays before a source that ended or is unavailable is requested again."""

SEGMENT_RETRY = RetryPolicy(first_seconds=0.5, longest_seconds=0.5, retries=2)
"""Delays before a segment or key is requested again, until it counts as missed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PacingLimits:
    """How far a received stream may be ahead of real time, or behind it.

    Attributes:
        ahead_seconds: Lead over real time above which reading pauses; longer than live servers' first bursts.
        untaken_seconds: Lead above which reading pauses while no ffmpeg reads, and old data is dropped.
        window_seconds: Length of a measurement window.
        slack_seconds: Buffered time that is accepted beyond the stream's jitter.
        live_rate: Media seconds per second up to which a stream counts as live; clocks differ by less.
        behind_seconds: How much a stream may catch up after a pause without counting as ahead.
        held_seconds: For which a publisher is held back at once; one with which that took longer has a clock
            that is wrong, and is ended: while it is held back, nobody would notice that it has gone.
    """

    ahead_seconds: float = 20.0
    untaken_seconds: float = 2.0
    window_seconds: float = 60.0
    slack_seconds: float = 2.0
    live_rate: float = 1.02
    behind_seconds: float = 60.0
    held_seconds: float = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class GopCacheLimits:
    """How much of a stream is kept for an ffmpeg that joins in the middle.

    Attributes:
        kept_bytes: Most bytes of memory; a longer group of pictures is dropped until the next access point.
        headers: Most headers; the oldest are dropped beyond that.
    """

    kept_bytes: int = 32 << 20
    headers: int = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class FurtherVideoTrackLimits:
    """How much is kept of each picture that comes beside a publication's main one.

    Attributes:
        ahead_bytes: Most bytes that may wait to be read.
        gop_cache: Bytes that are kept for later readers: six seconds of 10 Mbit/s.
    """

    ahead_bytes: int = 8 << 20
    gop_cache: GopCacheLimits = field(default_factory=lambda: GopCacheLimits(kept_bytes=8 << 20))


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamReaderLimits:
    """Limits of the readers that divide a stream into chunks.

    Attributes:
        transport: Of MPEG-TS.
        flv: Of FLV, whose tags may be as large as a key frame.
        fragments: Of fragmented MP4.
    """

    transport: TransportReaderLimits = field(default_factory=TransportReaderLimits)
    matroska: MatroskaStreamLimits = field(default_factory=MatroskaStreamLimits)
    flv: FlvLimits = field(default_factory=FlvLimits)
    fragments: FragmentLimits = field(default_factory=FragmentLimits)


@dataclass(frozen=True, slots=True, kw_only=True)
class PumpLimits:
    """How much of a stream is buffered on its way to ffmpeg.

    Attributes:
        ahead_bytes: Buffered bytes at which the producer must wait: some seconds at the highest bitrates.
        written_bytes: Bytes of chunks that are written together; a larger chunk alone.
        headless_bytes: Bytes to wait for an access point, since some streams don't mark theirs.
        slow_seconds: After which a picture stands still, and is repeated if all are key frames.
        still_seconds: From one repetition to the next, for ffmpeg, which shows one when the next comes.
        copied_still_seconds: Seconds from one repetition to the next for viewers of a copied picture.
        pacing: How far the stream may be ahead of real time, or behind it.
        gop_cache: How much is kept for an ffmpeg that joins later.
        remux: How much of a stream is held back until all tracks are known with which Matroska begins.
        readers: Limits of the readers that divide the stream into chunks.
    """

    ahead_bytes: int = 32 << 20
    written_bytes: int = 64 << 10
    headless_bytes: int = 1 << 19
    slow_seconds: float = 1.7
    still_seconds: float = 0.4
    copied_still_seconds: float = 1.0
    pacing: PacingLimits = field(default_factory=PacingLimits)
    gop_cache: GopCacheLimits = field(default_factory=GopCacheLimits)
    remux: RemuxLimits = field(default_factory=RemuxLimits)
    readers: StreamReaderLimits = field(default_factory=StreamReaderLimits)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaylistLimits:
    """Limits of following another server's HLS playlists.

    Attributes:
        begin_segments: Segments before the end of a live playlist at which playback begins.
        behind_segments: Segments behind the end at which playback jumps to the newest.
        stale_numbers: How far media sequence numbers may go back, as with caches' stale playlists; a playlist
            that goes back further counts as a new one.
        shortest_pause_seconds: Least time between two requests for a playlist that changes.
        still_target_durations: How long a live playlist may stay unchanged.
        misses: How many playlist requests in a row may fail.
        request_seconds: Timeout of a whole playlist or segment request.
        segment_bytes: Largest segment: ten seconds at 50 Mbit/s.
        keys: Keys that are cached; some minutes' worth if each segment has its own.
        segment_retry: Delays before a segment or key is requested again, until it counts as missed.
        reader: Limits of a playlist's lines and entries.
        join: Of streams that picture and sound have each in a playlist of their own.
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
    reader: PlaylistReaderLimits = field(default_factory=PlaylistReaderLimits)
    join: JoinLimits = field(default_factory=JoinLimits)


@dataclass(frozen=True, slots=True, kw_only=True)
class ContinuityLimits:
    """When a stream that ffmpeg remuxes counts as replaced by another one, or broken.

    Attributes:
        key_seconds: Longest time without an access point, or three times the longest interval before it.
        still_seconds: How long data may arrive without the clock's advancing.
        step_seconds: Least step that counts as advancing.
        rest_seconds: Most of the time between two reads that counts, so that a pause isn't taken for a stop.
    """

    key_seconds: float = 20.0
    still_seconds: float = 3.0
    step_seconds: float = 0.1
    rest_seconds: float = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class RtspLimits:
    """Limits of relaying RTSP to ffmpeg.

    Attributes:
        connections: Connections of ffmpeg and ffprobe at once, two each while one replaces another.
        redirects: Most redirects.
        pending_requests: Most requests without a response.
        behind_bytes: Most UDP media that ffmpeg hasn't read yet; more is dropped.
        receive_bytes: Size of the UDP sockets' receive buffers.
        port_attempts: Attempts to find two consecutive free ports.
        last_seconds: Time for a closing connection to send its last data.
    """

    connections: int = 4
    redirects: int = 5
    pending_requests: int = 16
    behind_bytes: int = 4 << 20
    receive_bytes: int = 4 << 20
    port_attempts: int = 32
    last_seconds: float = 1.0
    messages: RtspMessageLimits = field(default_factory=RtspMessageLimits)


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardLimits:
    """Limits of connections to foreign servers.

    Attributes:
        addresses: Addresses of one host name that are tried.
        head_bytes: Largest head of an HTTP response.
        head_fields: Most lines of a head; parsing tens of thousands would block the event loop.
        cookies: Most cookies that are kept of a source and all that it refers to.
        cookie_bytes: Most bytes of them, with domains and paths included: servers refuse longer requests.
    """

    addresses: int = 8
    head_bytes: int = 32 * 1024
    head_fields: int = 128
    cookies: int = 64
    cookie_bytes: int = 6 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class FaststartLimits:
    """Limits of fetching the moov box of an MP4 that has it behind the media.

    Attributes:
        head_bytes: Bytes searched for moov or mdat; a stream with neither is passed on unchanged.
        movie: Limits of a moov box that is moved; that of a film of two hours is half as large.
        boxes: Most boxes behind mdat whose headers are requested, one request each; most files have one.
        request_seconds: Timeout of a whole range request.
    """

    head_bytes: int = 1 << 20
    movie: MovieLimits = field(default_factory=lambda: MovieLimits(moov_bytes=16 << 20))
    boxes: int = 16
    request_seconds: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceLimits:
    """Limits of one channel's source.

    Attributes:
        retry: Delays before a source that ended or is unavailable is requested again.
        looks: How often a stream is looked at that changes meanwhile, before it is given to ffprobe.
        seen_seconds: Length of a stream that is searched for key frames if its video isn't encoded.
        seen_file_seconds: Length of a file that is searched for key frames.
        seen_grace_seconds: How much longer than its length a view of a stream may take.
        seen_keys: Most key frames of a video track that are looked at, however little time they take.
        tracks_seconds: How long a stream's sound is waited for before ffmpeg gets the stream as it comes.
        seen_slow_seconds: Length of sound beside a picture that has begun to come, and lasts for seconds.
        seen_apart_seconds: Length of a picture without any sound, or the other way, that has none.
        connect_seconds: Timeout of connecting to one address over HTTP or RTSP.
        silent_seconds: How long an HTTP server may send nothing.
        redirects: Most HTTP redirects.
        receive_bytes: Size of the UDP socket's receive buffer.
        silent_datagram_seconds: Time without a datagram after which a UDP source counts as gone.
        gathered_bytes: Most bytes of datagrams that are read at once.
        gathered_datagrams: Most datagrams that are read at once, those of unwanted senders included.
        gather_seconds: Time between two reads of datagrams, since waking up for each would cost CPU.
        loss_log_seconds: Least time between two log messages about lost packets.
        told_faults: Most faults of a stream that its publisher is sent.
        remux_start_seconds: Time for a remuxing program to give its first bytes.
        remux_silent_seconds: Longest time without bytes after that.
        slate_seconds: How long nobody may publish, or a pulled source be gone, until the slate is shown.
        publications: Publishers of one channel at once, with spare ones and those that have just come.
        meter: Over which time a publisher's stream is measured.
        continuity: When a remuxed stream counts as replaced or broken.
        transport: Limits of MPEG-TS that is copied without an ffmpeg.
        rtsp: Limits of the RTSP relay.
        pump: Limits of the buffer before ffmpeg.
        further_video_track: Of each picture that comes beside a publication's main one.
        guard: Limits of connections to foreign servers.
        faststart: Limits of fetching a moov box behind the media.
    """

    retry: RetryPolicy = SOURCE_RETRY
    probe_seconds: float = 20.0
    looks: int = 4
    seen_seconds: int = 6
    seen_file_seconds: int = 60
    seen_grace_seconds: float = 2.0
    seen_keys: int = 1024
    tracks_seconds: float = 2.0
    seen_slow_seconds: float = 14.0
    seen_apart_seconds: float = 1.0
    connect_seconds: float = 10.0
    silent_seconds: float = 10.0
    redirects: int = 5
    receive_bytes: int = 4 << 20
    silent_datagram_seconds: float = 3.0
    gathered_bytes: int = 1 << 20
    gathered_datagrams: int = 1024
    gather_seconds: float = 0.005
    loss_log_seconds: float = 60.0
    told_faults: int = 16
    remux_start_seconds: float = 20.0
    remux_silent_seconds: float = 6.0
    slate_seconds: float = 2.0
    publications: int = 8
    well_seconds: float = 5.0
    meter: MeterLimits = field(default_factory=MeterLimits)
    continuity: ContinuityLimits = field(default_factory=ContinuityLimits)
    transport: LiveTransportLimits = field(default_factory=LiveTransportLimits)
    rtsp: RtspLimits = field(default_factory=RtspLimits)
    pump: PumpLimits = field(default_factory=PumpLimits)
    further_video_track: FurtherVideoTrackLimits = field(default_factory=FurtherVideoTrackLimits)
    playlist: PlaylistLimits = field(default_factory=PlaylistLimits)
    guard: GuardLimits = field(default_factory=GuardLimits)
    faststart: FaststartLimits = field(default_factory=FaststartLimits)


DEFAULT_LIMITS = SourceLimits()
