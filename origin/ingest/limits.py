"""Limits of publishers' connections."""

from __future__ import annotations

from dataclasses import dataclass, field

from media.mp4.fragments.cmaf_ingest import TrackUploadLimits
from origin.access.limits import RefusalLogLimits
from origin.ingest.multitrack_configuration import ClientConfigurationLimits

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
        client_configuration: Of OBS's description of its machine, and of the tracks for it to encode.
    """

    publishers: int = 64
    silent_seconds: float = 5.0
    linger_seconds: float = 2.0
    retry_seconds: int = 5
    webhook_seconds: float = 5.0
    webhook_requests: int = 16
    uploads: TrackUploadLimits = field(default_factory=TrackUploadLimits)
    refusal_log: RefusalLogLimits = field(default_factory=RefusalLogLimits)
    client_configuration: ClientConfigurationLimits = field(default_factory=ClientConfigurationLimits)


DEFAULT_LIMITS = IngestLimits()
