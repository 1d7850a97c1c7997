"""How often a source is asked for, and what of it is told, whatever an attempt takes."""

from __future__ import annotations

import time

import pytest
from structlog.testing import capture_logs

from packager.sources.limits import SOURCE_RETRY
from packager.sources.retries import SourceRetries


@pytest.fixture
def retries() -> SourceRetries:
    return SourceRetries("a")


class Clock:
    """The monotonic clock, moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    return clock


def test_a_host_that_lets_each_attempt_run_out_of_time_is_told_once_and_asked_less_often(
    retries: SourceRetries, clock: Clock
) -> None:
    pauses = []
    with capture_logs() as logs:
        for _ in range(10):
            clock.now += 20.0
            pauses.append(retries.stream_ended("ConnectTimeout"))
    assert [line["event"] for line in logs] == ["source isn't there"]
    assert pauses[0] == SOURCE_RETRY.first_seconds
    assert pauses[-3:] == [SOURCE_RETRY.longest_seconds] * 3


def test_behind_a_stream_that_came_for_long_a_source_is_asked_at_once(
    retries: SourceRetries, clock: Clock
) -> None:
    for _ in range(10):
        retries.stream_ended("down")
    retries.stream_began()
    clock.now += SOURCE_RETRY.steady_seconds / 2
    retries.stream_began()
    clock.now += SOURCE_RETRY.steady_seconds
    with capture_logs() as logs:
        assert retries.stream_ended("it ended") == SOURCE_RETRY.first_seconds
    assert [line["event"] for line in logs] == ["source isn't there"]


def test_a_source_that_comes_and_goes_is_told_a_few_times_and_asked_less_often(
    retries: SourceRetries, clock: Clock
) -> None:
    with capture_logs() as logs:
        for _ in range(20):
            retries.stream_began()
            clock.now += 1.0
            pause = retries.stream_ended("it ended")
    assert pause == SOURCE_RETRY.longest_seconds
    assert sum(line["event"] == "source isn't there" for line in logs) == 3
