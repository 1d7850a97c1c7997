"""Boxes by ISO/IEC 14496-12 §4.2, and what hostile files do with their sizes and nesting."""

from __future__ import annotations

import itertools
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media.errors import MalformedError, TooLargeError
from media.mp4.boxes import MAX_BOXES, Box, box, full_box, header, walk


def test_a_box_is_its_size_its_type_and_its_payload() -> None:
    assert box(b"free", b"ab", b"c") == b"\x00\x00\x00\x0bfreeabc"


def test_a_full_box_begins_with_a_version_and_24_bits_of_flags() -> None:
    assert full_box(b"trun", 1, 0x000F01, b"x") == b"\x00\x00\x00\x0dtrun\x01\x00\x0f\x01x"


def test_boxes_are_walked_in_order_and_not_entered() -> None:
    data = box(b"ftyp", b"isom") + box(b"moov", box(b"mvhd", b""), box(b"trak"))
    assert list(walk(data)) == [Box(b"ftyp", 0, 8, 12), Box(b"moov", 12, 20, 36)]
    assert [found.kind for found in walk(data, 20, 36)] == [b"mvhd", b"trak"]


def test_size_one_means_that_the_size_is_in_64_bits() -> None:
    data = struct.pack(">I4sQ", 1, b"mdat", 20) + b"data" + box(b"free")
    assert list(walk(data)) == [Box(b"mdat", 0, 16, 20), Box(b"free", 20, 28, 28)]


def test_a_64_bit_size_needs_only_the_header() -> None:
    head = struct.pack(">I4sQ", 1, b"mdat", 1 << 40)
    assert header(head, 0, 1 << 41) == Box(b"mdat", 0, 16, 1 << 40)


def test_size_zero_means_to_the_end() -> None:
    assert list(walk(b"\x00\x00\x00\x00mdat12345")) == [Box(b"mdat", 0, 8, 13)]


def test_quicktime_may_end_a_list_with_a_32_bit_zero() -> None:
    assert [found.kind for found in walk(box(b"name", b"x") + bytes(4))] == [b"name"]


@pytest.mark.parametrize("size", [2, 3, 4, 5, 6, 7, 13, 0x7FFFFFFF, 0xFFFFFFFF])
def test_a_size_smaller_than_the_header_or_past_the_end_is_malformed(size: int) -> None:
    with pytest.raises(MalformedError):
        list(walk(struct.pack(">I4s", size, b"moov") + b"1234"))


@pytest.mark.clause("ISO/IEC 14496-12 §4.2")
@pytest.mark.parametrize("size", [0, 8, 15, 21, 1 << 63, (1 << 64) - 1])
def test_a_64_bit_size_smaller_than_the_header_or_past_the_end_is_malformed(size: int) -> None:
    with pytest.raises(MalformedError):
        list(walk(struct.pack(">I4sQ", 1, b"moov", size) + b"1234"))


@pytest.mark.parametrize("length", [1, 2, 3, 5, 7])
def test_less_than_a_header_is_malformed(length: int) -> None:
    with pytest.raises(MalformedError):
        list(walk(b"\x00\x00\x00\x01moov\x00\x00\x00\x00"[:length]))


def test_a_64_bit_size_that_is_cut_off_is_malformed() -> None:
    with pytest.raises(MalformedError):
        list(walk(struct.pack(">I4s", 1, b"moov") + bytes(7)))


def test_a_level_holds_only_so_many_boxes() -> None:
    assert len(list(walk(box(b"free") * MAX_BOXES))) == MAX_BOXES
    with pytest.raises(TooLargeError):
        list(walk(box(b"free") * (MAX_BOXES + 1)))


@pytest.mark.clause("CWE-674")
def test_thirty_thousand_nested_boxes_cost_no_recursion() -> None:
    data = b"".join(struct.pack(">I4s", 8 * (30_000 - depth), b"moov") for depth in range(30_000))
    assert list(walk(data)) == [Box(b"moov", 0, 8, 240_000)]


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_boxes_side_by_side_or_malformed(data: bytes) -> None:
    try:
        found = list(walk(data))
    except MalformedError:
        return
    for before, after in itertools.pairwise(found):
        assert before.end == after.start
    assert all(one.start + 8 <= one.payload <= one.end <= len(data) for one in found)
