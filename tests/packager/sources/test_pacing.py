"""Streams that come too fast: days of them, simulated, and what a clock that is a thousandth off does."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from packager.sources.limits import SourceLimits
from packager.sources.pacing import Pacing

LIMITS = SourceLimits()
DAY = 86_400.0
GROUP = 2.0
"""Seconds between access points."""

AT_ONCE = 5.0
"""Seconds of media that come at once at most."""


@dataclass
class Outcome:
    """What became of a stream.

    Attributes:
        skips: how often its newest followed.
        most: the longest that was waiting once the first minutes were over.
        last: what was waiting at the end.
        held: seconds for which who brings it was held back.
    """

    skips: int = 0
    most: float = 0.0
    last: float = 0.0
    held: float = 0.0


def play(
    available: Callable[[float], float], seconds: float, *, step: float = 0.5, cushion: float = 0.0
) -> Outcome:
    """Play a stream at real time, as ffmpeg does.

    Args:
        available: how many media seconds there are after so many seconds.
        seconds: for how long.
        step: seconds from one arrival to the next.
        cushion: as for the pacing.
    """
    pacing, outcome = Pacing(cushion), Outcome()
    received = shown = free = accessed = 0.0
    for count in range(int(seconds / step)):
        now = count * step
        if now >= free:
            received = max(min(available(now), received + AT_ONCE), received)
            access = received >= accessed + GROUP
            accessed = received if access else accessed
            pacing.received(received, now, access=access)
            free = now + (wait := pacing.wait(now))
            outcome.held += wait
        if count == 0:
            pacing.attached(None, now)
        shown = min(shown + step, received)
        pacing.given(shown)
        if pacing.late(now):
            outcome.skips += 1
            shown = accessed
            pacing.detached()
            pacing.attached(shown, now)
        if now > 3 * LIMITS.window_seconds:
            outcome.most = max(outcome.most, received - shown)
    outcome.last = received - shown
    return outcome


def test_a_clock_that_goes_a_thousandth_too_fast_never_costs_more_than_some_seconds() -> None:
    outcome = play(lambda now: 1.001 * now, 3 * DAY)
    gained = 0.001 * 3 * DAY
    assert outcome.most < LIMITS.slack_seconds + 2 * GROUP + 1
    # Each time at least the slack is skipped, or it would happen too often.
    assert (
        gained / (LIMITS.slack_seconds + 2 * GROUP + 1) - 1 <= outcome.skips <= gained / LIMITS.slack_seconds
    )
    assert outcome.held == 0


@pytest.mark.parametrize("rate", [1.0, 0.999, 0.99])
def test_a_stream_that_keeps_its_time_or_is_slow_is_left_alone(rate: float) -> None:
    outcome = play(lambda now: rate * now, DAY)
    assert (outcome.skips, outcome.held) == (0, 0)


def test_what_comes_in_bursts_is_left_alone() -> None:
    uneven = random.Random(1)
    segment, late = 6.0, 0.0

    def available(now: float) -> float:
        nonlocal late
        if now % segment < 0.5:
            late = uneven.uniform(0, 2)
        return 12 + (now - late) // segment * segment

    assert play(available, DAY, cushion=18).skips == 0


def test_a_burst_at_the_beginning_is_no_latency_after_two_minutes() -> None:
    outcome = play(lambda now: 12 + now, 3600)
    assert (outcome.skips, outcome.held) == (1, 0)
    assert outcome.last < LIMITS.slack_seconds + GROUP


def test_what_could_come_at_any_speed_is_held_back_and_all_of_it_is_played() -> None:
    outcome = play(lambda now: 4 * now, DAY)
    assert outcome.skips == 0
    assert outcome.most <= LIMITS.ahead_seconds + AT_ONCE
    assert play(lambda now: 1e9, DAY).skips == 0
    assert play(lambda now: 1.2 * now, DAY).most <= LIMITS.ahead_seconds + AT_ONCE


def test_a_pause_and_what_makes_up_for_it_are_no_reason_to_hold_a_live_stream_back() -> None:
    def available(now: float) -> float:
        pause = 40.0
        return now if now % 600 > pause else now - now % 600  # what comes late comes at once

    outcome = play(available, DAY)
    assert outcome.held == 0
    assert outcome.most < 41
