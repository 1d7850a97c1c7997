"""What is left of a span without the gaps that all renditions share."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from packager.past.playlists import without_common_gaps
from packager.window.model import LiveSegment

NAMES, SECOND = ("v", "w", "a"), Fraction(1)
ROWS = st.lists(st.lists(st.sampled_from("...GD"), min_size=3, max_size=3), max_size=12)
"""A segment, a gap or a discontinuity of each rendition."""


@given(rows=ROWS)
def test_a_discontinuity_of_one_is_one_of_all_and_so_is_a_gap_that_is_left_out(rows: list[list[str]]) -> None:
    segments = {
        name: [
            LiveSegment(number, None, (number, 1), (), row[at] == "D", gap=row[at] == "G", duration=SECOND)
            for number, row in enumerate(rows)
        ]
        for at, name in enumerate(NAMES)
    }
    kept = without_common_gaps(segments)
    expected: list[tuple[int, bool]] = []
    is_broken = False
    for number, row in enumerate(rows):
        is_broken = is_broken or "D" in row
        if row == ["G"] * len(NAMES):
            is_broken = True
        else:
            expected.append((number, is_broken and bool(expected)))
            is_broken = False
    for name in NAMES:
        assert [(one.number, one.discontinuity) for one in kept[name]] == expected
        assert [one.gap for one in kept[name]] == [segments[name][number].gap for number, _ in expected]
