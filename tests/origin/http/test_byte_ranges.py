"""Range fields, decided without a server."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from origin.http.byte_ranges import (
    MAXIMUM_RANGES,
    Partial,
    SelectedRange,
    Unsatisfiable,
    Whole,
    content_range,
    select,
    unsatisfied_range,
    verbatim_range,
)
from origin.http.multipart_ranges import multipart_body

FIELD_TEXT = st.text(alphabet=" \t,-=0123456789abytesx\u00a0\u0663\u017f_+", max_size=60)
FIELDS = st.one_of(FIELD_TEXT, FIELD_TEXT.map("bytes={}".format))


def ranges(field: str, size: int, part_overhead: int = 0) -> list[tuple[int, int]]:
    selection = select(field, size, part_overhead)
    assert isinstance(selection, Partial)
    return [(part.first, part.last) for part in selection.ranges]


@pytest.mark.clause("RFC 9110 §14.1.2")
def test_the_examples_of_rfc_9110() -> None:
    """For a representation of 10,000 bytes."""
    assert ranges("bytes=0-499", 10_000) == [(0, 499)]
    assert ranges("bytes=500-999", 10_000) == [(500, 999)]
    assert ranges("bytes=-500", 10_000) == [(9500, 9999)]
    assert ranges("bytes=9500-", 10_000) == [(9500, 9999)]
    assert ranges("bytes=0-0,-1", 10_000) == [(0, 0), (9999, 9999)]
    # Adjacent or overlapping, "legal but not canonical", are one.
    assert ranges("bytes=500-600,601-999", 10_000) == [(500, 999)]
    assert ranges("bytes=500-700,601-999", 10_000) == [(500, 999)]


DIGITS = st.text(alphabet="0123456789", max_size=20)


@pytest.mark.clause("RFC 9110 §14.4")
@given(st.one_of(st.builds("{}-{}".format, DIGITS, DIGITS), FIELD_TEXT), st.integers(0, 2**40))
def test_a_range_that_is_taken_as_it_stands_is_the_one_that_is_selected(value: str, size: int) -> None:
    """Its text is what Content-Range says, to the byte; another text isn't taken."""
    found = verbatim_range(value.encode("utf-8"), size)
    if found is not None:
        assert ranges(f"bytes={value}", size) == [found]
        assert content_range(SelectedRange(*found), size) == f"bytes {value}/{size}"


def test_most_ranges_are_taken_as_they_stand() -> None:
    """Others are left to `select`: open ends, numbers that begin with zero, ends behind the last byte."""
    assert verbatim_range(b"500-999", 10_000) == (500, 999)
    assert verbatim_range(b"9999-9999", 10_000) == (9999, 9999)
    for value in (b"9500-", b"-500", b"0-499", b"0500-999", b"500-0999", b"9500-10000", b"2-1", b"1-2,3-4"):
        assert verbatim_range(value, 10_000) is None


@pytest.mark.clause("RFC 9110 §14.1.2")
def test_a_suffix_longer_than_the_file_selects_all_of_it() -> None:
    assert ranges("bytes=-11", 10) == [(0, 9)]


@pytest.mark.clause("RFC 9110 §14.2", "RFC 9110 §15.3.7.2")
def test_the_clients_order_is_kept() -> None:
    """What is joined stands where its first member stood."""
    assert ranges("bytes=800-809,0-9,400-409", 1000) == [(800, 809), (0, 9), (400, 409)]
    assert ranges("bytes=800-809,0-9,805-815", 1000) == [(800, 815), (0, 9)]
    assert ranges("bytes=5-9,800-809,0-6", 1000) == [(0, 9), (800, 809)]


@pytest.mark.clause("RFC 9110 §15.3.7.2")
def test_ranges_closer_than_a_part_costs_are_one() -> None:
    """A gap that costs exactly a part stays a gap."""
    assert ranges("bytes=0-9,109-119", 1000, part_overhead=100) == [(0, 119)]
    assert ranges("bytes=0-9,110-119", 1000, part_overhead=100) == [(0, 9), (110, 119)]


@pytest.mark.clause("RFC 9110 §14.1.1")
def test_a_file_of_any_size_has_its_last_byte() -> None:
    """Positions have no largest value."""
    size = 2**63 - 1
    assert ranges("bytes=-1", size) == [(size - 1, size - 1)]


@pytest.mark.clause("RFC 9110 §17.15")
def test_the_number_of_ranges_has_a_limit() -> None:
    specs = [f"{2 * number}-{2 * number}" for number in range(MAXIMUM_RANGES + 1)]
    assert len(ranges("bytes=" + ",".join(specs[:-1]), 10_000)) == MAXIMUM_RANGES
    assert isinstance(select("bytes=" + ",".join(specs), 10_000), Whole)


@pytest.mark.clause("RFC 9110 §17.15")
def test_ranges_that_sum_to_more_than_the_file_get_it_whole() -> None:
    assert ranges("bytes=0-4,5-9", 10) == [(0, 9)]
    assert isinstance(select("bytes=0-5,5-9", 10), Whole)


@pytest.mark.clause("RFC 9110 §14.1")
def test_a_letter_that_only_looks_like_the_unit_is_another_unit() -> None:
    """Case-insensitive for ASCII; the long s folds to s in Unicode alone."""
    assert isinstance(select("byte\u017f=0-1", 10), Whole)


@pytest.mark.clause("RFC 9110 §14.4", "RFC 9110 §14.6")
def test_fields_are_written_as_the_standard_writes_them() -> None:
    """The second is §14.4's own example."""
    assert unsatisfied_range(47022) == "bytes */47022"
    assert content_range(SelectedRange(42, 1233), 1234) == "bytes 42-1233/1234"
    parts = [SelectedRange(500, 999), SelectedRange(7000, 7999)]
    assert multipart_body(parts, 8000, "application/pdf", "THIS_STRING_SEPARATES") == (
        (
            b"\r\n--THIS_STRING_SEPARATES\r\n"
            b"Content-Type: application/pdf\r\n"
            b"Content-Range: bytes 500-999/8000\r\n\r\n"
        ),
        SelectedRange(500, 999),
        (
            b"\r\n--THIS_STRING_SEPARATES\r\n"
            b"Content-Type: application/pdf\r\n"
            b"Content-Range: bytes 7000-7999/8000\r\n\r\n"
        ),
        SelectedRange(7000, 7999),
        b"\r\n--THIS_STRING_SEPARATES--\r\n",
    )


@pytest.mark.clause("RFC 9110 §14.2")
@settings(max_examples=150, deadline=None)
@given(FIELDS, st.integers(0, 40), st.integers(0, 5))
def test_any_text_selects_all_a_part_or_nothing(field: str, size: int, part_overhead: int) -> None:
    """Ranges lie within the file, don't overlap, and are no more than the file together."""
    selection = select(field, size, part_overhead)
    assert isinstance(selection, Whole | Partial | Unsatisfiable)
    if isinstance(selection, Partial):
        assert selection.ranges
        seen: set[int] = set()
        for part in selection.ranges:
            assert 0 <= part.first <= part.last < size
            covered = set(range(part.first, part.last + 1))
            assert not covered & seen
            seen |= covered


POSITIONS = st.integers(0, 60)
SPECS = st.one_of(
    st.tuples(POSITIONS, POSITIONS).map(sorted),
    POSITIONS.map(lambda first: [first, None]),
    POSITIONS.map(lambda suffix: [None, suffix]),
)


@pytest.mark.clause("RFC 9110 §14.1.2")
@settings(max_examples=150, deadline=None)
@given(
    st.lists(SPECS, min_size=1, max_size=5), st.integers(0, 50), st.sampled_from([",", ", ", " ,\t", ",,"])
)
def test_the_bytes_are_exactly_those_asked_for(specs: list[list[int | None]], size: int, comma: str) -> None:
    """By its definition on single positions."""
    texts = ["-".join("" if number is None else str(number) for number in spec) for spec in specs]
    wanted = []
    for first, last in specs:
        if first is None:
            assert last is not None
            wanted.append(set(range(max(0, size - last), size)))
        else:
            wanted.append({at for at in range(first, size) if last is None or at <= last})
    selection = select("bytes=" + comma.join(texts), size)
    everything = set().union(*wanted)
    if isinstance(selection, Partial):
        assert {at for part in selection.ranges for at in range(part.first, part.last + 1)} == everything
    elif isinstance(selection, Unsatisfiable):
        assert not everything
    else:
        assert sum(map(len, wanted)) > size or size == 0


def test_no_field_costs_more_than_linear_time() -> None:
    """A field ten times as long may cost ten times as much, with room for a busy machine."""

    def cost(field: str) -> float:
        best = 1e9
        for _ in range(5):
            started = time.process_time()
            select(field, 10**6)
            best = min(best, time.process_time() - started)
        return best

    for unit in ("0-0,", ",", " ", "1", "-", "0-0 ,\t", "=", "bytes="):
        longest = "bytes=" + unit * (160_000 // len(unit))
        assert cost(longest[:16_000]) < 0.05
        assert cost(longest) < 0.05
