"""An index is read at once where it can be, and a damaged line costs no other one."""

from __future__ import annotations

from fractions import Fraction
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packager.dvr.index import Index, IndexLine, archived_line_of, decode, encode, let_go
from packager.window.model import LiveSegment, StoredSegment

LINES = [IndexLine(number, (10 * number, 1), (2, 1), parts=(7,)) for number in range(5, 9)]


def test_lines_that_are_let_go_are_gone() -> None:
    """Those of a week are forgotten line by line, so that other threads go on."""
    some = {one.number: one for one in LINES}
    let_go(some)
    assert not some


@pytest.mark.parametrize("noise", [b"x\n", b"{}\n", b"\xff\n", b'{"number":6\n', b"\n"])
@pytest.mark.parametrize("at", range(len(LINES) + 1))
def test_a_damaged_line_costs_no_other_one(noise: bytes, at: int) -> None:
    texts = [encode(one) for one in LINES]
    texts.insert(at, noise)
    found, unreadable = decode(b"".join(texts))
    assert list(found.values()) == LINES
    assert unreadable == (noise != b"\n")


@given(
    st.lists(st.sampled_from([*map(encode, LINES), b"x\n", b"\n", encode(LINES[0])[:-9]]), max_size=12),
    st.integers(0, 80),
)
def test_at_once_and_line_by_line_the_same_is_read(texts: list[bytes], cut: int) -> None:
    data = b"".join(texts)
    data = data[: len(data) - cut]
    one_by_one = Index()
    for begin in range(0, len(data), 7):
        one_by_one.receive_data(bytes(islice(data, begin, begin + 7)))
    one_by_one.receive_eof()
    assert decode(data) == (one_by_one.lines, one_by_one.unreadable)
    assert list(decode(data)[0]) == sorted(one_by_one.lines)


LARGE = st.sampled_from([-(10**24), -(2**63), 2**63, 10**24])
TIMES = st.builds(
    Fraction, st.one_of(LARGE, st.integers(-(10**24), 10**24)), st.one_of(st.just(1), st.integers(1, 10**13))
)
SIZES = st.lists(st.integers(1, 1000), min_size=1, max_size=1200)


@given(
    st.integers(0, 10**10),
    st.one_of(TIMES, st.floats(1e9, 3e9).map(Fraction)),
    TIMES,
    TIMES,
    st.one_of(st.none(), SIZES),
)
def test_whatever_is_written_is_read(
    number: int, date: Fraction, duration: Fraction, shown: Fraction, sizes: list[int] | None
) -> None:
    stored = None if sizes is None else StoredSegment.of(sizes, shown.as_integer_ratio())
    segment = LiveSegment(
        number, None, date.as_integer_ratio(), gap=stored is None, duration=duration, stored=stored
    )
    line = archived_line_of(segment)
    assert decode(encode(line)) == ({number: line}, 0)
    assert line.size == sum(sizes or ())
    if 0 <= date < 4_000_000_000:
        assert abs(Fraction(*line.date) - date) <= Fraction(1, 1_000_000)
    if Fraction(1, 1000) <= duration <= 60:
        assert abs(Fraction(*line.duration) - duration) <= Fraction(1, 1_000_000)


def test_a_gap_for_a_break_is_read() -> None:
    """It has a share of the time between the end of a sound's last frame and a moment of the clock."""
    end, moment = Fraction(1_796_078_234_123, 1000) + Fraction(1, 44_100), Fraction(1796078239.123457)
    length = (moment - end) / 3
    gap = LiveSegment(7, None, (end + length).as_integer_ratio(), gap=True, duration=length)
    assert decode(encode(archived_line_of(gap)))[1] == 0
