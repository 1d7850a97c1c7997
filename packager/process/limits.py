"""Timeouts of finding ffmpeg, and where its hardware is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolsLimits:
    """Timeouts of finding ffmpeg, and where its hardware is.

    Attributes:
        query_seconds: Timeout of one query (``-encoders`` …), with a cold disk in mind.
        device_nodes: Folder of the device nodes of encoders.
    """

    query_seconds: float = 20.0
    device_nodes: str = "/dev"


DEFAULT_TOOLS_LIMITS = ToolsLimits()
