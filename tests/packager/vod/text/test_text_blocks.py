"""Subtitles and chapters of Matroska from hand-made elements: times, compression, limits and damage."""

from __future__ import annotations

import struct
import zlib
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media.errors import TooLargeError
from media.matroska.blocks import MAX_TEXT_FRAMES, MatroskaLimits
from media.matroska.movie import read_matroska
from media.mp4.movie.movie import Movie, Track
from packager.vod.text.cues import MAX_SAMPLE_BYTES, TextLimits
from packager.vod.text.text_tracks import TextTrack, embedded_text_tracks, segment_times, webvtt_file
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

SECONDS = 6
TIMES = segment_times([([0, 2000, 1000 * SECONDS], 1000)])
ZLIB = element(0x6D80, element(0x6240, element(0x5034, number_of(0x4254, 0))))


def text(codec: str, *more: bytes, track: int = 2) -> bytes:
    fixed = number_of(0xD7, track), number_of(0x83, 17), element(0x86, codec.encode())
    return element(0xAE, b"".join((*fixed, *more)))


def cue(time: int, payload: bytes, duration: int | None = 1000, *more: bytes, track: int = 2) -> bytes:
    lasts = () if duration is None else (number_of(0x9B, duration),)
    return element(0xA0, b"".join((block(time, payload, track=track, kind=0xA1, flags=0), *more, *lasts)))


def film(entry: bytes, *cues: bytes, more: bytes = b"", at: int = 0) -> bytes:
    """Write six seconds of sound with text."""
    sound = [block(time, PACKET) for time in range(0, 1000 * SECONDS, 20)]
    return segment(tracks(opus(), entry), more, cluster(at, *sound, *cues))


def movie_of(data: bytes) -> Movie:
    return read_matroska(lambda at, length: data[at : at + length], len(data), MatroskaLimits()).movie


def offered(data: bytes, limits: TextLimits | None = None) -> tuple[tuple[TextTrack, ...], tuple[str, ...]]:
    movie = movie_of(data)
    return embedded_text_tracks(movie.tracks, movie.timescale, TIMES, Fraction(0), limits or TextLimits())


def shown(data: bytes) -> list[tuple[int, int, str, str]]:
    """Read a film's only track of text as a whole."""
    (track,), left_out = offered(data)
    assert left_out == ()
    cues = track.cues.between(lambda at, length: data[at : at + length], 0, 1000 * SECONDS)
    return [(one.start, one.end, one.text, one.settings) for one in cues]


def left_out(data: bytes, limits: TextLimits | None = None) -> str:
    found, lines = offered(data, limits)
    assert found == ()
    (line,) = lines
    return line


def test_cues_overlap_and_come_in_the_order_of_their_starts() -> None:
    cues = cue(1500, b"second", 500), cue(1000, b"first", 3000), cue(1500, b"third", 100)
    assert shown(film(text("S_TEXT/UTF8"), *cues)) == [
        (1000, 4000, "first", ""),
        (1500, 2000, "second", ""),
        (1500, 1600, "third", ""),
    ]


def test_text_needs_no_duration_and_no_group() -> None:
    """RFC 9559 §5.1.3.5.3: without a duration a frame lasts until the next one."""
    cues = cue(0, b"a", None), cue(1000, b"b", None), block(1500, b"c", track=2), cue(30_000, b"z", 1)
    found = shown(film(text("S_TEXT/UTF8"), *cues))
    assert [one[:3] for one in found] == [(0, 1000, "a"), (1000, 1500, "b"), (1500, 11_500, "c")]
    assert shown(film(text("S_TEXT/UTF8"), cue(0, b"a", 0), cue(1, b"b"))) == [(1, 1001, "b", "")]


def test_text_of_a_part_of_a_recording_moves_with_its_sound() -> None:
    data = film(text("S_TEXT/UTF8"), cue(1000, b"a"), at=3_600_000)
    assert [one[:2] for one in shown(data)] == [(1000, 2000)]


def test_only_the_blocks_that_a_segment_shows_are_read_and_none_for_the_index() -> None:
    cues = [cue(100 * number, b"text %02d" % number, 100) for number in range(40)]
    data = film(text("S_TEXT/UTF8"), *cues)
    places: list[tuple[int, int]] = []

    def read(at: int, length: int) -> bytes:
        places.append((at, length))
        return data[at : at + length]

    (track,), _ = offered(data)
    shown = track.cues.between(read, 2000, 2300)
    assert [data[at : at + length] for at, length in places] == [b"text 20", b"text 21", b"text 22"]
    assert [one.text for one in shown] == ["text 20", "text 21", "text 22"]
    movie = read_matroska(read, len(data), MatroskaLimits()).movie
    places.clear()
    embedded_text_tracks(movie.tracks, movie.timescale, TIMES, Fraction(0))
    assert places == []


def test_zlib_and_stripped_bytes_are_undone() -> None:
    assert shown(film(text("S_TEXT/UTF8", ZLIB), cue(1000, zlib.compress(b"<i>a</i> & b")))) == [
        (1000, 2000, "<i>a</i> &amp; b", "")
    ]
    settings = number_of(0x4254, 3) + element(0x4255, b"<i>")
    stripped = element(0x6D80, element(0x6240, element(0x5034, settings)))
    assert shown(film(text("S_TEXT/UTF8", stripped), cue(0, b"a</i>"))) == [(0, 1000, "<i>a</i>", "")]
    both = element(0x6D80, b"".join(element(0x6240, element(0x5034, one)) for one in (settings, b"")))
    assert "compressed in another way" in left_out(film(text("S_TEXT/UTF8", both), cue(0, b"a")))
    bzlib = element(0x6D80, element(0x6240, element(0x5034, number_of(0x4254, 1))))
    assert "compressed in another way" in left_out(film(text("S_TEXT/UTF8", bzlib), cue(0, b"a")))
    hidden = element(0x6D80, element(0x6240, number_of(0x5033, 1)))
    assert left_out(film(text("S_TEXT/UTF8", hidden), cue(0, b"a"))) == "track 2: its subtitles are encrypted"


def test_a_bomb_or_damage_costs_its_own_cue_alone() -> None:
    bomb, long = zlib.compress(b"x" * 1_000_000, 9), zlib.compress(b"x") + bytes(MAX_SAMPLE_BYTES)
    assert len(bomb) < MAX_SAMPLE_BYTES
    cues = [cue(0, one) for one in (bomb, long, b"garbage", zlib.compress(b"shown"))]
    assert [one[2] for one in shown(film(text("S_TEXT/UTF8", ZLIB), *cues))] == ["shown"]


def test_webvtt_has_settings_in_its_additions_or_before_its_text() -> None:
    added = element(0xA5, b"line:0 align:start\nid\n") + number_of(0xEE, 1)
    additions = element(0x75A1, element(0xA6, added))
    data = film(text("S_TEXT/WEBVTT"), cue(0, b"<v Ann>a <00:00:00.500>b", 1000, additions), cue(1000, b"c"))
    assert shown(data) == [(0, 1000, "<v Ann>a b", "line:0 align:start"), (1000, 2000, "c", "")]
    webm = film(text("D_WEBVTT/SUBTITLES"), cue(0, b"id\nline:0\ntwo\nlines"), cue(9, b"\n\nplain"))
    assert [one[2:] for one in shown(webm)] == [("two\nlines", "line:0"), ("plain", "")]


def test_ass_has_its_styles_and_shows_each_text_once() -> None:
    head = b"[V4+ Styles]\nFormat: Name, Italic, Alignment\nStyle: Thought,-1,8\n"
    events = (
        b"0,0,Default,,0,0,0,,plain",
        b"1,1,Default,,0,0,0,,plain",
        b"2,0,Thought,,0,0,0,,a\\Nb",
        b"3,0",
    )
    data = film(text("S_TEXT/ASS", element(0x63A2, head)), *(cue(0, event) for event in events))
    assert [one[2:] for one in shown(data)] == [("plain", ""), ("<i>a\nb</i>", "line:5%")]


@pytest.mark.parametrize("codec", ["S_HDMV/PGS", "S_VOBSUB", "S_DVBSUB"])
def test_pictures_are_named(codec: str) -> None:
    line = left_out(film(text(codec), cue(0, b"a")))
    assert line == f"track 2: subtitles of type '{codec}' are pictures, not text"


def test_what_cannot_be_offered_is_named() -> None:
    assert left_out(film(text("S_TEXT/USF"), cue(0, b"a"))) == "track 2: subtitles of type 'S_TEXT/USF'"
    assert left_out(film(text("S_TEXT/UTF8"))) == "track 2: it has no samples"
    laced = block(0, b"ab", track=2, flags=0x84, lace=b"\1")
    assert left_out(film(text("S_TEXT/UTF8"), laced)) == "track 2: it has no samples"
    many = film(text("S_TEXT/UTF8"), cue(0, b"a"), cue(1, b"a"))
    assert left_out(many, TextLimits(samples=1)) == "track 2: 2 subtitles: more than 1"
    together = film(text("S_TEXT/UTF8"), *[cue(0, b"a")] * 9)
    assert left_out(together, TextLimits(segment_cues=1)) == "track 2: 9 cues in one segment: more than 8"
    clusters = cluster(0, block(0, PACKET)), cluster(1 << 50, cue(0, b"a"))
    late = segment(tracks(opus(), text("S_TEXT/UTF8")), *clusters)
    assert left_out(late) == "track 2: timestamps of more than a hundred years"


def test_languages_and_flags_are_those_of_the_track() -> None:
    german = number_of(0x55AA, 1), number_of(0x88, 0), element(0x22B59C, b"ger"), element(0x536E, b"A\rB")
    deaf = number_of(0x55AB, 1), element(0x22B59D, b"pt-BR")
    nobody = element(0x22B59C, b"und"), element(0x22B59D, b"und")
    entries = (
        text("S_TEXT/UTF8", *german),
        text("S_TEXT/UTF8", *deaf, track=3),
        text("D_WEBVTT/CAPTIONS", *nobody, track=4),
    )
    data = film(b"".join(entries), *(cue(0, b"\n\na", track=number) for number in (2, 3, 4)))
    found, _ = offered(data)
    assert [(one.name, one.language, one.title, one.default, one.forced, one.sdh) for one in found] == [
        ("de-forced", "de", "AB", False, True, False),
        ("pt-BR-sdh", "pt-BR", "", True, False, True),
        ("und-sdh", None, "", True, False, True),
    ]


def test_more_subtitles_than_any_film_has_are_not_kept() -> None:
    """The sound and the other subtitles stay."""
    payload = bytes((0x83,)) + struct.pack(">hB", 0, 0) + b"a"
    flood = (b"\xa3" + bytes((0x80 | len(payload),)) + payload) * (MAX_TEXT_FRAMES + 1)
    entries = text("S_TEXT/UTF8") + text("S_TEXT/UTF8", track=3)
    found, lines = offered(film(entries, flood, cue(0, b"b")))
    assert [one.cues.between(lambda *_: b"b", 0, 1)[0].text for one in found] == ["b"]
    assert lines == (f"track 3: more than {MAX_TEXT_FRAMES} subtitles of all tracks",)


def test_a_segment_of_too_much_text_is_refused_when_it_is_read() -> None:
    """Nobody knows before how much zlib hides."""
    payload = zlib.compress(b"x" * 8000)
    data = film(text("S_TEXT/UTF8", ZLIB), *(cue(n, payload + bytes(n)) for n in range(50)))
    (track,), _ = offered(data, TextLimits(segment_bytes=100_000))
    with pytest.raises(TooLargeError, match="too many cues are shown together for too long"):
        webvtt_file(track, TIMES, Fraction(0), lambda at, length: data[at : at + length])


def chapter(time: int, title: str, *more: bytes) -> bytes:
    display = element(0x80, element(0x85, title.encode()))
    return element(0xB6, b"".join((number_of(0x91, time * 1_000_000), display, *more)))


def edition(*parts: bytes) -> bytes:
    return element(0x45B9, b"".join(parts))


def chapters_of(*editions: bytes, at: int = 0) -> tuple[tuple[int, str], ...]:
    more = element(0x1043A770, b"".join(editions))
    return movie_of(film(text("S_TEXT/UTF8"), more=more, at=at)).chapters


def test_chapters_are_those_of_the_default_edition() -> None:
    inner = chapter(10, "inside")
    plain = edition(
        chapter(0, "One", inner), chapter(4000, "Zwei\n"), chapter(5000, "no", number_of(0x98, 1))
    )
    assert chapters_of(plain) == ((0, "One"), (4000, "Zwei"))
    chosen = edition(number_of(0x45DB, 1), chapter(1, "chosen"))
    ordered = edition(number_of(0x45DD, 1), number_of(0x45DB, 1), chapter(2, "ordered"))
    assert chapters_of(ordered, plain, chosen) == ((1, "chosen"),)
    assert chapters_of(ordered) == ()
    assert chapters_of(edition(chapter(3_600_010, "later")), at=3_600_000) == ((10, "later"),)
    assert chapters_of(b"\xb6\xff") == ()  # a film is played without chapters that can't be read


TEXTS = (
    ("S_TEXT/UTF8", b"{\\an8}<i>a</i>"),
    ("S_TEXT/ASS", b"1,0,Default,,0,0,0,,{\\i1\\p0}a\\N{\\r}b"),
    ("S_TEXT/WEBVTT", b"<v a>b"),
    ("D_WEBVTT/SUBTITLES", b"1\nline:0\nb"),
)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(TEXTS), st.binary(max_size=60), st.integers(0, 80), st.booleans())
def test_damaged_text_is_left_out_or_shown_as_it_is(
    one: tuple[str, bytes], damage: bytes, at: int, is_compressed: bool
) -> None:
    codec, payload = one
    payload = payload[:at] + damage + payload[at:]
    data = film(text(codec, *([ZLIB] if is_compressed else [])), cue(0, payload))
    for _, _, words, _ in shown(data):
        assert words.strip()
        assert "-->" not in words
        assert "\n\n" not in words


def test_tracks_of_text_have_no_tables() -> None:
    track: Track = movie_of(film(text("S_TEXT/UTF8"), cue(0, b"a"))).tracks[1]
    assert (track.handler, track.tables, track.obstacle) == (b"subt", {}, "")
