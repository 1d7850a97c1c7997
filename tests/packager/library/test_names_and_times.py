"""Files of the library with times in the future, and with names that no address has."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from packager.library.local_storage import Library, NotFoundError
from packager.vod.movie.versioned_addresses import version_of

HOUR = 3600


def test_a_time_in_the_future_makes_a_validator_weak_only_for_as_long_as_any_other(tmp_path: Path) -> None:
    """RFC 9110 §8.8.1: a later version must not get the same strong validator, and has another time."""
    path = tmp_path / "film.mp4"
    path.write_bytes(b"x")
    now = time.time()
    os.utime(path, (now + HOUR, now + HOUR))
    with Library(tmp_path).open("film.mp4") as file:
        assert file.validator(now).startswith("W/")
        strong = file.validator(now + 10)
        assert not strong.startswith("W/")
        assert file.validator(now + 2 * HOUR) == strong
        assert version_of(file.identity).is_settled(now + 10)
    path.write_bytes(b"y")
    with Library(tmp_path).open("film.mp4") as file:
        assert file.validator(now + 10) != strong


@pytest.mark.parametrize("name", ["two\nlines.mp4", "end.mp4\n", "\n.mp4", "folder\n/film.mp4"])
def test_a_name_with_a_line_end_has_no_address_on_any_road(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"x")
    with pytest.raises(NotFoundError):
        Library(tmp_path).open(name)
