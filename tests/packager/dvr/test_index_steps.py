"""What is done with a week's lines of an index is done line by line, so that other threads go on."""

from __future__ import annotations

from packager.dvr.index import IndexLine, let_go


def test_lines_that_are_let_go_are_gone() -> None:
    some = {number: IndexLine(number, (number, 1), (1, 1), parts=(1,)) for number in (1, 2, 3)}
    let_go(some)
    assert not some
