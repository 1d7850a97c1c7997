"""What is done with a week's lines of an index is done line by line, so that other threads go on."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from packager.dvr.index import IndexLine, let_go, merged


def lines(numbers: set[int], parts: int) -> dict[int, IndexLine]:
    return {number: IndexLine(number, (number, 1), (1, 1), parts=(parts,)) for number in sorted(numbers)}


@given(st.sets(st.integers(0, 40)), st.sets(st.integers(0, 40)))
def test_lines_and_those_made_anew_are_merged_in_the_order_of_their_numbers(
    known: set[int], anew: set[int]
) -> None:
    one, other = lines(known, 1), dict(reversed(lines(anew, 2).items()))
    found = merged(one, other)
    assert list(found.items()) == sorted((one | other).items())


def test_lines_that_are_let_go_are_gone() -> None:
    some = lines({1, 2, 3}, 1)
    let_go(some)
    assert not some
