"""The limits of relays of token streams."""

from __future__ import annotations

from dataclasses import dataclass, field

from packager.sources.limits import DEFAULT_LIMITS, GuardLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestLimits:
    """Limits of what a relay's callers may ask the upstream server for.

    Attributes:
        messages: of one request, at most.
        choices: answers to one request, and what its numbers of such may be (``n``, ``best_of``).
    """

    request_bytes: int = 4 << 20
    messages: int = 4096
    choices: int = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamLimits:
    """Limits of what the upstream server of a relay may take and send.

    Attributes:
        silent_seconds: without a whole line, before the first token and between two.
        answer_seconds: from the request to the end of its answer, at most.
        line_bytes: of one line or event.
        error_bytes: of the body of an error that is carried on.
        answer_bytes: of a whole answer, framing counted.
        guard: of its addresses and response heads.
    """

    connect_seconds: float = 10.0
    silent_seconds: float = 300.0
    answer_seconds: float = 3600.0
    line_bytes: int = 1 << 20
    error_bytes: int = 64 << 10
    answer_bytes: int = 16 << 20
    guard: GuardLimits = DEFAULT_LIMITS.guard


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRelayLimits:
    """The limits of one relay.

    Attributes:
        requests: that its upstream answers at once.
        retry_seconds: after which a caller may come again that finds no room.
        head_seconds: for how long a caller's answer waits for the upstream's, so that it has its status.
        first_reader_seconds: for how long an answer goes on whose first reader hasn't come yet.
        left_seconds: the same when its last reader has left.
        again_seconds: for how long a long poll that has its answer counts as a reader: it comes again.
        look_seconds: between two looks at whether readers are there.
        drain_seconds: how long a caller that is behind may take for the end of its answer.
        request: what callers may ask for.
        upstream: what the other server may take and send.
    """

    requests: int = 16
    retry_seconds: int = 2
    answer_events: int = 1 << 16
    head_seconds: float = 5.0
    first_reader_seconds: float = 10.0
    left_seconds: float = 0.3
    again_seconds: float = 0.5
    look_seconds: float = 0.1
    drain_seconds: float = 30.0
    request: RequestLimits = field(default_factory=RequestLimits)
    upstream: UpstreamLimits = field(default_factory=UpstreamLimits)

    @property
    def kept_events(self) -> int:
        """Events of a ring that has room for one answer, its error and its end."""
        return self.answer_events + 2

    @property
    def kept_bytes(self) -> int:
        """Bytes of a ring that has room for one answer, its error and its end."""
        return self.upstream.answer_bytes + 2 * self.upstream.line_bytes
