"""packager.segment.grid_segmenter: parts and segments by arithmetic alone (RFC 8216bis §4.4.3.7, §6.2.2)."""

from __future__ import annotations

import itertools
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media.mp4.fragments.moof import Sample
from packager.segment.grid_segmenter import GridSegmenter
from packager.segment.part_packer import CadenceError, CutPart
from packager.window.cadence import part_target, whole_frames

NTSC = Fraction(30000, 1001)
VIDEO = {
    Fraction(24): (12288, 512),
    Fraction(25): (12800, 512),
    NTSC: (30000, 1001),
    Fraction(30): (15360, 512),
    Fraction(50): (12800, 256),
    Fraction(60): (15360, 256),
}
"""Timescale and ticks of a frame, as ffmpeg's muxer chooses them."""

AUDIO = {Fraction(44100, 1024): (44100, 1024), Fraction(48000, 1024): (48000, 1024)}
RATES = VIDEO | AUDIO


def cut(
    rate: Fraction,
    *,
    segment_duration: Fraction,
    target: Fraction,
    origin: Fraction = Fraction(0),
    early: int = 0,
    segments: int = 4,
) -> list[CutPart]:
    """Feed a rendition sample by sample: video has a sync sample each segment duration, audio is all sync."""
    timescale, ticks = RATES[rate]
    segmenter = GridSegmenter(
        timescale=timescale, origin=origin, segment_duration=segment_duration, part_target=target
    )
    period = int(segment_duration * rate) if rate in VIDEO else 1
    first = int(origin * timescale) - early * ticks
    parts = []
    for index in range(-early, int(segments * segment_duration * rate) + 1):
        sample = Sample(ticks, 2, is_sync=index % period == 0)
        parts += segmenter.push(first + (index + early) * ticks, [sample], (index % 65536).to_bytes(2, "big"))
    return parts


@settings(max_examples=80, deadline=None)
@given(
    video=st.sampled_from(sorted(VIDEO)),
    audio=st.sampled_from(sorted(AUDIO)),
    wanted=st.integers(200, 1000),
    seconds=st.integers(1000, 6000),
    number=st.integers(1, 10**9),
)
def test_for_any_rates_parts_add_up_and_keep_to_the_part_target(
    video: Fraction, audio: Fraction, wanted: int, seconds: int, number: int
) -> None:
    target = part_target(Fraction(wanted, 1000), [1 / video, 1 / audio])
    duration = whole_frames(Fraction(max(seconds, 2 * wanted), 1000), video)
    origin = number * duration
    for rate in (video, audio):
        timescale, _ = RATES[rate]
        # as the muxer does, round the origin up to a tick of the audio
        start = Fraction(-(-(origin * timescale) // 1), timescale)
        parts = cut(rate, segment_duration=duration, target=target, origin=start, early=1)
        assert parts
        assert parts[0].base_media_decode_time == start * timescale
        for part, following in itertools.pairwise(parts):
            # gap-free to the tick
            assert part.base_media_decode_time + part.duration == following.base_media_decode_time
        for part in parts:
            length = Fraction(part.duration, timescale)
            assert part.duration == sum(sample.duration for sample in part.samples)
            assert length <= target
            # §4.4.3.7: at least 85 % of the part target, unless it is the last of its segment
            assert part.ends_segment or length >= target * Fraction(85, 100)
            assert part.independent == part.samples[0].is_sync


@pytest.mark.clause("RFC 8216bis §6.2.1 SHOULD 1")
@pytest.mark.parametrize("rate", sorted(RATES))
def test_segments_begin_at_multiples_of_their_duration_or_with_the_next_audio_frame(rate: Fraction) -> None:
    duration = whole_frames(Fraction(2), rate if rate in VIDEO else NTSC)
    timescale, ticks = RATES[rate]
    parts = cut(rate, segment_duration=duration, target=Fraction(1, 2), segments=12)
    firsts = {part.segment: part for part in reversed(parts)}
    assert len(firsts) >= 12
    for index, part in firsts.items():
        late = part.base_media_decode_time - index * duration * timescale
        assert late == 0 if rate in VIDEO else 0 <= late < ticks
        assert part.independent


def test_thirty_frames_a_second_with_a_third_of_a_second_makes_parts_of_ten_frames() -> None:
    target = part_target(Fraction(333, 1000), [Fraction(1, 30), Fraction(1024, 48000)])
    assert target == Fraction(334, 1000)
    parts = cut(Fraction(30), segment_duration=Fraction(2), target=target, segments=2)
    assert [len(part.samples) for part in parts[:12]] == [10] * 12
    assert [part.ends_segment for part in parts[:12]] == ([False] * 5 + [True]) * 2
    assert [part.independent for part in parts[:12]] == ([True] + [False] * 5) * 2


@pytest.mark.parametrize(("rate", "frames"), [(Fraction(25), 5), (Fraction(50), 10), (Fraction(60), 12)])
def test_parts_of_a_fifth_of_a_second_have_a_fifth_of_the_frames(rate: Fraction, frames: int) -> None:
    target = part_target(Fraction(1, 5), [1 / rate])
    assert target == Fraction(1, 5)
    parts = cut(rate, segment_duration=Fraction(2), target=target)
    assert {len(part.samples) for part in parts} == {frames}


def test_a_part_is_there_with_its_last_frame_and_not_with_the_next() -> None:
    segmenter = GridSegmenter(
        timescale=30,
        origin=Fraction(0),
        segment_duration=Fraction(1),
        part_target=Fraction(1, 2),
    )
    given = [bool(segmenter.push(t, [Sample(1, 1, is_sync=t == 0)], b"x")) for t in range(30)]
    assert [index for index, there in enumerate(given) if there] == [14, 29]


def test_samples_before_the_origin_and_before_the_first_key_frame_are_dropped() -> None:
    segmenter = GridSegmenter(
        timescale=10, origin=Fraction(3), segment_duration=Fraction(1), part_target=Fraction(1, 5)
    )
    parts = []
    for time in range(20, 45):
        parts += segmenter.push(time, [Sample(1, 1, is_sync=time in (20, 33, 40))], b"x")
    assert parts[0].base_media_decode_time == 33
    assert parts[0].independent
    assert parts[0].segment == 0


@pytest.mark.parametrize("jump", [-1, 1, 100])
def test_a_jump_of_decode_times_is_no_cadence(jump: int) -> None:
    segmenter = GridSegmenter(
        timescale=10, origin=Fraction(0), segment_duration=Fraction(1), part_target=Fraction(1)
    )
    segmenter.push(0, [Sample(1, 1)], b"x")
    with pytest.raises(CadenceError):
        segmenter.push(1 + jump, [Sample(1, 1)], b"x")


@pytest.mark.clause("RFC 8216bis §6.2.1 SHOULD 1")
def test_a_boundary_without_a_key_frame_is_no_cadence() -> None:
    segmenter = GridSegmenter(
        timescale=1, origin=Fraction(0), segment_duration=Fraction(2), part_target=Fraction(1)
    )
    segmenter.push(0, [Sample(1, 1), Sample(1, 1, is_sync=False)], b"xy")
    with pytest.raises(CadenceError):
        segmenter.push(2, [Sample(1, 1, is_sync=False)], b"z")


@pytest.mark.parametrize("duration", [0, -1, 7])
def test_a_sample_without_a_duration_or_longer_than_a_part_is_no_cadence(duration: int) -> None:
    segmenter = GridSegmenter(
        timescale=10, origin=Fraction(0), segment_duration=Fraction(1), part_target=Fraction(1, 2)
    )
    with pytest.raises(CadenceError):
        segmenter.push(0, [Sample(duration, 1)], b"x")


def test_durations_that_vary_by_a_tick_never_exceed_the_part_target() -> None:
    segmenter = GridSegmenter(
        timescale=1000, origin=Fraction(0), segment_duration=Fraction(2), part_target=Fraction(100, 1000)
    )
    parts, time = [], 0
    for index in range(90):
        ticks = 34 if index % 3 == 2 else 33
        parts += segmenter.push(time, [Sample(ticks, 1)], b"x")
        time += ticks
    assert max(part.duration for part in parts) == 100
    assert sum(part.duration for part in parts if part.segment == 0) == 2000


def test_the_bytes_of_the_parts_are_the_bytes_of_the_samples_in_order() -> None:
    parts = cut(Fraction(25), segment_duration=Fraction(1), target=Fraction(1, 5), segments=2)
    data = b"".join(part.data for part in parts)
    assert data == b"".join(index.to_bytes(2, "big") for index in range(50))


@pytest.mark.parametrize(
    ("wanted", "rate", "seconds"),
    [(2, Fraction(30), Fraction(2)), (2, NTSC, Fraction(60 * 1001, 30000)), (1, Fraction(24), Fraction(1))],
)
def test_a_segment_is_a_whole_number_of_frames(wanted: int, rate: Fraction, seconds: Fraction) -> None:
    assert whole_frames(Fraction(wanted), rate) == seconds


@pytest.mark.parametrize("rate", sorted(RATES))
def test_the_end_of_the_next_part_is_foretold(rate: Fraction) -> None:
    timescale, ticks = RATES[rate]
    duration = whole_frames(Fraction(2), rate)
    segmenter = GridSegmenter(
        timescale=timescale, origin=Fraction(0), segment_duration=duration, part_target=Fraction(7, 20)
    )
    foretold: list[int | None] = []
    ends: list[int] = []
    for index in range(int(4 * duration * rate)):
        parts = segmenter.push(index * ticks, [Sample(ticks, 0, is_sync=True)], b"")
        if parts:
            ends.append(parts[0].base_media_decode_time + parts[0].duration)
            foretold.append(segmenter.foretold)
    assert len(ends) > 20
    assert foretold[:-1] == ends[1:]
