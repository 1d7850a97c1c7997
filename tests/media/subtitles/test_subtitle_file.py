"""Subtitle files as people have them are read; whatever else they hold does no harm."""

from __future__ import annotations

import subprocess
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.errors import MalformedError, MediaError, TooLargeError
from media.subtitles.subtitle_file import SubtitleFileLimits, read_subtitle_file
from media.subtitles.webvtt import Cue, CueReader, write_file

LIMITS = SubtitleFileLimits()


def texts(file: str) -> list[str]:
    return [cue.text for cue in read_subtitle_file(file)]


def test_subrip_has_numbers_commas_and_texts_of_several_lines() -> None:
    file = "1\n00:00:01,000 --> 00:00:02,500\nOne\nand a half\n\n2\n01:00:03,5 --> 01:00:04,25\nTwo\n"
    assert read_subtitle_file(file.replace("\n", "\r\n")) == [
        Cue(1000, 2500, "One\nand a half"),
        Cue(3603500, 3604250, "Two"),
    ]


def test_what_writers_of_subrip_forget_does_not_lose_a_cue() -> None:
    """Numbers, empty lines between cues, commas, digits, the last line's end; and an empty line in a text."""
    file = (
        "0:0:1.0 -> 0:0:2.0\nwithout a number\n"
        "2\n00:00:03,000 --> 00:00:04,000 X1:10 X2:20\nafter no empty line\n"
        "\n1984\n3\n00:00:05,000-->00:00:06,000\nlast"
    )
    assert texts(file) == ["without a number", "after no empty line\n1984", "last"]


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("<i>a</i> <B>b</B> <u>c</u>", "<i>a</i> <b>b</b> <u>c</u>"),
        ('<font color="#ff0000" face="Arial">red</font>', "red"),
        (r"{\i1}styled{\i0} {\pos(10,20)}here", "styled here"),
        ("R&D <3 x > y &amp; z &nbsp;", "R&amp;D &lt;3 x &gt; y &amp; z &nbsp;"),
        ("a --> b", "a --&gt; b"),
        ("<p align=left>&lt;p&gt; begins a paragraph</p>", "&lt;p&gt; begins a paragraph"),
    ],
)
def test_the_text_of_subrip_is_written_as_webvtt_means_it(written: str, shown: str) -> None:
    assert texts(f"1\n00:01,000 --> 00:02,000\n{written}\n") == [shown]


def test_a_cue_that_asks_for_the_top_is_shown_there() -> None:
    (cue,) = read_subtitle_file("1\n00:00:01,000 --> 00:00:02,000\n{\\an8}above\n")
    assert cue == Cue(1000, 2000, "above", "line:5%")


def test_webvtt_keeps_settings_and_drops_comments_styles_and_identifiers() -> None:
    file = (
        "\ufeffWEBVTT - a title\nKind: captions\n\nSTYLE\n::cue { color: red }\n\nNOTE\nnothing\n\n"
        "chapter 1\n00:01.000 --> 00:02.000 align:start line:0 evil:x\n<v Ann>Hello</v>\n\nid\n"
        "00:03.000 --> 00:04.000\nBye\n"
    )
    assert read_subtitle_file(file) == [
        Cue(1000, 2000, "<v Ann>Hello</v>", "align:start line:0"),
        Cue(3000, 4000, "Bye"),
    ]


def test_cues_come_in_the_order_of_their_starts_and_without_those_that_end_before() -> None:
    file = "00:05,000 --> 00:06,000\nb\n\n00:01,000 --> 00:02,000\na\n\n00:09,000 --> 00:08,000\nnever\n"
    assert texts(file) == ["a", "b"]


TIMES = """
1
 00:00:01,000 --> 00:00:02,000  X1:1 X2:2 Y1:3 Y2:4
spaces

2
0:0:3,000 --> 0:000:4,000garbage
few digits, and garbage behind

3
00: 00: 05, 000 --> 00:00:06.000
spaces within

4
00:00:7,125 --> 0000000:00:008,250
many digits

5
00:00:75,000 --> 00:99:99,000
seconds over 59
"""


def test_times_are_read_where_ffmpeg_reads_them() -> None:
    command = ["ffmpeg", "-v", "error", "-f", "srt", "-i", "-", "-f", "webvtt", "-"]
    shown = subprocess.run(command, check=True, capture_output=True, input=TIMES.encode(), timeout=60).stdout
    reader = CueReader()
    reader.receive_data(shown)
    reader.receive_eof()
    assert read_subtitle_file(TIMES) == list(reader.cues())


@pytest.mark.parametrize(
    "times",
    ["00:00:03,000 --> 00:00:0x", "00:00:0x --> 00:00:04,000", "00:00:03,000 -->", "03,000 --> 04,000"],
)
@pytest.mark.parametrize("head", ["", "WEBVTT\n\n"])
def test_a_line_of_times_that_cannot_be_read_ends_the_cue_before(times: str, head: str) -> None:
    """WebVTT §6.1: a line that contains "-->" begins a block."""
    file = f"{head}00:01.000 --> 00:02.000\none\n{times}\ntwo\n\n00:05.000 --> 00:06.000\nthree\n"
    assert texts(file) == ["one", "three"]


def test_a_line_with_an_arrow_alone_is_text_of_subrip_and_a_block_of_webvtt() -> None:
    file = "00:01.000 --> 00:02.000\none\na --> b\n\n00:05.000 --> 00:06.000\nthree\n"
    assert texts(file) == ["one\na --&gt; b", "three"]
    assert texts(f"WEBVTT\n\n{file}") == ["one", "three"]


@pytest.mark.parametrize("fraction", ["5", "50", "500", "5000", "500000000"])
@pytest.mark.parametrize("head", ["", "WEBVTT\n\n"])
def test_a_fraction_of_a_second_has_any_number_of_digits(fraction: str, head: str) -> None:
    (cue,) = read_subtitle_file(f"{head}00:00:01.{fraction} --> 00000:00:02.{fraction}\nx\n")
    assert (cue.start, cue.end) == (1500, 2500)


def test_files_that_were_joined_or_converted_twice_show_no_numbers() -> None:
    joined = "1\n00:01,000 --> 00:02,000\na\n\n\ufeff1\n00:03,000 --> 00:04,000\nb\n"
    assert texts(joined) == texts(joined.replace("\ufeff", "").replace("\n", "\r\r\n")) == ["a", "b"]


@pytest.mark.parametrize("file", ["", "no subtitles", "WEBVTT\n\n", "\0" * 1000, "1\n2\n3\n", "-->\n" * 100])
def test_a_file_without_cues_is_said_to_have_none(file: str) -> None:
    with pytest.raises(MalformedError, match="no cue"):
        read_subtitle_file(file)


def test_more_cues_than_the_limit_are_refused_and_long_texts_cut() -> None:
    cue = "00:01,000 --> 00:02,000\nx\n\n"
    limits = SubtitleFileLimits(cues=3, lines=2, line_characters=5)
    assert len(read_subtitle_file(cue * 3, limits)) == 3
    with pytest.raises(TooLargeError, match="more than 3 cues"):
        read_subtitle_file(cue * 4, limits)
    (cut,) = read_subtitle_file("00:01,000 --> 00:02,000\n123456789\nb\nc\nd\n", limits)
    assert cut.text == "12345\nb"
    (near,) = read_subtitle_file(cue + 5 * "\n" + "far\n", SubtitleFileLimits(searched_lines=5))
    assert near.text == "x"
    with pytest.raises(MalformedError, match="no cue"):
        read_subtitle_file(cue, SubtitleFileLimits(timing_characters=20))


LINES = st.lists(
    st.sampled_from(
        (
            *(
                "1",
                "",
                "WEBVTT",
                "00:01,000 --> 00:02,000",
                "00:00:01.5 --> 99:99:99,999",
                "-->",
                "NOTE",
                "\0",
                "\ufeff",
            ),
            *(
                "<i>",
                "</i",
                "&",
                "{\\an8}",
                "9" * 400,
                "<" * 400,
                "{" * 400,
                "00:" * 200,
                "\u2028",
                "\x85",
                "\x0b",
            ),
        )
    )
    | st.text(max_size=60),
    max_size=40,
)


@given(lines=LINES, end=st.sampled_from(("\n", "\r\n", "\r")), head=st.sampled_from(("", "WEBVTT\n\n")))
def test_whatever_is_read_is_valid_webvtt_once_it_is_written(lines: list[str], end: str, head: str) -> None:
    """The strict reader, which knows every rule, takes what was read leniently, and finds the same cues."""
    try:
        found = read_subtitle_file(head + end.join(lines))
    except MediaError:
        return
    reader = CueReader()
    reader.receive_data(write_file(found))
    reader.receive_eof()
    assert list(reader.cues()) == found


def test_what_takes_readers_of_regular_expressions_hours_takes_no_time() -> None:
    """Thread time, with a wide margin: quadratic reading would take minutes."""
    began = time.thread_time()
    for bomb in (
        "<" * 900_000,
        "{\\" * 450_000,
        "0:" * 450_000,
        "00:01,000 -->" + " " * 900_000,
        "\n" * 2_000_000,
    ):
        with pytest.raises(MalformedError):
            read_subtitle_file(bomb)
    for bomb in ("<font " * 200_000, "{\\a" * 300_000, "&lt;" * 200_000):
        read_subtitle_file("00:01,000 --> 00:02,000\n" + bomb)
    assert time.thread_time() - began < 20
