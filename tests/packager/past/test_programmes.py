"""Schedules: the programmes of a span, however they overlap."""

from __future__ import annotations

import random

from packager.past.programmes import Programme, Schedule


def test_what_touches_a_span_is_what_begins_before_its_end_and_ends_behind_its_beginning() -> None:
    chance = random.Random(5)  # no secret
    for _ in range(50):
        starts = [chance.randrange(1000) for _ in range(chance.randrange(40))]
        made = [
            Programme(f"p{index}", start, start + 1 + chance.randrange(300))
            for index, start in enumerate(starts)
        ]
        schedule = Schedule(made)
        for _ in range(20):
            begin = chance.randrange(1300)
            end = begin + chance.randrange(200)
            found = schedule.touching(begin, end)
            expected = {one.id for one in made if one.start_ms < end and one.end_ms > begin}
            assert {one.id for one in found} == expected
            assert [one.start_ms for one in found] == sorted(one.start_ms for one in found)
