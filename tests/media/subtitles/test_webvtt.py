"""media.subtitles.webvtt: the W3C's file format, strictly; and segments, read back by ffmpeg."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media.errors import MalformedError, MediaError
from media.subtitles.webvtt import Cue, CueLimits, CueReader, segment, timestamp
from packager.process.ffmpeg_discovery import Tools

FILE = """\
WEBVTT - a title

STYLE
::cue { color: red }

NOTE for nobody
but us

1 an identifier
00:00:01.000 --> 00:00:02.500 align:start position:10%,line-left region:r1 nonsense
Größe <i>1</i>
second line

00:02.500-->100:00:03.000
last"""

CUES = [
    Cue(1000, 2500, "Größe <i>1</i>\nsecond line", "align:start position:10%,line-left"),
    Cue(2500, 360_003_000, "last"),
]


def read(*pieces: bytes) -> tuple[list[Cue], str]:
    """Give the cues, and why reading stopped."""
    reader, cues = CueReader(), list[Cue]()
    try:
        for piece in pieces:
            reader.receive_data(piece)
            cues += reader.cues()
        reader.receive_eof()
    except MediaError as error:
        return [*cues, *reader.cues()], str(error)
    return [*cues, *reader.cues()], ""


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_cues_are_read_whatever_ends_lines(end: str, mark: bytes) -> None:
    assert read(mark + FILE.replace("\n", end).encode()) == (CUES, "")


def test_what_is_no_utf_8_and_what_is_nul_are_replaced() -> None:
    cues, error = read(b"WEBVTT\n\n00:01.000 --> 00:02.000\na\0b\xffc\xe2\x82")
    assert (cues, error) == ([Cue(1000, 2000, "a\ufffdb\ufffdc\ufffd")], "")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", 1),
        ("\n", 1),
        ("webvtt\n", 1),
        ("WEBVTTx\n", 1),
        ("WEBVTT\n00:01.000 --> 00:02.000\na", 2),
        ("WEBVTT\nX-TIMESTAMP-MAP=LOCAL:00:00:00.000,MPEGTS:0\n\n", 2),
        ("WEBVTT\n\nname\nno times\n", 4),
        ("WEBVTT\n\nname\n", 4),
        ("WEBVTT\n\n00:01 --> 00:02\n", 3),
        ("WEBVTT\n\n00:60.000 --> 01:00.000\n", 3),
        ("WEBVTT\n\n1:00:00.000 --> 01:00:01.000\n", 3),
        ("WEBVTT\n\n0\u0661:01.000 --> 01:00:01.000\n", 3),
        ("WEBVTT\n\n00:02.000 --> 00:02.000\nx", 3),
        ("WEBVTT\n\n00:01.000 --> 00:02.000\na --> b\n", 4),
        ("WEBVTT\n\n00:01.000 --> 00:02.000\na\n00:02.000 --> 00:03.000\nb", 5),
        ("WEBVTT\n\nNOTE\n00:01.000 --> 00:02.000\n", 4),
        ("WEBVTT\n\n00:01.000 --> 00:02.000\n" + "x\n" * 33, 36),
        ("WEBVTT\n\n00:01.000 --> 00:02.000\n" + "x" * 4097, 4),
    ],
)
def test_a_fault_is_told_with_its_line(text: str, line: int) -> None:
    cues, error = read(text.encode())
    assert cues == []
    assert error.startswith(f"line {line}: ")


@pytest.mark.parametrize(
    ("lines", "reason"), [("x\n" * 3, "more than 2 lines"), ("x" * 51, "more than 50 characters")]
)
def test_a_cue_of_more_than_may_be_is_refused(lines: str, reason: str) -> None:
    data = f"WEBVTT\n\n00:01.000 --> 00:02.000\n{lines}\n\n".encode()
    CueReader().receive_data(data)
    with pytest.raises(MalformedError, match=reason):
        CueReader(CueLimits(line_characters=50, lines=2)).receive_data(data)


def test_a_cue_without_text_shows_nothing() -> None:
    assert read(b"WEBVTT\n\n00:01.000 --> 00:02.000\n\n00:02.000 --> 00:03.000\nx\n") == (
        [Cue(2000, 3000, "x")],
        "",
    )


WORDS = st.sampled_from(
    [
        "WEBVTT",
        "\n",
        "\r",
        "\r\n",
        "\n\n",
        "00:01.000 --> 00:02.000",
        "-->",
        "NOTE",
        "STYLE",
        "x",
        "é",
        "\0",
        "\ufeff",
        " ",
        "€",
    ]
)


@settings(max_examples=120, deadline=None)
@given(st.lists(WORDS, max_size=30), st.lists(st.integers(0, 200), max_size=6), st.booleans())
def test_text_cut_anywhere_gives_the_same(words: list[str], cuts: list[int], begins: bool) -> None:
    data = (("WEBVTT\n\n" if begins else "") + "".join(words)).encode()
    whole = read(data)
    places = sorted({min(cut, len(data)) for cut in cuts})
    pieces = [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True)]
    assert read(*pieces) == whole
    assert read(*(data[index : index + 1] for index in range(len(data)))) == whole


@settings(max_examples=120, deadline=None)
@given(st.binary(max_size=300))
def test_no_bytes_are_too_much(data: bytes) -> None:
    cues, _ = read(b"WEBVTT\n\n00:01.000 --> 00:02.000\n" + data)
    assert all("-->" not in cue.text and "\0" not in cue.text and cue.end > cue.start for cue in cues)


def test_reading_takes_time_in_proportion_to_the_text() -> None:
    block = b"00:01.000 --> 00:02.000\n" + b"\0 x" * 300 + b"\n\n"

    def seconds(count: int) -> float:
        data, begin = b"WEBVTT\n\n" + block * count, time.process_time()
        assert len(read(*(data[index : index + 7] for index in range(0, len(data), 7)))[0]) == count
        return time.process_time() - begin

    assert min(seconds(80) for _ in range(3)) < 20 * min(seconds(10) for _ in range(3))


def test_ffmpeg_reads_a_segment(tools: Tools, tmp_path: Path) -> None:
    path = tmp_path / "segment.vtt"
    path.write_bytes(segment(CUES, 1_795_000_000))
    command = [str(tools.ffmpeg), "-nostdin", "-v", "error", "-i", str(path), "-f", "srt", "-"]
    answer = subprocess.run(command, check=True, capture_output=True).stdout.decode().replace("\r", "")
    # SubRip: a number, times with a comma, the text
    assert "00:00:01,000 --> 00:00:02,500\n" in answer
    assert "Größe <i>1</i>\nsecond line" in answer
    assert "00:00:02,500 --> 100:00:03,000\nlast" in answer


def test_a_segment_tells_which_media_time_its_times_count_from() -> None:
    # RFC 8216 §3.5: 33 bits of 90 kHz; 1,795,000,000 s are 161,550,000,000,000 ticks.
    assert segment([], 1_795_000_000) == (
        b"WEBVTT\nX-TIMESTAMP-MAP=LOCAL:00:00:00.000,MPEGTS:%d\n\n" % (161_550_000_000_000 % 8_589_934_592)
    )
    assert segment([], 0).endswith(b"MPEGTS:0\n\n")
    assert timestamp(360_003_007) == "100:00:03.007"
