"""packager.publish.start_point: where players begin in a live playlist with gaps at its end."""

from __future__ import annotations

import re
from fractions import Fraction

import pytest

from packager.publish.hls import media_playlist
from packager.window.model import LiveSegment, WindowOptions
from packager.window.window import Window
from tests.packager.publish.published_windows import CADENCE, START, VIDEO, publish


def window(*, past: int, gaps: int, parts: int) -> Window:
    """Return a window with segments of an earlier run, then gaps, then parts of a new run; six make one."""
    made = Window(WindowOptions(2, 50, dvr_window=3600))
    made.begin(b"init", VIDEO)
    publish(made, 6 * past)
    for _ in range(gaps):
        number = made.finished.next_number
        made.gap(LiveSegment(number, None, (START + 2 * number, 1), gap=True, duration=Fraction(2)))
    if parts:
        made.break_off()
        publish(made, parts)
    return made


def start(made: Window) -> float | None:
    found = re.findall(
        r"^#EXT-X-START:TIME-OFFSET=(\S+),PRECISE=YES$", media_playlist(made, CADENCE).render(), re.MULTILINE
    )
    return float(found[0]) if found else None


@pytest.mark.clause("RFC 8216bis §4.4.2.2")
@pytest.mark.parametrize(
    ("past", "gaps", "parts", "expected"),
    [
        # While nobody publishes: where players would begin if the gaps weren't there, or the whole run.
        (10, 1, 0, -8),
        (10, 500, 0, -1006),
        (2, 3, 0, -10),
        # Then the new run's first part, its newest whole segment, and players' own choice once it is longer.
        (10, 3, 1, -1 / Fraction(3)),
        (10, 3, 5, -5 / Fraction(3)),
        (10, 3, 6, -2),
        (10, 3, 8, -2 - 2 / Fraction(3)),
        (10, 3, 14, -2 - 2 / Fraction(3)),
        (10, 3, 18, None),
        # Nothing before the run, no gap, and nothing but gaps.
        (0, 0, 3, None),
        (10, 0, 0, None),
        (10, 0, 3, None),
        (0, 5, 0, None),
    ],
)
def test_players_begin_where_they_can_go_on(
    past: int, gaps: int, parts: int, expected: float | Fraction | None
) -> None:
    found = start(window(past=past, gaps=gaps, parts=parts))
    assert found == (None if expected is None else pytest.approx(float(expected), abs=0.001))


def test_an_ended_channel_is_played_from_its_beginning() -> None:
    made = window(past=10, gaps=3, parts=8)
    made.end()
    assert start(made) is None
