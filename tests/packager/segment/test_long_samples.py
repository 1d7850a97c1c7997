"""Pictures that are shown for longer than a part or a segment, and sound that is longer than the picture."""

from __future__ import annotations

from fractions import Fraction

import pytest

from media.mp4.fragments.moof import Sample
from packager.segment.keyframe_segmenter import Cuts, KeyframeSegmenter
from packager.segment.part_packer import CutPart

PART = Fraction(1, 4)


def test_a_picture_that_is_shown_for_longer_than_a_part_is_a_part_by_itself() -> None:
    cuts = Cuts(Fraction(2), Fraction(9, 2))
    picture, other = (
        KeyframeSegmenter(timescale=1000, part_target=PART, cuts=cuts, leads=leads) for leads in (True, False)
    )
    shown: list[CutPart] = []
    heard: list[CutPart] = []
    for time, lasts, is_sync in ((0, 40, True), (40, 900, False), (940, 40, True), (980, 40, False)):
        shown += picture.push(time, [Sample(lasts, 1, is_sync)], b"v")
        heard += other.push(time, [Sample(lasts, 1, is_sync)], b"v")
    for parts in (shown + picture.finish(), heard + other.finish()):
        assert [(part.duration, part.ends_segment, part.resumes) for part in parts] == [
            (40, False, False),
            (900, False, False),
            (80, True, False),
        ]


def test_a_picture_that_is_shown_for_longer_than_its_segment_may_last_ends_it_in_all_renditions() -> None:
    """The next key frame, which may be the very next picture, resumes."""
    cuts = Cuts(Fraction(2), Fraction(9, 2), on_late_key=lambda _: pytest.fail("there was a key frame"))
    picture, other = (
        KeyframeSegmenter(timescale=1000, part_target=PART, cuts=cuts, leads=leads) for leads in (True, False)
    )
    shown: list[CutPart] = []
    heard: list[CutPart] = []
    pictures = ((0, 2000, True), (2000, 40, False), (2040, 2900, False), (4940, 40, True), (4980, 40, False))
    cuts.is_still = True
    for time, lasts, is_sync in pictures:
        shown += picture.push(time, [Sample(lasts, 1, is_sync)], b"v")
        heard += other.push(time, [Sample(lasts, 1, is_sync)], b"v")
    for parts in (shown + picture.finish(), heard + other.finish()):
        assert [(part.duration, part.ends_segment, part.resumes) for part in parts] == [
            (2000, False, False),
            (40, False, False),
            (2460, True, False),
            (80, True, True),
        ]


@pytest.mark.clause("RFC 8216bis §4.4.3.1")
@pytest.mark.parametrize("ends_at", [1, 49, 51, 99])
def test_sound_that_goes_on_after_the_end_of_the_picture_makes_no_segment_too_long(ends_at: int) -> None:
    longest = Fraction(5, 2)
    cuts = Cuts(Fraction(2), longest)
    picture = KeyframeSegmenter(timescale=1000, part_target=PART, cuts=cuts, leads=True)
    sound = KeyframeSegmenter(timescale=48000, part_target=PART, cuts=cuts, leads=False)
    heard: list[CutPart] = []
    for frame in range(ends_at):
        picture.push(40 * frame, [Sample(40, 1, is_sync=frame % 50 == 0)], b"v")
    for index in range(47 * 8):
        heard += sound.push(1024 * index, [Sample(1024, 1)], b"a")
    picture.finish()
    heard += sound.finish()
    for segment in {part.segment for part in heard}:
        lasts = sum(Fraction(part.duration, 48000) for part in heard if part.segment == segment)
        assert lasts <= longest + Fraction(1024, 48000)
