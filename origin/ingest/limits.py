"""Limits of publishers' connections."""

from __future__ import annotations

from dataclasses import dataclass, field

from media.mp4.fragments.cmaf_ingest import TrackUploadLimits
from media.rtmp.chunks import RtmpConnectionLimits
from origin.access.limits import RefusalLogLimits

FRAGMENT_SECONDS = 15.0
"""Longest pause between two fragments of MP4 or clusters of Matroska, which are sent whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestLimits:
    """Limits of publishers, whatever their protocol.

    Attributes:
        publishers: Most publishers of all channels together, spare ones included.
        silent_seconds: How long a publisher may send nothing.
        linger_seconds: How long a refused publisher is still read from: it then sees the reason.
        retry_seconds: When a publisher for which there was no room may come again.
        webhook_seconds: Longest time of an answer of ``server.publish_webhook``.
        webhook_requests: Most such answers that are waited for at once.
        uploads: Of a stream that comes in many requests.
        refusal_log: Of the lines about those who are refused, whatever their protocol.
        listed_parts: Most graphics cards, canvases and codecs that are looked at.
        configured_pixels: Longest side of a picture.
        srt_connections: At once; those beyond are refused.
        srt_backlog: Connections that were let in and that the thread hasn't seen yet.
        srt_waiting_bytes: Most bytes of each connection that wait for the event loop; the thread then reads
            no more of that connection.
        srt_chunk_bytes: Of one connection at once, before the others' turn.
        srt_wait_seconds: For which the thread waits in libsrt before it looks at what the event loop wants.
        rtmp_connections: At once, those that aren't let in yet included.
        rtmp_read_bytes: Bytes that are read at once; twice as many are kept unread at most.
        gather_seconds: For which a publisher's messages are left in the system's buffer, so that several are
            read at once: to be woken up for each costs more than all that is done with it.
        soonest_seconds: As ``gather_seconds``, where a part lacks a frame that is due.
        rtmp: Of the messages of each connection.
        further_video_tracks: Video tracks of a stream beside the main one; OBS sends nine at most.
    """

    publishers: int = 64
    silent_seconds: float = 5.0
    linger_seconds: float = 2.0
    retry_seconds: int = 5
    webhook_seconds: float = 5.0
    webhook_requests: int = 16
    uploads: TrackUploadLimits = field(default_factory=TrackUploadLimits)
    refusal_log: RefusalLogLimits = field(default_factory=RefusalLogLimits)
    configuration_bytes: int = 64 << 10
    listed_parts: int = 16
    configured_pixels: int = 16_384
    srt_connections: int = 128
    srt_backlog: int = 32
    srt_waiting_bytes: int = 1 << 20
    srt_chunk_bytes: int = 64 << 10
    srt_wait_seconds: float = 0.05
    rtmp_connections: int = 256
    rtmp_read_bytes: int = 64 << 10
    gather_seconds: float = 0.045
    soonest_seconds: float = 0.025
    rtmp: RtmpConnectionLimits = field(default_factory=RtmpConnectionLimits)
    further_video_tracks: int = 9


DEFAULT_LIMITS = IngestLimits()
