"""The findings of ``headwater doctor``, a line each."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Verdict(enum.StrEnum):
    """The severity of a finding."""

    GOOD = "ok"
    ADVICE = "note"
    """A fault that doesn't keep the server from working."""
    FAULT = "FAULT"
    """A configuration that can't work."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """A finding about one thing that the server needs, in a line.

    Attributes:
        text: the finding, and after a semicolon the remedy.
    """

    subject: str
    verdict: Verdict
    text: str

    def __str__(self) -> str:
        """Write the finding as one line."""
        return f"{self.verdict:5} {self.subject}: {self.text}"
