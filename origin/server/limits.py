"""All limits of a server that nobody configures, by the rooms that they bound."""

from __future__ import annotations

from dataclasses import dataclass, field

from origin.radio.limits import RadioLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerLimits:
    """How a server keeps its services going.

    Attributes:
        revive_seconds: Pause before a service that broke is started again.
    """

    revive_seconds: float = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a server may cost and wait for, apart from what its configuration says.

    Attributes:
        radio: Of its stations.
        server: Of itself.
    """

    radio: RadioLimits = field(default_factory=RadioLimits)
    server: ServerLimits = field(default_factory=ServerLimits)
