"""When something is tried again that failed, whatever it is."""

from __future__ import annotations

import itertools

from packager.retry_policy import FailureCount, RetryPolicy


def test_each_pause_is_twice_as_long_as_the_one_before_up_to_the_longest() -> None:
    count = FailureCount(RetryPolicy(first_seconds=0.25, longest_seconds=5.0))
    assert [count.failed() for _ in range(7)] == [0.25, 0.5, 1.0, 2.0, 4.0, 5.0, 5.0]


def test_a_success_that_lasts_makes_the_next_failure_a_first_one_and_a_short_one_does_not() -> None:
    count = FailureCount(RetryPolicy(first_seconds=0.5, longest_seconds=8.0, steady_seconds=10.0))
    assert [count.failed(), count.failed()] == [0.5, 1.0]
    count.succeeded(9.0)
    assert count.failed() == 2.0
    count.succeeded(10.0)
    assert count.failures == 0
    assert count.failed() == 0.5


def test_a_source_that_is_gone_for_years_is_still_asked() -> None:
    policy = RetryPolicy(first_seconds=0.2, longest_seconds=5.0)
    assert policy.pause(10**9) == 5.0


def test_what_is_given_up_has_as_many_pauses_as_retries_and_the_rest_has_no_end() -> None:
    assert list(RetryPolicy(first_seconds=0.5, longest_seconds=0.5, retries=2).pauses()) == [0.5, 0.5]
    endless = RetryPolicy(first_seconds=1.0, longest_seconds=3.0).pauses()
    assert list(itertools.islice(endless, 4)) == [1.0, 2.0, 3.0, 3.0]
