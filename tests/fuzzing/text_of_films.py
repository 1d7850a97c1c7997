"""Targets of subtitles inside films: those of Matroska, events of ASS, and pictures."""

from __future__ import annotations

import zlib
from fractions import Fraction

import numpy as np

from media.ps.title_set import read_title_set
from media.subtitles.ass import event_cue, read_styles
from media.subtitles.dvb import read_page
from media.subtitles.pgs import read_display_set
from media.subtitles.vobsub import VobSubIndex, read_subpicture
from packager.encode.source_samples import subtitles_within
from packager.vod.movie.movie_reader import ContainerLimits, read_movie
from packager.vod.text.text_tracks import embedded_text_tracks, picture_subtitles
from tests.fuzzing.containers import portions
from tests.fuzzing.formats import SMALL_MOVIE, lines, of_whole
from tests.fuzzing.fuzzer import Target
from tests.media.matroska.matroska_elements import (
    PACKET,
    block,
    cluster,
    element,
    number_of,
    opus,
    segment,
    tracks,
)
from tests.media.ps.title_sets import AC3, DTS, Sound, Subpicture, title_set
from tests.packager.encode.subtitle_pictures import display_set

HOUR = 3_600_000
"""Milliseconds."""

ASS = r"""[Script Info]
ScriptType: v4.00+

[V4+ Styles]
Format: Name, Fontname, Fontsize, Bold, Italic, Underline, Alignment
Style: Default,Arial,16,0,0,0,2
Style: Thought,Arial,16,0,-1,0,8

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
Dialogue: 0,Default,,0,0,0,,Hello {\i1}you{\i0}, there
Dialogue: 0,Thought,Ann,0,0,0,,I {\b1\blur3\p0}think{\rDefault}\Nso
"""


IDX = b"size: 720x480\npalette: " + b", ".join([b"0000ff"] * 16)
INDEX = VobSubIndex((720, 480), (bytes(3),) * 16)
VOBSUB = [
    bytes.fromhex(part)
    for part in (
        *("002a 000c", "d3e0ff03 20000001", "0000 0024", "03f210 04ff80", "05 00a135 190191"),
        *("06 00040008", "01 ff", "0058 0024", "02 ff"),
    )
]
"""A sub-picture unit: its head, pixels, and the commands of two control sequences."""
DVB = [
    bytes.fromhex(part)
    for part in (
        *("0f140001 0005 00013f00b3", "0f100001 0008 1e0b00ff00500078", "0f110001 0010"),
        *("000700a0001e6f000003", "0000000000f0", "0f130001 000f", "0000 01 0008 0000"),
        *("12 00a099 05 0000 f0", "0f800001 0000"),
    )
]
"""A display set: the size of its display, a page, a region, an object, and the end."""
PGS = read_display_set(display_set(shown=True)).segments
TITLE_SET = title_set(
    [bytes((number, 128, 128)) for number in range(16)],
    [Sound(AC3, "de", 0), Sound(DTS, "en", 1)],
    [Subpicture("de", (0, 0, 0, 0)), Subpicture("en", (1, 0, 0, 0), 9)],
)


def subtitled() -> bytes:
    """Give a Matroska file of sound with text of each kind, compressed in part, and chapters."""
    encoding = element(0x6D80, element(0x6240, element(0x5034, number_of(0x4254, 0))))
    head = element(0x63A2, ASS.partition("[Events]")[0].encode())
    texts = (
        ("S_TEXT/UTF8", encoding, zlib.compress(rb"{\an8}<i>a</i>")),
        ("S_TEXT/ASS", head, b"0," + ASS.splitlines()[-1].encode()),
        ("S_TEXT/WEBVTT", b"", b"<v Ann>a"),
        ("D_WEBVTT/SUBTITLES", b"", b"1\nline:0\ntext"),
        ("S_HDMV/PGS", b"", b"".join(PGS)),
        ("S_DVBSUB", b"", b"".join(DVB)),
        ("S_VOBSUB", element(0x63A2, IDX) + encoding, zlib.compress(b"".join(VOBSUB))),
    )
    entries, blocks = [opus()], [block(0, PACKET)]
    for number, (codec, more, payload) in enumerate(texts, 2):
        kind = number_of(0xD7, number) + number_of(0x83, 17) + element(0x86, codec.encode())
        entries.append(element(0xAE, kind + more))
        written = block(0, payload, track=number, kind=0xA1, flags=0)
        added = element(0x75A1, element(0xA6, element(0xA5, b"line:0")))
        blocks.append(element(0xA0, written + added + number_of(0x9B, 100)))
    display = element(0x80, element(0x85, b"One"))
    chapters = element(0x1043A770, element(0x45B9, element(0xB6, number_of(0x91, 0) + display)))
    return segment(tracks(*entries), chapters, cluster(0, *blocks))


def read_text(data: bytes) -> None:
    """Read a film's container for VOD, and all of its text."""

    def read(at: int, length: int) -> bytes:
        return data[at : at + length]

    movie, times = read_movie(read, len(data), SMALL_MOVIE, ContainerLimits()).movie, np.array([0, HOUR])
    for text in embedded_text_tracks(movie.tracks, movie.timescale, times, Fraction(0))[0]:
        text.cues.bandwidth(times)
        text.cues.between(read, 0, HOUR)
    for pictures in picture_subtitles(movie.tracks, movie.timescale, Fraction(0)):
        subtitles_within(pictures, 0, HOUR, 0, read)


def read_ifo(data: bytes) -> None:
    """Read the description of a DVD's title set."""
    read_title_set(lambda at, length: data[at : at + length], len(data))


def read_ass(data: bytes) -> None:
    """Read a file of ASS: its styles, and its events in the form that Matroska has."""
    text = data.decode("utf-8", "replace")
    styles = read_styles(text)
    for line in text.splitlines():
        if line.startswith("Dialogue:"):
            event_cue(f"0,{line}", styles)


TARGETS = {
    "matroska-text": Target(seeds=lambda: [portions(subtitled(), 16)], read=of_whole(read_text)),
    "pgs": Target(seeds=lambda: [PGS], read=of_whole(read_display_set)),
    "dvb": Target(seeds=lambda: [DVB], read=of_whole(read_page)),
    "vobsub": Target(seeds=lambda: [VOBSUB], read=of_whole(lambda data: read_subpicture(data, INDEX))),
    "title-set": Target(seeds=lambda: [portions(TITLE_SET)], read=of_whole(read_ifo)),
    "ass": Target(seeds=lambda: [lines(ASS)], read=of_whole(read_ass)),
}
