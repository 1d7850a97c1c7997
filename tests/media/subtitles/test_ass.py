"""Events of ASS and SSA as text of WebVTT, by the format's description in Aegisub's manual."""

from __future__ import annotations

import pytest

from media.errors import MalformedError, TooLargeError
from media.subtitles.ass import AssStyle, event_cue, read_ass_file, read_styles
from media.subtitles.webvtt import TOP

HEAD = """[Script Info]
ScriptType: v4.00+

[V4+ Styles]
Format: Name, Fontname, Fontsize, Bold, Italic, Underline, Alignment
Style: Default,Arial,16,0,0,0,2
Style: Thought,Arial,16,0,-1,0,2
Style: Sign,Arial,16,-1,0,0,8
Style: short,Arial
nonsense

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""
STYLES = read_styles(HEAD)


def cue(text: str, style: str = "Default") -> tuple[str, str]:
    return event_cue(f"7,0,{style},Ann,0,0,0,,{text}", STYLES)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Plain, with a comma", "Plain, with a comma"),
        (r"Two\Nlines\nof\htext", "Two\nlines of\u00a0text"),
        (r"{\i1}slanted{\i0} not", "<i>slanted</i> not"),
        (r"{\b1\i1}both{\r} none", "<b><i>both</i></b> none"),
        (r"{\b700}heavy{\b400}light{\b0}", "<b>heavy</b>light"),
        (r"{\u1}line", "<u>line</u>"),
        (r"{\rThought}thinks", "<i>thinks</i>"),
        (r"{\bord2\blur3\iclip(1,2,3,4)\pos(10,20)\fnArial}sign", "sign"),
        (r"{a note}said{}", "said"),
        (r"{\p1}m 0 0 l 10 0{\p0}text", "text"),
        (r"{\p1}m 0 0 l 10 0", ""),
        (r"{\i1}{\i0}", ""),
        (r"{\i1} \N {\i0}", ""),
        ("a < b & c --> d", "a &lt; b &amp; c --&gt; d"),
        (r"first\N\Nthird", "first\nthird"),
        (r"{\k20}ka{\kf30}ra{\ko10}oke", "karaoke"),
        (r"unended {\i1", r"unended {\i1"),
        (r"C:\dir", r"C:\dir"),
    ],
)
def test_overrides_become_tags_or_are_dropped(text: str, shown: str) -> None:
    assert cue(text) == (shown, "")


@pytest.mark.parametrize(
    ("text", "style", "settings"),
    [
        (r"{\an8}up", "Default", "line:5%"),
        (r"{\a6}up", "Default", "line:5%"),
        (r"{\an2}down", "Sign", ""),
        ("up", "Sign", "line:5%"),
        ("up", "*Sign", "line:5%"),
        ("unknown", "nobody", ""),
    ],
)
def test_what_is_at_the_top_stays_there(text: str, style: str, settings: str) -> None:
    assert cue(text, style)[1] == settings


def test_a_style_has_its_faces() -> None:
    assert cue("thinks", "Thought") == ("<i>thinks</i>", "")
    assert cue(r"thinks {\i0}aloud", "Thought") == ("<i>thinks </i>aloud", "")
    assert cue(r"thinks {\i0}aloud{\i}!", "Thought") == ("<i>thinks </i>aloud<i>!</i>", "")
    assert cue("shouts", "Sign")[0] == "<b>shouts</b>"


def test_alignments_of_ssa_count_in_their_own_way() -> None:
    head = "[V4 Styles]\nFormat: Name, Italic, Alignment\nStyle: Top,0,6\nStyle: Low,-1,2\n"
    assert read_styles(head) == {"Top": AssStyle(0, top=True), "Low": AssStyle(2)}


def test_an_event_without_its_fields_is_malformed() -> None:
    with pytest.raises(MalformedError, match="an event of 3 fields"):
        event_cue("7,0,Default", STYLES)


def test_styles_are_read_as_far_as_they_are_many() -> None:
    many = "".join(f"Style: s{n},-1\n" for n in range(5000))
    assert len(read_styles("[V4+ Styles]\nFormat: Name, Bold\n" + many)) == 128
    assert read_styles("Style: a,-1\n[V4+ Styles]\nStyle: b,-1\n") == {}


DIALOGUES = r"""Dialogue: 0,0:00:05.00,0:00:06.50,Sign,,0,0,0,,on top
Dialogue: 0,0:00:01.02,0:00:02.00,Default,Ann,0,0,0,,Hello, {\i1}you{\i0}\Nthere
Comment: 0,0:00:01.00,0:00:02.00,Default,,0,0,0,,not shown
Dialogue: 0,0:00:03.00,0:00:03.00,Default,,0,0,0,,never seen
Dialogue: 0,soon,0:00:03.00,Default,,0,0,0,,no time
Dialogue: 0,1:00:00.00,1:00:01.00,Default,,0,0,0,,{\p1}m 0 0
Dialogue: 0,1:00:00.00
Dialogue: 0,1:02:03.45,1:02:04.00,Unknown,,0,0,0,,last
"""


def test_a_file_has_its_cues_in_their_order_and_leaves_out_what_it_cannot_show() -> None:
    found = read_ass_file(HEAD + DIALOGUES, 10, 1000)
    assert [(cue.start, cue.end, cue.text) for cue in found] == [
        (1020, 2000, "Hello, <i>you\n</i>there"),
        (5000, 6500, "<b>on top</b>"),
        (3723450, 3724000, "last"),
    ]
    assert [cue.settings for cue in found] == ["", TOP, ""]


def test_fields_come_in_the_order_that_the_file_says() -> None:
    text = "[Events]\r\nFormat: End, Start, Text\r\nDialogue: 0:00:02.00,0:00:01.00,a, b\r\n"
    assert [(cue.start, cue.end, cue.text) for cue in read_ass_file(text, 1, 1000)] == [(1000, 2000, "a, b")]


def test_times_have_any_number_of_digits_and_the_fields_their_usual_order_where_the_file_says_none() -> None:
    """The format's description has the fields of an event in this order, and hundredths of a second."""
    text = "[Script Info]\n\n[Events]\nDialogue: 0,00:00:1.5,0000:0:002.5000,Default,,0,0,0,,a, b\n"
    assert [(cue.start, cue.end, cue.text) for cue in read_ass_file(text, 1, 1000)] == [(1500, 2500, "a, b")]


def test_a_file_is_bounded_in_cues_and_in_the_length_of_each() -> None:
    with pytest.raises(TooLargeError):
        read_ass_file(HEAD + DIALOGUES, 2, 1000)
    assert read_ass_file(HEAD + DIALOGUES, 10, 3)[-1].text == "las"
    with pytest.raises(MalformedError):
        read_ass_file(HEAD, 10, 1000)
