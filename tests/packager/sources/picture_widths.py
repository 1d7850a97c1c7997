"""Widths of pictures, as ffprobe sees them."""

from __future__ import annotations

from packager.window.model import LiveSegment


def width_of(segment: LiveSegment) -> int:
    return 0 if segment.timeline is None else segment.timeline.entry.width
