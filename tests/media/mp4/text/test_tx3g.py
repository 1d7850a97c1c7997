"""Samples of timed text, of WebVTT and of chapters in MP4: text, faces, and whatever damage does to them."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.errors import MalformedError
from media.mp4.boxes import box
from media.mp4.text.chapters import chapter_title, parse_chapter_list
from media.mp4.text.tx3g import all_forced, cue_text, plain_text
from media.mp4.text.wvtt import read_sample


def sample(text: bytes, *boxes: bytes) -> bytes:
    return struct.pack(">H", len(text)) + text + b"".join(boxes)


def style(*records: tuple[int, int, int]) -> bytes:
    packed = [struct.pack(">HHHBB4s", first, end, 1, face, 18, b"\xff" * 4) for first, end, face in records]
    return box(b"styl", struct.pack(">H", len(packed)), *packed)


def test_text_is_utf_8_or_utf_16_with_its_mark() -> None:
    assert plain_text(sample("Zwölf".encode())) == "Zwölf"
    assert plain_text(sample("\ufeffZwölf".encode("utf-16-be"))) == "Zwölf"
    assert plain_text(sample(b"")) == ""


def test_faces_are_the_tags_that_webvtt_has_for_them() -> None:
    assert (
        cue_text(sample(b"a bold & italic", style((2, 6, 1), (9, 15, 2))))
        == "a <b>bold</b> &amp; <i>italic</i>"
    )
    assert cue_text(sample(b"both", style((0, 4, 7)))) == "<b><i><u>both</u></i></b>"
    assert cue_text(sample(b"a\r\n\r\nb", box(b"hclr", bytes(4)))) == "a\nb"


def test_a_sample_that_is_cut_off_is_refused() -> None:
    for data in (b"", b"\0", b"\0\5abc"):
        with pytest.raises(MalformedError):
            plain_text(data)


def test_a_sample_entry_says_that_all_is_forced() -> None:
    """QuickTime File Format, "Subtitle sample description": 0x80000000 of the display flags."""
    head = bytes(4) + b"tx3g" + bytes(8)
    assert all_forced(head + b"\xc0\0\0\0")
    assert not all_forced(head + b"\x40\0\0\0")
    assert not all_forced(b"")


def test_cues_of_a_sample_of_webvtt_are_those_of_its_boxes() -> None:
    cue = box(b"vttc", box(b"iden", b"1"), box(b"sttg", b"line:0 evil"), box(b"payl", b"<v A>Hi</v>\n\nyou"))
    assert read_sample(cue + cue) == [("<v A>Hi</v>\nyou", "line:0")] * 2
    assert read_sample(box(b"vtte")) == []


def test_a_list_of_chapters_is_read_as_far_as_it_goes() -> None:
    entries = [
        struct.pack(">QB", 10_000 * start, len(title)) + title
        for start, title in ((0, b"One"), (90_500, b"T"))
    ]
    listed = b"\1\0\0\0" + bytes(4) + b"\2" + b"".join(entries)
    assert parse_chapter_list(listed) == [(0, "One"), (90_500, "T")]
    assert parse_chapter_list(listed[:-1]) == [(0, "One")]
    assert parse_chapter_list(b"") == parse_chapter_list(b"\1") == []
    assert chapter_title(sample("Zwölf\n".encode(), box(b"encd", bytes(8)))) == "Zwölf"


@given(
    st.binary(max_size=200)
    | st.binary(max_size=40).map(lambda data: sample(data[:9], style((0, 9, 3)), data))
)
def test_damage_is_refused_and_nothing_else_happens(data: bytes) -> None:
    for read in (cue_text, read_sample, chapter_title):
        try:
            read(data)
        except MalformedError:
            continue
    parse_chapter_list(data)
    all_forced(data)
