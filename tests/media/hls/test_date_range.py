"""EXT-X-DATERANGE tags that are read again: what was written, and nothing else."""

from __future__ import annotations

from fractions import Fraction

import pytest

from media.errors import MalformedError
from media.hls.date_range import DateRange, read_date_range

TAG = "#EXT-X-DATERANGE:"
START = 'START-DATE="2026-11-26T10:47:06.490Z"'


@pytest.mark.clause("RFC 8216bis §4.4.5.1")
def test_a_tag_is_read_by_its_attributes() -> None:
    line = (
        f'{TAG}ID="a,b=c",CLASS="x",{START},DURATION=1.500,PLANNED-DURATION=2.000,X-NUMBER=-1.5,X-TEXT="1.5"'
    )
    read = read_date_range(line)
    # date -u -d 2026-11-26T10:47:06Z +%s
    assert read == DateRange(
        "a,b=c",
        1795690026 + Fraction(490, 1000),
        "x",
        Fraction(3, 2),
        Fraction(2),
        {"X-NUMBER": -1.5, "X-TEXT": "1.5"},
    )
    assert str(read) == line
    assert isinstance(read.client_attributes["X-TEXT"], str)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "#EXT-X-ENDLIST",
        f"{TAG}{START}",
        f'{TAG}ID="a"',
        f"{TAG}ID=a,{START}",
        f'{TAG}ID="a",START-DATE="2026-13-26T10:47:06.490Z"',
        f'{TAG}ID="a",START-DATE="yesterday"',
        f'{TAG}ID="a",{START},DURATION=-1.000',
        f'{TAG}ID="a",{START},DURATION=nan',
        f'{TAG}ID="a",{START},X-N=1e999',
        f'{TAG}ID="a",{START},OTHER="1"',
        f'{TAG}ID="a",{START}\n#EXT-X-ENDLIST',
        f'{TAG}ID="a",{START},SCTE35-OUT=0xfc',
        f'{TAG}ID="a",{START},SCTE35-OTHER=0xFC',
    ],
)
def test_what_is_no_such_tag_is_refused(line: str) -> None:
    with pytest.raises(MalformedError):
        read_date_range(line)


@pytest.mark.clause("RFC 8216bis §4.4.5.1")
def test_attributes_of_the_standard_have_their_own_forms() -> None:
    line = f'{TAG}ID="a",{START},CUE="PRE,ONCE",SCTE35-OUT=0xFC30'
    read = read_date_range(line)
    assert read.client_attributes == {"CUE": "PRE,ONCE", "SCTE35-OUT": "0xFC30"}
    assert str(read) == line


@pytest.mark.parametrize(
    ("name", "value"),
    [("CUE", "PRE,POST"), ("CUE", "NOW"), ("CUE", 1.0), ("CUE", "ONCE,ONCE,PRE"), ("SCTE35-CMD", 1.0)]
    + [("SCTE35-IN", text) for text in ("FC30", "0x", "0xFC3", "0xfc30", "0xFC30\n")],
)
def test_what_the_standard_doesnt_say_is_not_written(name: str, value: str | float) -> None:
    with pytest.raises(ValueError, match=name):
        str(DateRange("a", Fraction(0), client_attributes={name: value}))
