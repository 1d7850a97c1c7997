"""Decoded pictures of streams, for comparison."""

from __future__ import annotations

import subprocess

from packager.process.ffmpeg_discovery import Tools
from packager.window.model import LiveSegment


def decoded(tools: Tools, segment: LiveSegment, *words: str) -> subprocess.CompletedProcess[bytes]:
    """Let ffmpeg decode a segment."""
    assert segment.timeline is not None
    command = [str(tools.ffmpeg), "-i", "pipe:0", *words]
    return subprocess.run(
        command, input=segment.timeline.init + segment.data, capture_output=True, check=True
    )
