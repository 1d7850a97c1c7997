"""How fast answers come, by model, in the buckets that OpenTelemetry advises for generative AI."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec
from msgspec import Struct

from packager.latency_histogram import LatencyHistogram

MODELS = 50
"""Most models of a relay with figures of their own: callers name them."""

OTHER = "other"
"""The model of all further ones, and of names that are none."""

FIRST_TOKEN = (*(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),)
PER_TOKEN = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
DURATION = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
TOKENS = tuple(float(4**power) for power in range(14))
"""Bounds that OpenTelemetry's conventions advise for each (gen-ai-metrics)."""

GAP = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
RATE = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0)

_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@+/-]{0,63}")


class _Usage(Struct):
    """The numbers of tokens, as chat completions, and as responses and messages name them."""

    completion_tokens: int | None = None
    output_tokens: int | None = None


class _Holder(Struct):
    usage: _Usage | None = None


class _WithUsage(_Holder):
    """An event with the usage at one of three places."""

    response: _Holder | None = None
    message: _Holder | None = None


_USAGE = msgspec.json.Decoder(_WithUsage)


def tokens_in(data: str) -> int | None:
    """Return the number of tokens of an answer, by an event that names it; None for another event."""
    if '"usage"' not in data:
        return None
    try:
        found = _USAGE.decode(data)
    except (ValueError, RecursionError):
        return None
    for holder in (found, found.response, found.message):
        if holder is not None and holder.usage is not None:
            usage = holder.usage
            tokens = usage.completion_tokens if usage.output_tokens is None else usage.output_tokens
            return tokens if tokens is not None and tokens >= 0 else None
    return None


@dataclass(slots=True)
class ModelFigures:
    """How fast the answers of a model came, each observed at its end.

    Attributes:
        first_token: seconds from the request to the first event.
        per_token: seconds for each token behind the first.
        duration: seconds of whole answers.
        gap: seconds between two events.
        tokens: of answers whose upstream server names the number.
        chunks: number of events of answers whose upstream server doesn't.
        rate: tokens a second behind the first event, where their number is named.
    """

    first_token: LatencyHistogram = field(default_factory=lambda: LatencyHistogram(FIRST_TOKEN))
    per_token: LatencyHistogram = field(default_factory=lambda: LatencyHistogram(PER_TOKEN))
    duration: LatencyHistogram = field(default_factory=lambda: LatencyHistogram(DURATION))
    gap: LatencyHistogram = field(default_factory=lambda: LatencyHistogram(GAP))
    tokens: LatencyHistogram = field(default_factory=lambda: LatencyHistogram(TOKENS))
    chunks: LatencyHistogram = field(default_factory=lambda: LatencyHistogram(TOKENS))
    rate: LatencyHistogram = field(default_factory=lambda: LatencyHistogram(RATE))


def shown_model(model: str) -> str:
    """Return the name of a model as metrics and the log have it: callers may write anything there."""
    return model if _MODEL.fullmatch(model) else OTHER


class RelayFigures:
    """The figures of a relay's answers, by the API, the model and the upstream server."""

    def __init__(self) -> None:
        self.by_model: dict[tuple[str, str, str], ModelFigures] = {}
        self._models: set[tuple[str, str]] = set()

    def of(self, dialect: str, model: str, server: str = "") -> ModelFigures:
        """Return the figures of a model at an upstream server, or those of all further models there.

        Args:
            server: host of the server, with its port where that isn't the usual one; empty where none has
                answered. The configuration bounds their number.
        """
        named = dialect, shown_model(model)
        if named not in self._models:
            if len(self._models) >= MODELS:
                named = dialect, OTHER
            self._models.add(named)
        key = *named, server
        found = self.by_model.get(key)
        if found is None:
            found = self.by_model[key] = ModelFigures()
        return found


class AnswerTimes:
    """The times of one answer.

    Args:
        figures: of all answers of the relay.
        clock: returns monotonic seconds.

    Attributes:
        server: host of the upstream server that was asked last; empty before any was.
        chunks: events that came.
        tokens: how many the upstream server names; None if it doesn't.
    """

    def __init__(
        self, figures: RelayFigures, dialect: str, model: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._all = figures
        self._dialect = dialect
        self._model = model
        self.server = ""
        self._known: ModelFigures | None = None
        self._clock = clock
        self._asked = clock()
        self._first = self._newest = 0.0
        self.chunks = 0
        self.tokens: int | None = None

    @property
    def _figures(self) -> ModelFigures:
        """The figures of the answer's model at the server that answers."""
        if self._known is None:
            self._known = self._all.of(self._dialect, self._model, self.server)
        return self._known

    def note_server(self, server: str) -> None:
        """Note which upstream server is asked: the one that answers is the last one."""
        self.server, self._known = server, None

    @property
    def first_seconds(self) -> float | None:
        """Seconds from the request to the first event; None before it."""
        return self._first - self._asked if self.chunks else None

    def note_event(self, data: str) -> None:
        """Note an event of the upstream server."""
        now = self._clock()
        if self.chunks:
            self._figures.gap.observe(now - self._newest)
        else:
            self._first = now
            self._figures.first_token.observe(now - self._asked)
        self._newest = now
        self.chunks += 1
        if (tokens := tokens_in(data)) is not None:
            self.tokens = tokens

    def finish(self) -> float:
        """Observe the answer's figures at its end; return the seconds that it took."""
        figures, seconds = self._figures, self._clock() - self._asked
        figures.duration.observe(seconds)
        behind = self._newest - self._first
        if self.tokens is None:
            if self.chunks:
                figures.chunks.observe(self.chunks)
        else:
            figures.tokens.observe(self.tokens)
            if self.tokens > 1 and behind > 0:
                figures.per_token.observe(behind / (self.tokens - 1))
                figures.rate.observe((self.tokens - 1) / behind)
        return seconds
