"""Limits of webhooks that decide about access, and of logging those who are refused."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookLimits:
    """Limits of a webhook.

    Attributes:
        seconds: how long an answer may take.
        requests: most answers that are waited for at once.
        reports: most reports of what is over that wait for their turn, or an answer; further ones are lost.
    """

    seconds: float = 5.0
    requests: int = 64
    reports: int = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusalLogLimits:
    """Limits of log lines about refused clients, so that strangers can't fill the log.

    Attributes:
        seconds: in which the following are counted.
        lines: most lines.
        address_lines: most lines of one address, so that a stranger's don't crowd out those of the owner.
    """

    seconds: float = 60.0
    lines: int = 30
    address_lines: int = 5


@dataclass(frozen=True, slots=True)
class AccessLimits:
    """Bounds of the memory of viewers' sessions and of wrong passwords.

    Attributes:
        sessions: sessions of all names together that are known at once.
        ended: sessions that are remembered behind their end, and players that are kept out.
        guessers: most addresses that are remembered; beyond, the least recent are forgotten.
    """

    sessions: int = 100_000
    ended: int = 20_000
    guessers: int = 10_000
