"""The limits of relays of token streams."""

from __future__ import annotations

from dataclasses import dataclass

from origin.events.event_log import EVENT_OVERHEAD
from packager.sources.limits import DEFAULT_LIMITS, GuardLimits

LINE_BYTES = 1 << 20
"""Most bytes of one event that the readers of a relay's channel get; its callers get whole answers."""

LEFT_SECONDS = 0.3
"""For how long an answer goes on after its last reader has left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRelayLimits:
    """The limits of one relay.

    Attributes:
        requests: most requests that its upstream answers at once.
        retry_seconds: after which a caller that finds no room may come again.
        head_seconds: for how long the answer to a caller waits for the upstream's, whose status it gets.
        first_reader_seconds: for how long an answer goes on before its first reader comes.
        again_seconds: for how long a long poll that has its answer counts as a reader: it comes again.
        look_seconds: between two checks whether there are readers.
        drain_seconds: how long a caller that is behind may take for the end of its answer.
        messages: of one request, at most.
        choices: answers to one request, and what its numbers of such may be (``n``, ``best_of``).
        silent_seconds: without a whole line, before the first token and between two.
        answer_seconds: from the request to the end of its answer, at most.
        answer_bytes: of a whole answer, framing counted.
        guard: of its addresses and response heads.
        breaker_failures: one behind the other, after which it is left alone.
        breaker_pause_seconds: for so long; then one request tries it.
        longest_pause_seconds: for which it may ask by Retry-After.
    """

    requests: int = 16
    retry_seconds: int = 2
    head_seconds: float = 5.0
    first_reader_seconds: float = 10.0
    again_seconds: float = 0.5
    look_seconds: float = 0.1
    drain_seconds: float = 30.0
    request_bytes: int = 4 << 20
    messages: int = 4096
    choices: int = 16
    connect_seconds: float = 10.0
    silent_seconds: float = 300.0
    answer_seconds: float = 3600.0
    answer_bytes: int = 64 << 20
    guard: GuardLimits = DEFAULT_LIMITS.guard
    breaker_failures: int = 3
    breaker_pause_seconds: float = 10.0
    longest_pause_seconds: float = 60.0

    @property
    def kept_bytes(self) -> int:
        """Bytes of a ring that has room for one answer, its error and its end.

        Each event counts for more in a ring than in the answer; those of models are longer than that.
        """
        return 2 * (self.answer_bytes + LINE_BYTES)

    @property
    def kept_events(self) -> int:
        """The most events that such a ring can have."""
        return self.kept_bytes // EVENT_OVERHEAD
