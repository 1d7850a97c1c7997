"""Display sets of DVB subtitles, written as ETSI EN 300 743 describes them."""

from __future__ import annotations

import pytest

from media.errors import MalformedError, TooLargeError
from media.subtitles.dvb import read_page
from tests.media.subtitles.dvb_segments import END, display, page, region


@pytest.mark.parametrize(("state", "is_complete"), [(0, False), (1, True), (2, True), (3, False)])
def test_a_page_is_read_and_ends_by_itself(state: int, is_complete: bool) -> None:
    data = page(state) + region(720, 576) + END
    (begin, shown), (end, cleared) = read_page(data + b"\xff")
    assert (begin, end) == (0, 30_000)
    assert (shown.canvas, shown.is_complete) == ((720, 576), is_complete)
    assert b"".join(shown.segments) == data
    assert b"".join(cleared.segments) == bytes.fromhex("0f10 0001 0002 1e b0") + END
    assert not cleared.is_complete
    (large, _) = read_page(display(1920, 1080) + page(2) + region(1920, 1080))
    assert large[1].canvas == (1920, 1080)


def test_nothing_is_shown_without_a_page_and_a_page_without_an_end_stays() -> None:
    assert read_page(b"") == read_page(b"\xff") == read_page(END) == []
    assert len(read_page(page(1, seconds=0))) == 1


@pytest.mark.parametrize("data", [b"\x0f", page(1)[:-1], page(1) + END[:-1], END + page(1)[:5]])
def test_damaged_display_sets_are_refused(data: bytes) -> None:
    with pytest.raises(MalformedError):
        read_page(data)


@pytest.mark.parametrize(
    "data",
    [
        display(3841, 2160) + page(1),
        display(65_536, 65_536) + page(1),
        page(1) + region(721, 576),
        page(1) + region(720, 577),
        display(16, 16) + page(1) + region(16, 17),
        page(1) + region(8, 8) * 65,
        page(1) + END * 1024,
    ],
)
def test_huge_display_sets_are_refused(data: bytes) -> None:
    with pytest.raises(TooLargeError):
        read_page(data)
