"""An index is read at once where it can be, and a damaged line costs no other one."""

from __future__ import annotations

from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packager.dvr.index import Index, IndexLine, decode, encode, let_go

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
