"""media.mp4.fragments.sample_durations: durations of 0 and wrong ones, which follow from fragments' times."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import accumulate, pairwise

import pytest

from media.mp4.fragments.fragments import Fragment
from media.mp4.fragments.moof import Sample
from media.mp4.fragments.sample_durations import MOST_HELD, WRONG_DURATIONS, SampleDurations

PICTURE, SOUND = 1, 2
SCALES = {PICTURE: 90_000, SOUND: 48_000}
LASTS = {PICTURE: 3600, SOUND: 1024}


def fragments(track: int, count: int, told: Callable[[int], int], samples: int = 25) -> list[Fragment]:
    """Return fragments whose times are true, with the durations that are told of each sample."""
    return [
        Fragment(
            track,
            index,
            index * samples * LASTS[track],
            tuple(Sample(told(index * samples + one), 1) for one in range(samples)),
            bytes(samples),
        )
        for index in range(count)
    ]


def times(found: Sequence[Fragment], track: int) -> list[int]:
    """Return the decode times of a track's samples (ISO/IEC 14496-12 §8.8.12: sums behind that of tfdt)."""
    return [
        one.base_media_decode_time + before
        for one in found
        if one.track_id == track
        for before in accumulate((sample.duration for sample in one.samples[:-1]), initial=0)
    ]


@pytest.mark.parametrize("told", [0, 1, 1800, 3000, 7200])
def test_samples_follow_each_other_as_the_fragments_do(told: int) -> None:
    durations, found = SampleDurations(SCALES), list[Fragment]()
    sent = zip(
        fragments(PICTURE, 6, lambda _: told),
        fragments(SOUND, 6, lambda _: told * 1024 // 3600, samples=46),
        strict=True,
    )
    for both in sent:
        for one in both:
            found += durations.push(one)
    assert durations.fault == WRONG_DURATIONS
    for track in SCALES:
        seen = times(found, track)
        assert len(seen) >= 4 * 25
        assert all(abs(after - before - LASTS[track]) <= 1 for before, after in pairwise(seen))


def test_true_durations_stay_and_only_the_first_fragment_waits() -> None:
    durations = SampleDurations({PICTURE: 90_000})
    # The last sample's duration is a guess.
    sent = fragments(PICTURE, 5, lambda index: 1 if index % 25 == 24 else 3600)
    assert [len(durations.push(one)) for one in sent] == [0, 2, 1, 1, 1]
    assert durations.fault == ""


def test_a_pause_between_fragments_is_none_in_the_durations() -> None:
    sent = fragments(PICTURE, 6, lambda _: 3600)
    for late in (1, 3):
        durations, found = SampleDurations({PICTURE: 90_000}), list[Fragment]()
        for index, one in enumerate(sent):
            moved = one._replace(
                base_media_decode_time=one.base_media_decode_time + 180_000 * (index >= late)
            )
            found += durations.push(moved)
        assert [one.samples for one in found] == [one.samples for one in sent]
        assert not durations.fault


def test_what_fragments_of_single_samples_tell_needs_no_correction() -> None:
    durations = SampleDurations({PICTURE: 90_000})
    sent = fragments(PICTURE, 50, lambda _: 0, samples=1)
    assert [one for fragment in sent for one in durations.push(fragment)] == sent


def test_an_encoder_that_becomes_right_is_believed() -> None:
    durations, found = SampleDurations({PICTURE: 90_000}), list[Fragment]()
    for one in fragments(PICTURE, 12, lambda index: 0 if index < 150 else 3600):
        found += durations.push(one)
    seen = times(found, PICTURE)
    assert all(abs(after - before - 3600) <= 1 for before, after in pairwise(seen))
    assert not durations.fault


def test_hostile_times_lose_nothing_and_hold_little() -> None:
    chance = random.Random(7)
    durations, sent, found = SampleDurations(SCALES), list[Fragment](), list[Fragment]()
    for index in range(2000):
        samples = tuple(Sample(chance.choice((0, 1, 2**32 - 1)), 0) for _ in range(chance.randint(1, 4)))
        one = Fragment(
            chance.choice((1, 2)), index, chance.choice((0, 2**63 - 1, 1000 * index)), samples, b""
        )
        sent.append(one)
        found += durations.push(one)
        assert len(sent) - len(found) <= MOST_HELD * len(SCALES)
    assert [one.sequence_number for one in found] == list(range(len(found)))
    assert all(0 <= sample.duration < 2**32 for one in found for sample in one.samples)
    assert Fraction(len(found), len(sent)) > Fraction(9, 10)
