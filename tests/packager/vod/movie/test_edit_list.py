"""Edit lists by ISO/IEC 14496-12 §8.6.6, and the cutting of what they place."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import pytest

from media.errors import MalformedError, TooLargeError, UnsupportedError
from media.mp4.movie.movie import Edit
from media.mp4.movie.sample_table import SampleTable
from packager.vod.index.segment_boundaries import cut_at_sync, cut_at_times
from packager.vod.movie.edit_list import Arrangement, Placement, apply_edit_list, arrange
from tests.packager.crafted import constant, rows


def test_an_edit_list_of_empty_time_and_one_stretch_is_a_delay_and_a_start() -> None:
    placement = apply_edit_list([Edit(500, -1), Edit(10_000, 1024)], 1000, 48000)
    assert (placement.delay, placement.media_start) == (24_000, 1024)
    assert placement.media_end == 1024 + 480_000 + 48  # and a tick of the movie's clock


def test_an_edit_without_duration_lasts_to_the_end() -> None:
    assert apply_edit_list([Edit(0, 1024)], 1000, 48000).media_end is None
    assert apply_edit_list([], 1000, 48000).media_end is None


def test_edits_that_follow_each_other_in_the_media_are_one() -> None:
    placement = apply_edit_list([Edit(1000, 0), Edit(2000, 48_000)], 1000, 48000)
    assert (placement.media_start, placement.media_end) == (0, 3 * 48_000 + 48)


@pytest.mark.parametrize(
    "edits",
    [
        [Edit(1000, 0), Edit(1000, 96_000)],
        [Edit(1000, 0), Edit(500, -1), Edit(1000, 48_000)],
        [Edit(1000, 0, Fraction(2))],
        [Edit(1000, 0, Fraction(0))],
        [Edit(1 << 62, -1), Edit(1000, 0)],
    ],
)
def test_edits_that_cut_pause_or_change_speed_are_not_supported(edits: list[Edit]) -> None:
    with pytest.raises(UnsupportedError):
        apply_edit_list(edits, 1000, 48000)


def table(durations: Sequence[int], offsets: Sequence[int] = ()) -> SampleTable:
    """Sync samples of ten bytes each."""
    boxes = {
        b"stts": rows([(1, duration) for duration in durations]),
        b"stsc": rows([(1, len(durations), 1)]),
        b"stsz": constant(10, len(durations)),
        b"stco": rows([0]),
    }
    if offsets:
        boxes[b"ctts"] = rows([(1, offset) for offset in offsets])
    return SampleTable(boxes, 1)


def arranged(durations: Sequence[int], offsets: Sequence[int] = ()) -> Arrangement:
    return arrange(table(durations, offsets), Placement(), 0, first=0)


def test_frames_behind_the_edits_end_are_dropped() -> None:
    trimmed = arrange(table([1000] * 10), apply_edit_list([Edit(5000, 0)], 1000, 1000), 0, first=0)
    assert len(trimmed) == 6  # 5 s, and what begins within a tick of the movie's clock of that


@pytest.mark.clause("ISO/IEC 14496-12 §8.6.6")
def test_negative_composition_offsets_become_an_earlier_start_of_decoding() -> None:
    track = arranged([10] * 4, [0, 20, -10, -10])
    samples = track.samples(0, 4)
    assert samples.composition_offset.tolist() == [10, 30, 0, 0]
    assert samples.decode_time.tolist() == [0, 10, 20, 30, 40]
    assert track.start == 10
    assert track.times(0, 4).tolist() == [0, 30, 10, 20]


def test_sound_keeps_a_quarter_of_a_second_of_priming_and_no_more() -> None:
    placement = apply_edit_list([Edit(0, 100_000)], 1000, 48_000)
    track = arrange(table([1000] * 200), placement, 0)
    assert track.times(0, 1).tolist() == [-12_000]
    assert track.samples(0, 1).decode_time[0] == 0


def test_an_edit_behind_all_media_leaves_nothing() -> None:
    with pytest.raises(MalformedError):
        arrange(table([10] * 4), Placement(media_start=100), 0)


def test_a_track_of_a_million_segments_is_refused() -> None:
    track = arranged([10] * 1_000_000)
    with pytest.raises(TooLargeError):
        cut_at_sync(track, 1)
    with pytest.raises(TooLargeError):
        cut_at_times(track, 1)


def test_sync_samples_whose_times_go_back_are_no_boundaries() -> None:
    track = Arrangement(table([10] * 5, [0, 0, -30, 0, 0]), 0, 5, shift=0, raised=0, start=0, end=50)
    assert cut_at_sync(track, 1).tolist() == [0, 1, 3, 4]
