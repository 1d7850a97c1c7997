"""A file's ``moov`` is found wherever it is, by headers of boxes alone; too large a one is refused unread."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media.errors import MalformedError, MediaError, TooLargeError, UnsupportedError
from media.mp4.boxes import LARGEST_HEADER, Box, box
from media.mp4.files.moov_finder import MoovFinder

MOOV = box(b"moov", bytes(100))
MEDIA = box(b"ftyp", b"isom") + box(b"mdat", bytes(1000))


def found_in(data: bytes, most: int) -> tuple[Box, bool]:
    """Give the ``moov`` that a finder comes to, and whether media are in front of it."""
    finder = MoovFinder(len(data), most)
    while (found := finder.push(data[finder.position : finder.position + LARGEST_HEADER])) is None:
        pass
    return found, finder.data_first


@pytest.mark.parametrize("data", [MOOV + MEDIA, MEDIA + MOOV])
def test_it_is_found_in_front_of_the_media_and_behind(data: bytes) -> None:
    found, data_first = found_in(data, len(MOOV))
    assert data[found.start : found.end] == MOOV
    assert data_first == (data.index(b"mdat") < data.index(b"moov"))


def test_one_that_is_too_large_is_refused() -> None:
    with pytest.raises(TooLargeError, match=f"moov of {len(MOOV)} bytes: more than {len(MOOV) - 1}"):
        found_in(MEDIA + MOOV, len(MOOV) - 1)


@pytest.mark.parametrize(
    ("data", "error"),
    [(MEDIA, MalformedError), (MEDIA + box(b"moof", b""), MalformedError), (b"text" * 9, UnsupportedError)],
)
def test_a_file_without_one_is_refused(data: bytes, error: type[MediaError]) -> None:
    with pytest.raises(error):
        found_in(data, len(MOOV))


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=100))
def test_any_bytes_have_an_index_or_none(data: bytes) -> None:
    with contextlib.suppress(MediaError):
        found_in(data, len(MOOV))
