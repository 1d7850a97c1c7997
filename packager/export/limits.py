"""How long the packaging of a film waits for another run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportLimits:
    """How long a run waits for another one that packages the same film to the same place."""

    look_seconds: float = 0.2
