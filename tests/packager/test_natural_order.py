"""Names are in the order in which people count."""

from __future__ import annotations

import random

from packager.natural_order import natural_key


def test_numbers_in_names_count_as_numbers() -> None:
    names = ["track 10", "Track 2", "track 1", "10", "9", "intro", "track 002b", "1" * 5000]
    expected = ["9", "10", "1" * 5000, "intro", "track 1", "Track 2", "track 002b", "track 10"]
    assert sorted(names, key=natural_key) == expected


def test_names_are_ordered_by_the_values_of_their_numbers_whatever_they_are_made_of() -> None:
    names = ["Episode 2", "episode 10", "10", "9b", "", "²", "٣", "a" * 200 + "9" * 255]
    random.shuffle(names)
    ordered = sorted(names, key=natural_key)
    assert ordered.index("Episode 2") < ordered.index("episode 10")
    assert ordered.index("9b") < ordered.index("10")
