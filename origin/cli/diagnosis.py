"""What ``headwater doctor`` finds out, a line each."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Verdict(enum.StrEnum):
    """How bad a finding is."""

    GOOD = "ok"
    ADVICE = "note"
    """It works, and could be better."""
    FAULT = "FAULT"
    """What is configured can't work."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What was found out about one thing that the server needs, in a line.

    Attributes:
        text: what was found, and after a semicolon what to do.
    """

    subject: str
    verdict: Verdict
    text: str

    def __str__(self) -> str:
        """Write the finding as one line."""
        return f"{self.verdict:5} {self.subject}: {self.text}"
