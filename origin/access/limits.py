"""Limits of what decides about access."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookLimits:
    """Limits of a webhook.

    Attributes:
        seconds: what an answer may take.
        requests: most answers that are waited for at once.
    """

    seconds: float = 5.0
    requests: int = 64
