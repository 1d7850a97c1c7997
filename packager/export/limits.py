"""How long the packaging of a film waits for another run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportLimits:
    """How long a run waits for another one that packages the same film to the same place.

    Attributes:
        other_run_seconds: at most; one that was killed isn't waited for.
    """

    other_run_seconds: float = 3600.0
    look_seconds: float = 0.2
