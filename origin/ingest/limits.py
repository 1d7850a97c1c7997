"""Limits of publishers' connections."""

from __future__ import annotations

from dataclasses import dataclass, field

from media.mp4.cmaf_ingest import TrackUploadLimits
from origin.access.limits import RefusalLogLimits
from origin.ingest.multitrack_configuration import ClientConfigurationLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestLimits:
    """Limits of publishers, whatever their protocol.

    Attributes:
        publishers: Most publishers of all channels together, spare ones included.
        silent_seconds: How long a publisher may send nothing.
        fragment_seconds: The same between two fragments of MP4 or clusters of Matroska, which are sent whole.
        linger_seconds: How long a publisher that is told to go is still read from: it then sees the reason.
        retry_seconds: When a publisher for which there was no room may come again.
        webhook_seconds: What an answer of ``server.publish_webhook`` may take.
        webhook_requests: Most such answers that are waited for at once.
        agent_chars: Longest name of an encoder that is kept and logged.
        uploads: Of a stream that comes in many requests.
        refusal_log: Of the lines about those who are refused, whatever their protocol.
        client_configuration: Of what OBS may say of its machine, and is asked to encode.
    """

    publishers: int = 64
    silent_seconds: float = 5.0
    fragment_seconds: float = 15.0
    linger_seconds: float = 2.0
    retry_seconds: int = 5
    webhook_seconds: float = 5.0
    webhook_requests: int = 16
    agent_chars: int = 200
    uploads: TrackUploadLimits = field(default_factory=TrackUploadLimits)
    refusal_log: RefusalLogLimits = field(default_factory=RefusalLogLimits)
    client_configuration: ClientConfigurationLimits = field(default_factory=ClientConfigurationLimits)


DEFAULT_LIMITS = IngestLimits()
