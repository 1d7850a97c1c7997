"""The findings of ``headwater check``, those that break a MUST apart from those that break a SHOULD."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

MAX_ALIKE = 3
"""Most findings of one kind about a playlist that are listed one by one."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A rule that something breaks, in a line: what was found, what would be right, and the clause.

    Attributes:
        is_must: whether a standard has a MUST for it (RFC 2119 §1), and not a SHOULD.
    """

    text: str
    is_must: bool = True


@dataclass(slots=True)
class CheckReport:
    """The result: how many checks ``passed``, and the findings of those that didn't.

    Attributes:
        faults: findings that break a MUST of a standard, or that no player can overlook.
        notes: findings that break a SHOULD alone.
        looked_at: segments of finished playlists and manifests that were read.
        listed: segments of these playlists and manifests, those among them that weren't read.
    """

    passed: int = 0
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    looked_at: int = 0
    listed: int = 0

    @property
    def findings(self) -> list[str]:
        """All findings, the worst first."""
        return self.faults + self.notes

    def expect(self, good: bool, where: str, otherwise: str, *, is_must: bool = True) -> bool:
        """Count a check of an address, and return whether it passed; else `otherwise` is the finding.

        Args:
            is_must: whether a standard has a MUST for it (RFC 2119 §1), and not a SHOULD.
        """
        if good:
            self.passed += 1
        else:
            (self.faults if is_must else self.notes).append(f"{where}: {otherwise}")
        return good

    def add_alike(self, where: str, problems: Iterable[str | None]) -> None:
        """Count checks of one kind, of which those that failed have a text, and list the first of these."""
        listed = list(problems)
        wrong = [problem for problem in listed if problem is not None]
        self.passed += len(listed) - len(wrong)
        self.faults += [f"{where}: {problem}" for problem in wrong[:MAX_ALIKE]]
        if len(wrong) > MAX_ALIKE:
            self.faults.append(f"{where}: and {len(wrong) - MAX_ALIKE} more of that kind")

    def add(self, where: str, findings: Iterable[Finding], checks: int = 1) -> None:
        """Add the findings of a group of checks about an address.

        Args:
            checks: how many passed if there is no finding.
        """
        listed = list(findings)
        self.passed += 0 if listed else checks
        for one in listed:
            (self.faults if one.is_must else self.notes).append(f"{where}: {one.text}")
