"""Limits, timeouts and retries of a channel's source, up to ffmpeg's standard input."""

from __future__ import annotations

from dataclasses import dataclass, field

from media.flv.tags import TAG_BYTES
from media.hls.playlist_reader import PlaylistReaderLimits
from media.matroska.live_elements import ELEMENT_BYTES
from media.mp4.fragments.fragment_join import JoinLimits
from media.mp4.fragments.moof import FragmentLimits
from media.mp4.movie.movie import MovieLimits
from media.rtsp.messages import RtspMessageLimits
from media.ts.stream_reader import TransportReaderLimits
from packager.retry_policy import RetryPolicy

SOURCE_RETRY = RetryPolicy(first_seconds=0.2, longest_seconds=5.0, steady_seconds=5.0)
"""Delays before a source that ended or is unavailable is requested again."""

SEGMENT_RETRY = RetryPolicy(first_seconds=0.5, longest_seconds=0.5, retries=2)
"""Delays before a segment or key is requested again, until it counts as missed."""


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
        redirects: Most redirects, of HTTP or RTSP.
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
        meter_step_seconds: Least time between two samples.
        meter_samples: How many are kept: they span the time over which the bitrate is averaged.
        key_seconds: Longest time without an access point, or three times the longest interval before it.
        clock_still_seconds: How long data may arrive without the clock's advancing.
        clock_step_seconds: Least step that counts as advancing.
        clock_rest_seconds: Most of the time between two reads that counts, so that a pause isn't taken for a
            stop.
        rtsp_connections: Connections of ffmpeg and ffprobe at once, two each while one replaces another.
        pending_requests: Most requests without a response.
        rtsp_behind_bytes: Most UDP media that ffmpeg hasn't read yet; more is dropped.
        rtsp_receive_bytes: Size of the UDP sockets' receive buffers.
        port_attempts: Attempts to find two consecutive free ports.
        rtsp_last_seconds: Time for a closing connection to send its last data.
        ahead_bytes: Buffered bytes at which the producer must wait: some seconds at the highest bitrates.
        written_bytes: Bytes of chunks that are written together; a larger chunk alone.
        headless_bytes: Bytes to wait for an access point, since some streams don't mark theirs.
        slow_seconds: After which a picture stands still, and is repeated if all are key frames.
        still_seconds: From one repetition to the next, for ffmpeg, which shows one when the next comes.
        copied_still_seconds: Seconds from one repetition to the next for viewers of a copied picture.
        ahead_seconds: Lead over real time above which reading pauses; longer than live servers' first bursts.
        untaken_seconds: Lead above which reading pauses while no ffmpeg reads, and old data is dropped.
        window_seconds: Length of a measurement window.
        slack_seconds: Buffered time that is accepted beyond the stream's jitter.
        live_rate: Media seconds per second up to which a stream counts as live; clocks differ by less.
        behind_seconds: How much a stream may catch up after a pause without counting as ahead.
        held_seconds: For which a publisher is held back at once; one with which that took longer has a clock
            that is wrong, and is ended: while it is held back, nobody would notice that it has gone.
        gop_bytes: Most bytes that are kept for an ffmpeg that joins later; a longer group of pictures is
            dropped until the next access point.
        gop_headers: Most headers that are kept for it; the oldest are dropped beyond that.
        transport_reader: Of MPEG-TS.
        flv_tag_bytes: Largest tag of FLV, which may be as large as a key frame.
        fragments: Of fragmented MP4.
        further_track_bytes: Most bytes that may wait to be read.
        further_gop_bytes: Bytes that are kept for later readers: six seconds of 10 Mbit/s.
        guard: Limits of connections to foreign servers.
        moov_search_bytes: Bytes searched for moov or mdat; a stream with neither is passed on unchanged.
        moov: Limits of a moov box that is moved; that of a film of two hours is half as large.
        moov_boxes: Most boxes behind mdat whose headers are requested, one request each; most files have one.
        begin_segments: Segments before the end of a live playlist at which playback begins.
        behind_segments: Segments behind the end at which playback jumps to the newest.
        stale_numbers: How far media sequence numbers may go back, as with caches' stale playlists; a playlist
            that goes back further counts as a new one.
        shortest_pause_seconds: Least time between two requests for a playlist that changes.
        still_target_durations: How long a live playlist may stay unchanged.
        playlist_misses: How many playlist requests in a row may fail.
        request_seconds: Timeout of a whole request for a playlist, a segment or a range.
        segment_bytes: Largest segment: ten seconds at 50 Mbit/s.
        cached_keys: Keys that are cached; some minutes' worth if each segment has its own.
        segment_retry: Delays before a segment or key is requested again, until it counts as missed.
        playlist_reader: Limits of a playlist's lines and entries.
        playlist_join: Of streams that picture and sound have each in a playlist of their own.
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
    meter_step_seconds: float = 1.0
    meter_samples: int = 8
    key_seconds: float = 20.0
    clock_still_seconds: float = 3.0
    clock_step_seconds: float = 0.1
    clock_rest_seconds: float = 0.5
    rtsp_connections: int = 4
    pending_requests: int = 16
    rtsp_behind_bytes: int = 4 << 20
    rtsp_receive_bytes: int = 4 << 20
    port_attempts: int = 32
    rtsp_last_seconds: float = 1.0
    rtsp_messages: RtspMessageLimits = field(default_factory=RtspMessageLimits)
    ahead_bytes: int = 32 << 20
    written_bytes: int = 64 << 10
    headless_bytes: int = 1 << 19
    slow_seconds: float = 1.7
    still_seconds: float = 0.4
    copied_still_seconds: float = 1.0
    ahead_seconds: float = 20.0
    untaken_seconds: float = 2.0
    window_seconds: float = 60.0
    slack_seconds: float = 2.0
    live_rate: float = 1.02
    behind_seconds: float = 60.0
    held_seconds: float = 120.0
    gop_bytes: int = 32 << 20
    gop_headers: int = 16
    transport_reader: TransportReaderLimits = field(default_factory=TransportReaderLimits)
    matroska_element_bytes: int = ELEMENT_BYTES
    flv_tag_bytes: int = TAG_BYTES
    fragments: FragmentLimits = field(default_factory=FragmentLimits)
    further_track_bytes: int = 8 << 20
    further_gop_bytes: int = 8 << 20
    begin_segments: int = 3
    behind_segments: int = 6
    stale_numbers: int = 3
    shortest_pause_seconds: float = 1.0
    still_target_durations: float = 4
    playlist_misses: int = 3
    request_seconds: float = 30.0
    segment_bytes: int = 64 << 20
    cached_keys: int = 16
    segment_retry: RetryPolicy = SEGMENT_RETRY
    playlist_reader: PlaylistReaderLimits = field(default_factory=PlaylistReaderLimits)
    playlist_join: JoinLimits = field(default_factory=JoinLimits)
    guard: GuardLimits = field(default_factory=GuardLimits)
    moov_search_bytes: int = 1 << 20
    moov: MovieLimits = field(default_factory=lambda: MovieLimits(moov_bytes=16 << 20))
    moov_boxes: int = 16


DEFAULT_LIMITS = SourceLimits()
