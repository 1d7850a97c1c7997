"""Limits of requests that publish captions or timed metadata."""

from __future__ import annotations

from dataclasses import dataclass, field

from media.subtitles.webvtt import CueLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishingLimits:
    """Limits of a request that publishes captions or timed metadata.

    Attributes:
        captions_bytes: most bytes of a file of captions.
        cues: of the cues in one.
        captions_idle_seconds: how long a body may pause that goes on for as long as somebody types.
        metadata_bytes: most bytes of the body of an event.
    """

    captions_bytes: int = 1 << 20
    cues: CueLimits = field(default_factory=CueLimits)
    captions_idle_seconds: float = 1800.0
    metadata_bytes: int = 16 << 10


DEFAULT_LIMITS = PublishingLimits()
