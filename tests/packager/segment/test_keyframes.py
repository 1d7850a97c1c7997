"""Cutting at a source's own key frames: pure, from samples whose times are written down here."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterable
from fractions import Fraction

import pytest

from media.mp4.fragments.moof import Sample
from packager.segment.keyframe_cadence import KeyframePattern, can_be_cut, keyframe_cadence
from packager.segment.keyframe_segmenter import Cuts, KeyframeSegmenter
from packager.segment.limits import SegmentLimits
from packager.segment.part_packer import CadenceError, CutPart
from packager.window.cadence import Cadence

PART = Fraction(1, 4)


def cut(
    keys: Iterable[float], seconds: float, step: Fraction = Fraction(2), longest: Fraction = Fraction(9, 2)
) -> tuple[list[CutPart], list[CutPart]]:
    """Cut a picture of 25 frames a second (1000 ticks) and sound of 1024/48000 s, as they come together."""
    cuts, frames = Cuts(step, longest), {round(key * 25) for key in keys}
    picture = KeyframeSegmenter(timescale=1000, part_target=PART, cuts=cuts, leads=True)
    sound = KeyframeSegmenter(timescale=48000, part_target=PART, cuts=cuts, leads=False)
    shown: list[CutPart] = []
    heard: list[CutPart] = []
    samples = 0
    for frame in range(round(seconds * 25)):
        shown += picture.push(40 * frame, [Sample(40, 1, is_sync=frame in frames)], b"v")
        while samples * 1024 / 48000 < (frame + 1) / 25:
            heard += sound.push(1024 * samples, [Sample(1024, 1)], b"a")
            samples += 1
    return shown, heard


def starts(parts: list[CutPart], timescale: int) -> list[Fraction]:
    firsts = {part.segment: part for part in reversed(parts)}
    return [Fraction(firsts[index].base_media_decode_time, timescale) for index in range(max(firsts) + 1)]


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        # a group is a segment
        (range(0, 21, 2), [0, 2, 4, 6, 8, 10]),
        # two groups are
        (range(21), [0, 2, 4, 6, 8, 10]),
        # the first key frame that is due, and never more than one segment in two seconds
        ([0, 1.2, 2, 4.4, 5, 6.2, 8.4, 10.4, 12], [0, 2, 4.4, 6.2, 8.4, 10.4]),
        # groups of 1.92 s: as the numbers have two seconds each, one is left out from time to time
        ([Fraction(48 * n, 25) for n in range(12)], [0, 1.92, 3.84, 5.76, 9.6]),
    ],
)
def test_segments_begin_with_the_first_key_frame_that_is_due_and_sound_with_them(
    keys: Iterable[float], expected: list[float]
) -> None:
    shown, heard = cut(keys, 21)
    assert [float(one) for one in starts(shown, 1000)][: len(expected)] == expected
    for before, after in zip(starts(shown, 1000), starts(heard, 48000), strict=False):
        assert abs(after - before) <= Fraction(1024, 48000)


@pytest.mark.parametrize(
    ("group", "expected"), [(Fraction(1, 2), [0, 1, 3, 5]), (1, [0, 1, 3, 5]), (2, [0, 2, 4, 6])]
)
def test_a_first_segment_that_may_be_short_is_half_as_long_and_the_others_keep_to_their_times(
    group: Fraction | int, expected: list[int]
) -> None:
    cuts = Cuts(Fraction(2), Fraction(9, 2), begins_early=True)
    for index in range(int(8 / group)):
        if cuts.due(index * Fraction(group)):
            assert cuts.open(index * Fraction(group)).start == expected[0]
            expected = expected[1:]
        if not expected:
            break
    assert not expected


@pytest.mark.parametrize("begins_early", [False, True])
@pytest.mark.parametrize("frame", range(25))
def test_no_segment_is_too_long_where_pictures_come_again_behind_a_key_frame_that_stood_in(
    frame: int, begins_early: bool
) -> None:
    """Key frames come every second, for five seconds one is repeated, and then they come at other times."""
    returned = 10 + Fraction(frame, 25)
    longest = Fraction(3, 2)
    cuts = Cuts(Fraction(1), longest, begins_early=begins_early)
    opened: list[Fraction] = []

    def push(time: Fraction) -> None:
        if cuts.due(time):
            opened.append(cuts.open(time).start)

    for second in range(6):
        push(Fraction(second))
    cuts.is_still = True
    for quarter in range(21, math.ceil(4 * returned)):
        push(Fraction(quarter, 4))
    cuts.is_still = False
    for second in range(10):
        push(returned + second)
    lengths = [after - before for before, after in itertools.pairwise(opened)]
    assert max(lengths) <= longest
    assert min(lengths) >= Fraction(1, 2)
    # A segment's number isn't used before its time by more than numbers may.
    own = Fraction(1, 2) * begins_early
    assert all(start >= index - own - Fraction(1, 2) for index, start in enumerate(opened))


def test_parts_are_whole_follow_each_other_and_know_that_they_are_the_last_of_their_segment() -> None:
    for parts, timescale in zip(cut([0, 1.2, 2, 4.4, 5, 6.2, 8.4, 10.4, 12], 12), (1000, 48000), strict=True):
        for part, following in itertools.pairwise(parts):
            assert part.base_media_decode_time + part.duration == following.base_media_decode_time
            assert part.ends_segment == (following.segment > part.segment)
            length = Fraction(part.duration, timescale)
            # RFC 8216bis §4.4.4.9
            assert length <= PART
            assert part.ends_segment or part.independent or length >= PART * Fraction(85, 100)
            assert part.independent == part.samples[0].is_sync
        assert all(next(group).independent for _, group in itertools.groupby(parts, lambda one: one.segment))


@pytest.mark.clause("RFC 8216bis §4.4.4.9")
def test_a_part_begins_with_a_key_frame_where_the_part_before_it_may_end() -> None:
    # ten frames a part, of which 85 % are nine (RFC 8216bis §4.4.4.9)
    picture = KeyframeSegmenter(
        timescale=25, part_target=Fraction(2, 5), cuts=Cuts(Fraction(2), Fraction(5)), leads=True
    )
    keys = (0, 4, 23, 36, 50)
    parts = picture.push(0, [Sample(1, 1, is_sync=frame in keys) for frame in range(60)], bytes(60))
    # Frame 4 is in a part that is independent itself, before 23 there are nine; but before 36 only three.
    assert [part.base_media_decode_time for part in parts] == [0, 4, 14, 23, 33, 43, 50][: len(parts)]
    assert [part.base_media_decode_time for part in parts if part.independent] == [0, 4, 23]


@pytest.mark.clause("RFC 8216bis §4.4.4.9")
@pytest.mark.parametrize(
    ("frame_rate", "group", "audio_frame"),
    [(25, 25, 1024), (24, 24, 1024), (30, 30, 1024), (50, 48, 1024), (25, 12, 960), (60, 45, 1024)],
)
def test_parts_fill_the_groups_of_pictures_of_which_a_segment_has_several(
    frame_rate: int, group: int, audio_frame: int
) -> None:
    rate, sound = Fraction(frame_rate), Fraction(audio_frame, 48_000)
    keys = tuple(Fraction(group * index, frame_rate) for index in range(9))
    chosen = keyframe_cadence(KeyframePattern(keys, sound), rate, 2.0, 0.333)
    assert chosen.regular
    assert chosen.segment_duration > Fraction(group, frame_rate)
    frames = math.floor(chosen.part_target * rate)
    last = group % frames or frames
    # RFC 8216bis §4.4.4.9: at least 85 %, for the last part of a group isn't its segment's
    for length in (last / rate, frames / rate, chosen.part_target // sound * sound):
        assert length >= chosen.part_target * Fraction(85, 100)


@pytest.mark.clause("RFC 8216bis §4.4.3.7")
@pytest.mark.parametrize("wanted", [0.2, 0.25, 0.333, 0.5])
@pytest.mark.parametrize("frame_rate", [10, 12, 15, 24, 25, 30, 50])
def test_parts_of_pictures_and_sound_reach_85_percent_of_the_part_target(
    frame_rate: int, wanted: float
) -> None:
    rate, sound = Fraction(frame_rate), Fraction(1024, 48_000)
    for gap in (2, 3):  # a segment has one group of pictures; or they come irregularly
        keys = tuple(Fraction(gap * index if index < 4 else 2 * index) for index in range(5))
        target = keyframe_cadence(KeyframePattern(keys, sound), rate, 2.0, wanted).part_target
        for frame in (1 / rate, sound):
            assert target // frame * frame >= target * Fraction(85, 100)


def test_a_segment_without_a_key_frame_in_time_ends_and_what_comes_before_the_next_one_is_left_out() -> None:
    shown, heard = cut([0, 2, 9, 11], 14)
    assert [float(one) for one in starts(shown, 1000)] == [0, 2, 9, 11]
    for parts, timescale in ((shown, 1000), (heard, 48000)):
        second = [part for part in parts if part.segment == 1]
        assert second[-1].ends_segment
        length = sum(Fraction(part.duration, timescale) for part in second)
        assert Fraction(43, 10) < length <= Fraction(9, 2) + Fraction(1024, 48000)
        assert [part.segment for part in parts if part.resumes] == [2]


def test_sound_ends_with_a_picture_without_a_key_frame_that_is_shown_later_than_it_is_decoded() -> None:
    """B-frames: pictures are shown 80 ms behind their decoding, and so far the sound would go."""
    late, longest = list[str](), Fraction(9, 2)
    cuts = Cuts(Fraction(2), longest, on_late_key=lambda _: late.append("told"))
    picture = KeyframeSegmenter(timescale=1000, part_target=PART, cuts=cuts, leads=True)
    sound = KeyframeSegmenter(timescale=48000, part_target=PART, cuts=cuts, leads=False)
    heard: list[CutPart] = []
    for frame in range(25 * 6):
        picture.push(40 * frame, [Sample(40, 1, frame == 0, 80 if frame % 3 else 0)], b"v")
        for index in range(2):
            heard += sound.push(960 * (2 * frame + index), [Sample(960, 1)], b"a")
    assert late == ["told"]
    assert heard[-1].ends_segment
    assert sum(Fraction(part.duration, 48000) for part in heard) <= longest + Fraction(960, 48000)


def test_sound_that_lacks_a_whole_segment_is_no_cadence() -> None:
    cuts = Cuts(Fraction(2), Fraction(3))
    picture = KeyframeSegmenter(timescale=1000, part_target=PART, cuts=cuts, leads=True)
    sound = KeyframeSegmenter(timescale=1000, part_target=PART, cuts=cuts, leads=False)
    for frame in range(150):
        picture.push(40 * frame, [Sample(40, 1, is_sync=frame % 50 == 0)], b"v")
    with pytest.raises(CadenceError):
        sound.push(4100, [Sample(20, 1)], b"a")


def test_sound_without_a_picture_is_held_back_within_a_bound() -> None:
    sound = KeyframeSegmenter(
        timescale=48000,
        part_target=PART,
        cuts=Cuts(Fraction(2), Fraction(3)),
        leads=False,
        limits=SegmentLimits(held_samples=100),
    )
    assert sound.push(0, [Sample(1024, 1)] * 100, bytes(100)) == []
    with pytest.raises(CadenceError):
        sound.push(100 * 1024, [Sample(1024, 1)], b"a")


def test_what_is_held_back_is_bounded_in_bytes_too() -> None:
    limits, cuts = SegmentLimits(held_bytes=1000), Cuts(Fraction(2), Fraction(3))
    sound = KeyframeSegmenter(timescale=48000, part_target=PART, cuts=cuts, leads=False, limits=limits)
    assert sound.push(0, [Sample(1024, 1000)], bytes(1000)) == []
    with pytest.raises(CadenceError):
        sound.push(1024, [Sample(1024, 1)], b"a")


def test_parts_and_segments_of_pictures_whose_time_stands_still_are_bounded_in_bytes() -> None:
    limits, cuts = SegmentLimits(part_bytes=300, segment_bytes=1000), Cuts(Fraction(2), Fraction(3))
    picture = KeyframeSegmenter(timescale=90000, part_target=PART, cuts=cuts, leads=True, limits=limits)
    parts: list[CutPart] = []
    for tick in range(10):
        parts += picture.push(tick, [Sample(1, 100, is_sync=tick == 0)], bytes(100))
    assert [len(part.data) for part in parts] == [300, 300, 300]
    with pytest.raises(CadenceError):
        picture.push(10, [Sample(1, 100, is_sync=False)], bytes(100))


@pytest.mark.parametrize(
    ("keys", "loop", "duration", "target", "regular"),
    [
        (range(7), None, 2, 2, True),
        (range(0, 9, 4), None, 4, 4, True),
        ([0, Fraction(48, 25), Fraction(96, 25)], None, Fraction(48, 25), 2, True),
        # a loop's last group is short: two seconds, but over the seam from 10 to 12.5
        (range(0, 11, 2), Fraction(21, 2), 2, 3, True),
        ([0, 1, 4, 5, 9], None, 2, 6, False),
        ([0], None, 2, 12, False),
    ],
)
def test_durations_come_from_the_groups_that_were_seen(
    keys: Iterable[float], loop: Fraction | None, duration: Fraction, target: int, regular: bool
) -> None:
    seen = KeyframePattern(tuple(Fraction(key) for key in keys), loop=loop)
    chosen = keyframe_cadence(seen, Fraction(25), 2.0, 0.333)
    assert (chosen.segment_duration, chosen.target_duration, chosen.regular) == (duration, target, regular)
    assert chosen.longest is not None
    # RFC 8216bis §4.4.3.1, with a frame of sound on top
    assert chosen.longest + Fraction(1024, 48000) < target + Fraction(1, 2)


@pytest.mark.parametrize(
    ("keys", "stays"),
    [
        ([0, 1, 4, 5, 9], True),  # what was seen then
        ([0, 1, 3, 4, 5, 6], True),  # less of it
        ([0, 1, 2, 3], True),  # so little that it looks regular
        ([0, 1, 6, 7], False),  # §4.4.3.1: a segment of seven seconds is none of that target duration
        ([0], False),
    ],
)
def test_a_cadence_stays_as_long_as_what_is_seen_of_irregular_key_frames_fits(
    keys: list[int], stays: bool
) -> None:
    def chosen(keys: list[int], noted: Cadence | None = None) -> Cadence:
        seen = KeyframePattern(tuple(Fraction(key) for key in keys))
        return keyframe_cadence(seen, Fraction(25), 2.0, 0.333, noted=noted)

    noted = chosen([0, 1, 4, 5, 9])
    assert chosen(keys, noted) == (noted if stays else chosen(keys))
    assert chosen(keys) == noted if keys == [0, 1, 4, 5, 9] else chosen(keys) != noted


Frame = tuple[int, Sample, bytes]
"""A sample with its decode time and its bytes."""


def pieces(frames: list[Frame], chance: random.Random, most: int) -> list[list[Frame]]:
    """Divide samples at random."""
    cuts = sorted(chance.sample(range(1, len(frames)), len(frames) // most))
    return [frames[begin:end] for begin, end in itertools.pairwise([0, *cuts, len(frames)])]


def cut_as_given(shown: list[list[Frame]], heard: list[list[Frame]], limits: SegmentLimits) -> list[object]:
    """Cut a picture and sound that come alternately; give all parts, and the error that ends it."""
    cuts = Cuts(Fraction(2), Fraction(7, 2))
    lead = KeyframeSegmenter(timescale=1000, part_target=PART, cuts=cuts, leads=True, limits=limits)
    other = KeyframeSegmenter(timescale=48000, part_target=PART, cuts=cuts, leads=False, limits=limits)
    coming = [(run[-1][0] / 1000, lead, run) for run in shown]
    coming += [(run[-1][0] / 48000, other, run) for run in heard]
    found = dict[KeyframeSegmenter, list[object]]({lead: [], other: []})
    try:
        for _, segmenter, run in sorted(coming, key=lambda one: one[0]):
            samples = [sample for _, sample, _ in run]
            found[segmenter] += segmenter.push(run[0][0], samples, b"".join(data for _, _, data in run))
        found[lead] += lead.finish()
        found[other] += other.finish()
    except CadenceError as error:
        return [str(error).partition(" at ")[0]]
    return [found[lead], found[other]]


@pytest.mark.parametrize("seed", range(8))
def test_parts_are_the_same_in_whatever_pieces_samples_come(seed: int) -> None:
    """Irregular key frames, B-frames, frames of varying length, pauses; all is cut as sample by sample."""
    chance = random.Random(seed)
    shown: list[Frame] = []
    heard: list[Frame] = []
    time = chance.randrange(100)
    while time < 20_000:
        is_sync = not shown or chance.random() < 0.03
        lasts = chance.choice((40, 40, 40, 33, 80) if chance.random() < 0.998 else (400, 900))
        # No picture is shown behind a key frame that follows it.
        offset = (120 if is_sync else chance.choice((0, 40, 120))) if seed % 2 else 0
        data = chance.randbytes(chance.randrange(1, 30))
        shown.append((time, Sample(lasts, len(data), is_sync, offset), data))
        time += lasts
    for index in range(20 * 48000 // 1024):
        data = chance.randbytes(4)
        heard.append((index * 1024, Sample(1024, len(data)), data))
    limits = SegmentLimits(part_samples=chance.choice((5, 4096)), part_bytes=chance.choice((60, 1 << 20)))
    one_by_one = cut_as_given([[one] for one in shown], [[one] for one in heard], limits)
    assert len(one_by_one) == 2
    for most in (3, 10, 60):
        assert cut_as_given(pieces(shown, chance, most), pieces(heard, chance, most), limits) == one_by_one


@pytest.mark.clause("RFC 8216bis §4.4.4.9")
def test_parts_have_room_for_frames_whose_durations_vary() -> None:
    """A part that ends one frame before its target has 85 % of it; what is wanted is at most doubled."""
    keys = tuple(map(Fraction, range(4)))
    for picture_frame, expected in ((33, 251), (67, 447), (200, 500)):
        seen = KeyframePattern(keys, picture_frame=Fraction(picture_frame, 1000))
        found = keyframe_cadence(seen, Fraction(24), 1.0, 0.25)
        assert found.part_target == Fraction(expected, 1000)


def test_a_cadence_of_regular_key_frames_does_not_stay_where_they_are_others() -> None:
    patterns = [KeyframePattern(tuple(Fraction(step * key) for key in range(4))) for step in (2, 3)]
    noted, now = (keyframe_cadence(pattern, Fraction(25), 2.0, 0.333) for pattern in patterns)
    seen = KeyframePattern(tuple(Fraction(3 * key) for key in range(4)))
    assert keyframe_cadence(seen, Fraction(25), 2.0, 0.333, noted=noted) == now != noted


@pytest.mark.parametrize("seed", range(40))
def test_a_stream_fits_anothers_cadence_just_where_no_segment_of_it_would_be_too_long(seed: int) -> None:
    numbers = random.Random(seed)
    times = keyframe_cadence(KeyframePattern((Fraction(0), Fraction(1), Fraction(2))), Fraction(25), 1, 0.25)
    assert times.longest is not None
    groups = [Fraction(numbers.randint(200, 1500), 1000) for _ in range(numbers.randint(1, 4))]
    keys = list(itertools.accumulate(groups, initial=Fraction(7)))
    cuts, starts = Cuts(times.segment_duration, times.longest), list[Fraction]()
    for key in itertools.accumulate([*[*groups, max(groups)] * 3, *groups], initial=Fraction(7)):
        if cuts.due(key):
            starts.append(cuts.open(key).start)
    longest = max(after - before for before, after in itertools.pairwise(starts))
    assert can_be_cut(KeyframePattern(tuple(keys)), times) == (longest <= times.longest)
