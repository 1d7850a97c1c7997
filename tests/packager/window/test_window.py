"""The live window with what it keeps, and waiters: numbers, eviction, what is fetchable, who is released."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from fractions import Fraction

import pytest

from media.mp4.codecs.sample_entry import SampleEntry
from packager.window.limits import PublishLimits
from packager.window.model import LivePart, LiveSegment, StoredSegment, WindowOptions
from packager.window.waiters import TooManyWaitersError, Waiters
from packager.window.window import Window
from tests.conformance.handfed import media_clock

ENTRY = SampleEntry(b"avc1", "avc1.42c01e", b"", (), width=640, height=360)


def segment(window: Window, parts: int = 2, *, finish: bool = True, duration: Fraction = Fraction(1)) -> None:
    number = window.next_number
    for index in range(parts):
        window.append(
            LivePart(f"{number}.{index};".encode(), duration, index == 0),
            Fraction(1000) + (number * parts + index) * duration,
            ends_segment=finish and index == parts - 1,
        )


def filled(segments: int, first: int = 100) -> Window:
    window = Window(WindowOptions(2, first))
    window.clock = media_clock(window)
    window.begin(b"init", ENTRY)
    for _ in range(segments):
        segment(window)
    return window


def test_parts_and_segments_are_numbered_on_from_the_first_number() -> None:
    window = filled(2)
    segment(window, 1, finish=False)
    assert [one.number for one in window.listed] == [100, 101]
    assert window.last == (102, 0)
    assert window.next_part == (102, 1)
    assert window.part(102, 0) == b"102.0;"
    assert window.segment(101) == b"101.0;101.1;"
    assert window.segment(102) is None


def test_the_parts_of_a_finished_segment_are_views_of_its_bytes() -> None:
    window = filled(1)
    part = window.part(100, 1)
    assert isinstance(part, memoryview)
    assert bytes(part) == b"100.1;"
    assert part.obj is window.segment(100)


@pytest.mark.clause("RFC 8216bis §6.2.2 MUST 6")
@pytest.mark.parametrize("seconds", [Fraction(2), Fraction(1), Fraction(3, 2)])
def test_a_playlist_never_gets_shorter_than_seven_segments_or_ten_target_durations(seconds: Fraction) -> None:
    window = Window(WindowOptions(2, 0))
    window.begin(b"init", ENTRY)
    counts = []
    for _ in range(60):
        segment(window, duration=seconds / 2)
        counts.append(len(window.listed))
    assert counts[-1] >= 7
    # Ten of two seconds each; the standard wants three.
    assert 20 <= counts[-1] * seconds < 20 + 2 * seconds
    assert counts == sorted(counts)
    assert counts[-1] == counts[-10]


@pytest.mark.clause("RFC 8216bis §6.2.2 MUST 8")
def test_a_segment_stays_fetchable_for_its_own_and_the_longest_playlists_duration_after_leaving() -> None:
    window = filled(40)
    first = window.listed[0].number
    longest = len(window.listed) * 2
    # RFC 8216bis §6.2.2: its own duration and that of the longest playlist: here so many segments
    after = (2 + longest) // 2
    assert window.segment(first - after) is not None
    assert window.part(first - after, 1) is not None
    assert window.segment(first - after - 1) is None


@pytest.mark.clause("RFC 8216bis §6.2.2 MUST 8")
def test_what_comes_all_at_once_after_a_standstill_takes_nothing_from_who_has_a_playlist() -> None:
    now = 0.0
    window = Window(WindowOptions(2, 100), clock=lambda: now)
    window.begin(b"init", ENTRY)
    for _ in range(15):
        segment(window)
        now += 2
    listed = [one.number for one in window.listed]
    # As much as three playlists have, in no time.
    for _ in range(3 * len(listed)):
        segment(window)
    # RFC 8216bis §6.2.2: fetchable for the duration of the playlist that had it
    now += 2 * len(listed)
    segment(window)
    assert all(window.segment(number) is not None for number in listed)
    assert all(window.part(number, 1) is not None for number in listed)
    now += 4
    segment(window)
    assert all(window.segment(number) is None for number in listed)


def test_memory_of_a_window_stays_bounded_over_a_long_run() -> None:
    window = filled(500)
    held = [number for number in range(100, 600) if window.segment(number) is not None]
    assert len(held) < 40
    assert held == list(range(held[0], 600))


def test_dvr_keeps_that_much_longer() -> None:
    window = Window(WindowOptions(2, 0, dvr_window=60))
    window.begin(b"init", ENTRY)
    for _ in range(60):
        segment(window)
    assert 80 <= 2 * len(window.listed) <= 84


def test_a_new_timeline_goes_on_with_the_numbers_behind_a_discontinuity() -> None:
    window = filled(1)
    segment(window, 1, finish=False)
    window.begin(b"other", ENTRY)
    segment(window)
    assert [(one.number, one.discontinuity) for one in window.listed] == [
        (100, False),
        (101, False),
        (102, True),
    ]
    assert window.segment(101) == b"101.0;"
    assert window.init(100) == b"init"
    assert window.init(102) == b"other"
    assert window.init(101) is None


@pytest.mark.clause("RFC 8216bis §6.2.2 MUST 10")
def test_the_discontinuity_sequence_counts_what_has_left() -> None:
    window = filled(1)
    window.begin(b"other", ENTRY)
    segment(window)
    seen = []
    while window.listed[0].number < 102:
        segment(window)
        seen.append((window.listed[0].number, window.discontinuity_sequence))
    # the tag stays with its segment: it has left when segment 101 has
    assert {sequence for number, sequence in seen if number <= 101} == {0}
    assert seen[-1] == (102, 1)


def test_an_init_segment_that_nothing_followed_keeps_its_name_and_bytes() -> None:
    window = filled(1)
    for init in (b"one", b"two", b"two"):
        window.begin(init, ENTRY)
    assert window.init(101) == b"one", "it was hinted at (RFC 8216bis Appendix B.1)"
    segment(window)
    timeline = window.listed[-1].timeline
    assert timeline is not None
    assert window.init(timeline.number) == b"two"
    window.begin(b"three", ENTRY)
    assert window.init(timeline.number) == b"two"


@pytest.mark.clause("RFC 8216bis §6.2.1 SHOULD 2")
def test_a_gap_has_a_number_and_no_bytes() -> None:
    window, other = filled(1), filled(2)
    window.gap(other.listed[-1])
    assert window.next_number == 102
    assert window.listed[-1].gap
    assert window.listed[-1].duration == other.listed[-1].duration
    assert window.segment(101) is None
    assert window.reached(101, 0)


def test_a_gap_shares_the_discontinuity_of_the_segment_that_it_lacks() -> None:
    window, other = filled(1), filled(1)
    for one in (window, other):
        one.begin(b"other", ENTRY)
    segment(other)
    window.gap(other.listed[-1])
    for one in (window, other):
        segment(one)
    assert [one.discontinuity for one in window.listed] == [False, True, False]
    assert [one.discontinuity for one in other.listed] == [False, True, False]


def test_the_peak_bandwidth_is_of_segments_of_half_a_target_duration_and_more() -> None:
    window = Window(WindowOptions(2, 0))
    window.begin(b"init", ENTRY)
    window.append(LivePart(bytes(1000), Fraction(2), True), Fraction(0), ends_segment=True)
    window.append(LivePart(bytes(500), Fraction(2), True), Fraction(2), ends_segment=True)
    window.append(LivePart(bytes(1000), Fraction(1, 10), True), Fraction(4), ends_segment=True)
    assert window.finished.totals.peak_bandwidth == 4000
    assert window.finished.totals.average_bandwidth == round(8 * 2500 / 4.1)


@pytest.mark.parametrize(
    ("number", "part", "there"),
    [
        (99, None, True),  # left the window: the current playlist
        (101, None, True),
        (102, None, False),  # a segment that isn't whole
        (102, 0, True),
        (102, 1, False),
        (101, 1, True),
        (101, 7, True),  # past the end of a finished segment: part 0 of the next, which is there
        (103, 0, False),
        (104, None, False),
    ],
)
def test_what_a_playlist_contains(number: int, part: int | None, there: bool) -> None:
    window = filled(2)
    segment(window, 1, finish=False)
    assert window.reached(number, part) == there


class Whole:
    """A shelf that stores each segment as one piece, as those of captions are."""

    def put(self, segment: LiveSegment) -> None:
        """Keep nothing: the test confirms."""

    def hold(self, size: int) -> bool:
        """There is room for everything."""
        return True

    def release(self, size: int) -> None:
        """Nothing is counted."""

    def remove(self, number: int, size: int, timelines: Sequence[int]) -> None:
        """Nothing is there to be removed."""

    def path(self, number: int, _: StoredSegment) -> str:
        """Tell where it would be."""
        return str(number)


def test_a_segment_that_is_stored_whole_still_counts_its_parts() -> None:
    window = Window(WindowOptions(2, 100, text=True), segment_store=Whole())
    window.begin(b"init", ENTRY)
    segment(window, 3, finish=False)
    window.interrupt(b"whole")
    assert window.confirm(100, StoredSegment.of((5,), (0, 1)))
    # §4.4.5.4: LAST-PART is the index of the last part; §6.2.5.2: that part is there
    assert window.last == (100, 2)
    assert window.reached(100, 2)


@pytest.mark.clause("RFC 8216bis §6.2.5.2 MUST 3")
def test_a_part_past_a_finished_segment_waits_for_the_next_segments_first() -> None:
    window = filled(2)
    assert not window.reached(101, 2)
    segment(window, 1, finish=False)
    assert window.reached(101, 2)


async def test_waiters_are_released_together_by_what_they_wait_for() -> None:
    window = filled(1)
    tasks = [asyncio.create_task(window.waiters.wait(lambda: window.reached(101, 1), 30)) for _ in range(100)]
    while window.waiters.count < 100:
        await asyncio.sleep(0)
    segment(window, 1, finish=False)
    await asyncio.sleep(0)
    assert not any(task.done() for task in tasks)
    window.append(LivePart(b"x", Fraction(1), False), Fraction(0), ends_segment=False)
    assert await asyncio.gather(*tasks) == [True] * 100
    assert window.waiters.count == 0


def test_a_window_holds_no_more_bytes_than_its_limits_say_and_lists_half_of_them() -> None:
    # Twelve bytes a segment.
    window = Window(WindowOptions(2, 100, dvr_window=10_000), limits=PublishLimits(memory_bytes=20 * 12))
    window.clock = media_clock(window)
    window.begin(b"init", ENTRY)
    for _ in range(40):
        segment(window)
    assert [one.number for one in window.listed] == list(range(130, 140))
    assert [number for number in range(100, 140) if window.segment(number)] == list(range(120, 140))


async def test_closing_releases_every_waiter_and_nobody_waits_again() -> None:
    window = filled(1)
    task = asyncio.create_task(window.waiters.wait(lambda: window.reached(101), 30))
    while window.waiters.count == 0:
        await asyncio.sleep(0)
    window.close()
    assert not await task
    assert not await window.waiters.wait(lambda: window.reached(101), 30)


async def test_a_wait_has_an_end() -> None:
    assert not await Waiters().wait(lambda: False, 0.01)


async def test_a_waiter_too_many_is_refused() -> None:
    all_of_them = Waiters(PublishLimits(most_waiters=1))
    task = asyncio.create_task(all_of_them.wait(lambda: False, 30))
    while all_of_them.count == 0:
        await asyncio.sleep(0)
    with pytest.raises(TooManyWaitersError):
        await all_of_them.wait(lambda: False, 30)
    all_of_them.close()
    assert not await task
