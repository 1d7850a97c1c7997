"""Buffer sizes and timeouts of child processes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessLimits:
    """Limits of one child process, besides those of its sandbox.

    Attributes:
        pipe_bytes: Requested size of each output pipe; one full pipe blocks all outputs of an ffmpeg.
        spare_pipes: Pipes that must be free beyond those needed, since starting a process uses descriptors.
        error_bytes: How much of standard error is kept, the newest.
        output_bytes: Most bytes of the output of a program whose answer is read whole.
        exit_seconds: Time for the process to exit by itself after the end of its output.
        stop_seconds: Time between SIGTERM and SIGKILL.
    """

    pipe_bytes: int = 1 << 20
    spare_pipes: int = 8
    error_bytes: int = 64 << 10
    output_bytes: int = 64 << 20
    exit_seconds: float = 10.0
    stop_seconds: float = 0.7


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolsLimits:
    """Timeouts of finding ffmpeg.

    Attributes:
        query_seconds: Timeout of one query (``-encoders`` …), with a cold disk in mind.
    """

    query_seconds: float = 20.0


DEFAULT_LIMITS = ProcessLimits()

DEFAULT_TOOLS_LIMITS = ToolsLimits()
