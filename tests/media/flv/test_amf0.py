"""AMF0: all its types, and values that are made to break or to burden their reader."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.errors import MalformedError, MediaError, TooLargeError, UnsupportedError
from media.flv.amf0 import Date, Reference, Value, read_values, write_values

NUMBER = b"\0" + struct.pack(">d", 1.5)
CASES: list[tuple[bytes, list[Value]]] = [
    (NUMBER, [1.5]),
    (b"\1\0\1\1", [False, True]),
    (b"\2\0\3abc", ["abc"]),
    (b"\3\0\1a\1\1\0\0\x09", [{"a": True}]),
    (b"\5\6\x0d", [None, None, None]),
    (b"\3\0\0\x09\7\0\0", [{}, Reference(0)]),
    (b"\x08\xff\xff\xff\xff\0\1a\5\0\0\x09", [{"a": None}]),
    (b"\x0a\0\0\0\2\5\2\0\1x", [[None, "x"]]),
    (b"\x0b" + struct.pack(">dh", 1e12, 60), [Date(1e12)]),
    (b"\x0c\0\0\0\3abc", ["abc"]),
    (b"\x0f\0\0\0\4<a/>", ["<a/>"]),
    (b"\x10\0\3Cls\0\1a\5\0\0\x09", [{"a": None}]),
    (b"\2\0\2\xff\xfe", ["��"]),
    (b"", []),
]


@pytest.mark.clause("AMF0 §2")
@pytest.mark.parametrize(("data", "values"), CASES)
def test_values_of_each_type_are_read(data: bytes, values: list[Value]) -> None:
    assert read_values(data) == values


@pytest.mark.parametrize(
    "data",
    [
        b"\0\0",
        b"\2\xff\xffabc",
        b"\x0c\xff\xff\xff\xffabc",
        b"\x0a\xff\xff\xff\xff\5",
        b"\3\0\1a",
        b"\3\0\1a\5",
        b"\7\0\0",
        b"\4",
        b"\x0e",
        b"\x09",
        b"\xff",
        b"\x0a\0\0",
    ],
)
def test_values_that_are_not_there_or_of_no_type_are_malformed(data: bytes) -> None:
    with pytest.raises(MalformedError):
        read_values(data)


@pytest.mark.clause("CWE-674")
@pytest.mark.parametrize("begin", [b"\3\0\1a", b"\x0a\0\0\0\1", b"\x08\0\0\0\0\0\1a", b"\x10\0\0\0\1a"])
def test_nesting_ends_at_its_limit_and_not_with_the_stack(begin: bytes) -> None:
    with pytest.raises(TooLargeError):
        read_values(begin * 100_000)


@pytest.mark.parametrize(
    "data",
    [b"\5" * 5000, b"\x0a\xff\xff\xff\xff" + b"\5" * 5000, b"\3" + b"\0\1a\5" * 5000, b"\x0a\0\0\0\0" * 5000],
)
def test_more_values_than_anybody_needs_are_refused(data: bytes) -> None:
    with pytest.raises(TooLargeError):
        read_values(data)


@pytest.mark.parametrize(
    "data",
    [
        b"\x0c\0\4\0\1" + b"\xff" * (256 << 10 | 1),
        b"\3" + (b"\xff\xff" + b"x" * 0xFFFF + b"\5") * 5 + b"\0\0\x09",
    ],
)
def test_more_text_than_anybody_needs_is_not_decoded(data: bytes) -> None:
    with pytest.raises(TooLargeError):
        read_values(data)


def test_amf3_is_told_from_nonsense() -> None:
    with pytest.raises(UnsupportedError):
        read_values(b"\x11\x0a")


SCALARS: st.SearchStrategy[Value] = st.one_of(
    st.none(),
    st.booleans(),
    st.floats(allow_nan=False),
    st.text(max_size=20),
    st.builds(Date, st.floats(allow_nan=False)),
)
VALUES: st.SearchStrategy[Value] = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=10,
)


@given(st.lists(VALUES, max_size=5))
def test_what_is_written_is_read_again(values: list[Value]) -> None:
    assert read_values(write_values(values)) == values


def test_a_text_of_more_than_64_kibibytes_is_a_long_string() -> None:
    written = write_values(["x" * 70_000])
    assert written[:5] == b"\x0c\0\x01\x11\x70"
    assert read_values(written) == ["x" * 70_000]


@given(st.binary(max_size=300))
def test_no_bytes_break_the_reader(data: bytes) -> None:
    with contextlib.suppress(MediaError):
        read_values(data)
