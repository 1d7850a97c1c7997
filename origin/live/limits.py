"""Limits of requests that publish captions, timed metadata or programmes."""

from __future__ import annotations

from dataclasses import dataclass, field

from media.subtitles.webvtt import CueLimits
from media.xmltv.reader import XmltvLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishingLimits:
    """Limits of a request that publishes captions, timed metadata or programmes.

    Attributes:
        captions_bytes: most bytes of a file of captions.
        cues: of the cues in one.
        captions_idle_seconds: how long a body may pause that goes on for as long as somebody types.
        metadata_bytes: most bytes of the body of an event.
        programmes_bytes: most bytes of a list of programmes; a guide of 10,000 with descriptions has 10 MB.
        guide: bounds of reading a guide in XMLTV.
    """

    captions_bytes: int = 1 << 20
    cues: CueLimits = field(default_factory=CueLimits)
    captions_idle_seconds: float = 1800.0
    metadata_bytes: int = 16 << 10
    programmes_bytes: int = 16 << 20
    guide: XmltvLimits = field(default_factory=XmltvLimits)


DEFAULT_LIMITS = PublishingLimits()
