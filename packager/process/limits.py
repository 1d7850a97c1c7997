"""What a child process may hold in pipes, and how long its answers and its end may take."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessLimits:
    """What one child process may cost, beside what its sandbox says.

    Attributes:
        pipe_bytes: Size asked for each output pipe: an unread pipe stalls all other outputs of the same
            ffmpeg.
        spare_pipes: So many more must be possible when a program is started, which takes descriptors for
            itself.
        error_bytes: How much of its standard error is kept: the newest.
        exit_seconds: How long it may take to end by itself behind the end of its output.
        stop_seconds: How long it may take to end after SIGTERM before it gets SIGKILL.
    """

    pipe_bytes: int = 1 << 20
    spare_pipes: int = 8
    error_bytes: int = 64 << 10
    exit_seconds: float = 10.0
    stop_seconds: float = 0.7


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolsLimits:
    """How long finding ffmpeg may take.

    Attributes:
        query_seconds: How long one question to it (``-encoders`` …) may take; a cold disk is slow.
    """

    query_seconds: float = 20.0


DEFAULT_LIMITS = ProcessLimits()

DEFAULT_TOOLS_LIMITS = ToolsLimits()
