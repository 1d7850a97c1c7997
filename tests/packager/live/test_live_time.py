"""Numbers, dates and lateness of live channels: the arithmetic, without ffmpeg."""

from __future__ import annotations

import itertools
from fractions import Fraction
from pathlib import Path

import pytest

from media.mp4.codecs.sample_entry import SampleEntry
from packager.live.gaps import GapTimer
from packager.live.limits import LiveLimits
from packager.window.model import LivePart, WindowOptions
from packager.window.program_date_time import LONGEST_OVERLAP, LONGEST_SLEW, Instant, WallClock
from packager.window.sequence_numbers import MARGIN_SECONDS, SequenceNumbers
from packager.window.window import Window

TWO = Fraction(2)
ENTRY = SampleEntry(b"avc1", "avc1.42c01e", b"", (), width=640, height=360)


class Clocks:
    """Both clocks of a machine; the wall clock can be set."""

    def __init__(self) -> None:
        self.monotonic, self.ahead = 100.0, 1_800_000_000.0

    def now(self) -> Instant:
        return Instant(self.monotonic, self.monotonic + self.ahead)


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    clocks = Clocks()
    monkeypatch.setattr(Instant, "now", clocks.now)
    return clocks


def test_the_date_is_told_by_the_frame_that_came_soonest() -> None:
    clock = WallClock()
    for media_end, delay in ((10, 0.5), (11, 0.1), (12, 0.3)):
        clock.observe(media_end, Instant(media_end + delay, 1000 + media_end + delay))
    assert clock.dating(0, Instant(13, 1013)).offset == Fraction("1000.1")


def test_every_rendition_gets_the_same_dating_of_a_segment() -> None:
    clock = WallClock()
    clock.observe(10, Instant(10.5, 1010.5))
    first = clock.dating(3, Instant(10.5, 1010.5))
    clock.observe(11, Instant(11.0, 1011.0))
    assert clock.dating(3, Instant(11.0, 5000.0)) == first


@pytest.mark.parametrize(
    ("behind", "overlap", "put_off"),
    [
        (-0.3, 0.45, 0.0),
        (0.1, 0.45, 0.1),
        (0.4, 0.45, 0.4),
        (0.6, 0.45, 0.45),
        (0.9, 0.45, 0.45),
        (1.0, 0.45, 0.0),
        (0.4, 0.0, 0.4),
        (0.6, 0.1, 0.0),
    ],
)
def test_who_comes_back_at_once_begins_where_the_last_one_ended_or_in_its_last_segment(
    behind: float, overlap: float, put_off: float
) -> None:
    clock = WallClock()
    earliest = 1010 + Fraction(str(behind))
    clock.begin(Fraction(10), earliest, LONGEST_OVERLAP, Fraction(str(overlap)))
    clock.observe(10, Instant(10.0, 1010.0))
    assert clock.dating(0, Instant(12.0, 1012.0)).offset == 1000 + Fraction(str(put_off))


def test_a_late_start_is_mended_by_less_than_a_millisecond_a_segment_and_then_stays() -> None:
    clock = WallClock()
    clock.observe(0, Instant(0.1, 1000.1))
    offsets = [clock.dating(0, Instant(0.1, 1000.1)).offset]
    for segment in range(1, 150):
        clock.observe(segment, Instant(segment, 1000.0 + segment))
        dating = clock.dating(segment, Instant(segment, 1000.0 + segment))
        assert not dating.stepped
        offsets.append(dating.offset)
    steps = [before - after for before, after in itertools.pairwise(offsets)]
    assert max(steps) <= LONGEST_SLEW < Fraction(1, 1000)
    assert offsets[-1] == pytest.approx(1000.0, abs=0.004)
    assert steps[-1] == 0


def test_a_burst_at_the_beginning_is_not_dated_before_the_end_of_what_was_published() -> None:
    clock, now = WallClock(), Instant(20.0, 1020.0)
    clock.begin(Fraction(100), Fraction(10195, 10))
    # Three seconds more than has passed: the first came at 1017.
    clock.observe(103, now)
    assert clock.date(Fraction(100), now) == Fraction(10195, 10)
    offsets = [clock.dating(segment, now).offset for segment in range(8)]
    assert offsets[0] + 100 == Fraction(10195, 10)
    # Players map media times by dates: one clock for all of a run.
    assert all(0 <= before - after < Fraction(1, 1000) for before, after in itertools.pairwise(offsets))


def test_a_drift_of_a_second_in_a_day_is_followed_for_days_within_a_frame() -> None:
    clock, rate = WallClock(), 1 + 1 / 86400
    worst = 0.0
    for segment in range(3 * 86400 // 20):  # every tenth segment of two seconds
        media = 20.0 * segment
        now = Instant(media * rate, 1000 + media * rate)
        clock.observe(media, now)
        dating = clock.dating(segment, now)
        assert not dating.stepped
        worst = max(worst, abs(float(media + dating.offset) - now.wall))
    assert worst < 1 / 60


@pytest.mark.clause("RFC 8216bis §6.2.1 MUST 15")
def test_dates_that_were_too_late_at_first_run_with_the_durations_all_the_same() -> None:
    clock, offsets = WallClock(), []
    for segment in range(40):
        # A starved encoder's first second came three seconds late, the next ones came in time.
        media_end = segment + 1
        now = media_end + (3.0 if segment == 0 else 0.1)
        clock.observe(media_end, Instant(now, 1000 + now))
        dating = clock.dating(segment, Instant(now, 1000 + now))
        assert not dating.stepped
        offsets.append(dating.offset)
    steps = [before - after for before, after in itertools.pairwise(offsets)]
    assert all(0 <= step < Fraction(1, 1000) for step in steps)


def test_a_source_that_comes_long_after_the_start_has_a_number_at_once(clocks: Clocks) -> None:
    """None of those that may be used already: neither before the start, nor by earlier windows."""
    numbers = SequenceNumbers()
    for came in (100.0, 101.0, 103.7, 104.1, 200.0, 201.9):
        clocks.monotonic = came + 1
        first = numbers.first_number(TWO, came)
        assert first > max(n for n in range(900_000_000, 900_000_200) if 2 * n <= 1_800_000_100 + 0.5)
        if came >= 104:
            # The segment behind it may begin a second after the source.
            assert numbers.usable_since(first, TWO) <= came - 2 + 0.001
    numbers.note_use()
    clocks.monotonic += 1
    assert 2 * numbers.first_number(TWO, clocks.monotonic) > 1_800_000_000 + clocks.monotonic - 1


def test_numbers_go_on_where_segments_become_longer(clocks: Clocks) -> None:
    """By the clock alone the numbers of 1.001 s are two million behind those of a second."""
    numbers = SequenceNumbers()
    used = numbers.go_on(-1, Fraction(1)) + 5
    clocks.monotonic += 5
    for longer in (Fraction(1001, 1000), Fraction(1), TWO):
        first = numbers.go_on(used, longer)
        assert first > used
        assert numbers.wait(first, longer) <= float(longer)
        used = first + 3
        clocks.monotonic += 3 * float(longer)
        assert numbers.wait(used, longer) <= float(longer)


@pytest.mark.clause("A clock that is set moves no number")
def test_a_wall_clock_stepped_by_an_hour_is_one_discontinuity_and_the_right_date_again() -> None:
    for hour in (3600, -3600):
        clock, stepped = WallClock(), []
        for second in range(60):
            now = Instant(second, 1000.0 + second + (hour if second >= 30 else 0))
            clock.observe(second, now)
            dating = clock.dating(second, now)
            stepped += [second] if dating.stepped else []
            assert second + dating.offset == pytest.approx(now.wall, abs=0.01)
        assert stepped == [30]


def test_time_that_a_source_lost_for_good_is_noticed_and_load_that_passes_is_not() -> None:
    passing, lost = WallClock(), WallClock()
    stepped = []
    for second in range(120):
        for clock, late in ((passing, 40 <= second < 48), (lost, second >= 40)):
            now = Instant(second + (2.0 if late else 0), 1000.0 + second + (2.0 if late else 0))
            clock.observe(second, now)
            if clock.dating(second, now).stepped:
                stepped.append((clock, second))
    assert [clock for clock, _ in stepped] == [lost]
    assert 40 < stepped[0][1] <= 40 + 2 * LiveLimits().clock_bucket_seconds + 2


def test_a_number_is_not_used_before_its_time_and_a_start_lies_beyond_all_that_were(clocks: Clocks) -> None:
    earlier = SequenceNumbers()
    for tick in range(400):
        clocks.monotonic = 100 + tick / 50
        usable = max(n for n in range(900_000_000, 900_000_200) if earlier.may_use(n, TWO))
        assert SequenceNumbers().first_number(TWO) > usable
        assert earlier.wait(earlier.first_number(TWO), TWO) <= 2 + MARGIN_SECONDS


@pytest.mark.clause("A clock that is set moves no number")
def test_setting_the_clock_moves_no_number(clocks: Clocks) -> None:
    channel = SequenceNumbers()
    first = channel.first_number(TWO)
    clocks.ahead -= 3600
    clocks.monotonic += 2
    assert channel.first_number(TWO) == first + 1


def test_reserved_numbers_outlive_a_process_and_a_clock_that_was_set_back(
    clocks: Clocks, tmp_path: Path
) -> None:
    path = tmp_path / "live" / "demo" / "number"
    earlier = SequenceNumbers(path.parent)
    earlier.load()
    far = earlier.first_number(TWO) + 50
    assert earlier.wait(far, TWO) > 90
    assert earlier.needs_reservation(far)
    earlier.reserve(far)
    assert not earlier.needs_reservation(far)
    assert earlier.wait(far, TWO) == 0
    clocks.ahead -= 3600
    later = SequenceNumbers(path.parent)
    later.load()
    assert later.first_number(TWO) > far
    assert [entry.name for entry in path.parent.iterdir()] == ["number"]


@pytest.mark.clause("RFC 8216bis §6.2.2 MUST 11")
def test_discontinuity_sequences_go_on_beyond_what_was_said_before(
    tmp_path: Path,
) -> None:
    path = tmp_path / "number"
    said = -1
    for _ in range(3):
        numbers = SequenceNumbers(path.parent)
        numbers.load()
        first = numbers.reserved + 1
        window = Window(WindowOptions(2, first, discontinuity_sequence=numbers.discontinuity_sequence))
        # §6.2.2: the value of the tag never decreases; and what comes now isn't what came before
        assert window.discontinuity_sequence > said
        for index in range(20):
            if numbers.needs_reservation(window.next_number):
                numbers.reserve(window.next_number, window.newest_discontinuity_sequence)
            window.begin(b"init", ENTRY)
            window.append(LivePart(b"", Fraction(2), True), Fraction(2 * index), ends_segment=True)
        said = window.newest_discontinuity_sequence


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"-5", b"9" * 40, b"12 monkeys"])
def test_a_file_that_is_not_a_number_counts_as_none(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "number"
    path.write_bytes(content)
    kept = SequenceNumbers(path.parent)
    kept.load()
    assert kept.reserved == -1


@pytest.mark.clause("RFC 8216bis §6.2.1 MUST 22")
def test_a_gap_is_due_before_one_and_a_half_target_durations_and_then_every_segment() -> None:
    watch = GapTimer(2, 2.0)
    assert watch.wait(50.0) > 0  # nothing was published yet
    watch.flowed(100.0)
    watch.published(100.0)
    assert 0 < watch.wait(100.0) < 3
    assert watch.wait(103.0) == 0
    due = next(tenth / 10 for tenth in range(1030) if watch.wait(100.0 + tenth / 10) == 0)
    watch.filled()
    # However late this one was: else a machine that is slow falls behind the clock, by which players ask.
    assert watch.wait(103.0) == pytest.approx(100.0 + due + 2 - 103.0, abs=0.11)
    assert watch.wait(100.0 + due + 2) == 0


def test_a_gap_waits_for_the_next_part_of_a_source_with_a_picture_a_second() -> None:
    watch = GapTimer(2, 2.0)
    watch.published(100.0)
    watch.picture_seconds = 1.0
    # Its segment is late, and of its two parts one has come.
    watch.flowed(104.0)
    assert watch.wait(105.0) > 0
    assert watch.wait(106.0) == 0


def test_a_source_that_is_only_slow_is_not_cut() -> None:
    watch = GapTimer(2, 2.0)
    watch.published(100.0)
    for tenth in range(60):
        watch.flowed(100.0 + tenth / 10)
        assert watch.wait(100.0 + tenth / 10) > 0
