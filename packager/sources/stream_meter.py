"""Measures a publisher's stream as it comes: its bitrate, and how often it has a key frame."""

from __future__ import annotations

from collections import deque

from media.stream_reader import CLOCK_RATE, StreamChunk
from packager.sources.limits import SourceLimits

DEFAULT_LIMITS = SourceLimits()


class StreamMeter:
    """Measures the bytes, the bitrate and the key frames of one publisher's stream.

    Args:
        limits: over which time.

    Attributes:
        received: bytes since the beginning.
        keyframe_interval: seconds of media between the last two access points; None before the second.
    """

    def __init__(self, limits: SourceLimits = DEFAULT_LIMITS) -> None:
        self._limits = limits
        self._samples: deque[tuple[float, int]] = deque(maxlen=limits.meter_samples)
        self._access: int | None = None
        self.received = 0
        self.keyframe_interval: float | None = None

    def push(self, chunk: StreamChunk, now: float) -> None:
        """Take the next chunk.

        Args:
            now: this moment by the monotonic clock, in seconds.
        """
        if not self._samples or now - self._samples[-1][0] >= self._limits.meter_step_seconds:
            self._samples.append((now, self.received))
        self.count(chunk.size)
        if chunk.access and chunk.clock is not None:
            if self._access is not None and chunk.clock > self._access:
                self.keyframe_interval = (chunk.clock - self._access) / CLOCK_RATE
            self._access = chunk.clock

    def count(self, size: int) -> None:
        """Count more bytes of the stream, which say nothing of its times."""
        self.received += size

    def bitrate(self, now: float) -> int:
        """Return the bits per second of the last seconds; 0 while too little has come."""
        if not self._samples:
            return 0
        began, before = self._samples[0]
        seconds = now - began
        return (
            round(8 * (self.received - before) / seconds) if seconds >= self._limits.meter_step_seconds else 0
        )
